"""One layer of EGNN: messages between pairs of atoms, new features, and steps of positions."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import Uniform, torch_dense
from keras_mlff.ops import safe
from keras_mlff.ops.pairs import Pairs


@keras.saving.register_keras_serializable("keras_mlff")
class EGNNInteraction(keras.layers.Layer):
    """Exchanges messages between pairs of atoms and updates features, and positions on request.

    With d_ij the distance, or its encoding, of atoms i and j, and w_ij the envelope of the pair:

    1. Message: m_ij = phi_e(h_i, h_j, d_ij²), a perceptron of two layers with SiLU (eq. 3).
    2. Gate, if there is one: m_ij <- sigmoid(W m_ij + b) m_ij, one number per pair (section 3.3).
    3. Step of positions on request: x_i <- x_i + sum_j w_ij (x_i - x_j) phi_x(m_ij) (eq. 4).
    4. Sum over neighbors: m_i = sum_j w_ij m_ij (eq. 5).
    5. Features: h_i <- h_i + phi_h(h_i, m_i), a perceptron of two layers (eq. 6).

    The first map of a pair, [h_i, h_j, d_ij²] W, is computed as the sum of three products, of which
    two grow with the atoms instead of the pairs. The envelope is not in the paper, which connects
    all atoms.

    Args:
        num_features: Width of the features h.
        encoding: Layer that encodes distances; `None` takes their squares.
        attention: Whether messages have the gate of step 2.
        num_attributes: Width of further numbers of each atom that enter step 5; 0 for none.
        moves: Whether positions move, step 3.
        normalize: How the directions of step 3 are normalized, see `EGNNVariant`.
        tanh: Whether the sizes of the steps are bounded by a hyperbolic tangent.
        mean: Whether steps are averaged over neighbors instead of summed.

    Reference: Satorras et al., 2021, eqs. 3 to 6, https://arxiv.org/abs/2102.09844
    """

    def __init__(
        self,
        num_features: int,
        encoding: Any = None,
        attention: bool = True,
        num_attributes: int = 0,
        moves: bool = False,
        normalize: bool | str = False,
        tanh: bool = False,
        mean: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_features, self.encoding = num_features, encoding
        self.num_attributes, self.moves = num_attributes, moves
        self.normalize, self.tanh, self.mean = normalize, tanh, mean
        self.edge_width = 2 * num_features + (1 if encoding is None else encoding.num_features)
        self.node_width = 2 * num_features + num_attributes
        self.edge_1 = torch_dense(num_features, self.edge_width)
        self.edge_2 = torch_dense(num_features, num_features, activation="silu")
        self.gate = torch_dense(1, num_features, activation="sigmoid") if attention else None
        self.node_1 = torch_dense(num_features, self.node_width, activation="silu")
        self.node_2 = torch_dense(num_features, num_features)
        self.coordinate_1: Any = None
        self.coordinate_2: Any = None
        if moves:
            self.coordinate_1 = torch_dense(num_features, num_features, activation="silu")
            bound = 0.001 * (6.0 / (num_features + 1)) ** 0.5
            self.coordinate_2 = torch_dense(
                1,
                num_features,
                use_bias=False,
                kernel_initializer=Uniform(-bound, bound),
            )

    def build(self, *shapes: Any) -> None:
        """Creates all weights; `call` uses those of the pairs in parts."""
        if self.encoding is not None:
            self.encoding.build((None,))
        self.edge_1.build((None, self.edge_width))
        self.node_1.build((None, self.node_width))
        for layer in (self.edge_2, self.gate, self.node_2, self.coordinate_1, self.coordinate_2):
            if layer is not None:
                layer.build((None, self.num_features))

    def call(
        self,
        features: Tensor,
        attributes: Tensor,
        vectors: Tensor,
        envelope: Tensor,
        pairs: Pairs,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Runs the steps of the class.

        Call arguments:
            features: h, `(num_atoms, num_features)`.
            attributes: `(num_atoms, num_attributes)`; not read where `num_attributes` is 0.
            vectors: Sender minus receiver of each pair, `(num_pairs, 3)` in Å.
            envelope: w, `(num_pairs, 1)`, zero for padding.
            pairs: Which atoms send to which.

        Returns:
            New features `(num_atoms, num_features)`; steps of the positions `(num_atoms, 3)` in Å,
            `None` if they do not move; the gates `(num_pairs, 1)`, `None` if there are none.
        """
        messages, gates = self._messages(features, vectors, pairs)  # steps 1 and 2
        # 4. Sum over neighbors
        parts = [features, pairs.sum(messages * envelope)]
        if self.num_attributes:
            parts.append(attributes)
        # 5. Features
        updated = features + self.node_2(self.node_1(ops.concatenate(parts, axis=-1)))
        if not self.moves:
            return updated, None, gates
        return updated, self._steps(messages, vectors, envelope, pairs), gates

    def encode(self, distances: Tensor) -> Tensor:
        """Computes what the layer makes of distances alone.

        Args:
            distances: `(n,)` in Å.

        Returns:
            The encoding `(n, width)`, or what the first map of step 1 makes of the squares,
            `(n, num_features)`.
        """
        if self.encoding is not None:
            return self.encoding(distances)
        kernel = ops.convert_to_tensor(self.edge_1.kernel)[2 * self.num_features :]
        return ops.matmul(ops.square(distances)[:, None], kernel)

    def _messages(
        self, features: Tensor, vectors: Tensor, pairs: Pairs
    ) -> tuple[Tensor, Tensor | None]:
        """Computes messages `(num_pairs, num_features)` and gates `(num_pairs, 1)`, steps 1, 2."""
        width = self.num_features
        if self.encoding is None:
            distances = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
        else:
            distances = self.encoding(safe.norm(vectors))  # (num_pairs, num_distances)
        kernel = ops.convert_to_tensor(self.edge_1.kernel)
        received = ops.matmul(features, kernel[:width]) + self.edge_1.bias
        sent = ops.matmul(features, kernel[width : 2 * width])
        hidden = pairs.from_receivers(received) + pairs.from_senders(sent)
        hidden = ops.silu(hidden + ops.matmul(distances, kernel[2 * width :]))
        messages = self.edge_2(hidden)
        if self.gate is None:
            return messages, None
        gates = self.gate(messages)  # (num_pairs, 1)
        return messages * gates, gates

    def _steps(self, messages: Tensor, vectors: Tensor, envelope: Tensor, pairs: Pairs) -> Tensor:
        """Computes by how much each position moves, `(num_atoms, 3)` in Å, step 3."""
        directions = -vectors  # receiver minus sender
        if self.normalize:
            lengths = safe.norm(vectors, keepdims=True)
            if self.normalize == "detached":
                lengths = ops.stop_gradient(lengths)
            directions = directions / (lengths + 1e-8)
        scales = self.coordinate_2(self.coordinate_1(messages))
        scales = ops.tanh(scales) if self.tanh else scales
        steps = pairs.sum(directions * scales * envelope)
        if self.mean:
            counts = pairs.sum(ops.cast(pairs.mask, steps.dtype)[:, None])
            steps = steps / ops.maximum(counts, 1.0)
        return steps
