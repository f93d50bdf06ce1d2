"""Neighborhood in learned coordinates instead of space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers.attention import masked_softmax
from keras_mlff.models.so3krates.harmonic_coordinates import measure_degrees
from keras_mlff.models.so3krates.pairs import AllPairs
from keras_mlff.ops import safe


@keras.saving.register_keras_serializable("keras_mlff")
class NonlocalReach(keras.layers.Layer):
    """Weighs all pairs of a structure by how close they are in spherical harmonic coordinates.

    1. X_ij = |q_i - q_j|, over all degrees together.
    2. rho_ij = exp(X_ij) / sum over k of exp(X_ik), over all other atoms k: near atoms have the
       lowest values. (The paper's row of the softmax holds k = i, the program's does not.)
    3. nu_ij = envelope(rho_ij / limit), zero from the limit on. The limit is 1/n by default.

    No weights are learned.

    Args:
        degrees: Degrees of the coordinates.
        invariants: What X is: `"norm"`: the distance (the paper's); `"squared"`: the sum of squared
            distances over sqrt(2 d + 1), which is smooth.
        limit: The limit of step 3; `None` for 1/n in a structure of n atoms.
        exponent: Exponent of the polynomial envelope.
        in_float32: Whether 1/n is rounded to float32, as in the authors' program.

    Reference: Frank, Unke and Müller, 2022 (So3krates), eq. 14, https://arxiv.org/abs/2205.14276
    """

    def __init__(
        self,
        degrees: Sequence[int],
        invariants: str,
        limit: float | None = None,
        exponent: int = 6,
        in_float32: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.degrees, self.invariants = tuple(degrees), invariants
        self.limit, self.exponent, self.in_float32 = limit, exponent, in_float32

    def call(self, coordinates: Tensor, pairs: AllPairs) -> Tensor:
        """Computes the weight of each pair.

        Call arguments:
            coordinates: `(num_atoms, width(degrees))`.
            pairs: All pairs of each graph.

        Returns:
            nu, `(num_pairs, 1)`, zero for padding.
        """
        # 1. Distances
        differences = pairs.from_receivers(coordinates) - pairs.from_senders(coordinates)
        by_degree = measure_degrees(differences, self.degrees, self.invariants)
        if self.invariants == "norm":
            distances = safe.norm(by_degree, keepdims=True)
        else:
            distances = ops.sum(by_degree, axis=-1, keepdims=True)
        # 2. Softmax
        rows = pairs.table(distances)[..., 0]  # (num_graphs, max_atoms, max_atoms)
        ranks = masked_softmax(rows, pairs.matrix_mask)
        # 3. Envelope
        if self.limit is None:
            limit = self._one_over_n(pairs, ranks.dtype)
        else:
            limit = ops.full((1, 1, 1), self.limit, dtype=ranks.dtype)
        weights = cutoffs.polynomial(ranks / limit, 1.0, self.exponent)
        weights = ops.where(pairs.matrix_mask, weights, ops.zeros_like(weights))
        return ops.reshape(weights, (-1, 1))

    def _one_over_n(self, pairs: AllPairs, dtype: str) -> Tensor:
        """Computes 1/n of each graph, `(num_graphs, 1, 1)`."""
        numbers = ops.sum(ops.cast(pairs.graph["atom_table"] >= 0, dtype), axis=1)
        numbers = ops.maximum(numbers, 1.0)[:, None, None]
        if not self.in_float32:
            return 1.0 / numbers
        rounded = 1.0 / ops.cast(numbers, "float32")
        return ops.cast(rounded, dtype)
