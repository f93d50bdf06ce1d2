"""GeomAtt: geometric attention from overlap integrals along chains of atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array, Graph, Tensor
from keras_mlff.heads import AtomNumbers
from keras_mlff.layers.activations import shifted_softplus
from keras_mlff.layers.initializers import Uniform, torch_dense
from keras_mlff.layers.readout import AtomFeatures
from keras_mlff.models.geomatt import dense_pairs as dense
from keras_mlff.models.geomatt.overlap import GaussianGrid, OverlapAttention
from keras_mlff.ops import geometry, segment

_GONE = 37.0  # exp(-37) is below the rounding of float64


@keras.saving.register_keras_serializable("keras_mlff")
class GeomAtt(ForceField):
    """Attention between all atoms, whose coefficients come from distances along chains of atoms.

    Atoms know their element only; all geometry enters through scalar coefficients, without
    softmax. Each stream has an order k: chains of k atoms, which see distances (2), angles (3) and
    dihedrals (4). Streams keep features of their own, which the readout joins.

    Interactions end near `d_max` + 0.7 Å, where the Gaussians vanish. What remains is a constant
    coupling of all atoms of a structure (from the biases), so energies of far fragments do not add
    up: with fresh weights two water molecules 100 Å apart miss the sum by up to 0.2 % of it.
    `subtract_far_value=True` leaves the constant out; then energies add up exactly and crystals are
    defined, whose overlaps are summed over periodic images.

    Args:
        num_features: Width of the atoms' features.
        num_layers: Layers of each stream.
        overlap_features: Width of overlaps of order 2, halved with each further order;
            `num_features` by default.
        orders: Order of the chains of each stream, 2 to 5.
        d_min: Å, first point of the grid of Gaussians.
        d_max: Å, end of the grid.
        delta: Å, step of the grid.
        gamma: 1/Å², of the Gaussians exp(-gamma (d - mu)²).
        shared: Whether all overlaps of a layer have the same weights.
        bias: Whether overlaps have biases (eq. 16 of the paper does, eqs. 6 and 8 do not).
        stream_scaling: Whether coefficients are divided by the number of streams, as in the
            authors' program.
        linear: Whether to leave the activation of the readout out.
        subtract_far_value: Whether overlaps count from their value at infinite distance.
        cutoff: Å, for periodic images alone: crystals need one beyond the reach of the Gaussians,
            6.4 Å by default. Molecules ignore their edges, so a small one saves memory.
        **kwargs: Of `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Reference: Frank and Chmiela, 2021, https://arxiv.org/abs/2106.02549

    Example:
        >>> model = GeomAtt(num_features=16, num_layers=1)
        >>> model.count_params() > 0
        True
    """

    num_continuous_derivatives = 100  # Gaussians and softplus have all
    supports_periodic = False  # unless `subtract_far_value`
    sees_all_pairs = True

    def __init__(
        self,
        num_features: int = 128,
        num_layers: int = 3,
        overlap_features: int | None = None,
        orders: Sequence[int] = (2, 3, 4),
        d_min: float = 0.0,
        d_max: float = 5.0,
        delta: float = 0.05,
        gamma: float = 20.0,
        shared: bool = False,
        bias: bool = True,
        stream_scaling: bool = True,
        linear: bool = False,
        subtract_far_value: bool = False,
        cutoff: float = 6.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=cutoff, **kwargs)
        if len(orders) == 0:
            raise ValueError("`orders` names the order of each stream, such as (2, 3, 4).")
        self.num_features, self.num_layers, self.linear = num_features, num_layers, linear
        self.is_size_consistent = subtract_far_value or not bias
        self.supports_periodic = self.is_size_consistent
        self.orders = [int(order) for order in orders]
        self.num_streams = len(orders)
        width = num_features if overlap_features is None else overlap_features
        self.grid = GaussianGrid(d_min, d_max, delta, gamma)
        bound = 1.414 * (6.0 / (2.0 * num_features)) ** 0.5
        self.embedding = keras.layers.Embedding(
            MAX_ATOMIC_NUMBER + 1, num_features, Uniform(-bound, bound)
        )
        scale = delta / self.num_streams if stream_scaling else delta
        self.streams = [
            GeomAttStream(
                num_features,
                [
                    OverlapAttention(
                        order,
                        width // 2 ** (order - 2),
                        scale,
                        shared,
                        query_bias=bias,
                        key_bias=bias and not subtract_far_value,
                    )
                    for _ in range(num_layers)
                ],
            )
            for order in self.orders
        ]

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        start = self.with_charge_spin(self.embedding(graph["atomic_numbers"]), graph)
        start = segment.to_table(start, graph)
        expanded, zero = self._expand(graph)
        places = dense.table_of_triangle(ops.shape(graph["atom_table"])[1])
        joined = []
        for index, stream in enumerate(self.streams):
            features, history = stream(start, expanded, places, zero)
            for layer, (coefficients, after) in enumerate(history):
                self.record(f"stream{index}/layer{layer}/attention", coefficients)
                self.record(f"stream{index}/layer{layer}/features", after)
            joined.append(features)
        features = ops.concatenate(joined, axis=-1)  # (num_graphs, max_atoms, streams * features)
        return AtomFeatures(segment.from_table(features, graph))

    def encode_distances(self, distances: Tensor) -> list[Tensor]:
        gaussians = self.grid(distances)  # (n, num_points)
        expanded = ops.concatenate([gaussians, ops.ones_like(gaussians[:, :1])], axis=-1)
        zero = self.grid(ops.zeros_like(distances[0]))
        layers = zip(*(stream.attentions for stream in self.streams), strict=True)
        return [
            ops.concatenate([item.overlaps(expanded, zero) for item in attentions], axis=-1)
            for attentions in layers
        ]

    @property
    def reach(self) -> float:
        """Å, where the Gaussians have vanished; molecules know no other cutoff."""
        return self.grid.reach(_GONE)

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        return GeomAttReadout(
            numbers.num_scalars, self.num_streams * self.num_features, numbers.use_bias, self.linear
        )

    def _expand(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Expands each pair, a column of ones for the bias beside it, and the distance zero."""
        real = dense.pair_mask(graph)
        ones = ops.cast(real, graph["positions"].dtype)[..., None]
        zero = self.grid(ops.zeros((), graph["positions"].dtype))  # (num_points,)
        if "cell" in graph:
            self._check_periodic()
            lengths = geometry.edge_lengths(geometry.edge_vectors(graph, self.cutoff))
            expanded = dense.sum_over_images(self.grid(lengths), graph)
            rows, columns = dense.triangle(ops.shape(graph["atom_table"])[1])
            itself = ones * ops.cast(rows == columns, ones.dtype)[:, None]
            return ops.concatenate([expanded + itself * zero, ones], axis=-1), zero
        distances = dense.distances(graph)
        # so far away that Gaussians and their derivatives are zero
        gone = ops.full_like(distances, self.grid.reach(800.0))
        expanded = self.grid(ops.where(real, distances, gone))
        return ops.concatenate([expanded, ones], axis=-1), zero

    def _check_periodic(self) -> None:
        if not self.supports_periodic:
            raise ValueError(
                "GeomAtt couples all atoms, however far, so a crystal would have infinite energy. "
                "Received: a graph with a cell. Use GeomAtt(subtract_far_value=True), or leave the "
                "cell out."
            )
        if self.cutoff < self.reach:
            raise ValueError(
                f"Gaussians of GeomAtt reach to {self.reach:.2f} Å, so neighbors in crystals must "
                f"be sought up to there. Received: cutoff={self.cutoff}."
            )

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments, orders as the list that files give back."""
        return {**super().get_config(), "orders": list(self.orders)}

    @classmethod
    def from_reference(
        cls,
        hyperparameters: Mapping[str, Any],
        weights: Mapping[str, Array],
        **kwargs: Any,
    ) -> Self:
        """Builds the reference program's network from its hyper-parameters and weights.

        Args:
            hyperparameters: `F_v`, `F_I`, `orders`, `n_layers`, `d_min`, `d_max`, `interval`,
                `n_points`, `gamma`, `shared`, `linear`, `bias`; those not given have that
                program's defaults.
            weights: Arrays by the names `embedding.6`, `stream0.layer0.overlap0.Wq`,
                `stream0.layer0.W`, `readout.W1`, ... Matrices are (in, out). Elements without an
                embedding start from zero features.
            **kwargs: Replace arguments of the constructor.

        Raises:
            ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
        """
        from keras_mlff.models.geomatt.port import build_geomatt

        model: Self = build_geomatt(cls, hyperparameters, weights, **kwargs)
        return model


@keras.saving.register_keras_serializable("keras_mlff")
class GeomAttStream(keras.layers.Layer):
    """Layers of one order: v_i <- v_i + sum_j alpha_ij (v_j W + b).

    Args:
        num_features: Width of v.
        attentions: What computes alpha, one per layer.
    """

    def __init__(
        self, num_features: int, attentions: Sequence[OverlapAttention], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_features = num_features
        self.attentions = list(attentions)
        self.values = [torch_dense(num_features, num_features) for _ in attentions]

    def build(self, features_shape: Any, pairs_shape: Any, *shapes: Any) -> None:
        """Creates the weights of all layers."""
        for attention, value in zip(self.attentions, self.values, strict=True):
            attention.build(pairs_shape)
            value.build(features_shape)

    def call(
        self, features: Tensor, pairs: Tensor, places: Tensor, zero: Tensor
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Computes the features after the last layer, and (alpha, features) of each.

        Call arguments:
            features: `(num_graphs, max_atoms, num_features)`.
            pairs: As in `OverlapAttention`.
            places: As in `OverlapAttention`.
            zero: As in `OverlapAttention`.
        """
        history = []
        for attention, value in zip(self.attentions, self.values, strict=True):
            coefficients = attention(pairs, places, zero)
            features = features + ops.matmul(coefficients, value(features))
            history.append((coefficients, features))
        return features, history


@keras.saving.register_keras_serializable("keras_mlff")
class GeomAttReadout(keras.layers.Layer):
    """Reads scalars through one hidden layer of half the width, with a shifted softplus.

    Args:
        num_scalars: Numbers per atom.
        num_features: Width of what is read.
        use_bias: Whether the last layer has a bias.
        linear: Whether to leave the activation out.
    """

    def __init__(
        self,
        num_scalars: int,
        num_features: int,
        use_bias: bool = True,
        linear: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        width = num_features // 2
        activation = None if linear else shifted_softplus
        self.hidden = torch_dense(width, num_features, activation=activation)
        self.output_scalars = torch_dense(num_scalars, width, use_bias=use_bias)

    def call(self, features: AtomFeatures) -> AtomFeatures:
        return AtomFeatures(self.output_scalars(self.hidden(features.scalars)))
