"""Neighborhood in learned coordinates instead of space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers.attention import masked_softmax
from keras_mlff.models.so3krates.harmonic_coordinates import invariants
from keras_mlff.ops import safe
from keras_mlff.ops.pairs import AllPairs


@keras.saving.register_keras_serializable("keras_mlff")
class NonlocalReach(keras.layers.Layer):
    """Weighs all pairs of a structure by how close they are in spherical harmonic coordinates.

    A softmax of the distances, over the other atoms, gives atoms near in coordinates the lowest
    values; those below `chi_cut` are reached. No weights are learned.

    Args:
        degrees: Of the coordinates.
        kind: `"norm"`: the distance (the paper's); `"squared"`: the sum of squared distances over
            sqrt(2 d + 1), which is smooth.
        chi_cut: `"1/n"` for a structure of n atoms, or a number.
        exponent: Of the polynomial envelope.
        in_float32: Whether 1/n is rounded to float32, as in the authors' program.

    Reference: So3krates, https://arxiv.org/abs/2205.14276, eq. 14
    """

    def __init__(
        self,
        degrees: Sequence[int],
        kind: str,
        chi_cut: float | str = "1/n",
        exponent: int = 6,
        in_float32: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if chi_cut != "1/n" and not (isinstance(chi_cut, (int, float)) and chi_cut > 0.0):
            raise ValueError(f"`chi_cut` is '1/n' or a number above 0. Received: {chi_cut!r}.")
        self.degrees, self.kind = tuple(degrees), kind
        self.chi_cut, self.exponent, self.in_float32 = chi_cut, exponent, in_float32

    def call(self, coordinates: Tensor, pairs: AllPairs) -> Tensor:
        """Computes the weight of each pair, `(num_pairs, 1)`.

        Call arguments:
            coordinates: `(num_atoms, width(degrees))`.
            pairs: All pairs of each graph.
        """
        differences = pairs.from_receivers(coordinates) - pairs.from_senders(coordinates)
        by_degree = invariants(differences, self.degrees, self.kind)
        if self.kind == "norm":
            distances = safe.norm(by_degree, keepdims=True)
        else:
            distances = ops.sum(by_degree, axis=-1, keepdims=True)
        rows = pairs.table(distances)[..., 0]  # (num_graphs, max_atoms, max_atoms)
        ranks = masked_softmax(rows, pairs.matrix_mask)
        if self.chi_cut == "1/n":
            limit = self._one_over_n(pairs, ranks.dtype)
        else:
            limit = ops.full((1, 1, 1), self.chi_cut, dtype=ranks.dtype)
        weights = cutoffs.polynomial(ranks / limit, 1.0, self.exponent)
        weights = ops.where(pairs.matrix_mask, weights, ops.zeros_like(weights))
        return ops.reshape(weights, (-1, 1))

    def _one_over_n(self, pairs: AllPairs, dtype: str) -> Tensor:
        numbers = ops.sum(ops.cast(pairs.graph["atom_table"] >= 0, dtype), axis=1)
        numbers = ops.maximum(numbers, 1.0)[:, None, None]
        if not self.in_float32:
            return 1.0 / numbers
        rounded = 1.0 / ops.cast(numbers, "float32")
        return ops.cast(rounded, dtype)
