"""A transformer on all atoms, whose attention is biased by distances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import keras
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array, Graph, Tensor
from keras_mlff.heads import AtomNumbers
from keras_mlff.layers import positional_encoding
from keras_mlff.layers.activations import gelu
from keras_mlff.layers.attention import masked_softmax
from keras_mlff.layers.initializers import Normal, torch_dense
from keras_mlff.layers.normalization import LayerNormalization
from keras_mlff.layers.readout import AtomFeatures
from keras_mlff.ops import safe, segment


@keras.saving.register_keras_serializable("keras_mlff")
class DistanceTransformer(ForceField):
    """Pre-norm self-attention over all atoms of a molecule, to whose logits distances are added.

    Atoms know their element only; all geometry enters through the bias, a perceptron of the
    distance with one output per head. There is no cutoff, so energies of far fragments do not add
    up and crystals are not defined.

    Args:
        num_features: Width of the atoms' features, divisible by `num_heads`.
        num_layers: Number of layers.
        num_heads: Heads of the attention.
        distance_encoding: What the bias reads: `"original"` (the distance itself), `"mlp"`,
            `"posenc"` (a learned table), `"smooth"` (posenc with the smoothness loss), or a dict,
            see `keras_mlff.layers.positional_encoding.get`.
        feed_forward_features: Hidden width of the perceptron of each layer; four times
            `num_features` by default.
        bias_features: Hidden width of the bias.
        bias_per_layer: Whether each layer has a bias of its own.
        cutoff: Å, where tables end; distances beyond continue them. No distance is cut off.
        **kwargs: Of `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Reference: https://arxiv.org/abs/2211.12773, whose text leaves the sizes open; the bias is that
    of Graphormer, https://arxiv.org/abs/2106.05234

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
        self.embedding = keras.layers.Embedding(
            MAX_ATOMIC_NUMBER + 1, num_features, Normal(stddev=1.0)
        )
        num_tables = num_layers if bias_per_layer else 1
        self.biases = [
            DistanceBias(
                num_heads,
                bias_features,
                positional_encoding.get(distance_encoding, 0.0, cutoff, num_tables, bounded=False),
            )
            for _ in range(num_tables)
        ]
        hidden = 4 * num_features if feed_forward_features is None else feed_forward_features
        self.blocks = [TransformerBlock(num_features, num_heads, hidden) for _ in range(num_layers)]
        self.normalization = LayerNormalization(epsilon=1e-5)

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        if "cell" in graph:
            raise ValueError(
                "DistanceTransformer couples all atoms, however far, so a crystal has no finite "
                "energy. Received: a graph with a cell. Leave the cell out, or use an architecture "
                "with a cutoff, such as EGNN."
            )
        features = self.with_charge_spin(self.embedding(graph["atomic_numbers"]), graph)
        features = segment.to_table(features, graph)
        positions = segment.to_table(graph["positions"], graph)
        # (num_graphs, max_atoms, max_atoms); the diagonal is zero and has no gradient
        distances = safe.norm(positions[:, None] - positions[:, :, None])
        # columns of padding get no attention; rows of padding are never read
        allowed = segment.table_mask(graph)[:, None, None, :]
        shared = self.biases[0](distances) if len(self.biases) == 1 else None
        for index, block in enumerate(self.blocks):
            bias = self.biases[index](distances) if shared is None else shared
            features, coefficients = block(features, bias, allowed)
            self.record(f"layer{index}/features", segment.from_table(features, graph))
            self.record(f"layer{index}/attention", coefficients)
        return AtomFeatures(segment.from_table(self.normalization(features), graph))

    def encode_distances(self, distances: Tensor) -> list[Tensor]:
        return [bias.encode(distances) for bias in self.biases]

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        return TransformerReadout(numbers.num_scalars, self.num_features, numbers.use_bias)

    @classmethod
    def from_reference(
        cls,
        hyperparameters: Mapping[str, Any],
        weights: Mapping[str, Array],
        smoothness: float | None = None,
        **kwargs: Any,
    ) -> Self:
        """Builds the reference program's network from its hyper-parameters and weights.

        Args:
            hyperparameters: `dim`, `heads`, `n_layers`, `ffn`, `bias_hidden`, `bias_per_layer`,
                `max_z`, and for encodings `mlp_enc`, `mlp_hidden`, `posenc`, `n_bin`, `s`, `xmin`,
                `xmax`, `mode`, `scaled_slopes`, `init`, `lambda`.
            weights: Arrays by the names `atom_embedding`, `layer0.q.W`, ... Matrices are (in, out).
                Elements without an embedding start from zero features.
            smoothness: Factor of the smoothness loss, averaged over tables; that of the
                hyper-parameters (`lambda`), or none, by default.
            **kwargs: Replace arguments of the constructor.

        Raises:
            ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
        """
        from keras_mlff.models.transformer.port import build_transformer

        model: Self = build_transformer(cls, hyperparameters, weights, smoothness, **kwargs)
        return model


@keras.saving.register_keras_serializable("keras_mlff")
class DistanceBias(keras.layers.Layer):
    """Turns distances into what is added to the logits of each head.

    Args:
        num_heads: Heads.
        hidden_features: Width of the hidden layer.
        encoding: Of distances; `None` for the distance itself.
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
        """Computes `(num_graphs, num_heads, max_atoms, max_atoms)` from distances in Å."""
        encoded = distances[..., None] if self.encoding is None else self.encoding(distances)
        return ops.transpose(self.outputs(self.hidden(encoded)), (0, 3, 1, 2))

    def encode(self, distances: Tensor) -> Tensor:
        """Computes the encoding of distances `(n,)`, or the bias of each head without one."""
        if self.encoding is not None:
            return self.encoding(distances)
        return self.outputs(self.hidden(distances[:, None]))


@keras.saving.register_keras_serializable("keras_mlff")
class TransformerBlock(keras.layers.Layer):
    """Attention and a perceptron, both on normalized features and added to them.

    Args:
        num_features: Width of the features.
        num_heads: Heads of the attention.
        hidden_features: Width of the perceptron's hidden layer.
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
        """Computes new features, and attention `(num_graphs, num_heads, max_atoms, max_atoms)`.

        Call arguments:
            features: `(num_graphs, max_atoms, num_features)`.
            bias: As the attention.
            allowed: `(num_graphs, 1, 1, max_atoms)` bool, false for padding.
        """
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
        features = features + self.outputs(self.hidden(self.normalization_2(features)))
        return features, coefficients


@keras.saving.register_keras_serializable("keras_mlff")
class TransformerReadout(keras.layers.Layer):
    """Reads scalars through one hidden layer.

    Args:
        num_scalars: Numbers per atom.
        num_features: Width of what is read and of the hidden layer.
        use_bias: Whether the last layer has a bias.
    """

    def __init__(
        self, num_scalars: int, num_features: int, use_bias: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.hidden = torch_dense(num_features, num_features, activation=gelu)
        self.output_scalars = torch_dense(num_scalars, num_features, use_bias=use_bias)

    def call(self, features: AtomFeatures) -> AtomFeatures:
        return AtomFeatures(self.output_scalars(self.hidden(features.scalars)))
