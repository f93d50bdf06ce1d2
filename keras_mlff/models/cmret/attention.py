"""Self-attention over all atoms of a graph, near and far alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Graph, Tensor
from keras_mlff.layers.activations import gelu
from keras_mlff.layers.attention import masked_softmax
from keras_mlff.layers.initializers import fan_in_uniform, torch_dense
from keras_mlff.ops import segment


def mish(x: Tensor) -> Tensor:
    """Computes x tanh(softplus(x)), elementwise.

    Reference: Misra, 2019, https://arxiv.org/abs/1908.08681
    """
    return x * ops.tanh(ops.softplus(x))


ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "swish": ops.silu,
    "softplus": ops.softplus,
    "gelu": gelu,
    "mish": mish,
    "relu": ops.relu,
}
ACTIVATIONS = ("softmax", "softmax2d", *ELEMENTWISE)


@keras.saving.register_keras_serializable("keras_mlff")
class GraphAttention(keras.layers.Layer):
    """Attends from each atom to all atoms of its graph, itself included, blind to distance.

    1. q, k and v are linear maps of the features, cut into heads.
    2. A_ij = softmax_j(q_i . k_j / tau) with tau = sqrt(temperature_coeff * width of a head).
    3. Atom i gets the sum of A_ij v_j.

    Args:
        num_features: Width of the features, divisible by `num_heads`.
        num_heads: Blocks of features that attend on their own.
        temperature_coeff: Factor under the root of tau.
        activation: What makes A of scores: `"softmax"`, `"softmax2d"` (over all pairs of a graph)
            or an elementwise one of `ELEMENTWISE`, after which masked pairs are zero.
        projections: Whether further maps stand before and after, as in the attention of
            Vaswani et al.; an ablation of the paper.

    Raises:
        ValueError: If the heads do not divide the features or the activation is unknown.

    Reference: Tao et al., 2023 (CMRET), https://arxiv.org/abs/2308.10752
    """

    def __init__(
        self,
        num_features: int,
        num_heads: int,
        temperature_coeff: float = 2.0,
        activation: str = "softmax",
        projections: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_features % num_heads:
            raise ValueError(
                "The features are shared out to heads, so their number must be divisible by "
                f"num_heads. Received: num_features={num_features}, num_heads={num_heads}."
            )
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"Unknown attention activation. Received: '{activation}'. "
                f"Choose one of {ACTIVATIONS}."
            )
        self.num_features, self.num_heads = num_features, num_heads
        self.temperature = (temperature_coeff * num_features / num_heads) ** 0.5
        self.activation, self.projections = activation, projections
        # query, key and value in one product
        self.query_key_value = torch_dense(3 * num_features, num_features)
        if projections:
            self.inner = keras.layers.EinsumDense(
                "cti,tio->cto",
                (3, num_features),
                bias_axes="to",
                kernel_initializer=fan_in_uniform(),
            )
            self.outer = torch_dense(num_features, num_features)

    def call(self, features: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
        """Computes what each atom gets.

        Call arguments:
            features: `(num_atoms, num_features)`.
            graph: The batch, whose atoms attend to those of the same graph.

        Returns:
            Messages `(num_atoms, num_features)`, and coefficients
            `(num_graphs, num_heads, max_atoms, max_atoms)`, receiver first.
        """
        # 1. Queries, keys and values
        stacked = self.query_key_value(features)
        if self.projections:
            parts = ops.reshape(stacked, (-1, 3, self.num_features))
            stacked = ops.reshape(self.inner(parts), (-1, 3 * self.num_features))
        table = segment.to_table(stacked, graph)
        num_graphs, max_atoms = ops.shape(table)[0], ops.shape(table)[1]
        width = self.num_features // self.num_heads
        table = ops.reshape(table, (num_graphs, max_atoms, 3, self.num_heads, width))
        query, key, value = (
            ops.transpose(table[:, :, part], (0, 2, 1, 3)) for part in range(3)
        )  # (num_graphs, num_heads, max_atoms, width)
        # 2. Coefficients
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / self.temperature
        coefficients = self._coefficients(scores, segment.table_mask(graph))
        # 3. Messages
        messages = ops.transpose(ops.matmul(coefficients, value), (0, 2, 1, 3))
        messages = ops.reshape(messages, (num_graphs, max_atoms, self.num_features))
        messages = segment.from_table(messages, graph)
        return (self.outer(messages) if self.projections else messages), coefficients

    def _coefficients(self, scores: Tensor, filled: Tensor) -> Tensor:
        """Turns scores into coefficients; `filled` `(num_graphs, max_atoms)` are real atoms."""
        senders = filled[:, None, None, :]
        if self.activation == "softmax":
            return masked_softmax(scores, ops.broadcast_to(senders, ops.shape(scores)))
        pairs = ops.logical_and(senders, filled[:, None, :, None])
        pairs = ops.broadcast_to(pairs, ops.shape(scores))
        if self.activation == "softmax2d":
            return masked_softmax(scores, pairs, axis=(-2, -1))
        values = ELEMENTWISE[self.activation](scores)
        return ops.where(pairs, values, ops.zeros_like(values))
