"""Messages along edges, and what their sum adds to each atom."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import torch_dense
from keras_mlff.layers.normalization import LayerNormalization
from keras_mlff.models.alphanet.edges import EdgeGeometry
from keras_mlff.models.alphanet.frame_layers import xavier_dense
from keras_mlff.models.alphanet.phase import PhaseMessage
from keras_mlff.models.alphanet.variant import AlphaNetVariant
from keras_mlff.ops.pairs import EdgePairs


@keras.saving.register_keras_serializable("keras_mlff")
class AlphaNetInteraction(keras.layers.Layer):
    """Sends messages along edges and normalizes their sum at each atom (step 4).

    1. Each atom offers three vectors of numbers, y = MLP(LN(s)).
    2. Each edge filters those of its sender, [x, x', x''] = y_j W, with
       W = (map of rho) MLP(B), by its radial functions rho and its structure B.
    3. Phases theta of the edge are computed from x and W, see `PhaseMessage`.
    4. Sums over the edges of each atom, times w where messages end at the cutoff:
       M_i = LN(sum of [theta, x]) and U_i = sum of (V_j x' / sqrt(3) + u x'') / sqrt(C).
    5. The part x of M_i is added to the features and U_i to the vectors. The part theta becomes
       omega_i = exp(i (map of theta)), which rotates the features that the next layer sees.

    The paper describes none of this by formulas; it is the authors' program, with the choices of
    `AlphaNetVariant`.

    Args:
        num_features: C, width of features and vectors.
        phase_message: Computes the phases of step 3; `None` for a network without phases.
        variant: Says what is normalized, with which epsilons, and whether edges are averaged.

    Reference: AlphaNet, 2025, https://arxiv.org/abs/2501.07155; of messages with vectors:
    Schütt et al., 2021 (PaiNN), https://arxiv.org/abs/2102.03150
    """

    def __init__(
        self,
        num_features: int,
        phase_message: PhaseMessage | None,
        variant: AlphaNetVariant,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_features, self.phase_message = num_features, phase_message
        self.phase_width = 0 if phase_message is None else phase_message.width
        self.variant = variant
        # 1. What atoms send
        self.normalization = LayerNormalization(epsilon=variant.norm_epsilon)
        self.atom_hidden = xavier_dense(num_features, activation="silu")
        self.atom_output = xavier_dense(3 * num_features)
        # 2. What edges let through
        self.radial_map = xavier_dense(3 * num_features)
        self.edge_hidden = xavier_dense(3 * num_features, activation="silu")
        self.edge_output = xavier_dense(3 * num_features)
        # 4. What arrives
        self.sum_normalization = None
        if variant.message_norm != "none":
            self.sum_normalization = LayerNormalization(epsilon=variant.message_epsilon)
        # 5. What rotates the next layer's input
        self.angle_map = None
        if phase_message is not None:
            self.angle_map = torch_dense(num_features // 2, self.phase_width)

    def build(self, features_shape: Any, vectors_shape: Any, edges_shape: Any) -> None:
        """Creates the weights."""
        width = self.num_features
        _, radial_shape, structure_shape, _ = edges_shape
        self.normalization.build((None, width))
        self.atom_hidden.build((None, width))
        self.atom_output.build((None, width))
        self.radial_map.build((None, radial_shape[-1]))
        self.edge_hidden.build((None, structure_shape[-1]))
        self.edge_output.build((None, 3 * width))
        if self.phase_message is not None:
            self.phase_message.build((None, width), (None, 3 * width), (None,))
        if self.sum_normalization is not None:
            only_phases = self.variant.message_norm == "phases"
            total = self.phase_width + (0 if only_phases else width)
            self.sum_normalization.build((None, total))
        if self.angle_map is not None:
            self.angle_map.build((None, self.phase_width))

    def call(
        self,
        features: Tensor,
        vectors: Tensor,
        edges: EdgeGeometry,
        pairs: EdgePairs,
        training: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Computes what is added to features and vectors, and the next layer's rotation.

        Call arguments:
            features: `(num_atoms, num_features)`, rotated.
            vectors: `(num_atoms, 3, num_features)`.
            edges: Geometry of the edges.
            pairs: Which atoms send to which.
            training: Whether to drop a share of the messages that phases see.

        Returns:
            Additions `(num_atoms, num_features)` and `(num_atoms, 3, num_features)`, and the
            complex numbers omega `(num_atoms, num_features)`, real parts first; `None` for these
            in a network without phases.
        """
        width = self.num_features
        # 1. What atoms send
        sent = self.atom_output(self.atom_hidden(self.normalization(features)))
        # 2. What edges let through
        filters = self.radial_map(edges.radial)
        filters = filters * self.edge_output(self.edge_hidden(edges.structure))
        products = pairs.from_senders(sent) * filters  # (num_edges, 3 * num_features)
        messages = products[:, :width]
        # 3. Phases
        parts = [messages]
        if self.phase_message is not None:
            parts.insert(0, self.phase_message(messages, filters, pairs.mask, training=training))
        # 4. What arrives
        summed = pairs.sum(edges.weights * ops.concatenate(parts, axis=1))
        along = pairs.from_senders(vectors) * (products[:, None, width : 2 * width] * 3.0**-0.5)
        fresh = edges.directions[:, :, None] * products[:, None, 2 * width :]
        added = pairs.sum(edges.weights[:, :, None] * (along + fresh)) * width**-0.5
        if self.variant.reduce == "mean":
            number = self._count_neighbors(edges.weights, pairs)
            summed, added = summed / number, added / number[:, :, None]
        phases, scalars = self._normalize(summed)
        # 5. What rotates the next layer's input
        if self.angle_map is None:
            return scalars, added, None
        angles = self.angle_map(phases)
        return scalars, added, ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=1)

    def _count_neighbors(self, weights: Tensor, pairs: EdgePairs) -> Tensor:
        """Counts neighbors by weight, `(num_atoms, 1)`, but never far below one.

        So the mean goes to zero where the last neighbor leaves.
        """
        number = pairs.sum(weights)
        if self.variant.smooth_mean:
            return ops.sqrt(1.0 + ops.square(number))
        return ops.maximum(number, 1.0)

    def _normalize(self, summed: Tensor) -> tuple[Tensor, Tensor]:
        """Splits sums into phases and features, normalized together, the phases alone, or not."""
        number, norm = self.phase_width, self.variant.message_norm
        if norm == "all" and self.sum_normalization is not None:
            summed = self.sum_normalization(summed)
        phases, scalars = summed[:, :number], summed[:, number:]
        if norm == "phases" and self.sum_normalization is not None and number:
            phases = self.sum_normalization(phases)
        return phases, scalars
