"""DimeNet++: messages along directed edges, which see the angles between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import keras
from keras import ops

from keras_mlff import backend
from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array, Graph, Tensor
from keras_mlff.heads import Head
from keras_mlff.layers.initializers import GlorotOrthogonal, Uniform
from keras_mlff.layers.readout import AtomFeatures
from keras_mlff.models.dimenet_pp.triplet_bases import BesselTripletBasis, encoded_basis
from keras_mlff.ops import geometry, segment


@keras.saving.register_keras_serializable("keras_mlff")
class DimeNetPP(ForceField):
    """Embeds directed edges j -> i, updated by edges k -> j through distance and angle.

    Args:
        num_features: Width of the messages.
        num_layers: Interaction blocks.
        distance_encoding: `"original"` (Bessel functions), `"mlp"`, `"posenc"` (learned tables of
            distances and angles, shared by all blocks), `"smooth"` (posenc with the smoothness
            loss), or a dict, see `keras_mlff.layers.positional_encoding.get`.
        output_features: Width of the output blocks; twice `num_features` by default.
        interaction_features: Width of messages while they meet; half by default.
        basis_features: Width of the bases while they are mapped.
        num_spherical: Degrees of the spherical basis.
        num_radial: Functions of the distance.
        envelope_exponent: Of the envelope.
        num_before_skip: Residual layers of a block before its skip connection.
        num_after_skip: Residual layers after it.
        num_dense_output: Layers of the output blocks.
        sbf_over_distance: Whether the spherical basis has a further 1/d. The authors' program does.
        radial_factor: `"ji"` scales what an edge receives by its own distance, as in the paper,
            `"kj"` what it is sent by the other edge's, as in the authors' program.
        rbf_embedding: `"linear"`, what the authors meant, or `"activated"`, what their program
            does: a bias and an activation after the map of the radial basis in the embedding.
        use_envelope: Whether encodings vanish at the cutoff; without it energies jump there.
        sbf_combine: How encodings of distance and angle combine: `"product"`, `"outer"` or
            `"concat"`.
        output_init: Start of the last maps: `"orthogonal"`, or `"zeros"`, the authors' for mu,
            HOMO, LUMO and ZPVE.
        cutoff: Å.
        **kwargs: Of `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Reference: Gasteiger et al., 2020, https://arxiv.org/abs/2011.14115; distance encodings:
    https://arxiv.org/abs/2211.12773

    Example:
        >>> model = DimeNetPP(num_features=16, num_layers=1, distance_encoding="smooth")
        >>> model.count_params() > 0
        True
    """

    has_attention = False

    uses_triplets: ClassVar[bool] = True

    def __init__(
        self,
        num_features: int = 128,
        num_layers: int = 4,
        distance_encoding: str | Mapping[str, Any] | None = "original",
        output_features: int | None = None,
        interaction_features: int | None = None,
        basis_features: int = 8,
        num_spherical: int = 7,
        num_radial: int = 6,
        envelope_exponent: int = 5,
        num_before_skip: int = 1,
        num_after_skip: int = 2,
        num_dense_output: int = 3,
        sbf_over_distance: bool = False,
        radial_factor: str = "ji",
        rbf_embedding: str = "linear",
        use_envelope: bool = True,
        sbf_combine: str = "product",
        output_init: str = "orthogonal",
        cutoff: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=cutoff, **kwargs)
        for name, value, known in (
            ("radial_factor", radial_factor, ("ji", "kj")),
            ("rbf_embedding", rbf_embedding, ("linear", "activated")),
            ("output_init", output_init, ("orthogonal", "zeros")),
        ):
            if value not in known:
                raise ValueError(f"`{name}` is one of {known}. Received: {name}='{value}'.")
        self.num_features, self.num_layers = num_features, num_layers
        self.output_init = output_init
        self.basis = encoded_basis(
            distance_encoding, cutoff, envelope_exponent, use_envelope, sbf_combine
        ) or BesselTripletBasis(
            num_radial, num_spherical, cutoff, envelope_exponent, sbf_over_distance
        )
        self.elements = keras.layers.Embedding(
            MAX_ATOMIC_NUMBER + 1, num_features, Uniform(-(3**0.5), 3**0.5)
        )
        output_features = output_features or 2 * num_features
        interaction_features = interaction_features or num_features // 2
        activated = rbf_embedding == "activated"
        self.rbf_embedding = _dense(num_features, use_bias=activated, activated=activated)
        self.embedding = _dense(num_features)
        self.interactions = [
            DimeNetInteraction(
                num_features,
                interaction_features,
                basis_features,
                num_before_skip,
                num_after_skip,
                radial_factor,
            )
            for _ in range(num_layers)
        ]
        self.outputs_per_block = [
            DimeNetOutput(num_features, output_features, num_dense_output)
            for _ in range(num_layers + 1)
        ]

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        vectors = geometry.edge_vectors(graph, self.cutoff)
        edge_basis, triplet_basis = self.basis(vectors, graph=graph)
        self.record("edge_basis", edge_basis)
        self.record("triplet_basis", triplet_basis)
        atoms = self.with_charge_spin(self.elements(graph["atomic_numbers"]), graph)
        messages = self.embedding(
            ops.concatenate(
                [
                    ops.take(atoms, graph["receivers"], axis=0),
                    ops.take(atoms, graph["senders"], axis=0),
                    self.rbf_embedding(edge_basis),
                ],
                axis=-1,
            )
        )
        outputs = [self.outputs_per_block[0](messages, edge_basis, graph=graph)]
        self.record("layer0/messages", messages)
        for index, interaction in enumerate(self.interactions, start=1):
            messages = interaction(messages, edge_basis, triplet_basis, graph=graph)
            self.record(f"layer{index}/messages", messages)
            outputs.append(self.outputs_per_block[index](messages, edge_basis, graph=graph))
        # side by side: the last maps of all blocks, summed, are one map
        return AtomFeatures(ops.concatenate(outputs, axis=-1))

    def encode_distances(self, distances: Tensor) -> list[Tensor]:
        return [self.basis.encode_edges(distances)]

    def make_readout(self, head: Head) -> keras.layers.Layer:
        return DimeNetReadout(head.num_scalars, len(self.outputs_per_block), self.output_init)

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
            hyperparameters: `emb_size`, `out_emb_size`, `int_emb_size`, `basis_emb_size`,
                `num_blocks`, `num_spherical`, `num_radial`, `cutoff`, `envelope_exponent`,
                `num_before_skip`, `num_after_skip`, `num_dense_output`, and for encodings
                `mlp_enc`, `mlp_hidden`, `posenc`, `n_bin`, `s`, `xmin`, `xmax`, `mode`,
                `scaled_slopes`, `init`, `lambda`, `use_envelope`, `sbf_combine`; those not given
                have that program's defaults.
            weights: Arrays by the names `emb.W`, `int0.ji.W`, ... Matrices are (in, out). Elements
                without an embedding start from zero features.
            smoothness: Factor of the smoothness loss, averaged over tables; that of the
                hyper-parameters (`lambda`), or none, by default.
            **kwargs: Replace arguments of the constructor; the program's own choices are
                `sbf_over_distance=True`, `radial_factor="kj"`, `rbf_embedding="activated"`.

        Raises:
            ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
        """
        from keras_mlff.models.dimenet_pp.port import build_dimenet_pp

        model: Self = build_dimenet_pp(cls, hyperparameters, weights, smoothness, **kwargs)
        return model


@keras.saving.register_keras_serializable("keras_mlff")
class DimeNetInteraction(keras.layers.Layer):
    """One interaction block: edges k -> j update the edge j -> i.

    Args:
        num_features: Width of the messages.
        interaction_features: Width while they meet.
        basis_features: Width of the bases while they are mapped.
        num_before_skip: Residual layers before the skip connection.
        num_after_skip: Residual layers after it.
        radial_factor: Of `DimeNetPP`.
    """

    def __init__(
        self,
        num_features: int,
        interaction_features: int,
        basis_features: int,
        num_before_skip: int,
        num_after_skip: int,
        radial_factor: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.radial_factor = radial_factor
        self.rbf_1, self.rbf_2 = _linear(basis_features), _linear(num_features)
        self.sbf_1, self.sbf_2 = _linear(basis_features), _linear(interaction_features)
        self.own, self.other = _dense(num_features), _dense(num_features)
        self.down = _dense(interaction_features, use_bias=False)
        self.up = _dense(num_features, use_bias=False)
        self.before = [DimeNetResidual(num_features) for _ in range(num_before_skip)]
        self.skip = _dense(num_features)
        self.after = [DimeNetResidual(num_features) for _ in range(num_after_skip)]

    def call(
        self, messages: Tensor, edge_basis: Tensor, triplet_basis: Tensor, graph: Graph
    ) -> Tensor:
        """Computes new messages `(num_edges, num_features)`.

        Call arguments:
            messages: `(num_edges, num_features)`.
            edge_basis: `(num_edges, n)`.
            triplet_basis: `(num_triplets, m)`.
            graph: The batch.
        """
        radial = self.rbf_2(self.rbf_1(edge_basis))
        sent = self.other(messages)
        if self.radial_factor == "kj":
            sent = sent * radial
        sent = self.down(sent)
        met = ops.take(sent, graph["triplet_in"], axis=0) * self.sbf_2(self.sbf_1(triplet_basis))
        met = segment.mask(met, graph["triplet_mask"])
        num_edges = ops.shape(messages)[0]
        received = self.up(backend.segment_sum(met, graph["triplet_out"], num_edges))
        if self.radial_factor == "ji":
            received = received * radial
        update = self.own(messages) + received
        for layer in self.before:
            update = layer(update)
        messages = messages + self.skip(update)
        for layer in self.after:
            messages = layer(messages)
        return messages


@keras.saving.register_keras_serializable("keras_mlff")
class DimeNetOutput(keras.layers.Layer):
    """Sums messages of an atom's edges, times maps of their distances: all but the last map.

    Args:
        num_features: Width of the messages.
        output_features: Width of the result.
        num_dense: Layers.
    """

    def __init__(
        self, num_features: int, output_features: int, num_dense: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.rbf = _linear(num_features)
        self.up = _linear(output_features)
        self.dense = [_dense(output_features) for _ in range(num_dense)]

    def call(self, messages: Tensor, edge_basis: Tensor, graph: Graph) -> Tensor:
        """Computes `(num_atoms, output_features)`."""
        features = self.up(segment.sum_over_edges(self.rbf(edge_basis) * messages, graph))
        for layer in self.dense:
            features = layer(features)
        return features


@keras.saving.register_keras_serializable("keras_mlff")
class DimeNetReadout(keras.layers.Layer):
    """Maps the output blocks, side by side, to scalars and sums them.

    Args:
        num_scalars: Numbers per atom.
        num_blocks: Output blocks.
        initializer: `output_init` of `DimeNetPP`.
    """

    def __init__(
        self, num_scalars: int, num_blocks: int, initializer: str = "orthogonal", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.output_scalars = (
            keras.layers.Dense(num_scalars, use_bias=False, kernel_initializer="zeros")
            if initializer == "zeros"
            else _linear(num_scalars, num_blocks)
        )

    def call(self, features: AtomFeatures) -> AtomFeatures:
        return AtomFeatures(self.output_scalars(features.scalars))


@keras.saving.register_keras_serializable("keras_mlff")
class DimeNetResidual(keras.layers.Layer):
    """Adds two layers of its input to it."""

    def __init__(self, num_features: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense_1, self.dense_2 = _dense(num_features), _dense(num_features)

    def call(self, inputs: Tensor) -> Tensor:
        return inputs + self.dense_2(self.dense_1(inputs))


def _dense(units: int, use_bias: bool = True, activated: bool = True) -> Any:
    return keras.layers.Dense(
        units,
        activation="silu" if activated else None,
        use_bias=use_bias,
        kernel_initializer=GlorotOrthogonal(),
    )


def _linear(units: int, num_blocks: int = 1) -> Any:
    return keras.layers.Dense(
        units, use_bias=False, kernel_initializer=GlorotOrthogonal(num_blocks)
    )
