"""DimeNet++: messages along directed edges, which see the angles between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Graph, Tensor
from keras_mlff.heads import AtomNumbers
from keras_mlff.layers.initializers import Uniform
from keras_mlff.layers.readout import AtomFeatures
from keras_mlff.models.dimenet_pp.blocks import DimeNetInteraction, DimeNetOutput, dense, linear
from keras_mlff.models.dimenet_pp.triplet_bases import BesselTripletBasis, encoded_basis
from keras_mlff.models.dimenet_pp.variant import VARIANTS, DimeNetPPVariant
from keras_mlff.models.variants import choose, gather_switches
from keras_mlff.ops import geometry


@keras.saving.register_keras_serializable("keras_mlff")
class DimeNetPP(ForceField):
    """Embeds directed edges j -> i, updated by edges k -> j through distance and angle.

    1. Bases: e_RBF of the length of each edge, and a_SBF of length and angle of each two edges
       k -> j -> i, both zero at the cutoff (eqs. 6 to 8 of DimeNet), or learned encodings in their
       place.
    2. Embedding: m_ji = SiLU(W [h_i, h_j, W_rbf e_RBF] + b) from the elements of both atoms.
    3. Output block of these messages, which sums them to the atoms (see `DimeNetOutput`).
    4. Interaction blocks: m_ji is updated by all m_kj through a_SBF and e_RBF (eq. 4 of DimeNet,
       see `DimeNetInteraction`), and an output block follows each.
    5. Readout: the last maps of all output blocks, added up.

    Energies are sums over atoms. `fit` and `predict` build the triplets that the network reads;
    their number grows with the edges times the neighbors of an atom.

    Args:
        num_features: Width of the messages.
        num_layers: Number of interaction blocks.
        distance_encoding: What a distance and an angle become: `"original"` (Bessel functions),
            `"mlp"`, `"posenc"` (learned tables of distances and angles, shared by all blocks),
            `"smooth"` (such tables with the smoothness loss), or a dict, see
            `keras_mlff.layers.encoding.make_encoding`.
        output_features: Width of the output blocks; twice `num_features` for `None`.
        interaction_features: Width of messages while they meet; half of `num_features` for `None`.
        basis_features: Width of the bases between the two maps of an interaction block.
        num_spherical: Number of degrees of a_SBF.
        num_radial: Number of functions of the distance, in e_RBF and for each degree of a_SBF.
        variant: Switches for comparison with the authors' program and for experiments: a name of
            `VARIANTS` (`"default"`, `"authors"`, `"authors_zero_start"`), a `DimeNetPP.Variant` or
            a dict of its switches that differ from the default.
        cutoff: Radius in Å within which atoms are neighbors.
        **kwargs: Arguments of `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Raises:
        ValueError: If an option is unknown.

    Reference: Gasteiger et al., 2020, https://arxiv.org/abs/2011.14115; eqs. 4 and 6 to 8 of
    DimeNet, https://arxiv.org/abs/2003.03123; distance encodings: https://arxiv.org/abs/2211.12773

    Example:
        >>> model = DimeNetPP(num_features=16, num_layers=1, distance_encoding="smooth")
        >>> model.count_params() > 0
        True
    """

    Variant = DimeNetPPVariant
    VARIANTS = VARIANTS
    uses_triplets = True
    has_attention = False

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
        variant: str | DimeNetPPVariant | Mapping[str, Any] = "default",
        cutoff: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=cutoff, **kwargs)
        self.variant = choose(VARIANTS, variant)
        self.num_features, self.num_layers = num_features, num_layers
        output_features = output_features or 2 * num_features
        interaction_features = interaction_features or num_features // 2
        # 1. Bases
        self.basis = encoded_basis(
            distance_encoding,
            cutoff,
            self.variant.envelope_exponent,
            self.variant.use_envelope,
            self.variant.sbf_combine,
        ) or BesselTripletBasis(
            num_radial,
            num_spherical,
            cutoff,
            self.variant.envelope_exponent,
            self.variant.sbf_over_distance,
        )
        # 2. Embedding
        self.elements = keras.layers.Embedding(
            MAX_ATOMIC_NUMBER + 1, num_features, Uniform(-(3**0.5), 3**0.5)
        )
        activated = self.variant.rbf_embedding == "activated"
        self.rbf_embedding = dense(num_features, use_bias=activated, activated=activated)
        self.embedding = dense(num_features)
        # 4. Interaction blocks
        self.interactions = [
            DimeNetInteraction(
                num_features,
                interaction_features,
                basis_features,
                self.variant.num_before_skip,
                self.variant.num_after_skip,
                self.variant.radial_factor,
            )
            for _ in range(num_layers)
        ]
        # 3. and 4. Output blocks
        self.outputs_per_block = [
            DimeNetOutput(num_features, output_features, self.variant.num_dense_output)
            for _ in range(num_layers + 1)
        ]

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        """Runs steps 1 to 4 of the class.

        Args:
            graph: A batch with edges up to the cutoff and their triplets.
            training: Ignored; nothing differs in training.

        Returns:
            Scalars `(num_atoms, (num_layers + 1) * output_features)`: what the output blocks give,
            side by side.
        """
        # 1. Bases
        vectors = geometry.edge_vectors(graph, self.cutoff)
        edge_basis, triplet_basis = self.basis(vectors, graph=graph)
        self.record("edge_basis", edge_basis)
        self.record("triplet_basis", triplet_basis)
        # 2. Embedding
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
        self.record("layer0/messages", messages)
        # 3. Output block
        outputs = [self.outputs_per_block[0](messages, edge_basis, graph=graph)]
        # 4. Interaction blocks
        for index, interaction in enumerate(self.interactions, start=1):
            messages = interaction(messages, edge_basis, triplet_basis, graph=graph)
            self.record(f"layer{index}/messages", messages)
            outputs.append(self.outputs_per_block[index](messages, edge_basis, graph=graph))
        # side by side: the last maps of all blocks, summed, are one map
        return AtomFeatures(ops.concatenate(outputs, axis=-1))

    def encode_distances(self, distances: Tensor) -> list[Tensor]:
        return [self.basis.encode_edges(distances)]

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        """Makes step 5, one map of all output blocks."""
        return DimeNetReadout(
            numbers.num_scalars, len(self.outputs_per_block), self.variant.output_init
        )

    @classmethod
    def upgrade_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Moves switches that were arguments of their own once into `variant`."""
        return gather_switches(config, VARIANTS, renamed={}, changes={})


@keras.saving.register_keras_serializable("keras_mlff")
class DimeNetReadout(keras.layers.Layer):
    """Maps the output blocks, side by side, to scalars and sums them, in one linear map.

    There is no hidden layer as in `PerceptronReadout`: the dense layers of the output blocks, which
    all heads share, come before it.

    Args:
        num_scalars: Numbers per atom that the head asks for.
        num_blocks: Number of output blocks.
        initializer: Start of the map, `output_init` of `DimeNetPPVariant`.

    Call arguments:
        features: Features of the atoms, of which the scalars `(num_atoms, num_blocks * n)` are
            read.

    Call returns:
        Scalars `(num_atoms, num_scalars)`, without vectors.
    """

    def __init__(
        self, num_scalars: int, num_blocks: int, initializer: str = "orthogonal", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.output_scalars = (
            keras.layers.Dense(num_scalars, use_bias=False, kernel_initializer="zeros")
            if initializer == "zeros"
            else linear(num_scalars, num_blocks)
        )

    def call(self, features: AtomFeatures) -> AtomFeatures:
        return AtomFeatures(self.output_scalars(features.scalars))
