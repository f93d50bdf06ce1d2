"""The base of every architecture: a network's numbers become energy, forces and stress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff import backend
from keras_mlff.backend import keras_private
from keras_mlff.core import freezing
from keras_mlff.core.construction import in_precision
from keras_mlff.core.inspection import Inspection, as_tensors
from keras_mlff.core.persistence import Persistence
from keras_mlff.core.prediction import Prediction
from keras_mlff.graph import Graph, Tensor, centered, dummy_graph, has_volume, inputs_and_labels
from keras_mlff.heads import AtomNumbers, Head, collection
from keras_mlff.heads.charges import check_predicted, totals
from keras_mlff.layers import zbl as zbl_layer
from keras_mlff.layers.charge_spin import ChargeSpinEmbedding
from keras_mlff.layers.element_affine import ElementAffine
from keras_mlff.layers.long_range import LongRange
from keras_mlff.layers.readout import AtomFeatures, PerceptronReadout
from keras_mlff.ops import geometry, segment


class ForceField(Inspection, Persistence, Prediction):
    """Turns a graph into properties; a subclass writes `embed` and, if need be, `make_readout`.

    The base differentiates the energy once, with respect to positions and, where there is a cell,
    a strain. So `fit`, `predict`, export and molecular dynamics see the same forces.

    `model(graph)` is the network alone, whose energy leaves the offsets out. `predict` adds them.

    What is inherited stands in modules of its own: `core.training` (`compile`, `fit`, `evaluate`),
    `core.prediction` (`predict`, offsets), `core.inspection` (`inspect`, `attention`) and
    `core.persistence` (configs, presets, copies).

    Args:
        cutoff: Distance in Å up to which atoms are neighbors. Defaults to 5.
        heads: What to predict: heads or their configs; an `EnergyHead` where `None`.
        dtype: Precision, `"float32"` or `"float64"`; the global policy where `None`.
        name: Name of the Keras model.
        zbl: Whether atoms closer than 1 Å repel each other whatever the network says, or the
            arguments of `keras_mlff.layers.zbl.ZBLRepulsion`: `{"cutoff": 0.8}`. Defaults to
            False.
        charge_spin: Whether total charge and spin take part, see
            `keras_mlff.layers.charge_spin.ChargeSpinEmbedding`. Defaults to False.
        long_range: Interactions of far pairs that are added to the energy, the arguments of
            `keras_mlff.layers.long_range.LongRange`: `{"cutoff": 12.0, "electrostatics": True}`
            reads charges from a `PartialChargesHead` among the heads, `"dispersion": True` ratios
            from a `HirshfeldHead`. Forces and stress are derivatives of these terms too, through
            charges and ratios. `None` for none.
        element_affine: Whether atomic energies have a learned factor and term for each element,
            beside the fixed ones of the head. Defaults to False.

    Attributes:
        uses_triplets: Whether the network reads `triplet_in` and `triplet_out`, pairs of edges
            that share an atom.
        has_attention: Whether the network records attention coefficients, see `attention`.
        is_size_consistent: Whether energies of fragments far from each other add up.
        supports_periodic: Whether energies of crystals are defined.
        sees_all_pairs: Whether the network sees all pairs of a molecule, whatever the cutoff.
        sees_wrapping: Whether energies of crystals depend on the cell that each atom is given in.
        num_continuous_derivatives: How many derivatives of the energy are continuous where an
            edge reaches the cutoff.

    Raises:
        ValueError: If the cutoff is not positive, the precision is another, or the network does
            not let charge and spin in.
        TypeError: If an option that is True or False is given something else.
    """

    built: bool
    # What an architecture can do. Classes state it, and instances may where an option changes it;
    # the contract of `keras_mlff.testing` holds them to it.
    uses_triplets: bool = False
    has_attention: bool = True
    is_size_consistent: bool = True
    supports_periodic: bool = True
    sees_all_pairs: bool = False
    sees_wrapping: bool = False
    num_continuous_derivatives: int = 2

    def __init__(
        self,
        cutoff: float = 5.0,
        heads: Sequence[Head | dict[str, Any]] | None = None,
        dtype: Any = None,
        name: str | None = None,
        zbl: bool | Mapping[str, Any] = False,
        charge_spin: bool = False,
        element_affine: bool = False,
        long_range: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(dtype=dtype, name=name)
        if cutoff <= 0.0:
            raise ValueError(f"The cutoff is a length in Å above 0. Received: cutoff={cutoff}.")
        self.cutoff = float(cutoff)
        self.heads = collection.make(heads)
        self.repulsion = zbl_layer.get(zbl, self.cutoff)
        self.long_range = None if long_range is None else LongRange(**long_range)
        self.long_range_cutoff = None if self.long_range is None else self.long_range.cutoff
        if self.long_range is not None:
            check_predicted(self.heads, self.long_range.reads)
            self.is_size_consistent = False  # charges depend on all atoms of a structure
        self.charge_spin = ChargeSpinEmbedding() if charge_spin else None
        self.element_affine = ElementAffine() if element_affine else None

    # What an architecture writes

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        """Computes features of each atom from the graph. Every architecture writes this."""
        raise NotImplementedError(f"{type(self).__name__} must define `embed(graph, training)`.")

    def with_charge_spin(self, features: Tensor, graph: Graph) -> Tensor:
        """Adds total charge and spin to features of the atoms, if the model is to know them.

        Every `embed` calls it once, on the first features `(num_atoms, n)`.
        """
        if self.charge_spin is None:
            return features
        return features + self.charge_spin(features, graph)

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        """Makes the layer that turns `AtomFeatures` into the numbers that heads ask for.

        It is called with features and gives `AtomFeatures` of `numbers.num_scalars` scalars and
        `numbers.num_vectors` vectors per atom. The default is a perceptron of one hidden layer.
        """
        return PerceptronReadout(numbers.num_scalars, self.num_features, numbers.use_bias)

    # The network

    def call(self, graph: Graph, training: bool = False) -> dict[str, Tensor]:
        """Computes every property, forces and stress included where there is an energy head."""
        if not any(head.is_differentiated for head in self.heads):
            return self._properties(graph, training)
        periodic = "cell" in graph
        positions = graph["positions"]

        def energy_of(positions: Tensor, strains: Tensor | None = None) -> tuple[Tensor, Any]:
            moved = {**graph, "positions": positions}
            if strains is not None:
                moved = geometry.strain(moved, positions, strains)
            properties = self._properties(moved, training)
            return properties.pop("energy"), properties

        variables = [positions]
        if periodic:
            variables.append(ops.zeros_like(graph["cell"]))
        (energy, properties), gradients = backend.value_and_gradient(energy_of, variables, training)
        outputs = {"energy": energy, "forces": -gradients[0]}
        if periodic:
            filled = has_volume(graph["cell"], ops)[:, None, None]
            volumes = geometry.volumes(graph["cell"])[:, None, None]
            volumes = ops.where(filled, volumes, ops.ones_like(volumes))
            outputs["stress"] = ops.where(
                filled, gradients[1] / volumes, ops.zeros_like(gradients[1])
            )
        return outputs | properties

    def _properties(self, graph: Graph, training: bool) -> dict[str, Tensor]:
        features = self.embed(graph, training=training)
        if not isinstance(features, AtomFeatures):
            features = AtomFeatures(features)
        properties: dict[str, Tensor] = {}
        affine = self.element_affine
        transform = None if affine is None else lambda numbers: affine(numbers, graph)
        for group, readout in zip(collection.grouped(self.heads), self.readouts, strict=True):
            read = readout(features)
            properties |= collection.properties(group, graph, read[0], read[1], transform)
        if "energy" in properties:
            for name, energies in self._physical_terms(graph, properties).items():
                self.record(name, energies)
                properties["atomic_energies"] = properties["atomic_energies"] + energies
                added = segment.sum_over_atoms(energies, graph)
                properties["energy"] = properties["energy"] + added
        return properties

    def _physical_terms(self, graph: Graph, properties: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes what is added to the energies of atoms, each `(num_atoms,)`, eV, by name."""
        terms: dict[str, Tensor] = {}
        if self.repulsion is not None:
            terms["repulsion"] = self.repulsion(graph)
        if self.long_range is not None:
            read = totals(self.heads, self.long_range.reads, properties, graph)
            terms |= self.long_range(graph, read)
        return terms

    def build(self, input_shape: Any = None) -> None:
        """Creates all weights; the constructor calls it."""
        if self.built:
            return
        self.readouts = [
            self.make_readout(collection.numbers_of(group))
            for group in collection.grouped(self.heads)
        ]
        self.built = True  # or Keras would come back here
        long_edges = self.long_range is not None
        graph = dummy_graph(triplets=self.uses_triplets, long_edges=long_edges)
        inputs, _ = inputs_and_labels(graph)
        # without forces, whose graph takes long to trace and has no weights of its own
        if backend.RUNS_EAGERLY:
            properties = self._properties(as_tensors(inputs, self.compute_dtype), False)
        else:
            properties = _Properties(self).compute_output_spec(_as_symbols(inputs))
        if self.charge_spin is not None:
            self.is_size_consistent = False
            if not self.charge_spin.built:
                raise ValueError(
                    f"{type(self).__name__} does not let charge and spin in. Received: "
                    "charge_spin=True. Its `embed` must call `self.with_charge_spin`."
                )
        first = ["energy", "forces"] if "energy" in properties else []
        self.property_names = first + sorted(properties.keys() - set(first))

    @property
    def sees_states(self) -> bool:
        """Whether total charge or spin multiplicity take part in predictions."""
        return self.charge_spin is not None or any(head.total for head in self.heads)

    @property
    def outputs_with_stress(self) -> list[str]:
        """Names of all predictions, `stress` included, which only periodic graphs have."""
        names = list(self.property_names)
        return names if "energy" not in names else [*names, "stress"]

    @in_precision
    def __call__(self, graph: Graph, *args: Any, **kwargs: Any) -> Any:
        if isinstance(graph["positions"], np.ndarray):  # before Keras rounds it
            graph = centered(graph, wrap=not self.sees_wrapping)
        return super().__call__(graph, *args, **kwargs)

    @property
    @in_precision
    def losses(self) -> list[Tensor]:
        """What layers add to the loss, functions of the weights alone."""
        return super().losses

    def freeze(self, *parts: str, keep: str | Sequence[str] = ()) -> list[str]:
        """Keeps `fit` from changing parts of the model; call `compile` afterwards.

        Args:
            *parts: Parts to freeze, by attribute: `"embedding"`, `"interactions"`, `"readouts"`,
                ...; all if none is named.
            keep: Parts that stay trainable: `model.freeze(keep="readouts")` is the usual transfer
                to other molecules.

        Returns:
            The names of all parts that are trainable now.

        Raises:
            ValueError: If the model has no such part.
        """
        kept = {keep} if isinstance(keep, str) else set(keep)
        keras_private.forget_compiled_functions(self)
        return freezing.set_trainable(self, parts, kept, False)

    def unfreeze(self, *parts: str) -> list[str]:
        """Lets `fit` change parts again, all if none is named; call `compile` afterwards."""
        keras_private.forget_compiled_functions(self)
        return freezing.set_trainable(self, parts, (), True)


class _Properties(keras.Operation):
    """What of a model can be traced without computing."""

    def __init__(self, model: ForceField) -> None:
        super().__init__()
        self.model = model

    def call(self, graph: Graph) -> dict[str, Tensor]:
        return self.model._properties(graph, training=False)


def _as_symbols(inputs: Mapping[str, Any]) -> dict[str, keras.KerasTensor]:
    """Describes inputs by shape alone: tracing them creates weights without computing."""
    return {key: keras.KerasTensor(value.shape, str(value.dtype)) for key, value in inputs.items()}
