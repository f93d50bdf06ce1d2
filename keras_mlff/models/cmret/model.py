"""CMRET: a comprehensive molecular representation from an equivariant transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import Graph, Tensor
from keras_mlff.heads import AtomNumbers
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers import radial
from keras_mlff.layers.equivariant import GatedReadout
from keras_mlff.layers.normalization import LayerNormalization
from keras_mlff.layers.readout import AtomFeatures
from keras_mlff.models.cmret.attention import GraphAttention
from keras_mlff.models.cmret.electron_configuration import ElectronConfigurationEmbedding
from keras_mlff.models.cmret.interaction import CMRETInteraction
from keras_mlff.models.cmret.variant import VARIANTS, CMRETVariant
from keras_mlff.models.variants import choose, gather_switches
from keras_mlff.ops import geometry, safe, segment

CHARGE_SPIN_CHANNELS = ("invariant", "invariant_qs", "vector", "none")


@keras.saving.register_keras_serializable("keras_mlff")
class CMRET(ForceField):
    """Equivariant transformer: filters between neighbors, attention between all atoms of a graph.

    1. Embedding: the electrons per subshell of an element become the scalars s_i of the atom.
    2. Charge and spin: total charge Q and total spin S become constant channels of the vectors v_i
       (eq. 9).
    3. Edges: envelope f(d), radial basis g(d), and unit vectors from the neighbor to the atom.
    4. Interaction layers: messages of filtered features from neighbors and attention between all
       atoms replace scalars and vectors, and add to the output o_i (eq. 8, see
       `CMRETInteraction`).
    5. Layer normalization of the output.
    6. Readout: gated blocks mix scalars with lengths of vectors, and linear maps read what a head
       asks for (see `keras_mlff.layers.equivariant.GatedReadout`).

    Attention has no cutoff and its weights sum to one, so energies of far fragments do not add up
    exactly.

    Args:
        num_features: Width of scalars and vectors, divisible by `num_heads`.
        num_layers: Number of interaction layers.
        num_radial: Number of radial basis functions.
        num_heads: Number of attention heads.
        cutoff: Radius in Å within which atoms exchange filtered features.
        radial_basis: `"gaussian"` (Gaussians of exp(-d) with learned centers and widths),
            `"bessel"` or another name in `keras_mlff.layers.radial.BASES`.
        cutoff_function: Envelope f: `"cosine"` (the paper's, forces continuous), `"polynomial"`
            (second derivatives too) or `"smooth"` (all).
        attention: Attention between all atoms: `"atoms"`, `"projected"` with further maps before
            and after (an ablation of the paper), or `"none"`, which makes the model local.
        charge_spin_channels: How charge and spin enter the vectors. `"invariant"`: one further
            component sqrt(3) (S - Q) / sum(Z) that does not turn, exactly invariant;
            `"invariant_qs"`: two of them, for charge and spin apart, which tells +1 from -1;
            `"vector"`: the paper's eq. 9, which breaks rotation symmetry unless Q = S; `"none"`.
            The option `charge_spin` of `ForceField` adds a learned embedding to the scalars.
        distance_encoding: What replaces the radial basis: `None` for nothing, `"mlp"`, `"posenc"`
            (a learned table), `"smooth"` (such a table with the smoothness loss), or a dict, see
            `keras_mlff.layers.encoding.make_encoding`.
        variant: Switches for the paper's ablations and the authors' program: a name of `VARIANTS`
            (`"default"`, `"authors"`), a `CMRET.Variant` or a dict of its switches that differ from
            the default.
        **kwargs: Arguments of `ForceField`: `heads`, `dtype`, `name`, `zbl`, `charge_spin`,
            `element_affine`.

    Raises:
        ValueError: If an option is unknown, or heads do not divide the features.

    Reference: Tao, Morimoto and Leoni, 2023, eqs. 8 and 9, https://arxiv.org/abs/2308.10752

    Example:
        >>> model = CMRET(num_features=16, num_layers=1, num_heads=2)
        >>> model.count_params() > 0
        True
    """

    Variant = CMRETVariant
    VARIANTS = VARIANTS
    is_size_consistent = False  # attention weights sum to one over all atoms, however far
    num_continuous_derivatives = 1  # with the default, the paper's cosine

    def __init__(
        self,
        num_features: int = 128,
        num_layers: int = 6,
        num_radial: int = 50,
        num_heads: int = 4,
        cutoff: float = 5.0,
        radial_basis: str = "gaussian",
        cutoff_function: str = "cosine",
        attention: str = "atoms",
        charge_spin_channels: str = "invariant",
        distance_encoding: str | Mapping[str, Any] | None = None,
        variant: str | CMRETVariant | Mapping[str, Any] = "default",
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=cutoff, **kwargs)
        if charge_spin_channels not in CHARGE_SPIN_CHANNELS:
            raise ValueError(
                f"`charge_spin_channels` is one of {CHARGE_SPIN_CHANNELS}. Received: "
                f"charge_spin_channels={charge_spin_channels!r}."
            )
        if attention not in ("atoms", "projected", "none"):
            raise ValueError(
                f"`attention` is 'atoms', 'projected' or 'none'. Received: '{attention}'."
            )
        self.variant = choose(VARIANTS, variant)
        self.num_features, self.num_layers = num_features, num_layers
        self.charge_spin_channels = charge_spin_channels
        # other weights do not add up to one, and grow with the atoms of the cell
        self.supports_periodic = (
            attention == "none" or self.variant.attention_activation == "softmax"
        )
        # 1. Embedding
        self.embedding = ElectronConfigurationEmbedding(num_features, self.variant.configuration)
        # 3. Edges
        self.envelope = cutoffs.get(cutoff_function)
        self.radial_basis = radial.get(radial_basis, num_radial, cutoff, distance_encoding)
        # 4. Interaction layers
        self.interactions = [
            CMRETInteraction(
                num_features,
                num_radial,
                None
                if attention == "none"
                else GraphAttention(
                    num_features,
                    num_heads,
                    self.variant.temperature_coeff,
                    self.variant.attention_activation,
                    projections=attention == "projected",
                ),
                self.variant.residual_mlp,
            )
            for _ in range(num_layers)
        ]
        # 5. Layer normalization
        self.normalization = LayerNormalization(epsilon=1e-5)

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        """Runs steps 1 to 5 of the class.

        Args:
            graph: A batch with edges up to the cutoff.
            training: Ignored; nothing differs in training.

        Returns:
            Scalars `(num_atoms, num_features)` and vectors `(num_atoms, 3 to 5, num_features)`,
            whose components beyond x, y, z carry charge and spin.
        """
        if "cell" in graph and not self.supports_periodic:
            raise ValueError(
                "The energy of a crystal would depend on the cell that is chosen. Received: a "
                "graph with a cell, attention_activation="
                f"'{self.variant.attention_activation}'. Use 'softmax' or attention='none'."
            )
        # 1. Embedding
        scalars = self.embedding(graph["atomic_numbers"])  # (num_atoms, num_features)
        scalars = self.with_charge_spin(scalars, graph)
        # 2. Charge and spin
        vectors = self._initial_vectors(graph)  # (num_atoms, 3 to 5, num_features)
        # 3. Edges
        edges = geometry.edge_vectors(graph, self.cutoff)
        lengths = geometry.edge_lengths(edges)
        envelope = self.envelope(lengths, self.cutoff)
        envelope = segment.mask(envelope, graph["edge_mask"])[:, None]  # (num_edges, 1)
        basis = envelope * self.radial_basis(lengths)  # (num_edges, num_radial)
        # f times (1, u): what messages to scalars and to vectors are weighted with.
        # The paper's u points from the neighbor to the atom.
        directions = -edges / lengths[:, None]
        weights = envelope * ops.concatenate([ops.ones_like(envelope), directions], axis=1)
        # 4. Interaction layers
        outputs = ops.zeros_like(scalars)
        for index, interaction in enumerate(self.interactions):
            scalars, vectors, update, attention = interaction(
                scalars, vectors, basis, envelope, weights, graph
            )
            outputs = outputs + update
            self.record(f"layer{index}/scalars", scalars)
            self.record(f"layer{index}/vectors", vectors)
            self.record(f"layer{index}/outputs", outputs)
            if attention is not None:
                self.record(f"layer{index}/attention", attention)
        # 5. Layer normalization
        return AtomFeatures(self.normalization(outputs), vectors)

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        """Makes step 6: gated blocks and the linear maps of one numbers."""
        return GatedReadout(
            self.num_features,
            self.variant.num_output_blocks,
            numbers.num_scalars,
            numbers.num_vectors,
            numbers.use_bias,
            self.variant.norm_mode,
        )

    def _initial_vectors(self, graph: Graph) -> Tensor:
        """Puts charge and spin, per nuclear charge, into constant channels (eq. 9).

        Returns:
            `(num_atoms, 3 to 5, num_features)`, zero for padding.
        """
        dtype = ops.dtype(graph["positions"])
        charge = ops.cast(graph["total_charge"], dtype)
        # S, the total spin quantum number, not the multiplicity 2S + 1
        spin = 0.5 * (ops.cast(graph["spin_multiplicity"], dtype) - 1.0)
        nuclear = segment.sum_over_atoms(ops.cast(graph["atomic_numbers"], dtype), graph)
        zeros = ops.zeros_like(nuclear)
        kappa = safe.divide(spin - charge, nuclear)  # (num_graphs,)
        root3 = 3.0**0.5
        components = {
            "none": [zeros] * 3,
            "vector": [kappa] * 3,
            "invariant": [zeros, zeros, zeros, root3 * kappa],
            "invariant_qs": [
                zeros,
                zeros,
                zeros,
                root3 * (1.0 - safe.divide(charge, nuclear)),
                root3 * safe.divide(spin, nuclear),
            ],
        }[self.charge_spin_channels]
        per_atom = ops.take(ops.stack(components, axis=1), graph["graph_ids"], axis=0)
        per_atom = segment.mask(per_atom, graph["atom_mask"])
        return ops.repeat(per_atom[:, :, None], self.num_features, axis=2)

    @property
    def sees_states(self) -> bool:
        """Whether total charge or spin multiplicity take part in predictions."""
        return self.charge_spin_channels != "none" or super().sees_states

    @classmethod
    def upgrade_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Moves switches that were arguments of their own once into `variant`.

        `charge_spin` was the text that `charge_spin_channels` is now.
        """
        config = gather_switches(config, VARIANTS, renamed={}, changes={})
        if isinstance(config.get("charge_spin"), str):
            config["charge_spin_channels"] = config.pop("charge_spin")
        return config
