"""A transformer on all atoms, whose attention is biased by distances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Graph, Tensor
from keras_mlff.heads import AtomNumbers
from keras_mlff.layers.activations import gelu
from keras_mlff.layers.attention import masked_softmax
from keras_mlff.layers.encoding import make_encoding
from keras_mlff.layers.initializers import Normal, torch_dense
from keras_mlff.layers.normalization import LayerNormalization
from keras_mlff.layers.readout import AtomFeatures, PerceptronReadout
from keras_mlff.ops import safe, segment


@keras.saving.register_keras_serializable("keras_mlff")
class DistanceTransformer(ForceField):
    """Pre-norm self-attention over all atoms of a molecule, to whose logits distances are added.

    1. Embedding: an element becomes the features x_i of the atom.
    2. Bias: b_ij = W_2 GELU(W_1 g(d_ij) + b_1) + b_2, one number per head, with g the distance or
       its encoding (see `DistanceBias`).
    3. Blocks: A_h = softmax_j(q_i . k_j / sqrt(F / H) + b_ij) mixes the values of all atoms, the
       atom itself included, and a perceptron follows, both on normalized features and added to
       them (see `TransformerBlock`).
    4. Layer normalization.
    5. Readout: a perceptron of one hidden layer with GELU.

    Atoms know their element only; all geometry enters through the bias. There is no cutoff, so
    energies of far fragments do not add up and crystals are not defined.

    Args:
        num_features: Width F of the atoms' features, divisible by `num_heads`.
        num_layers: Number of blocks.
        num_heads: Number H of attention heads.
        distance_encoding: What the bias reads: `"original"` (the distance itself), `"mlp"`,
            `"posenc"` (a learned table), `"smooth"` (such a table with the smoothness loss), or a
            dict, see `keras_mlff.layers.encoding.make_encoding`.
        feed_forward_features: Hidden width of the perceptron of each block; four times
            `num_features` for `None`.
        bias_features: Hidden width of the bias.
        bias_per_layer: Whether each block has a bias, and a table, of its own.
        cutoff: Distance in Å where tables end before training; distances beyond continue them as
            straight lines. No distance is cut off.
        **kwargs: Arguments of `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Raises:
        ValueError: If heads do not divide the features or the encoding is unknown.

    Reference: https://arxiv.org/abs/2211.12773, which describes the network in one sentence and
    leaves the sizes open; the bias is the spatial encoding of Graphormer, eq. 6 of
    https://arxiv.org/abs/2106.05234

    Example:
        >>> model = DistanceTransformer(num_features=16, num_layers=1, distance_encoding="smooth")
        >>> model.count_params() > 0
        True
    """

    is_size_consistent = False
    supports_periodic = False
    sees_all_pairs = True

    def __init__(
        self,
        num_features: int = 128,
        num_layers: int = 6,
        num_heads: int = 8,
        distance_encoding: str | Mapping[str, Any] | None = "original",
        feed_forward_features: int | None = None,
        bias_features: int = 64,
        bias_per_layer: bool = True,
        cutoff: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=cutoff, **kwargs)
        if num_features % num_heads:
            raise ValueError(
                "Heads share the features evenly. "
                f"Received: num_features={num_features}, num_heads={num_heads}."
            )
        self.num_features, self.num_layers = num_features, num_layers
        # 1. Embedding
        self.embedding = keras.layers.Embedding(
            MAX_ATOMIC_NUMBER + 1, num_features, Normal(stddev=1.0)
        )
        # 2. Bias
        num_tables = num_layers if bias_per_layer else 1
        self.biases = [
            DistanceBias(
                num_heads,
                bias_features,
                make_encoding(distance_encoding, 0.0, cutoff, num_tables, bounded=False),
            )
            for _ in range(num_tables)
        ]
        # 3. Blocks
        hidden = 4 * num_features if feed_forward_features is None else feed_forward_features
        self.blocks = [TransformerBlock(num_features, num_heads, hidden) for _ in range(num_layers)]
        # 4. Layer normalization
        self.normalization = LayerNormalization(epsilon=1e-5)

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        """Runs steps 1 to 4 of the class.

        Args:
            graph: A batch of molecules; its edges are not read.
            training: Ignored; nothing differs in training.

        Returns:
            Scalars `(num_atoms, num_features)`.
        """
        if "cell" in graph:
            raise ValueError(
                "DistanceTransformer couples all atoms, however far, so a crystal has no finite "
                "energy. Received: a graph with a cell. Leave the cell out, or use an architecture "
                "with a cutoff, such as EGNN."
            )
        # 1. Embedding
        features = self.with_charge_spin(self.embedding(graph["atomic_numbers"]), graph)
        features = segment.to_table(features, graph)
        # 2. Bias
        positions = segment.to_table(graph["positions"], graph)
        # (num_graphs, max_atoms, max_atoms); the diagonal is zero and has no gradient
        distances = safe.norm(positions[:, None] - positions[:, :, None])
        # 3. Blocks. Columns of padding get no attention; rows of padding are never read
        allowed = segment.table_mask(graph)[:, None, None, :]
        shared = self.biases[0](distances) if len(self.biases) == 1 else None
        for index, block in enumerate(self.blocks):
            bias = self.biases[index](distances) if shared is None else shared
            features, coefficients = block(features, bias, allowed)
            self.record(f"layer{index}/features", segment.from_table(features, graph))
            self.record(f"layer{index}/attention", coefficients)
        # 4. Layer normalization
        return AtomFeatures(segment.from_table(self.normalization(features), graph))

    def encode_distances(self, distances: Tensor) -> list[Tensor]:
        return [bias.encode(distances) for bias in self.biases]

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        """Makes step 5."""
        return TransformerReadout(numbers.num_scalars, self.num_features, numbers.use_bias)


@keras.saving.register_keras_serializable("keras_mlff")
class DistanceBias(keras.layers.Layer):
    """Turns distances into what is added to the logits of each head.

    b_ij = W_2 GELU(W_1 g(d_ij) + b_1) + b_2, with g the distance itself or its encoding.

    Args:
        num_heads: Number of attention heads.
        hidden_features: Width of the hidden layer.
        encoding: Layer that encodes distances; `None` takes the distance itself.

    Reference: https://arxiv.org/abs/2211.12773
    """

    def __init__(
        self, num_heads: int, hidden_features: int, encoding: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.encoding = encoding
        width = 1 if encoding is None else encoding.num_features
        self.hidden = torch_dense(hidden_features, width, activation=gelu)
        self.outputs = torch_dense(num_heads, hidden_features)

    def call(self, distances: Tensor) -> Tensor:
        """Computes the bias.

        Call arguments:
            distances: `(num_graphs, max_atoms, max_atoms)` in Å.

        Returns:
            `(num_graphs, num_heads, max_atoms, max_atoms)`.
        """
        encoded = distances[..., None] if self.encoding is None else self.encoding(distances)
        return ops.transpose(self.outputs(self.hidden(encoded)), (0, 3, 1, 2))

    def encode(self, distances: Tensor) -> Tensor:
        """Computes what the layer makes of distances alone.

        Args:
            distances: `(n,)` in Å.

        Returns:
            The encoding `(n, width)`, or without one the bias of each head, `(n, num_heads)`.
        """
        if self.encoding is not None:
            return self.encoding(distances)
        return self.outputs(self.hidden(distances[:, None]))


@keras.saving.register_keras_serializable("keras_mlff")
class TransformerBlock(keras.layers.Layer):
    """Attention and a perceptron, both on normalized features and added to them.

    1. Attention: with y = LayerNorm(x), queries q, keys k and values v of each head are maps of y,
       A = softmax_j(q_i . k_j / sqrt(F / H) + b_ij), and x <- x + W_o [A v of all heads] + b_o.
    2. Perceptron: x <- x + W_2 GELU(W_1 LayerNorm(x) + b_1) + b_2.

    Args:
        num_features: Width F of the features.
        num_heads: Number H of attention heads.
        hidden_features: Width of the perceptron's hidden layer.

    Reference: Vaswani et al., 2017, eq. 1, https://arxiv.org/abs/1706.03762, with normalization
    first
    """

    def __init__(
        self, num_features: int, num_heads: int, hidden_features: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads, self.head_width = num_heads, num_features // num_heads
        self.normalization_1 = LayerNormalization(epsilon=1e-5)
        self.normalization_2 = LayerNormalization(epsilon=1e-5)
        # query, key and value in one product
        self.query_key_value = torch_dense(3 * num_features, num_features)
        self.mix = torch_dense(num_features, num_features)
        self.hidden = torch_dense(hidden_features, num_features, activation=gelu)
        self.outputs = torch_dense(num_features, hidden_features)

    def call(self, features: Tensor, bias: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the steps of the class.

        Call arguments:
            features: x, `(num_graphs, max_atoms, num_features)`.
            bias: b, `(num_graphs, num_heads, max_atoms, max_atoms)`.
            allowed: Which atoms may be attended to, `(num_graphs, 1, 1, max_atoms)` bool, false for
                padding.

        Returns:
            New features, of the same shape, and the attention A, of the shape of the bias.
        """
        # 1. Attention
        num_graphs, max_atoms = ops.shape(features)[:2]
        joined = self.query_key_value(self.normalization_1(features))
        joined = ops.reshape(joined, (num_graphs, max_atoms, 3, self.num_heads, self.head_width))
        joined = ops.transpose(joined, (2, 0, 3, 1, 4))
        query, key, value = joined[0], joined[1], joined[2]
        logits = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        scores = logits * self.head_width**-0.5 + bias
        coefficients = masked_softmax(scores, ops.broadcast_to(allowed, ops.shape(scores)))
        attended = ops.transpose(ops.matmul(coefficients, value), (0, 2, 1, 3))
        width = self.num_heads * self.head_width
        features = features + self.mix(ops.reshape(attended, (num_graphs, max_atoms, width)))
        # 2. Perceptron
        features = features + self.outputs(self.hidden(self.normalization_2(features)))
        return features, coefficients


@keras.saving.register_keras_serializable("keras_mlff")
class TransformerReadout(PerceptronReadout):
    """A `PerceptronReadout` with GELU, as wide as what it reads.

    Its own class, since files of weights name it.

    Args:
        num_scalars: Numbers per atom that the head asks for.
        num_features: Width of what is read and of the hidden layer.
        use_bias: Whether the last layer has a bias.
    """

    def __init__(
        self, num_scalars: int, num_features: int, use_bias: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(
            num_scalars, num_features, use_bias, gelu, input_features=num_features, **kwargs
        )
