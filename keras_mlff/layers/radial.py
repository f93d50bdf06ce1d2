"""Radial bases: edge lengths -> `num_radial` functions."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any


@keras.saving.register_keras_serializable("keras_mlff")
class ExponentialGaussianBasis(keras.layers.Layer):
    """Expands edge lengths (num_edges,) in Å on Gaussians of exp(-d), centers and widths learned.

    g_k(d) = exp(-beta_k (exp(-d) - mu_k)²), with mu_k spread from exp(-r_c) to 1.

    Reference: Unke and Meuwly, 2019, eq. 7, https://arxiv.org/abs/1902.08408
    """

    def __init__(
        self, num_radial: int, cutoff: float, trainable: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(trainable=trainable, **kwargs)
        self.num_radial, self.cutoff = num_radial, cutoff

    def build(self, input_shape: Any) -> None:
        """Creates centers `(num_radial,)` and widths `(num_radial,)`."""
        nearest = math.exp(-self.cutoff)
        centers = np.linspace(nearest, 1.0, self.num_radial)
        width = (self.num_radial / (2.0 * (1.0 - nearest))) ** 2
        self.centers = self.add_weight(
            shape=(self.num_radial,), initializer=_values(centers), name="centers"
        )
        self.betas = self.add_weight(
            shape=(self.num_radial,), initializer=keras.initializers.Constant(width), name="betas"
        )

    def call(self, edge_lengths: Tensor) -> Tensor:
        offsets = ops.exp(-edge_lengths)[:, None] - self.centers
        return ops.exp(-self.betas * ops.square(offsets))  # (num_edges, num_radial)


@keras.saving.register_keras_serializable("keras_mlff")
class BesselBasis(keras.layers.Layer):
    """Expands edge lengths (num_edges,) in Å on sin(k pi d / r_c) / d, k = 1..num_radial.

    Reference: Gasteiger et al., 2020, eq. 7 without its factor, https://arxiv.org/abs/2003.03123
    """

    def __init__(self, num_radial: int, cutoff: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_radial, self.cutoff = num_radial, cutoff

    def call(self, edge_lengths: Tensor) -> Tensor:
        frequencies = ops.arange(1, self.num_radial + 1, dtype=self.compute_dtype)
        phases = edge_lengths[:, None] * (frequencies * (math.pi / self.cutoff))
        return ops.sin(phases) / edge_lengths[:, None]  # (num_edges, num_radial)


def _values(values: np.ndarray[Any, Any]) -> Any:
    """Makes an initializer that gives these values."""

    def initializer(shape: Any, dtype: Any = None) -> Tensor:
        return ops.convert_to_tensor(values.reshape(shape), dtype=dtype)

    return initializer


BASES: dict[str, type[keras.layers.Layer]] = {
    "gaussian": ExponentialGaussianBasis,
    "bessel": BesselBasis,
}


def get(name: str, num_radial: int, cutoff: float) -> keras.layers.Layer:
    """Makes a radial basis by name."""
    if name not in BASES:
        raise ValueError(f"Unknown radial basis. Received: '{name}'. Choose from {sorted(BASES)}.")
    return BASES[name](num_radial, cutoff)
