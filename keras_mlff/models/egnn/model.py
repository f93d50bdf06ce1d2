"""EGNN: messages from the features of two atoms and their distance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Graph, Tensor
from keras_mlff.heads import AtomNumbers
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers.encoding import make_encoding
from keras_mlff.layers.initializers import Uniform, torch_dense
from keras_mlff.layers.readout import AtomFeatures, PerceptronReadout
from keras_mlff.models.egnn.interaction import EGNNInteraction
from keras_mlff.models.egnn.variant import VARIANTS, EGNNVariant
from keras_mlff.models.variants import choose, gather_switches
from keras_mlff.ops import geometry, safe, segment
from keras_mlff.ops.pairs import EdgePairs, Pairs


@keras.saving.register_keras_serializable("keras_mlff")
class EGNN(ForceField):
    """Perceptrons of two atoms' features and their distance, summed over neighbors, layer by layer.

    1. Embedding: an element becomes the features h_i of the atom.
    2. Pairs: vectors between neighbors, and an envelope that takes their messages to zero at the
       cutoff. (The paper connects all atoms and has no envelope.)
    3. Layers: messages m_ij = phi_e(h_i, h_j, d_ij²), gated and summed over neighbors, update the
       features; `equivariant=True` moves positions too (eqs. 3 to 6, see `EGNNInteraction`).
    4. Decoder: a perceptron, or a map in the equivariant network, turns features into what the
       readout takes.
    5. Pooling, with `readout="graph"` only: features are summed over the atoms.
    6. Readout: a perceptron of one hidden layer, of each atom or of the sum.

    The paper's network, `all_pairs=True, readout="graph"`, knows no cutoff and ends in a perceptron
    of the sum over atoms: its energies are not extensive, and they grow without bound for separate
    fragments. By default pairs within the cutoff exchange messages and energies are sums over
    atoms.

    Args:
        num_features: Width of the atoms' features.
        num_layers: Number of layers.
        distance_encoding: How a distance enters a message: `"original"` (its square), `"mlp"`,
            `"posenc"` (a learned table for each layer), `"smooth"` (such tables with the smoothness
            loss), or a dict, see `keras_mlff.layers.encoding.make_encoding`.
        attention: Whether each message has a gate between 0 and 1.
        equivariant: Whether positions move from layer to layer, and with them the distances.
        all_pairs: Whether all atoms of a molecule exchange messages, without an envelope. The
            attribute `cutoff` is infinite then, and crystals are refused.
        readout: `"atom"` sums energies of atoms, `"graph"` reads the summed features, as the paper
            does for properties of molecules.
        variant: Switches for comparison with the authors' programs: a name of `VARIANTS`
            (`"default"`, `"authors_qm9"`, `"authors_equivariant"`), an `EGNN.Variant` or a dict of
            its switches that differ from the default.
        cutoff: Radius in Å within which atoms are neighbors; with `all_pairs` it is only where
            learned tables end before training.
        **kwargs: Arguments of `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Raises:
        ValueError: If an option is unknown, or a head cannot be read from summed features.

    Reference: Satorras et al., 2021, eqs. 3 to 6, https://arxiv.org/abs/2102.09844; distance
    encodings: https://arxiv.org/abs/2211.12773

    Example:
        >>> model = EGNN(num_features=16, num_layers=1, distance_encoding="smooth")
        >>> model.count_params() > 0
        True
    """

    Variant = EGNNVariant
    VARIANTS = VARIANTS

    def __init__(
        self,
        num_features: int = 128,
        num_layers: int = 7,
        distance_encoding: str | Mapping[str, Any] | None = "original",
        attention: bool = True,
        equivariant: bool = False,
        all_pairs: bool = False,
        readout: str = "atom",
        variant: str | EGNNVariant | Mapping[str, Any] = "default",
        cutoff: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=math.inf if all_pairs else cutoff, **kwargs)
        if readout not in ("atom", "graph"):
            raise ValueError(f"`readout` is 'atom' or 'graph'. Received: readout={readout!r}.")
        self.variant = choose(VARIANTS, variant)
        self.table_end = float(cutoff)  # Å, of learned tables before training
        self.num_features, self.num_layers = num_features, num_layers
        self.equivariant, self.all_pairs, self.readout_kind = equivariant, all_pairs, readout
        self.supports_periodic, self.sees_all_pairs = not all_pairs, all_pairs
        self.is_size_consistent = not all_pairs and readout == "atom"

        # 1. Embedding
        self.species_table = self.variant.input_table()
        num_inputs = self.variant.num_inputs
        if self.species_table is not None:
            num_inputs = self.species_table.shape[1]
        input_width = num_features if num_inputs is None else num_inputs
        self.elements = None
        if self.species_table is None:
            self.elements = keras.layers.Embedding(
                MAX_ATOMIC_NUMBER + 1, input_width, Uniform(-1.0, 1.0)
            )
        self.embedding = None if num_inputs is None else torch_dense(num_features, num_inputs)

        # 3. Layers
        self.interactions = [
            EGNNInteraction(
                num_features,
                make_encoding(distance_encoding, 0.0, cutoff, num_layers, bounded=not all_pairs),
                attention=attention,
                num_attributes=input_width if self.variant.node_attributes else 0,
                moves=equivariant,
                normalize=self.variant.normalize,
                tanh=self.variant.tanh,
                mean=self.variant.coordinate_sum == "mean",
            )
            for _ in range(num_layers)
        ]

        # 4. Decoder
        self.output_width = num_features
        if equivariant:
            self.output_width = self.variant.num_outputs or num_features
            self.decoder = [torch_dense(self.output_width, num_features)]
        else:
            self.decoder = [
                torch_dense(num_features, num_features, activation="silu"),
                torch_dense(num_features, num_features),
            ]

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        """Runs steps 1 to 5 of the class.

        Args:
            graph: A batch with edges up to the cutoff.
            training: Ignored; nothing differs in training.

        Returns:
            Scalars `(num_atoms, num_features)`. With `readout="graph"` the sums over the graph,
            at each of its atoms, and the atom's share of what is read from them as the last column,
            `(num_atoms, num_features + 1)`.
        """
        # 1. Embedding
        if self.elements is not None:
            inputs = self.elements(graph["atomic_numbers"])  # (num_atoms, num_inputs)
        else:
            table = ops.convert_to_tensor(self.species_table, dtype=self.compute_dtype)
            inputs = ops.take(table, graph["atomic_numbers"], axis=0)
        # 2. to 4.
        features, _ = self.transform(inputs, graph)
        if self.readout_kind == "atom":
            return AtomFeatures(features)
        # 5. Pooling: each atom gets the sum and its equal share of what is read from it
        totals = segment.sum_over_atoms(features, graph)
        counts = segment.count_atoms(graph, ops.dtype(features))
        shares = safe.divide(ops.ones_like(counts), counts)[:, None]
        pooled = ops.concatenate([totals, shares], axis=-1)
        return AtomFeatures(ops.take(pooled, graph["graph_ids"], axis=0))

    def transform(self, inputs: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
        """Runs steps 2 to 4 of the class on any inputs of the atoms.

        Args:
            inputs: `(num_atoms, num_inputs)`.
            graph: A batch with edges up to the cutoff.

        Returns:
            Features `(num_atoms, output_width)`, and positions `(num_atoms, 3)` in Å, which the
            equivariant network has moved.
        """
        # 2. Pairs
        pairs, envelope, vectors = self._pairs(graph)
        features = inputs if self.embedding is None else self.embedding(inputs)
        features = self.with_charge_spin(features, graph)
        # 3. Layers
        moves = ops.zeros_like(graph["positions"])
        for index, interaction in enumerate(self.interactions):
            moved = vectors
            if self.equivariant and index > 0:
                moved = moved + pairs.from_senders(moves) - pairs.from_receivers(moves)
            features, step, gates = interaction(features, inputs, moved, envelope, pairs=pairs)
            if step is not None:
                moves = moves + step
            self.record(f"layer{index}/features", features)
            if gates is not None and self._recorder is not None:
                self.record(f"layer{index}/attention", pairs.as_matrix(gates))
        # 4. Decoder
        for layer in self.decoder:
            features = layer(features)
        return features, graph["positions"] + moves

    @property
    def encoding_range(self) -> float:
        """Largest distance in Å for which `encode_distances` is drawn, also with all pairs."""
        return self.table_end

    def _pairs(self, graph: Graph) -> tuple[Pairs, Tensor, Tensor]:
        """Finds pairs, envelope `(num_pairs, 1)` and vectors `(num_pairs, 3)` in Å, step 2."""
        if self.all_pairs and "cell" in graph:
            raise ValueError(
                "EGNN(all_pairs=True) couples all atoms, however far, so a crystal would have "
                "infinite energy. Received: a graph with a cell. Use all_pairs=False."
            )
        pairs = EdgePairs(graph)
        vectors = pairs.vectors(self.table_end)
        if self.all_pairs:
            envelope = ops.ones_like(vectors[:, 0])
        else:
            envelope = cutoffs.polynomial(geometry.edge_lengths(vectors), self.cutoff)
        return pairs, segment.mask(envelope, pairs.mask)[:, None], vectors

    def encode_distances(self, distances: Tensor) -> list[Tensor]:
        return [interaction.encode(distances) for interaction in self.interactions]

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        """Makes step 6: a perceptron of an atom's features or of the sum over atoms.

        Raises:
            ValueError: If the head needs more than a sum and `readout="graph"` gives no more.
        """
        if self.readout_kind == "graph" and not numbers.is_extensive:
            raise ValueError(
                "With readout='graph' only sums of one number can be read: energies, and scalars "
                f"with pooling='sum'. Received: heads={list(numbers.names)}. Use readout='atom'."
            )
        return EGNNReadout(
            numbers.num_scalars,
            self.num_features,
            self.output_width,
            numbers.use_bias,
            self.readout_kind == "graph",
        )

    @classmethod
    def upgrade_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Moves switches that were arguments of their own once into `variant`."""
        return gather_switches(config, VARIANTS, renamed={}, changes={})


@keras.saving.register_keras_serializable("keras_mlff")
class EGNNReadout(PerceptronReadout):
    """A `PerceptronReadout` of each atom's features, or of their sum over the graph.

    Its own class, since files of weights name it.

    Args:
        num_scalars: Numbers per atom that the head asks for.
        num_features: Width of the hidden layer.
        input_width: Width of what is read.
        use_bias: Whether the last layer has a bias.
        shared: Whether the last column of the input is the atom's share of the result, so that the
            sum over atoms is what was read from the sum of the features.
    """

    def __init__(
        self,
        num_scalars: int,
        num_features: int,
        input_width: int,
        use_bias: bool = True,
        shared: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_scalars, num_features, use_bias, input_features=input_width, **kwargs)
        self.input_width, self.shared = input_width, shared

    def call(self, features: AtomFeatures) -> AtomFeatures:
        read: AtomFeatures = super().call(AtomFeatures(features.scalars[:, : self.input_width]))
        if not self.shared:
            return read
        return AtomFeatures(read.scalars * features.scalars[:, self.input_width :])
