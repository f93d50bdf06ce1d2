"""Attention between pairs of atoms, weighed by filters, that moves features and coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import lecun_normal
from keras_mlff.models.so3krates import spherical_harmonics as harmonics
from keras_mlff.models.so3krates.harmonic_coordinates import measure_degrees
from keras_mlff.models.so3krates.pair_filters import PairFilters
from keras_mlff.ops.pairs import Pairs


class PairGeometry(NamedTuple):
    """What all layers know of each pair."""

    envelope: Tensor  # (num_pairs, 1), zero at and beyond the cutoff and for padding
    basis: Tensor  # (num_pairs, num_radial)
    harmonics: Tensor  # (num_pairs, width(degrees)), of the direction


class Attended(NamedTuple):
    """What attention gives: additions for each atom, and the coefficients of each pair."""

    features: Tensor  # (num_atoms, num_features)
    coordinates: Tensor  # (num_atoms, width(degrees))
    feature_coefficients: Tensor  # (num_pairs, num_heads)
    coordinate_scores: Tensor  # (num_pairs, num_degrees), without envelope


@keras.saving.register_keras_serializable("keras_mlff")
class PairAttention(keras.layers.Layer):
    """Sums neighbors' values and directions, each times a filtered product of query and key.

    Step 2 makes the filters F and G of each pair, see `PairFilters`. Then, in step 3, with the
    envelope w and the harmonics Y:

    1. alpha_ij = w_ij Q_i . (F_ij K_j) / sqrt(C'), in each head of C' features, and
       h_i gets the sum of alpha_ij V_j (eq. 15).
    2. beta_ij = w_ij Q'_i . (G_ij K'_j) / sqrt(C''), with one head of C'' features for each
       degree d, and q_i gets the sum of beta_ij Y(u_ij). With non-local weights nu (eq. 14),
       w_ij + nu_ij takes the place of w_ij.

    Queries, keys and values are linear maps of each head's slice of the features, as in the
    authors' program; the paper has the features themselves. Where the degrees do not
    divide the features, the last features take no part in the second sum. There is no softmax:
    coefficients vanish with the envelope.

    All that an atom sends lies side by side, so that each layer looks up atoms twice. `split` cuts
    it apart again: its gradient is a concatenation, while that of slices, a sum of padded arrays,
    took a third of the time.

    Args:
        num_features: Width of the features, divisible by `num_heads`.
        num_heads: Heads of the attention that moves features.
        degrees: Degrees of the coordinates, ascending.
        invariants: How the distances between coordinates are measured, see `measure_degrees`.
        radial_hidden: Hidden widths of the filters of the distance.
        spherical_hidden: Hidden widths of the filters of the distances between coordinates; `None`
            leaves them out.
        use_bias: Whether queries, keys and values have biases.
        activation: Name of the activation of the filters.
        divisor: What products of queries and keys are divided by, sqrt(C') and sqrt(C'') where
            `None`.

    Reference: Frank, Unke and Müller, 2022 (So3krates), eqs. 12 to 15,
    https://arxiv.org/abs/2205.14276
    """

    def __init__(
        self,
        num_features: int,
        num_heads: int,
        degrees: Sequence[int],
        invariants: str,
        radial_hidden: Sequence[int],
        spherical_hidden: Sequence[int] | None,
        use_bias: bool = True,
        activation: str = "silu",
        divisor: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_features, self.num_heads, self.divisor = num_features, num_heads, divisor
        self.degrees, self.invariants = tuple(degrees), invariants
        self.head_width = num_features // num_heads
        self.degree_width = num_features // len(self.degrees)
        self.coordinate_width = self.degree_width * len(self.degrees)
        # query, key and value in one product; query and key
        self.feature_maps = _per_head(num_heads, self.head_width, 3, use_bias)
        self.coordinate_maps = _per_head(len(self.degrees), self.degree_width, 2, use_bias)
        self.filters = PairFilters(
            (num_features, self.coordinate_width), radial_hidden, spherical_hidden, activation
        )

    def build(self, *shapes: Any) -> None:
        """Creates the weights of the maps; the filters make their own."""
        self.feature_maps.build((None, self.num_heads, self.head_width))
        self.coordinate_maps.build((None, len(self.degrees), self.degree_width))

    def call(
        self,
        features: Tensor,
        coordinates: Tensor,
        geometry: PairGeometry,
        reach: Tensor | None,
        pairs: Pairs,
        from_zero: bool = False,
    ) -> Attended:
        """Computes what features and coordinates get from other atoms.

        Call arguments:
            features: `(num_atoms, num_features)`.
            coordinates: `(num_atoms, width(degrees))`.
            geometry: Envelope, radial functions and harmonics of the pairs.
            reach: nu, `(num_pairs, 1)`, added to the envelope of coordinates; `None` in a local
                model.
            pairs: Which atoms send to which.
            from_zero: Whether all coordinates are zero, so that no pair differs from another.

        Returns:
            Additions to features and coordinates, and the coefficients of each pair.
        """
        query, key, value = self._maps(self.feature_maps, features, self.num_heads, 3)
        degree_query, degree_key = self._maps(
            self.coordinate_maps, features[:, : self.coordinate_width], len(self.degrees), 2
        )
        wide, both = self.num_features, self.num_features + self.coordinate_width
        start = coordinates[:, :0] if from_zero else coordinates
        end = both + start.shape[-1]
        received = pairs.from_receivers(ops.concatenate([query, degree_query, start], axis=1))
        sent = pairs.from_senders(ops.concatenate([key, degree_key, start, value], axis=1))
        query, degree_query, here = ops.split(received, [wide, both], axis=1)
        key, degree_key, there, value = ops.split(sent, [wide, both, end], axis=1)
        # Step 2: filters
        if from_zero:  # one row serves all pairs
            distances = ops.zeros((1, len(self.degrees)), ops.dtype(coordinates))
        else:
            distances = measure_degrees(here - there, self.degrees, self.invariants)
        feature_filter, coordinate_filter = self.filters(geometry.basis, distances)
        # Step 3: attention
        scores = query * key * feature_filter
        coefficients = self._sum_heads(scores, self.num_heads) * geometry.envelope
        scores = degree_query * degree_key * coordinate_filter
        degree_scores = self._sum_heads(scores, len(self.degrees))
        envelope = geometry.envelope if reach is None else geometry.envelope + reach
        steps = harmonics.spread_degrees(degree_scores * envelope, self.degrees)
        values = ops.reshape(value, (-1, self.num_heads, self.head_width))
        messages = ops.reshape(coefficients[:, :, None] * values, (-1, self.num_features))
        return Attended(
            pairs.sum(messages),
            pairs.sum(steps * geometry.harmonics),
            coefficients,
            degree_scores,
        )

    def _maps(self, layer: Any, features: Tensor, num_heads: int, number: int) -> list[Tensor]:
        """Computes `number` maps of each head's slice, each `(num_atoms, width of features)`."""
        width = features.shape[-1] // num_heads
        mapped = layer(ops.reshape(features, (-1, num_heads, width)))
        parts = ops.split(mapped, number, axis=2)
        return [ops.reshape(part, (-1, num_heads * width)) for part in parts]

    def _sum_heads(self, products: Tensor, num_heads: int) -> Tensor:
        """Sums within each head, over the divisor: `(num_pairs, num_heads)`."""
        width = products.shape[-1] // num_heads
        sums = ops.sum(ops.reshape(products, (-1, num_heads, width)), axis=-1)
        return sums / (self.divisor or width**0.5)


def _per_head(num_heads: int, width: int, number: int, use_bias: bool) -> Any:
    """Makes a map of each head's own slice to `number` slices."""
    return keras.layers.EinsumDense(
        "ahi,hio->aho",
        (num_heads, number * width),
        bias_axes="ho" if use_bias else None,
        kernel_initializer=lecun_normal(),
    )
