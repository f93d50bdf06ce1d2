"""GeomAtt: geometric attention from overlap integrals along chains of atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Graph, Tensor
from keras_mlff.heads import AtomNumbers
from keras_mlff.layers.activations import shifted_softplus
from keras_mlff.layers.initializers import Uniform, torch_dense
from keras_mlff.layers.readout import AtomFeatures, PerceptronReadout
from keras_mlff.models.geomatt import dense_pairs as dense
from keras_mlff.models.geomatt.overlap import GaussianGrid, OverlapAttention
from keras_mlff.models.geomatt.variant import VARIANTS, GeomAttVariant
from keras_mlff.models.variants import choose, gather_switches
from keras_mlff.ops import geometry, segment

_GONE = 37.0  # exp(-37) is below the rounding of float64
_UNDERFLOW = 800.0  # exp(-800) is zero in float64, and so are its derivatives


@keras.saving.register_keras_serializable("keras_mlff")
class GeomAtt(ForceField):
    """Attention between all atoms, whose coefficients come from distances along chains of atoms.

    1. Embedding: an element becomes the features v_i of the atom, the same for all streams.
    2. Grid: each distance becomes Gaussians G(d_ij) at the points of a grid.
    3. Streams: in each layer of a stream of order k, coefficients alpha_ij come from products of
       overlaps along chains of k atoms (eqs. 6, 8 and 16, see `OverlapAttention`), and
       v_i <- v_i + sum_j alpha_ij (v_j W + b).
    4. The features of all streams are joined.
    5. Readout: a perceptron of one hidden layer of half the width.

    Atoms know their element only; all geometry enters through the scalar coefficients, without
    softmax. Chains see distances (k = 2), angles (3) and dihedrals (4).

    Interactions end near `d_max` + 0.7 Å, where the Gaussians vanish. What remains is a constant
    coupling of all atoms of a structure (from the biases), so energies of far fragments do not add
    up: with fresh weights two water molecules 100 Å apart miss the sum by up to 0.2 % of it.
    `subtract_far_value=True` leaves the constant out; then energies add up exactly and crystals are
    defined, whose overlaps are summed over periodic images.

    Args:
        num_features: Width of the atoms' features.
        num_layers: Number of layers of each stream.
        overlap_features: Width of overlaps of order 2, halved with each further order;
            `num_features` for `None`.
        orders: Order of the chains of each stream, from 2 to 5.
        d_max: End of the grid of Gaussians in Å.
        delta: Step of the grid in Å.
        gamma: Width parameter of the Gaussians exp(-gamma (d - mu)²) in 1/Å².
        subtract_far_value: Whether overlaps count from their value at infinite distance. This is
            ours, not the paper's, and the better choice for new work.
        variant: Switches for comparison with the paper and the authors' program: a name of
            `VARIANTS` (`"default"`, `"paper"`), a `GeomAtt.Variant` or a dict of its switches that
            differ from the default.
        cutoff: Radius in Å for periodic images alone: crystals need one beyond the distance where
            the Gaussians vanish, 6.4 Å by default. Molecules ignore their edges, so a small one
            saves memory.
        **kwargs: Arguments of `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Raises:
        ValueError: If there is no stream, an order is not offered, or the grid has no point.

    Reference: Frank and Chmiela, 2021, eqs. 6, 8 and 16, https://arxiv.org/abs/2106.02549

    Example:
        >>> model = GeomAtt(num_features=16, num_layers=1)
        >>> model.count_params() > 0
        True
    """

    Variant = GeomAttVariant
    VARIANTS = VARIANTS
    num_continuous_derivatives = 100  # Gaussians and softplus have all
    supports_periodic = False  # unless `subtract_far_value`
    sees_all_pairs = True

    def __init__(
        self,
        num_features: int = 128,
        num_layers: int = 3,
        overlap_features: int | None = None,
        orders: Sequence[int] = (2, 3, 4),
        d_max: float = 5.0,
        delta: float = 0.05,
        gamma: float = 20.0,
        subtract_far_value: bool = False,
        variant: str | GeomAttVariant | Mapping[str, Any] = "default",
        cutoff: float = 6.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=cutoff, **kwargs)
        if len(orders) == 0:
            raise ValueError(
                "`orders` names the order of each stream, such as (2, 3, 4). Received: orders=()."
            )
        self.variant = choose(VARIANTS, variant)
        self.num_features, self.num_layers = num_features, num_layers
        self.is_size_consistent = subtract_far_value or not self.variant.bias
        self.supports_periodic = self.is_size_consistent
        self.orders = [int(order) for order in orders]
        self.num_streams = len(orders)
        # 2. Grid
        self.grid = GaussianGrid(self.variant.d_min, d_max, delta, gamma)
        # 1. Embedding
        bound = 1.414 * (6.0 / (2.0 * num_features)) ** 0.5
        self.embedding = keras.layers.Embedding(
            MAX_ATOMIC_NUMBER + 1, num_features, Uniform(-bound, bound)
        )
        # 3. Streams
        width = num_features if overlap_features is None else overlap_features
        scale = delta / self.num_streams if self.variant.stream_scaling else delta
        self.streams = [
            GeomAttStream(
                num_features,
                [
                    OverlapAttention(
                        order,
                        width // 2 ** (order - 2),
                        scale,
                        self.variant.shared,
                        query_bias=self.variant.bias,
                        key_bias=self.variant.bias and not subtract_far_value,
                    )
                    for _ in range(num_layers)
                ],
            )
            for order in self.orders
        ]

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        """Runs steps 1 to 4 of the class.

        Args:
            graph: A batch; edges are read for crystals only.
            training: Ignored; nothing differs in training.

        Returns:
            Scalars `(num_atoms, num_streams * num_features)`.
        """
        # 1. Embedding
        start = self.with_charge_spin(self.embedding(graph["atomic_numbers"]), graph)
        start = segment.to_table(start, graph)  # (num_graphs, max_atoms, num_features)
        # 2. Grid
        expanded, zero = self._expand(graph)
        places = dense.table_of_triangle(ops.shape(graph["atom_table"])[1])
        # 3. Streams
        joined = []
        for index, stream in enumerate(self.streams):
            features, history = stream(start, expanded, places, zero)
            for layer, (coefficients, after) in enumerate(history):
                self.record(f"stream{index}/layer{layer}/attention", coefficients)
                self.record(f"stream{index}/layer{layer}/features", after)
            joined.append(features)
        # 4. Joined: (num_graphs, max_atoms, num_streams * num_features)
        features = ops.concatenate(joined, axis=-1)
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
    def encoding_range(self) -> float:
        """Distance in Å where the Gaussians have vanished; molecules know no other cutoff."""
        return self.grid.vanishing_distance(_GONE)

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        """Makes step 5, which reads the joined features of all streams."""
        return GeomAttReadout(
            numbers.num_scalars,
            self.num_streams * self.num_features,
            numbers.use_bias,
            self.variant.linear,
        )

    def _expand(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Expands the distances of all pairs on the grid, step 2.

        Returns:
            The Gaussians of each pair and a column of ones for the bias beside them,
            `(num_graphs, num_pairs, num_points + 1)`, zero for padding; and those of the distance
            zero, `(num_points,)`.
        """
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
        gone = ops.full_like(distances, self.grid.vanishing_distance(_UNDERFLOW))
        expanded = self.grid(ops.where(real, distances, gone))
        return ops.concatenate([expanded, ones], axis=-1), zero

    def _check_periodic(self) -> None:
        """Refuses crystals where the network has no finite energy for them."""
        if not self.supports_periodic:
            raise ValueError(
                "GeomAtt couples all atoms, however far, so a crystal would have infinite energy. "
                "Received: a graph with a cell. Use GeomAtt(subtract_far_value=True), or leave the "
                "cell out."
            )
        if self.cutoff < self.encoding_range:
            raise ValueError(
                f"Gaussians of GeomAtt reach to {self.encoding_range:.2f} Å, so neighbors in "
                f"crystals must be sought up to there. Received: cutoff={self.cutoff}."
            )

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments, orders as a list."""
        return {**super().get_config(), "orders": list(self.orders)}

    @classmethod
    def upgrade_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Moves switches that were arguments of their own once into `variant`."""
        return gather_switches(config, VARIANTS, renamed={}, changes={})


@keras.saving.register_keras_serializable("keras_mlff")
class GeomAttStream(keras.layers.Layer):
    """The layers of one order: v_i <- v_i + sum_j alpha_ij (v_j W + b), step 3 of `GeomAtt`.

    Args:
        num_features: Width of v.
        attentions: The layers that compute alpha, one for each layer of the stream.
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
        """Runs all layers of the stream.

        Call arguments:
            features: v, `(num_graphs, max_atoms, num_features)`.
            pairs: Gaussians of all pairs, `(num_graphs, num_pairs, num_points + 1)`, see
                `OverlapAttention`.
            places: Which of the pairs two atoms are, `(max_atoms, max_atoms)` int32.
            zero: Gaussians of the distance zero, `(num_points,)`.

        Returns:
            v after the last layer, and for each layer alpha `(num_graphs, max_atoms, max_atoms)`
            with v after it.
        """
        history = []
        for attention, value in zip(self.attentions, self.values, strict=True):
            coefficients = attention(pairs, places, zero)
            features = features + ops.matmul(coefficients, value(features))
            history.append((coefficients, features))
        return features, history


@keras.saving.register_keras_serializable("keras_mlff")
class GeomAttReadout(PerceptronReadout):
    """A `PerceptronReadout` of half the width, whose activation is softplus(x) - ln 2.

    Its own class, since files of weights name it.

    Args:
        num_scalars: Numbers per atom that the head asks for.
        num_features: Width of what is read; the hidden layer has half of it.
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
        activation = None if linear else shifted_softplus
        super().__init__(
            num_scalars,
            num_features // 2,
            use_bias,
            activation,
            input_features=num_features,
            **kwargs,
        )
