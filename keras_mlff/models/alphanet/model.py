"""AlphaNet: messages in local frames, with complex phases beside real features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import Graph, Tensor
from keras_mlff.heads import AtomNumbers
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers import radial
from keras_mlff.layers.encoding import parse_encoding
from keras_mlff.layers.initializers import Normal, torch_dense
from keras_mlff.layers.normalization import LayerNormalization
from keras_mlff.layers.readout import AtomFeatures
from keras_mlff.models.alphanet import edges as edge_tools
from keras_mlff.models.alphanet import frames
from keras_mlff.models.alphanet.edges import EdgeDistances, EdgeGeometry
from keras_mlff.models.alphanet.frame_layers import FrameTransition, Scalarization
from keras_mlff.models.alphanet.interaction import AlphaNetInteraction
from keras_mlff.models.alphanet.learned_bessel import LearnedBesselBasis
from keras_mlff.models.alphanet.phase import PhaseMessage, TemporalConnection, rotate
from keras_mlff.models.alphanet.readout import AlphaNetReadout
from keras_mlff.models.alphanet.variant import PARTS, VARIANTS, AlphaNetVariant, upgrade_config
from keras_mlff.models.variants import choose
from keras_mlff.ops import geometry
from keras_mlff.ops.pairs import EdgePairs


@keras.saving.register_keras_serializable("keras_mlff")
class AlphaNet(ForceField):
    """Messages along edges, seen in the frame of each edge, with a complex state of each atom.

    An atom i has C features s_i, C vectors V_i and a few complex numbers Phi_i, its state. With
    u_e the direction, d_e the length and w_e the envelope of the edge e from a sender j to i:

    1. **Distances.** rho_e, radial functions of d_e, and filters r_e = w_e MLP(rho_e).
    2. **Elements.** a_i = LN(E[Z_i]); features s_i = a_i + sum of r_e LN(E'[Z_j]) and vectors
       S_i = sum of u_e (r_e g_j), with g_j a map of s_j. S_i describes the neighborhood.
    3. **Frames.** Each edge has the frame u, f = v x mean(v), u x f. The vectors S of both of
       its ends, seen in that frame, are scalars: with rho_e and r_e they are the edge's structure.
    4. **Messages.** Features and vectors get sums over edges, see `AlphaNetInteraction`. Phases of
       the messages rotate what the next layer reads of s.
    5. **State.** Phi_i is turned by a matrix made from s_i and gets modulus one, see
       `TemporalConnection`.
    6. **Frame transition.** s_i and V_i mix within the atom, see `FrameTransition`.
    7. **Readout.** Linear in s_i and Phi_i, see `AlphaNetReadout`.

    Layers repeat the steps 4 to 6. The paper gives formulas for the frame and the state only; all
    else is the authors' program, which changed over time. `variant` chooses among its versions:
    `"p"` (January 2025, when the paper appeared), `"v1"` (August 2025) and `"v2"` (late 2025) are
    kept for comparison and are no potentials to run dynamics with. The energy of all three jumps at
    the cutoff; that of `"p"` and `"v1"` also depends on orientation, on the wrapping of atoms and,
    with more than 50 neighbors, on the order of atoms. `"smooth"` has none of these faults.

    Args:
        num_features: C, the width of features and vectors; even.
        num_layers: How often steps 4 to 6 are repeated, each time with weights of its own.
        cutoff: Radius within which atoms are neighbors, Å.
        num_heads: Heads of the complex map that phases are made with; they divide `chi_features`.
        num_radial: Number of radial functions. By default 96 for `"damped_gaussian"`, 32 with a
            `distance_encoding` and 8 for Bessel functions.
        chi_features: Complex numbers that each message is mapped to, shared out to heads.
        chi_outputs: Complex numbers that the heads are mixed to.
        num_phases: Phases of each message.
        state_features: Complex numbers in the state of each atom.
        dropout: Share of each message that the phases do not see in training.
        without: Parts to leave out, the ablations of this network: `"phase"` (phases and state),
            `"rotation"` (of the next layer's input) and `"frame_transition"` (step 6).
        distance_encoding: What to use instead of radial functions: `"mlp"`, `"posenc"` (a learned
            table), `"smooth"` (posenc with the smoothness loss), or a dict, see
            `keras_mlff.layers.encoding.make_encoding`.
        variant: A name in `AlphaNet.VARIANTS`, an `AlphaNet.Variant`, or a dict of its fields.
        **kwargs: Arguments of every `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Raises:
        ValueError: If the widths do not fit together or a name is unknown.

    Reference: AlphaNet, 2025, https://arxiv.org/abs/2501.07155, built on LEFTNet, Du et al., 2023,
    https://arxiv.org/abs/2304.04757

    Example:
        >>> model = AlphaNet(num_features=16, num_layers=1, num_heads=4, chi_features=8)
        >>> model.variant.frame
        'weighted_mean'
    """

    Variant = AlphaNetVariant
    VARIANTS = VARIANTS
    has_attention = False

    def __init__(
        self,
        num_features: int = 128,
        num_layers: int = 3,
        cutoff: float = 5.0,
        num_heads: int = 16,
        num_radial: int | None = None,
        chi_features: int = 96,
        chi_outputs: int = 6,
        num_phases: int = 24,
        state_features: int = 24,
        dropout: float = 0.0,
        without: Sequence[str] = (),
        distance_encoding: str | Mapping[str, Any] | None = None,
        variant: str | AlphaNetVariant | Mapping[str, Any] = "smooth",
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=cutoff, **kwargs)
        _check(num_features, num_heads, chi_features, without)
        self.variant = choose(VARIANTS, variant)
        self.num_continuous_derivatives = self.variant.num_continuous_derivatives
        self.sees_wrapping = self.variant.frame == "raw_mean"
        self.num_features, self.num_layers = num_features, num_layers
        self.without = tuple(without)
        self.state_features = 0 if "phase" in without else state_features

        # 1. Distances
        self.envelope = cutoffs.get(self.variant.cutoff_function)
        encoded = parse_encoding(distance_encoding)["kind"] != "original"
        gaussian = self.variant.radial_basis == "damped_gaussian"
        number = num_radial or (32 if encoded else 96 if gaussian else 8)
        self.radial_basis = (
            radial.get("fixed_exponential", number, cutoff, distance_encoding)
            if gaussian or encoded
            else LearnedBesselBasis(number, cutoff)
        )
        self.radial_hidden = torch_dense(num_features, number, activation="silu")
        self.radial_filter = torch_dense(num_features, num_features)

        # 2. Elements
        self.embedding = _embedding(self.variant.num_embeddings, num_features)
        self.neighbor_embedding = _embedding(self.variant.num_embeddings, num_features)
        self.normalizations = [
            LayerNormalization(epsilon=self.variant.norm_epsilon, center=False, scale=False)
            for _ in range(3)
        ]
        self.structure_map = torch_dense(num_features, num_features)

        # 3. Frames
        self.scalarization = Scalarization(num_features, self.variant.measure)

        # 4. Messages
        self.interactions = [
            AlphaNetInteraction(
                num_features,
                None
                if "phase" in without
                else PhaseMessage(
                    num_features,
                    num_heads,
                    chi_features,
                    chi_outputs,
                    num_phases,
                    self.variant.phase,
                    dropout,
                ),
                self.variant,
            )
            for _ in range(num_layers)
        ]

        # 5. State
        self.start_map = None
        self.connections: list[TemporalConnection] = []
        if "phase" not in without:
            self.start_map = keras.layers.Dense(
                2 * state_features, use_bias=False, kernel_initializer=Normal(stddev=1.0)
            )
            self.connections = [
                TemporalConnection(
                    self.variant.modulus, self.variant.epsilon, self.variant.softening
                )
                for _ in range(num_layers)
            ]

        # 6. Frame transition
        self.transitions = [
            FrameTransition(num_features, self.variant.measure)
            for _ in range(0 if "frame_transition" in without else num_layers)
        ]

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        # 7. Readout
        return AlphaNetReadout(
            numbers.num_scalars,
            numbers.num_vectors,
            self.num_features,
            self.state_features,
            numbers.use_bias,
            self.record,
        )

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        """Computes features, state and vectors of each atom.

        Args:
            graph: A batch with edges.
            training: Whether to drop a share of the messages that phases see.

        Returns:
            Scalars `(num_atoms, num_features + 2 * state_features)`, the state last, and vectors
            `(num_atoms, 3, num_features)`.
        """
        graph = edge_tools.select(graph, self.cutoff, self.variant)
        pairs = EdgePairs(graph)
        # 1. Distances
        distances = self._measure_edges(graph)
        # 2. Elements
        elements, features, neighborhoods = self._describe_atoms(graph, distances, pairs)
        # 3. Frames
        edges = self._describe_edges(graph, distances, neighborhoods, pairs)

        vectors = ops.zeros_like(features)[:, None, :] + ops.zeros((1, 3, 1), features.dtype)
        state = None if self.start_map is None else self.start_map(elements)
        rotation = None
        for index, interaction in enumerate(self.interactions):
            layer = f"layer{index}"
            # 4. Messages
            rotated = features if rotation is None else rotate(features, rotation)
            added, added_vectors, rotation = interaction(
                rotated, vectors, edges, pairs=pairs, training=training
            )
            features, vectors = features + added, vectors + added_vectors
            self.record(f"{layer}/message_features", features)
            self.record(f"{layer}/message_vectors", vectors)
            if rotation is not None:
                self.record(f"{layer}/rotation", rotation)
            if "rotation" in self.without:
                rotation = None
            # 5. State
            if state is not None:
                state = self.connections[index](features, state)
                self.record(f"{layer}/state", state)
            # 6. Frame transition
            if self.transitions:
                features, vectors = self.transitions[index](features, vectors)
            self.record(f"{layer}/features", features)
            self.record(f"{layer}/vectors", vectors)
        if state is not None:
            features = ops.concatenate([features, state], axis=1)
        return AtomFeatures(features, vectors)

    def _measure_edges(self, graph: Graph) -> EdgeDistances:
        """Computes what each edge says by its length and direction alone (step 1)."""
        edge_vectors = geometry.edge_vectors(graph, self.cutoff)
        lengths = geometry.edge_lengths(edge_vectors)
        directions = edge_vectors / (lengths[:, None] + self.variant.epsilon)
        mask = ops.cast(graph["edge_mask"], lengths.dtype)[:, None]
        envelope = mask * self.envelope(lengths, self.cutoff)[:, None]
        basis = self.radial_basis(lengths)
        if self.variant.radial_basis.startswith("damped"):
            basis = envelope * basis
        filters = self.radial_filter(self.radial_hidden(basis))
        self.record("directions", directions)
        self.record("radial_basis", basis)
        self.record("radial_filters", filters)
        return EdgeDistances(edge_vectors, directions, mask, envelope, basis, envelope * filters)

    def _describe_atoms(
        self, graph: Graph, distances: EdgeDistances, pairs: EdgePairs
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Computes a, s and S of each atom (step 2).

        Returns:
            `(num_atoms, num_features)`, `(num_atoms, num_features)` and
            `(num_atoms, 3, num_features)`.
        """
        numbers = ops.minimum(graph["atomic_numbers"], self.variant.num_embeddings - 1)
        elements = self.normalizations[0](self.embedding(numbers))
        elements = self.with_charge_spin(elements, graph)
        neighbors = self.normalizations[1](self.neighbor_embedding(numbers))
        features = elements + pairs.sum(distances.filters * pairs.from_senders(neighbors))
        sent = ops.silu(self.normalizations[2](self.structure_map(features)))
        sent = distances.filters * pairs.from_senders(sent)
        neighborhoods = pairs.sum(distances.directions[:, :, None] * sent[:, None, :])
        self.record("elements", elements)
        self.record("features", features)
        self.record("structure_vectors", neighborhoods)
        return elements, features, neighborhoods

    def _describe_edges(
        self, graph: Graph, distances: EdgeDistances, neighborhoods: Tensor, pairs: EdgePairs
    ) -> EdgeGeometry:
        """Sees the neighborhoods of both ends in the frame of each edge (step 3)."""
        weighted = self.variant.frame == "weighted_mean"
        frame = frames.edge_frames(
            graph,
            distances.vectors,
            distances.directions,
            distances.envelope if weighted else distances.mask,
            self.variant.frame,
            self.variant.normalized_frame,
        )
        ends = (pairs.from_receivers(neighborhoods), pairs.from_senders(neighborhoods))
        seen = [distances.envelope * self.scalarization(frame, end) for end in ends]
        structure = ops.concatenate([*seen, distances.filters, distances.basis], axis=1)
        self.record("edge_structure", structure)
        weights = distances.envelope if self.variant.message_envelope else distances.mask
        return EdgeGeometry(distances.directions, distances.basis, structure, weights)

    upgrade_config = staticmethod(upgrade_config)


def _embedding(number: int, width: int) -> Any:
    return keras.layers.Embedding(number, width, embeddings_initializer=Normal(stddev=1.0))


def _check(num_features: int, num_heads: int, chi_features: int, without: Sequence[str]) -> None:
    if num_heads < 1 or num_features % 2 or num_features < num_heads:
        raise ValueError(
            "Features are read as pairs and divided among heads, so their number must be even and "
            "no smaller than that of the heads, of which there is at least one. "
            f"Received: num_features={num_features}, num_heads={num_heads}."
        )
    if chi_features % num_heads:
        raise ValueError(
            "`chi_features` must be divisible by num_heads. "
            f"Received: chi_features={chi_features}, num_heads={num_heads}."
        )
    unknown = [part for part in without if part not in PARTS]
    if isinstance(without, str) or unknown:
        raise ValueError(
            "`without` lists parts to leave out. "
            f"Received: without={without!r}. Choose from {list(PARTS)}."
        )
