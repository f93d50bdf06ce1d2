"""Bessel functions of the distance whose frequencies are learned."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor


@keras.saving.register_keras_serializable("keras_mlff")
class LearnedBesselBasis(keras.layers.Layer):
    """Expands edge lengths on rho_k(d) = (2 / r_c) sin(b_k d / r_c) / d (step 1).

    The frequencies b_k are weights and start at k pi, k = 1..num_radial, where each function is
    zero at the cutoff; training moves them, and then it is not. The factor is that of the authors'
    program, for the paper's sqrt(2 / r_c).

    Args:
        num_radial: Number of functions.
        cutoff: r_c, Å.

    Reference: Gasteiger et al., 2020, eq. 7, https://arxiv.org/abs/2003.03123
    """

    def __init__(self, num_radial: int, cutoff: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_radial, self.cutoff = num_radial, cutoff

    def build(self, input_shape: Any) -> None:
        """Creates the frequencies `(num_radial,)`."""

        def multiples(shape: Any, dtype: Any = None) -> Tensor:
            return ops.arange(1, shape[0] + 1, dtype=dtype) * math.pi

        self.frequencies = self.add_weight(
            shape=(self.num_radial,), initializer=multiples, name="frequencies"
        )

    def call(self, edge_lengths: Tensor) -> Tensor:
        """Computes the functions.

        Call arguments:
            edge_lengths: `(num_edges,)`, Å, above 0.

        Returns:
            `(num_edges, num_radial)`.
        """
        lengths = edge_lengths[:, None]
        phases = lengths * (self.frequencies / self.cutoff)
        return (2.0 / self.cutoff) * ops.sin(phases) / lengths
