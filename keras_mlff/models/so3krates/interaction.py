"""One layer of So3krates: attention between atoms, then exchange within each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import lecun_normal
from keras_mlff.layers.normalization import LayerNormalization
from keras_mlff.models.so3krates import spherical_harmonics as harmonics
from keras_mlff.models.so3krates.harmonic_coordinates import (
    CoordinateNormalization,
    DegreeCoupling,
    measure_degrees,
)
from keras_mlff.models.so3krates.nonlocal_reach import NonlocalReach
from keras_mlff.models.so3krates.pair_attention import PairAttention, PairGeometry
from keras_mlff.models.so3krates.pairs import AllPairs
from keras_mlff.models.so3krates.residual_perceptron import ResidualPerceptron
from keras_mlff.models.so3krates.variant import So3kratesVariant
from keras_mlff.ops.pairs import Pairs


@keras.saving.register_keras_serializable("keras_mlff")
class So3kratesInteraction(keras.layers.Layer):
    """Moves features and coordinates by attention (steps 2 and 3), then mixes them (step 4).

    With h and q the features and coordinates after attention, |q| the measures of their degrees,
    and t the couplings of q (eq. 16):

    1. [p1, p2, g1, g2] = W [h, |q|] and p3 = W' |t|, both linear.
    2. h <- (h + p1 + p2 p3) / sqrt(3) (eq. 17).
    3. q_d <- q_d + g1_d q_d + g2_d t_d for each degree d (eq. 18).

    These are the maps of the authors' program. The paper's p1, p2 and gates see |t| as well, and it
    has no 1/sqrt(3). Without coupling: h <- h + p1 and q_d <- q_d + g1_d q_d.

    Args:
        num_features: Width of the features.
        attention: The attention between pairs.
        reach: What weighs pairs beyond the cutoff; `None` for a local model.
        degrees: Degrees of the coordinates, ascending.
        variant: Says how degrees are measured and coupled, what is normalized, and whether
            perceptrons follow.
        activation: Activation of these perceptrons.

    Reference: Frank, Unke and Müller, 2022, eqs. 16 to 18, https://arxiv.org/abs/2205.14276
    """

    def __init__(
        self,
        num_features: int,
        attention: PairAttention,
        reach: NonlocalReach | None,
        degrees: Sequence[int],
        variant: So3kratesVariant,
        activation: str = "silu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_features, self.degrees = num_features, tuple(degrees)
        self.variant = variant
        # Steps 2 and 3: attention
        self.attention, self.reach = attention, reach
        # Step 4: exchange
        self.coupling = DegreeCoupling(degrees, variant.parity) if variant.coupling else None
        width = (num_features + len(self.degrees)) * (1 if self.coupling is None else 2)
        self.mix = keras.layers.Dense(width, kernel_initializer=lecun_normal())
        self.mix_coupled: Any = None
        if self.coupling is not None:
            self.mix_coupled = keras.layers.Dense(num_features, kernel_initializer=lecun_normal())
        # After attention and after exchange; pre-norms come before them
        self.feature_norms, self.pre_norms = (
            [LayerNormalization(epsilon=variant.layer_norm_epsilon) for _ in range(2 * wanted)]
            for wanted in (
                variant.feature_layer_norm or variant.post_layer_norm,
                variant.pre_layer_norm,
            )
        )
        self.coordinate_norms = [
            CoordinateNormalization(degrees) for _ in range(2 * variant.coordinate_layer_norm)
        ]
        self.residuals: list[Any] = [
            ResidualPerceptron(num_features, activation) for _ in range(2 * variant.residual_mlp)
        ]
        self.after_norm: list[Any] = [
            ResidualPerceptron(num_features, activation, is_open=True)
            for _ in range(variant.post_layer_norm)
        ]

    def build(self, *shapes: Any) -> None:
        """Creates the weights of the exchange; the attention makes its own."""
        width, number = self.num_features, len(self.degrees)
        if self.coupling is not None:
            self.coupling.build()
            self.mix_coupled.build((None, number))
        self.mix.build((None, width + number))
        parts: list[Any] = [*self.feature_norms, *self.pre_norms, *self.residuals, *self.after_norm]
        for part in parts:
            part.build((None, width))
        for norm in self.coordinate_norms:
            norm.build()

    def call(
        self,
        features: Tensor,
        coordinates: Tensor,
        known: PairGeometry,
        pairs: Pairs,
        from_zero: bool = False,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Computes new features, new coordinates, and what to record.

        Call arguments:
            features: `(num_atoms, num_features)`.
            coordinates: `(num_atoms, width(degrees))`.
            known: Geometry of the pairs.
            pairs: Which atoms send to which.
            from_zero: Whether all coordinates are zero.

        Returns:
            Features and coordinates in the same shapes, and intermediate values by name.
        """
        # Steps 2 and 3: filters and attention
        reach = None
        if self.reach is not None and isinstance(pairs, AllPairs):
            reach = self.reach(coordinates, pairs=pairs)  # (num_pairs, 1)
        seen = _apply(self.pre_norms, 0, features)
        attended = self.attention(seen, coordinates, known, reach, pairs=pairs, from_zero=from_zero)
        features = _apply(self.residuals, 0, features + attended.features)
        coordinates = coordinates + attended.coordinates
        inside = {
            "attended_features": features,
            "attended_coordinates": coordinates,
            "feature_coefficients": attended.feature_coefficients,
            "coordinate_coefficients": known.envelope * attended.coordinate_scores,
        }
        if reach is not None:
            inside["nonlocal_coefficients"] = reach * attended.coordinate_scores
        features = _apply(self.after_norm, 0, _apply(self.feature_norms, 0, features))
        coordinates = _apply(self.coordinate_norms, 0, coordinates)

        # Step 4: the atom's own exchange
        features, coordinates, coupled = self._exchange(features, coordinates)
        if coupled is not None:
            inside["coupled_coordinates"] = coupled
        features = _apply(self.feature_norms, 1, _apply(self.residuals, 1, features))
        return features, _apply(self.coordinate_norms, 1, coordinates), inside

    def _exchange(
        self, features: Tensor, coordinates: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mixes features and coordinates of each atom (eqs. 16 to 18).

        Returns:
            Features `(num_atoms, num_features)`, coordinates `(num_atoms, width(degrees))`, and
            the couplings t in the shape of coordinates, if degrees couple.
        """
        # 1. Maps of features and measures
        lengths = measure_degrees(coordinates, self.degrees, self.variant.invariants)
        seen = _apply(self.pre_norms, 1, features)
        mixed = self.mix(ops.concatenate([seen, lengths], axis=1))
        if self.coupling is None:
            added, own = ops.split(mixed, [self.num_features], axis=1)
            return features + added, coordinates + self._spread(own) * coordinates, None
        width, number = self.num_features, len(self.degrees)
        ends = (width, 2 * width, 2 * width + number)
        added, gated, own, other = ops.split(mixed, ends, axis=1)
        coupled = self.coupling(coordinates)
        gate = self.mix_coupled(measure_degrees(coupled, self.degrees, self.variant.invariants))
        # 2. New features
        features = (features + added + gated * gate) * 3.0**-0.5
        # 3. New coordinates
        own, other = self._spread(own), self._spread(other)
        return features, coordinates + own * coordinates + other * coupled, coupled

    def _spread(self, by_degree: Tensor) -> Tensor:
        return harmonics.spread_degrees(by_degree, self.degrees)


def _apply(layers: Sequence[Any], place: int, values: Tensor) -> Tensor:
    """Applies the layer of a place, where there are any."""
    return layers[place](values) if layers else values
