"""CMRET: a comprehensive molecular representation from an equivariant transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import keras
from keras import ops

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import Array, Graph, Tensor
from keras_mlff.heads import AtomNumbers
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers import radial
from keras_mlff.layers.attention import GraphAttention
from keras_mlff.layers.equivariant import GatedReadout
from keras_mlff.layers.initializers import Normal, Uniform, torch_dense
from keras_mlff.layers.normalization import LayerNormalization
from keras_mlff.layers.readout import AtomFeatures
from keras_mlff.models.cmret.electron_configuration import ElectronConfigurationEmbedding
from keras_mlff.ops import geometry, safe, segment

CHARGE_SPIN_MODES = ("invariant", "invariant_qs", "vector", "none")


@keras.saving.register_keras_serializable("keras_mlff")
class CMRET(ForceField):
    """Equivariant transformer: filters between neighbors, attention between all atoms of a graph.

    Total charge Q and spin S enter as constant channels of the vector features. Attention has no
    cutoff and its weights sum to one, so energies of far fragments do not add up exactly.

    Args:
        num_features: Width, divisible by `num_heads`.
        num_layers: Interaction layers.
        num_radial: Radial basis functions.
        num_heads: Attention heads.
        cutoff: Å, for the filters.
        radial_basis: `"gaussian"` (learned) or `"bessel"`.
        distance_encoding: Instead of the radial basis: `"mlp"`, `"posenc"` (a learned table),
            `"smooth"` (posenc with the smoothness loss), or a dict, see
            `keras_mlff.layers.positional_encoding.get`.
        cutoff_function: `"cosine"` (the paper's, forces continuous), `"polynomial"` (second
            derivatives too) or `"smooth"` (all).
        temperature_coeff: kappa in tau = sqrt(kappa * head width).
        attention_activation: `"softmax"`, `"softmax2d"`, `"swish"`, `"softplus"`, `"gelu"`,
            `"mish"` or `"relu"`.
        attention: `"atoms"`; `"projected"` has further maps before and after; `"none"` switches it
            off (ablations of the paper).
        num_output_blocks: Gated blocks before each head.
        residual_mlp: Whether layers feed the output through an own perceptron (ablation).
        charge_spin: `"invariant"`: one further component sqrt(3)(S - Q)/sum(Z), exactly
            invariant; `"invariant_qs"`: charge and spin apart, which tells +1 from -1;
            `"vector"`: the paper's eq. 9, which breaks rotation symmetry unless Q = S; `"none"`.
        norm_mode: `"smooth"`, or `"component_shift"` as in the reference program, which breaks
            symmetry by about 1e-8.
        configuration: Electron table: `"aufbau"` or `"ground_state"`.
        **kwargs: Of `ForceField`: `heads`, `dtype`, `name`, `zbl`, `element_affine`.

    Reference: Tao, Morimoto and Leoni, 2023, https://arxiv.org/abs/2308.10752

    Example:
        >>> model = CMRET(num_features=16, num_layers=1, num_heads=2)
        >>> model.count_params() > 0
        True
    """

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
        temperature_coeff: float = 2.0,
        attention_activation: str = "softmax",
        attention: str = "atoms",
        num_output_blocks: int = 2,
        residual_mlp: bool = True,
        charge_spin: str = "invariant",
        norm_mode: str = "smooth",
        configuration: str = "aufbau",
        distance_encoding: str | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(cutoff=cutoff, **kwargs)
        if charge_spin not in CHARGE_SPIN_MODES:
            raise ValueError(
                f"Unknown charge_spin. Received: '{charge_spin}'. Choose from {CHARGE_SPIN_MODES}."
            )
        if attention not in ("atoms", "projected", "none"):
            raise ValueError(
                f"`attention` is 'atoms', 'projected' or 'none'. Received: '{attention}'."
            )
        self.num_features, self.num_layers = num_features, num_layers
        self.num_output_blocks, self.norm_mode = num_output_blocks, norm_mode
        self.charge_spin_mode, self.attention_activation = charge_spin, attention_activation
        # other weights do not add up to one, and grow with the atoms of the cell
        self.supports_periodic = attention == "none" or attention_activation == "softmax"
        self.envelope = cutoffs.get(cutoff_function)
        self.embedding = ElectronConfigurationEmbedding(num_features, configuration)
        self.radial_basis = radial.get(radial_basis, num_radial, cutoff, distance_encoding)
        self.interactions = [
            CMRETInteraction(
                num_features,
                num_radial,
                None
                if attention == "none"
                else GraphAttention(
                    num_features,
                    num_heads,
                    temperature_coeff,
                    attention_activation,
                    projections=attention == "projected",
                ),
                residual_mlp,
            )
            for _ in range(num_layers)
        ]
        self.normalization = LayerNormalization(epsilon=1e-5)

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        if "cell" in graph and not self.supports_periodic:
            raise ValueError(
                "The energy of a crystal would depend on the cell that is chosen. Received: a "
                f"graph with a cell, attention_activation='{self.attention_activation}'. Use "
                "'softmax' or attention='none'."
            )
        scalars = self.embedding(graph["atomic_numbers"])  # (num_atoms, num_features)
        vectors = self._initial_vectors(graph)  # (num_atoms, 3 to 5, num_features)
        edges = geometry.edge_vectors(graph, self.cutoff)
        lengths = geometry.edge_lengths(edges)
        envelope = self.envelope(lengths, self.cutoff)
        envelope = segment.mask(envelope, graph["edge_mask"])[:, None]  # (num_edges, 1)
        basis = envelope * self.radial_basis(lengths)  # (num_edges, num_radial)
        # phi times (1, u): what messages to scalars and to vectors are weighted with.
        # The paper's u points from the neighbor to the atom.
        directions = -edges / lengths[:, None]
        weights = envelope * ops.concatenate([ops.ones_like(envelope), directions], axis=1)
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
        return AtomFeatures(self.normalization(outputs), vectors)

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        return GatedReadout(
            self.num_features,
            self.num_output_blocks,
            numbers.num_scalars,
            numbers.num_vectors,
            numbers.use_bias,
            self.norm_mode,
        )

    def _initial_vectors(self, graph: Graph) -> Tensor:
        """Puts charge and spin, per nuclear charge, into constant channels (eq. 9)."""
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
        }[self.charge_spin_mode]
        per_atom = ops.take(ops.stack(components, axis=1), graph["graph_ids"], axis=0)
        per_atom = segment.mask(per_atom, graph["atom_mask"])
        return ops.repeat(per_atom[:, :, None], self.num_features, axis=2)

    @classmethod
    def from_reference(
        cls,
        hyperparameters: Mapping[str, Any],
        weights: Mapping[str, Array],
        **kwargs: Any,
    ) -> Self:
        """Builds the reference program's network from its hyper-parameters and weights.

        Args:
            hyperparameters: `n_atom_basis`, `n_kernel`, `n_interaction`, `num_head`,
                `temperature_coeff`, `n_output`, `cutoff`, `rbf`, `attention_activation`; those
                not given have that program's defaults.
            weights: Arrays by the names `embed.W`, `layer0.mix.W`, `head_scalar.out.W`, ...
                Matrices are (in, out). Heads are made for the weights that are there.
            **kwargs: Replace arguments of the constructor; the program's own choices are
                `charge_spin="vector"` and `norm_mode="component_shift"`; with invariant modes of
                charge and spin, which it has not, the norm is `"smooth"`.

        Raises:
            ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
        """
        from keras_mlff.models.cmret.port import build_cmret

        return build_cmret(cls, hyperparameters, weights, **kwargs)


@keras.saving.register_keras_serializable("keras_mlff")
class CMRETInteraction(keras.layers.Layer):
    """One interaction layer: replaces scalars and vectors, adds to the output.

    The paper mixes the filtered features of each pair, m_ij = [x_ij, y_ij] W, and sums over j.
    Here the sum comes first, (sum_j [x_ij, y_ij]) W: the same numbers, with products that grow
    with the atoms instead of the edges.
    """

    def __init__(
        self,
        num_features: int,
        num_radial: int,
        attention: GraphAttention | None,
        residual_mlp: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_features, self.num_radial = num_features, num_radial
        self.attention = attention
        self.residual_mlp = residual_mlp
        deviation = (1.5 / num_features) ** 0.5
        radial_bound = (6.0 / num_radial) ** 0.5
        uniform = Uniform(-radial_bound, radial_bound)
        # the filters of the atom itself and of its neighbor, side by side
        self.filters = torch_dense(
            2 * num_features, num_radial, activation="silu", kernel_initializer=uniform
        )
        self.phi = torch_dense(
            num_features,
            num_features,
            activation="silu",
            kernel_initializer=Normal(stddev=deviation),
        )
        self.mix = torch_dense(3 * num_features, 2 * num_features)
        self.update = torch_dense(3 * num_features, num_features)
        self.vector_maps = torch_dense(3 * num_features, num_features, use_bias=False)
        if residual_mlp:
            self.residual_1 = torch_dense(
                num_features,
                num_features,
                activation="silu",
                kernel_initializer=Normal(stddev=deviation),
            )
            self.residual_2 = torch_dense(num_features, num_features)

    def build(self, *shapes: Any) -> None:
        """Creates the mixing weights, which `call` uses in parts."""
        self.mix.build((None, 2 * self.num_features))

    def call(
        self,
        scalars: Tensor,
        vectors: Tensor,
        basis: Tensor,
        envelope: Tensor,
        weights: Tensor,
        graph: Graph,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Computes new scalars, new vectors, the addition to the output, and attention.

        Call arguments:
            scalars: `(num_atoms, num_features)`.
            vectors: `(num_atoms, num_components, num_features)`.
            basis: `(num_edges, num_radial)`.
            envelope: `(num_edges, 1)`.
            weights: `(num_edges, 4)`, envelope times (1, direction).
            graph: The batch.
        """
        width = self.num_features
        # messages, summed over neighbors: component 0 to scalars, 1..3 to vectors
        hidden = self.phi(scalars)
        filters = self.filters(basis) * envelope  # (num_edges, 2 * width)
        from_neighbors = filters[:, width:] * ops.take(hidden, graph["senders"], axis=0)
        pairs = ops.concatenate([filters[:, :width], from_neighbors], axis=1)
        moments = segment.sum_over_edges(weights[:, :, None] * pairs[:, None, :], graph)
        own = hidden[:, None, :] * moments[:, :, :width]
        moments = ops.concatenate([own, moments[:, :, width:]], axis=2)
        totals = segment.sum_over_edges(weights, graph)  # (num_atoms, 4), for the bias
        kernel, bias = self.mix.kernel, self.mix.bias
        mixed = ops.matmul(moments[:, 0], kernel[:, : 2 * width])
        mixed = mixed + totals[:, :1] * bias[: 2 * width]
        pushed = ops.matmul(moments[:, 1:], kernel[:, 2 * width :])
        pushed = pushed + totals[:, 1:, None] * bias[2 * width :]  # (num_atoms, 3, width)

        attended: Tensor = 0.0
        coefficients = None
        if self.attention is not None:
            attended, coefficients = self.attention(scalars, graph)
        gates = self.update(scalars + attended + mixed[:, :width])
        maps = self.vector_maps(vectors)
        products = ops.sum(maps[:, :, :width] * maps[:, :, width : 2 * width], axis=1)
        new_scalars = gates[:, :width] + gates[:, width : 2 * width] * products
        new_vectors = (
            gates[:, None, 2 * width :] * maps[:, :, 2 * width :] + mixed[:, None, width:] * vectors
        )
        # components beyond xyz carry charge and spin: directions do not reach them
        num_constant = vectors.shape[1] - 3
        new_vectors = new_vectors + ops.pad(pushed, ((0, 0), (0, num_constant), (0, 0)))
        output = new_scalars
        if self.residual_mlp:
            output = output + self.residual_2(self.residual_1(new_scalars))
        return new_scalars, new_vectors, output, coefficients
