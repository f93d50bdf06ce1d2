"""AlphaNet: messages in local frames, with complex phases beside real features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self, cast

import keras
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array, Graph, Tensor
from keras_mlff.heads import Head
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers import positional_encoding, radial
from keras_mlff.layers.initializers import Normal, torch_dense
from keras_mlff.layers.normalization import LayerNormalization
from keras_mlff.layers.readout import AtomFeatures
from keras_mlff.models.alphanet import frames
from keras_mlff.models.alphanet.frame_layers import (
    MEASURES,
    FrameTransition,
    Scalarization,
    xavier_dense,
)
from keras_mlff.models.alphanet.learned_bessel import LearnedBesselBasis
from keras_mlff.models.alphanet.phase import (
    MODULI,
    PHASES,
    PhaseMessage,
    TemporalConnection,
    rotate,
)
from keras_mlff.ops import geometry
from keras_mlff.ops.pairs import EdgePairs

_TOO_CLOSE = 1e-2  # Å, the authors' program does not see closer pairs

_V1: dict[str, Any] = {
    "radial_basis": "bessel",
    "frame": "raw_mean",
    "measure": "absolute",
    "cutoff_function": "cosine",
    "message_envelope": False,
    "phase": "atan2",
    "modulus": "plain",
    "max_num_neighbors": 50,
    "message_epsilon": 1e-5,
    "epsilon": 1e-10,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "smooth": {
        "radial_basis": "damped_bessel",
        "frame": "weighted_mean",
        "measure": "square",
        "cutoff_function": "polynomial",
        "message_envelope": True,
        "phase": "sin",
        "modulus": "smooth",
        "max_num_neighbors": None,
        "message_epsilon": 1e-2,
        "epsilon": 1e-10,
    },
    "v2": {
        **_V1,
        "frame": "edge_mean",
        "measure": "square",
        "modulus": "shifted",
        "max_num_neighbors": None,
        "epsilon": 1e-9,
    },
    "v1": _V1,
    "p": {**_V1, "radial_basis": "damped_gaussian"},
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "radial_basis": ("damped_bessel", "bessel", "damped_gaussian"),
    "frame": frames.FRAMES,
    "measure": MEASURES,
    "cutoff_function": tuple(cutoffs.CUTOFFS),
    "phase": PHASES,
    "modulus": MODULI,
    "message_norm": ("all", "phases", "none"),
    "reduce": ("sum", "mean"),
}


class EdgeGeometry(NamedTuple):
    """What all layers know about the edges."""

    directions: Tensor  # (num_edges, 3)
    radial: Tensor  # (num_edges, num_radial)
    structure: Tensor  # (num_edges, 3 * num_features + num_radial)
    weights: Tensor  # (num_edges, 1) of messages, zero for padding


@keras.saving.register_keras_serializable("keras_mlff")
class AlphaNet(ForceField):
    """Messages along edges, seen in the frame of each edge, with a complex state of each atom.

    The paper leaves much open, and the authors' program has changed. `variant` sets the arguments
    below it, each of which may also be given. `"p"` (the program at the time of the paper), `"v1"`
    and `"v2"` (later ones) are kept for comparison, and are no potentials to run dynamics with: the
    energy of all three jumps at the cutoff; that of `"p"` and `"v1"` also depends on orientation,
    on the wrapping of atoms and, with more than 50 neighbors, on the order of atoms. `"smooth"` has
    none of these faults.

    Args:
        num_features: Width, even.
        num_layers: Layers of messages.
        cutoff: Å.
        num_heads: Heads of the complex map of messages.
        num_radial: Radial functions; 96 for `"damped_gaussian"`, 32 for `distance_encoding` and
            else 8 by default.
        chi_features: Complex numbers of each message, shared out to heads.
        chi_outputs: Complex numbers that the heads are mixed to.
        num_phases: Phases of each message.
        state_features: Width of the complex state of each atom.
        variant: `"smooth"`, `"v2"`, `"v1"` or `"p"`.
        radial_basis: `"damped_bessel"`, times the envelope; `"bessel"`, which is not zero at the
            cutoff; `"damped_gaussian"`, of exp(-d), not trained.
        distance_encoding: Instead of the radial basis: `"mlp"`, `"posenc"` (a learned table),
            `"smooth"` (posenc with the smoothness loss), or a dict, see
            `keras_mlff.layers.positional_encoding.get`.
        frame: What spans the plane of an edge's frame, see
            `keras_mlff.models.alphanet.frames.edge_frames`.
        measure: How signs are taken away: `"square"`; `"absolute"` has kinks, and lengths of
            vectors then depend on orientation.
        cutoff_function: `"polynomial"` (second derivatives continuous), `"cosine"` (the authors',
            first derivatives) or `"smooth"` (all).
        message_envelope: Whether messages end at the cutoff.
        phase: `"sin"`, `"cos_sin"` or `"atan2"`, see `PhaseMessage`.
        modulus: Of the state: `"smooth"`, `"shifted"` or `"plain"`, see `TemporalConnection`.
        softening: Of `"smooth"`, likewise. The smaller, the steeper are energies where a number of
            the state is near zero.
        max_num_neighbors: Only so many neighbors of an atom count, the nearest; `None` for all.
        message_epsilon: Added to the variance where sums of messages are normalized. The smaller,
            the steeper is the energy of an atom whose only neighbor leaves.
        epsilon: Added to lengths before they divide.
        norm_epsilon: Added to variances, but for those of `message_epsilon`.
        normalized_frame: Whether frames have unit vectors, as in the paper; not defined where
            neighbors lie on one line or around a center of symmetry, so forces jump there.
        message_norm: `"all"`, `"phases"` (only these are normalized) or `"none"`.
        reduce: Whether messages are added (`"sum"`) or averaged (`"mean"`).
        dropout: Share of each message that the phases do not see in training.
        use_phase: Whether there are phases and the complex state (ablation).
        use_rotation: Whether phases rotate the next layer's input (ablation).
        use_frame_transition: Whether scalars and vectors mix within atoms (ablation).
        num_embeddings: Elements with an embedding of their own, padding (0) included; heavier ones
            share the last.
        **kwargs: Of `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Reference: AlphaNet, 2025, https://arxiv.org/abs/2501.07155

    Example:
        >>> model = AlphaNet(num_features=16, num_layers=1, num_heads=4, chi_features=8)
        >>> model.frame
        'weighted_mean'
    """

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
        variant: str = "smooth",
        radial_basis: str | None = None,
        frame: str | None = None,
        measure: str | None = None,
        cutoff_function: str | None = None,
        message_envelope: bool | None = None,
        phase: str | None = None,
        modulus: str | None = None,
        softening: float = 0.01,
        max_num_neighbors: int | str | None = "variant",
        message_epsilon: float | None = None,
        epsilon: float | None = None,
        norm_epsilon: float = 1e-5,
        normalized_frame: bool = False,
        message_norm: str = "all",
        reduce: str = "sum",
        dropout: float = 0.0,
        use_phase: bool = True,
        use_rotation: bool = True,
        use_frame_transition: bool = True,
        num_embeddings: int = MAX_ATOMIC_NUMBER + 1,
        distance_encoding: str | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=cutoff, **kwargs)
        _check(num_features, num_heads, chi_features)
        chosen = _choose(
            variant,
            {
                "radial_basis": radial_basis,
                "frame": frame,
                "measure": measure,
                "cutoff_function": cutoff_function,
                "message_envelope": message_envelope,
                "phase": phase,
                "modulus": modulus,
                "message_epsilon": message_epsilon,
                "epsilon": epsilon,
                "message_norm": message_norm,
                "reduce": reduce,
            },
        )
        self.num_features, self.num_layers = num_features, num_layers
        self.num_embeddings, self.state_features = num_embeddings, state_features
        self.frame, self.normalized_frame = chosen["frame"], normalized_frame
        self.message_envelope, self.epsilon = chosen["message_envelope"], chosen["epsilon"]
        self.max_num_neighbors = (
            VARIANTS[variant]["max_num_neighbors"]
            if max_num_neighbors == "variant"
            else cast("int | None", max_num_neighbors)
        )
        if self.max_num_neighbors is not None and (
            isinstance(self.max_num_neighbors, str) or self.max_num_neighbors < 1
        ):
            raise ValueError(
                "`max_num_neighbors` is a number from 1 on, None for all neighbors, or 'variant'. "
                f"Received: max_num_neighbors={max_num_neighbors!r}."
            )
        self.reference_edges = variant != "smooth"
        self.use_phase, self.use_rotation = use_phase, use_rotation
        sharp = normalized_frame or self.max_num_neighbors is not None
        count = 0 if sharp else _count_derivatives(chosen)
        self.num_continuous_derivatives = count  # type: ignore[misc]
        self.envelope = cutoffs.get(chosen["cutoff_function"])
        self.damped = chosen["radial_basis"].startswith("damped")
        gaussian = chosen["radial_basis"] == "damped_gaussian"
        encoded = positional_encoding.options(distance_encoding)["kind"] != "original"
        number = num_radial or (32 if encoded else 96 if gaussian else 8)
        self.radial_basis = (
            radial.get("fixed_exponential", number, cutoff, distance_encoding)
            if gaussian or encoded
            else LearnedBesselBasis(number, cutoff)
        )
        self.radial_hidden = torch_dense(num_features, number, activation="silu")
        self.radial_filter = torch_dense(num_features, num_features)
        self.embedding = _embedding(num_embeddings, num_features)
        self.neighbor_embedding = _embedding(num_embeddings, num_features)
        self.normalizations = [
            LayerNormalization(epsilon=norm_epsilon, center=False, scale=False) for _ in range(3)
        ]
        self.structure_map = torch_dense(num_features, num_features)
        self.scalarization = Scalarization(num_features, chosen["measure"])
        self.interactions = [
            AlphaNetInteraction(
                num_features,
                PhaseMessage(
                    num_features,
                    num_heads,
                    chi_features,
                    chi_outputs,
                    num_phases,
                    chosen["phase"],
                    dropout,
                )
                if use_phase
                else None,
                num_phases * (2 if chosen["phase"] == "cos_sin" else 1),
                message_norm,
                reduce,
                norm_epsilon,
                chosen["message_epsilon"],
                smooth=variant == "smooth",
            )
            for _ in range(num_layers)
        ]
        self.start_map = None
        self.connections: list[TemporalConnection] = []
        if use_phase:
            self.start_map = keras.layers.Dense(
                2 * state_features,
                use_bias=False,
                kernel_initializer=Normal(stddev=1.0),
            )
            self.connections = [
                TemporalConnection(chosen["modulus"], chosen["epsilon"], softening)
                for _ in range(num_layers)
            ]
        self.transitions = [
            FrameTransition(num_features, chosen["measure"])
            for _ in range(num_layers if use_frame_transition else 0)
        ]

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        numbers = ops.minimum(graph["atomic_numbers"], self.num_embeddings - 1)
        elements = self.normalizations[0](self.embedding(numbers))  # (num_atoms, num_features)
        elements = self.with_charge_spin(elements, graph)
        features, edges, pairs = self._structure(elements, numbers, self._chosen_edges(graph))
        vectors = ops.zeros_like(features)[:, None, :] + ops.zeros((1, 3, 1), features.dtype)
        state = None if self.start_map is None else self.start_map(elements)
        rotation = None
        for index, interaction in enumerate(self.interactions):
            rotated = features if rotation is None else rotate(features, rotation)
            added, added_vectors, rotation = interaction(
                rotated, vectors, edges, pairs=pairs, training=training
            )
            features, vectors = features + added, vectors + added_vectors
            layer = f"layer{index}"
            self.record(f"{layer}/message_features", features)
            self.record(f"{layer}/message_vectors", vectors)
            if rotation is not None:
                self.record(f"{layer}/rotation", rotation)
            if state is not None:
                state = self.connections[index](features, state)
                self.record(f"{layer}/state", state)
            if self.transitions:
                features, vectors = self.transitions[index](features, vectors)
            self.record(f"{layer}/features", features)
            self.record(f"{layer}/vectors", vectors)
            if not self.use_rotation:
                rotation = None
        if state is not None:
            features = ops.concatenate([features, state], axis=1)
        return AtomFeatures(features, vectors)

    def make_readout(self, head: Head) -> keras.layers.Layer:
        return AlphaNetReadout(
            head.num_scalars,
            head.num_vectors,
            self.num_features,
            self.state_features if self.use_phase else 0,
            head.use_bias,
            self.record,
        )

    def _chosen_edges(self, graph: Graph) -> Graph:
        """Leaves out the edges that the variant does not see."""
        if not self.reference_edges and self.max_num_neighbors is None:
            return graph
        lengths = geometry.edge_lengths(geometry.edge_vectors(graph, self.cutoff))
        kept = graph["edge_mask"]
        if self.reference_edges:
            kept = ops.logical_and(kept, lengths > _TOO_CLOSE)
        if self.max_num_neighbors is not None:
            # what is left out already takes no place of others
            lengths = ops.where(kept, lengths, 2.0 * self.cutoff)
            near = frames.nearest(lengths, graph, self.max_num_neighbors)
            kept = ops.logical_and(kept, near)
        return {**graph, "edge_mask": kept}

    def _structure(
        self, elements: Tensor, numbers: Tensor, graph: Graph
    ) -> tuple[Tensor, EdgeGeometry, EdgePairs]:
        """Describes atoms by their neighbors and edges by both ends, without any layer."""
        pairs = EdgePairs(graph)
        edge_vectors = geometry.edge_vectors(graph, self.cutoff)
        lengths = geometry.edge_lengths(edge_vectors)
        directions = edge_vectors / (lengths[:, None] + self.epsilon)
        mask = ops.cast(pairs.mask, lengths.dtype)[:, None]
        envelope = mask * self.envelope(lengths, self.cutoff)[:, None]  # (num_edges, 1)
        weights = envelope if self.message_envelope else mask
        basis = self.radial_basis(lengths)
        basis = envelope * basis if self.damped else basis
        raw_filters = self.radial_filter(self.radial_hidden(basis))
        filters = envelope * raw_filters  # (num_edges, num_features)
        neighbors = self.normalizations[1](self.neighbor_embedding(numbers))
        features = elements + pairs.sum(filters * pairs.from_senders(neighbors))
        sent = ops.silu(self.normalizations[2](self.structure_map(features)))
        sent = filters * pairs.from_senders(sent)
        vectors = pairs.sum(directions[:, :, None] * sent[:, None, :])
        frame = frames.edge_frames(
            graph,
            edge_vectors,
            directions,
            envelope if self.frame == "weighted_mean" else mask,
            self.frame,
            self.normalized_frame,
        )
        ends = (pairs.from_receivers(vectors), pairs.from_senders(vectors))
        seen = [envelope * self.scalarization(frame, end) for end in ends]
        structure = ops.concatenate([*seen, filters, basis], axis=1)
        for name, value in {
            "elements": elements,
            "directions": directions,
            "radial_basis": basis,
            "radial_filters": raw_filters,
            "features": features,
            "structure_vectors": vectors,
            "edge_structure": structure,
        }.items():
            self.record(name, value)
        return features, EdgeGeometry(directions, basis, structure, weights), pairs

    @classmethod
    def from_reference(
        cls,
        hyperparameters: Mapping[str, Any],
        weights: Mapping[str, Array],
        **kwargs: Any,
    ) -> Self:
        """Builds the authors' network from its hyper-parameters and weights.

        Args:
            hyperparameters: By the names of that program: `hidden_channels`, `num_layers`,
                `cutoff`, `num_radial`, `head`, `hidden_channels_chi`, `mp_chi1`, `chi2`,
                `main_chi1`, ...; those not given have its defaults. `variant` is `"p"`, `"v1"` or
                `"v2"`; if not given, the weights tell whether it is `"p"` or `"v1"`.
            weights: Arrays by that program's names, a prefix `w:` allowed.
            **kwargs: Replace arguments of the constructor.

        Raises:
            ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
        """
        from keras_mlff.models.alphanet.port import build_alphanet

        model: Self = build_alphanet(cls, hyperparameters, weights, **kwargs)
        return model


@keras.saving.register_keras_serializable("keras_mlff")
class AlphaNetInteraction(keras.layers.Layer):
    """Sends messages along edges and normalizes their sum at each atom.

    Args:
        num_features: Width C.
        phase_message: What computes phases; `None` for none.
        phase_width: Their number.
        message_norm: What is normalized: `"all"`, `"phases"` or `"none"`.
        reduce: `"sum"` or `"mean"`.
        epsilon: Added to the variance of features.
        message_epsilon: Added to the variance of sums of messages.
        smooth: Whether a mean has no kink where less than one neighbor is left.
    """

    def __init__(
        self,
        num_features: int,
        phase_message: PhaseMessage | None,
        phase_width: int,
        message_norm: str,
        reduce: str,
        epsilon: float,
        message_epsilon: float,
        smooth: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_features, self.phase_message = num_features, phase_message
        self.phase_width = 0 if phase_message is None else phase_width
        self.message_norm, self.reduce, self.smooth = message_norm, reduce, smooth
        self.normalization = LayerNormalization(epsilon=epsilon)
        self.atom_hidden = xavier_dense(num_features, activation="silu")
        self.atom_output = xavier_dense(3 * num_features)
        self.radial_map = xavier_dense(3 * num_features)
        self.edge_hidden = xavier_dense(3 * num_features, activation="silu")
        self.edge_output = xavier_dense(3 * num_features)
        self.sum_normalization = None
        if message_norm != "none":
            self.sum_normalization = LayerNormalization(epsilon=message_epsilon)
        self.angle_map = None
        if phase_message is not None:
            self.angle_map = torch_dense(num_features // 2, phase_width)

    def build(self, features_shape: Any, vectors_shape: Any, edges_shape: Any) -> None:
        """Creates the weights."""
        width = self.num_features
        _, radial_shape, structure_shape, _ = edges_shape
        self.normalization.build((None, width))
        self.atom_hidden.build((None, width))
        self.atom_output.build((None, width))
        self.radial_map.build((None, radial_shape[-1]))
        self.edge_hidden.build((None, structure_shape[-1]))
        self.edge_output.build((None, 3 * width))
        if self.phase_message is not None:
            self.phase_message.build((None, width), (None, 3 * width), (None,))
        if self.sum_normalization is not None:
            only_phases = self.message_norm == "phases"
            total = self.phase_width + (0 if only_phases else width)
            self.sum_normalization.build((None, total))
        if self.angle_map is not None:
            self.angle_map.build((None, self.phase_width))

    def call(
        self,
        features: Tensor,
        vectors: Tensor,
        edges: EdgeGeometry,
        pairs: EdgePairs,
        training: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Computes what is added to features and vectors, and the next layer's rotation.

        Call arguments:
            features: `(num_atoms, num_features)`, rotated.
            vectors: `(num_atoms, 3, num_features)`.
            edges: Geometry of the edges.
            pairs: Which atoms send to which.
            training: Whether to drop a share of the messages.
        """
        width = self.num_features
        sent = self.atom_output(self.atom_hidden(self.normalization(features)))
        filters = self.radial_map(edges.radial)
        filters = filters * self.edge_output(self.edge_hidden(edges.structure))
        products = pairs.from_senders(sent) * filters  # (num_edges, 3 * num_features)
        messages = products[:, :width]
        parts = [messages]
        if self.phase_message is not None:
            parts.insert(0, self.phase_message(messages, filters, pairs.mask, training=training))
        weights = edges.weights
        summed = pairs.sum(weights * ops.concatenate(parts, axis=1))
        along = pairs.from_senders(vectors) * (products[:, None, width : 2 * width] * 3.0**-0.5)
        fresh = edges.directions[:, :, None] * products[:, None, 2 * width :]
        added = pairs.sum(weights[:, :, None] * (along + fresh)) * width**-0.5
        if self.reduce == "mean":
            # a floor of one neighbor: the sum goes to zero where the last one leaves
            number = pairs.sum(weights)
            number = ops.sqrt(1.0 + ops.square(number)) if self.smooth else ops.maximum(number, 1.0)
            summed, added = summed / number, added / number[:, :, None]
        phases, scalars = self._normalize(summed)
        if self.angle_map is None:
            return scalars, added, None
        angles = self.angle_map(phases)
        return scalars, added, ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=1)

    def _normalize(self, summed: Tensor) -> tuple[Tensor, Tensor]:
        number = self.phase_width
        if self.message_norm == "all" and self.sum_normalization is not None:
            summed = self.sum_normalization(summed)
        phases, scalars = summed[:, :number], summed[:, number:]
        if self.message_norm == "phases" and self.sum_normalization is not None and number:
            phases = self.sum_normalization(phases)
        return phases, scalars


@keras.saving.register_keras_serializable("keras_mlff")
class AlphaNetReadout(keras.layers.Layer):
    """Reads scalars from features and the complex state, vectors from vectors, by linear maps.

    Args:
        num_scalars: Numbers per atom.
        num_vectors: Vectors per atom.
        num_features: Width of the features.
        state_features: Width of the complex state, 0 for none.
        use_bias: Whether scalars have a bias.
        record: Keeps intermediate values.
    """

    def __init__(
        self,
        num_scalars: int,
        num_vectors: int,
        num_features: int,
        state_features: int,
        use_bias: bool,
        record: Callable[[str, Tensor], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_features, self.state_features = num_features, state_features
        self.record = record
        self.from_features = torch_dense(num_scalars, num_features, use_bias=use_bias)
        self.from_state = None
        if state_features:
            self.from_state = torch_dense(num_scalars, 2 * state_features, use_bias=use_bias)
        self.from_vectors = None
        if num_vectors:
            self.from_vectors = torch_dense(num_vectors, num_features, use_bias=False)

    def call(self, features: AtomFeatures) -> AtomFeatures:
        scalars = self.from_features(features.scalars[:, : self.num_features])
        self.record("readout/features", scalars)
        if self.from_state is not None:
            phases = self.from_state(features.scalars[:, self.num_features :])
            self.record("readout/state", phases)
            scalars = scalars + phases / self.state_features
        if self.from_vectors is None:
            return AtomFeatures(scalars)
        return AtomFeatures(scalars, self.from_vectors(features.vectors))


def _embedding(number: int, width: int) -> Any:
    return keras.layers.Embedding(number, width, embeddings_initializer=Normal(stddev=1.0))


def _choose(variant: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Takes what is given, and of the variant what is not."""
    if variant not in VARIANTS:
        raise ValueError(
            f"Unknown variant of AlphaNet. Received: '{variant}'. Choose from {list(VARIANTS)}."
        )
    chosen = {
        key: VARIANTS[variant][key] if value is None else value for key, value in given.items()
    }
    for key, choices in _CHOICES.items():
        if chosen[key] not in choices:
            raise ValueError(
                f"Unknown `{key}` of AlphaNet. Received: '{chosen[key]}'. Choose from {choices}."
            )
    return chosen


def _count_derivatives(chosen: Mapping[str, Any]) -> int:
    """Counts the continuous derivatives of the energy where an edge reaches the cutoff."""
    if not chosen["message_envelope"] or chosen["frame"] != "weighted_mean":
        return 0
    return cutoffs.NUM_CONTINUOUS_DERIVATIVES[chosen["cutoff_function"]]


def _check(num_features: int, num_heads: int, chi_features: int) -> None:
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
