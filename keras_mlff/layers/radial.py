"""Radial bases: functions that a network sees instead of an edge's length.

Each layer maps edge lengths `(num_edges,)` in Å to `(num_edges, num_radial)`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers.encoding import make_encoding
from keras_mlff.layers.initializers import constants


@keras.saving.register_keras_serializable("keras_mlff")
class ExponentialGaussianBasis(keras.layers.Layer):
    """Expands edge lengths on Gaussians of exp(-d), whose centers and widths are learned.

    g_k(d) = exp(-beta_k (exp(-d) - mu_k)²), with mu_k spread evenly from exp(-r_c) to 1 and
    beta_k = ((2 / num_radial) (1 - exp(-r_c)))^-2 at the start.

    Args:
        num_radial: Number of functions.
        cutoff: r_c, Å.
        trainable: Whether centers and widths are learned.

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
            shape=(self.num_radial,), initializer=constants(centers), name="centers"
        )
        self.betas = self.add_weight(
            shape=(self.num_radial,), initializer=keras.initializers.Constant(width), name="betas"
        )

    def call(self, edge_lengths: Tensor) -> Tensor:
        offsets = ops.exp(-edge_lengths)[:, None] - self.centers
        return ops.exp(-self.betas * ops.square(offsets))  # (num_edges, num_radial)


@keras.saving.register_keras_serializable("keras_mlff")
class BesselBasis(keras.layers.Layer):
    """Expands edge lengths on sin(k pi d / r_c) / d.

    Args:
        num_radial: Number of functions.
        cutoff: r_c, Å.
        first: The lowest k. With 0, the first function is zero everywhere.

    Reference: Gasteiger et al., 2020, eq. 7 without its factor, https://arxiv.org/abs/2003.03123
    """

    def __init__(self, num_radial: int, cutoff: float, first: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_radial, self.cutoff, self.first = num_radial, cutoff, first

    def call(self, edge_lengths: Tensor) -> Tensor:
        last = self.first + self.num_radial
        frequencies = ops.arange(self.first, last, dtype=self.compute_dtype)
        phases = edge_lengths[:, None] * (frequencies * (math.pi / self.cutoff))
        return ops.sin(phases) / edge_lengths[:, None]  # (num_edges, num_radial)


@keras.saving.register_keras_serializable("keras_mlff")
class FixedExponentialGaussianBasis(keras.layers.Layer):
    """Expands edge lengths as `ExponentialGaussianBasis` does before training.

    Args:
        num_radial: Number of functions.
        cutoff: r_c, Å.

    Reference: Unke and Meuwly, 2019, eq. 7, https://arxiv.org/abs/1902.08408
    """

    def __init__(self, num_radial: int, cutoff: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_radial, self.cutoff = num_radial, cutoff

    def call(self, edge_lengths: Tensor) -> Tensor:
        nearest = math.exp(-self.cutoff)
        centers = np.linspace(nearest, 1.0, self.num_radial)
        beta = (self.num_radial / (2.0 * (1.0 - nearest))) ** 2
        centers = ops.convert_to_tensor(centers, dtype=self.compute_dtype)
        offsets = ops.exp(-edge_lengths)[:, None] - centers
        return ops.exp(-beta * ops.square(offsets))  # (num_edges, num_radial)


@keras.saving.register_keras_serializable("keras_mlff")
class GaussianBasis(keras.layers.Layer):
    """Expands edge lengths on exp(-10 (d - o_k)²), with o_k spread evenly from 0 to r_c.

    Args:
        num_radial: Number of functions.
        cutoff: r_c, Å.

    Reference: Schütt et al., 2017, https://arxiv.org/abs/1706.08566
    """

    def __init__(self, num_radial: int, cutoff: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_radial, self.cutoff = num_radial, cutoff

    def call(self, edge_lengths: Tensor) -> Tensor:
        centers = np.linspace(0.0, self.cutoff, self.num_radial)
        offsets = edge_lengths[:, None] - ops.convert_to_tensor(centers, dtype=self.compute_dtype)
        return ops.exp(-10.0 * ops.square(offsets))  # (num_edges, num_radial)


@keras.saving.register_keras_serializable("keras_mlff")
class BernsteinBasis(keras.layers.Layer):
    """Expands edge lengths on the Bernstein polynomials of t = exp(-d / 2 bohr).

    b_k(d) = binom(n, k) t^k (1 - t)^(n - k), with n = num_radial - 1 and k = 0..n.

    Args:
        num_radial: Number of functions.
        cutoff: Not used; the functions decay by themselves.
        decay: 1/Å, the inverse of 2 bohr.

    Reference: Unke et al., 2021 (SpookyNet), eq. 13, https://arxiv.org/abs/2105.00304
    """

    def __init__(
        self, num_radial: int, cutoff: float, decay: float = 0.9448630629, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_radial, self.cutoff, self.decay = num_radial, cutoff, decay

    def call(self, edge_lengths: Tensor) -> Tensor:
        last = self.num_radial - 1
        powers = np.arange(self.num_radial)
        logarithms = [math.log(math.comb(last, k)) for k in range(self.num_radial)]
        forward, backward, constant = (
            ops.convert_to_tensor(values, dtype=self.compute_dtype)
            for values in (powers.astype("float64"), (last - powers).astype("float64"), logarithms)
        )
        # factors of very different size: their logarithms add up without overflow
        exponents = -self.decay * edge_lengths[:, None]
        rest = ops.log(ops.maximum(1.0 - ops.exp(exponents), 1e-30))
        return ops.exp(constant + forward * exponents + backward * rest)


BASES: dict[str, Callable[[int, float], keras.layers.Layer]] = {
    "gaussian": ExponentialGaussianBasis,
    "bessel": BesselBasis,
    "bessel_from_zero": functools.partial(BesselBasis, first=0),
    "bernstein": BernsteinBasis,
    # the decay as the SO3LR authors' program has it, rounded to single precision
    "bernstein_so3lr": functools.partial(
        BernsteinBasis, decay=float(np.float32(0.9448630629184640))
    ),
    "fixed_gaussian": GaussianBasis,
    "fixed_exponential": FixedExponentialGaussianBasis,
}


def get(
    name: str, num_radial: int, cutoff: float, distance_encoding: Any = None
) -> keras.layers.Layer:
    """Makes a radial basis by name, or the learned encoding that takes its place.

    Args:
        name: Name of the basis in `BASES`.
        num_radial: Number of functions.
        cutoff: Cutoff of the model, Å.
        distance_encoding: See `keras_mlff.layers.encoding.make_encoding`; `None` for the basis.

    Raises:
        ValueError: If there is no basis of that name.
    """
    encoding = make_encoding(distance_encoding, 0.0, cutoff, num_features=num_radial)
    if encoding is not None:
        return encoding
    if name not in BASES:
        raise ValueError(f"Unknown radial basis. Received: '{name}'. Choose from {sorted(BASES)}.")
    return BASES[name](num_radial, cutoff)
