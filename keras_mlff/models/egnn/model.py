"""EGNN: messages from the features of two atoms and their distance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array, Graph, Tensor
from keras_mlff.heads import AtomNumbers
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers import positional_encoding
from keras_mlff.layers.initializers import Uniform, torch_dense
from keras_mlff.layers.readout import AtomFeatures
from keras_mlff.ops import geometry, safe, segment
from keras_mlff.ops.pairs import EdgePairs, Pairs


@keras.saving.register_keras_serializable("keras_mlff")
class EGNN(ForceField):
    """Perceptrons of two atoms' features and their distance, summed over neighbors, layer by layer.

    By default pairs within the cutoff exchange messages, which an envelope takes to zero there, and
    energies are sums over atoms. The paper's network, `all_pairs=True, readout="graph"`, knows no
    cutoff and ends in a perceptron of the sum over atoms: its energies are not extensive, and they
    grow without bound for separate fragments.

    Args:
        num_features: Width of the atoms' features.
        num_layers: Number of layers.
        distance_encoding: How a distance enters: `"original"` (its square), `"mlp"`, `"posenc"` (a
            learned table for each layer), `"smooth"` (posenc with the smoothness loss), or a dict,
            see `keras_mlff.layers.positional_encoding.get`.
        attention: Whether each message has a gate between 0 and 1.
        equivariant: Whether positions move from layer to layer, and with them the distances.
        all_pairs: Whether all atoms of a molecule exchange messages, without envelope.
        readout: `"atom"` sums energies of atoms, `"graph"` reads the summed features.
        species: Elements whose one-hot code, times powers of the nuclear charge, is the input, as
            in the authors' program; `None` gives each element an embedding.
        charge_power: Highest power of the nuclear charge.
        charge_scale: The nuclear charge is divided by.
        node_attributes: Whether the input enters the update of each layer.
        normalize: Whether the directions along which positions move have unit length. The authors'
            program leaves the length out of the gradient: `"detached"`. Forces are then not the
            derivative of the energy.
        tanh: Whether steps of positions are bounded.
        coordinate_sum: `"sum"`, or `"mean"` as in the authors' program, whose steps would jump
            where a neighbor passes a cutoff.
        num_inputs: Width of the embedding, mapped to `num_features`; `None` embeds without map.
        num_outputs: Width of what the equivariant variant ends in; `num_features` by default.
        cutoff: Å; with `all_pairs` the range of tables alone, and `model.cutoff` is infinite.
        **kwargs: Of `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Reference: Satorras et al., 2021, https://arxiv.org/abs/2102.09844; distance encodings:
    https://arxiv.org/abs/2211.12773

    Example:
        >>> model = EGNN(num_features=16, num_layers=1, distance_encoding="smooth")
        >>> model.count_params() > 0
        True
    """

    def __init__(
        self,
        num_features: int = 128,
        num_layers: int = 7,
        distance_encoding: str | Mapping[str, Any] | None = "original",
        attention: bool = True,
        equivariant: bool = False,
        all_pairs: bool = False,
        readout: str = "atom",
        species: Sequence[int] | None = None,
        charge_power: int = 2,
        charge_scale: float = 9.0,
        node_attributes: bool = False,
        normalize: bool | str = False,
        tanh: bool = False,
        coordinate_sum: str = "sum",
        num_inputs: int | None = None,
        num_outputs: int | None = None,
        cutoff: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=math.inf if all_pairs else cutoff, **kwargs)
        self.span = float(cutoff)  # Å, where tables end before training
        for name, value, known in (
            ("readout", readout, ("atom", "graph")),
            ("coordinate_sum", coordinate_sum, ("sum", "mean")),
            ("normalize", normalize, (False, True, "detached")),
        ):
            if value not in known:
                raise ValueError(f"`{name}` is one of {known}. Received: {name}={value!r}.")
        self.num_features, self.num_layers = num_features, num_layers
        self.equivariant, self.all_pairs, self.readout_kind = equivariant, all_pairs, readout
        self.supports_periodic, self.sees_all_pairs = not all_pairs, all_pairs
        self.is_size_consistent = not all_pairs and readout == "atom"
        self.species_table = None
        if species is not None:
            self.species_table = species_table(species, charge_power, charge_scale)
            num_inputs = self.species_table.shape[1]
        width = num_features if num_inputs is None else num_inputs
        self.elements = (
            keras.layers.Embedding(MAX_ATOMIC_NUMBER + 1, width, Uniform(-1.0, 1.0))
            if species is None
            else None
        )
        self.embedding = None if num_inputs is None else torch_dense(num_features, num_inputs)
        self.interactions = [
            EGNNInteraction(
                num_features,
                positional_encoding.get(
                    distance_encoding, 0.0, cutoff, num_layers, bounded=not all_pairs
                ),
                attention=attention,
                num_attributes=width if node_attributes else 0,
                moves=equivariant,
                normalize=normalize,
                tanh=tanh,
                mean=coordinate_sum == "mean",
            )
            for _ in range(num_layers)
        ]
        self.output_width = num_features
        if equivariant:
            self.output_width = num_outputs or num_features
            self.decoder = [torch_dense(self.output_width, num_features)]
        else:
            self.decoder = [
                torch_dense(num_features, num_features, activation="silu"),
                torch_dense(num_features, num_features),
            ]

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        if self.elements is not None:
            inputs = self.elements(graph["atomic_numbers"])
        else:
            table = ops.convert_to_tensor(self.species_table, dtype=self.compute_dtype)
            inputs = ops.take(table, graph["atomic_numbers"], axis=0)
        features, _ = self.transform(inputs, graph)
        if self.readout_kind == "atom":
            return AtomFeatures(features)
        # each atom gets the sum and its equal share of what is read from it
        totals = segment.sum_over_atoms(features, graph)
        counts = segment.count_atoms(graph, ops.dtype(features))
        shares = safe.divide(ops.ones_like(counts), counts)[:, None]
        pooled = ops.concatenate([totals, shares], axis=-1)
        return AtomFeatures(ops.take(pooled, graph["graph_ids"], axis=0))

    def transform(self, inputs: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
        """Runs all layers on any inputs of the atoms.

        Args:
            inputs: `(num_atoms, num_inputs)`.
            graph: The batch.

        Returns:
            Features `(num_atoms, n)`, and positions `(num_atoms, 3)` in Å, which the equivariant
            variant has moved.
        """
        pairs, envelope, vectors = self._pairs(graph)
        features = inputs if self.embedding is None else self.embedding(inputs)
        features = self.with_charge_spin(features, graph)
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
        for layer in self.decoder:
            features = layer(features)
        return features, graph["positions"] + moves

    @property
    def reach(self) -> float:
        """Å, up to where `encode_distances` is drawn."""
        return self.span

    def _pairs(self, graph: Graph) -> tuple[Pairs, Tensor, Tensor]:
        if self.all_pairs and "cell" in graph:
            raise ValueError(
                "EGNN(all_pairs=True) couples all atoms, however far, so a crystal would have "
                "infinite energy. Received: a graph with a cell. Use all_pairs=False."
            )
        pairs = EdgePairs(graph)
        vectors = pairs.vectors(self.span)
        if self.all_pairs:
            envelope = ops.ones_like(vectors[:, 0])
        else:
            envelope = cutoffs.polynomial(geometry.edge_lengths(vectors), self.cutoff)
        return pairs, segment.mask(envelope, pairs.mask)[:, None], vectors

    def encode_distances(self, distances: Tensor) -> list[Tensor]:
        return [interaction.encode(distances) for interaction in self.interactions]

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
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
    def from_reference(
        cls,
        hyperparameters: Mapping[str, Any],
        weights: Mapping[str, Array],
        smoothness: float | None = None,
        **kwargs: Any,
    ) -> Self:
        """Builds the reference program's network from its hyper-parameters and weights.

        Args:
            hyperparameters: Of the QM9 variant: `species`, `charge_scale`, `charge_power`,
                `hidden`, `n_layers`, `attention`, `node_attr`, and for encodings `mlp_enc`,
                `mlp_hidden`, `posenc`, `n_bin`, `s`, `xmin`, `xmax`, `mode`, `scaled_slopes`,
                `init`, `lambda`. Of the equivariant one (`arch` says so): `in_node`, `hidden`,
                `out_node`, `n_layers`, `attention`, `normalize`, `tanh`, `coords_agg`. Its
                inputs are any features, see `transform`; the embedding of elements and the heads,
                which that program has not, start fresh.
            weights: Arrays by the names `embedding.W`, `layer0.edge.W1`, ... Matrices are (in,
                out).
            smoothness: Factor of the smoothness loss, averaged over tables; that of the
                hyper-parameters (`lambda`), or none, by default.
            **kwargs: Replace arguments of the constructor.

        Raises:
            ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
        """
        from keras_mlff.models.egnn.port import build_egnn

        model: Self = build_egnn(cls, hyperparameters, weights, smoothness, **kwargs)
        return model


@keras.saving.register_keras_serializable("keras_mlff")
class EGNNInteraction(keras.layers.Layer):
    """One layer: h_i <- h_i + perceptron(h_i, sum_j m_ij), and steps of positions on request.

    The first map of a pair, [h_i, h_j, distance] W, is the sum of three products, of which two grow
    with the atoms instead of the pairs.

    Args:
        num_features: Width of the features.
        encoding: Of distances; `None` for their squares.
        attention: Whether messages have a gate.
        num_attributes: Width of what enters each update besides.
        moves: Whether positions move.
        normalize: Of `EGNN`.
        tanh: Of `EGNN`.
        mean: Whether steps are averaged over neighbors.
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
        """Computes new features `(num_atoms, num_features)` and steps `(num_atoms, 3)`.

        The third output is the gate of each message, `(num_pairs, 1)`, where there is one.

        Call arguments:
            features: `(num_atoms, num_features)`.
            attributes: `(num_atoms, num_attributes)`, or anything where there are none.
            vectors: `(num_pairs, 3)`, Å, sender minus receiver.
            envelope: `(num_pairs, 1)`, zero for padding.
            pairs: Which atoms send to which.
        """
        messages, gates = self._messages(features, vectors, pairs)
        parts = [features, pairs.sum(messages * envelope)]
        if self.num_attributes:
            parts.append(attributes)
        updated = features + self.node_2(self.node_1(ops.concatenate(parts, axis=-1)))
        if not self.moves:
            return updated, None, gates
        return updated, self._steps(messages, vectors, envelope, pairs), gates

    def encode(self, distances: Tensor) -> Tensor:
        """Computes the encoding of distances `(n,)`, or what the first map makes of squares."""
        if self.encoding is not None:
            return self.encoding(distances)
        kernel = ops.convert_to_tensor(self.edge_1.kernel)[2 * self.num_features :]
        return ops.matmul(ops.square(distances)[:, None], kernel)

    def _messages(
        self, features: Tensor, vectors: Tensor, pairs: Pairs
    ) -> tuple[Tensor, Tensor | None]:
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


@keras.saving.register_keras_serializable("keras_mlff")
class EGNNReadout(keras.layers.Layer):
    """Reads scalars through one hidden layer, from each atom or from the sum over atoms.

    Args:
        num_scalars: Numbers per atom.
        num_features: Width of the hidden layer.
        input_width: Width of what is read.
        use_bias: Whether the last layer has a bias.
        shared: Whether the last column of the input is the atom's share of the result.
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
        super().__init__(**kwargs)
        self.input_width, self.shared = input_width, shared
        self.hidden = torch_dense(num_features, input_width, activation="silu")
        self.output_scalars = torch_dense(num_scalars, num_features, use_bias=use_bias)

    def call(self, features: AtomFeatures) -> AtomFeatures:
        scalars = features.scalars
        result = self.output_scalars(self.hidden(scalars[:, : self.input_width]))
        return AtomFeatures(result * scalars[:, self.input_width :] if self.shared else result)


def species_table(species: Sequence[int], charge_power: int, charge_scale: float) -> Array:
    """Tabulates one-hot codes times powers of the charge, species-major, by atomic number.

    Elements that are not listed have zeros.
    """
    powers = charge_power + 1
    table = np.zeros((MAX_ATOMIC_NUMBER + 1, len(species) * powers))
    for place, number in enumerate(species):
        values = (number / charge_scale) ** np.arange(powers)
        table[number, place * powers : (place + 1) * powers] = values
    return table
