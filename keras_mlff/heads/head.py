"""The base of every head."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from keras_mlff import quantities
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array, Graph, Tensor
from keras_mlff.heads import statistics
from keras_mlff.packing.offsets import Tables, label_offsets
from keras_mlff.quantities import Quantity


class Head(abc.ABC):
    """Says which numbers of each atom a property needs and puts them together; it has no weights.

    The architecture owns the readout layer that makes the numbers. What a network should not have
    to learn is kept apart: `references` per element and a constant `shift` are added in float64
    outside of the compiled code, since 1e4 eV leave no room for 1 meV in float32.

    A subclass states `outputs` and writes `__call__`. From its outputs the rest of the package
    knows the axis, the shape and the unit of each prediction, wherever it is compared, returned or
    exported. A name that nobody has registered becomes known when a model with the head is made.

    Args:
        name: Key of the prediction and of its label.
        unit: Unit of the property, `"eV"`. That of the registered quantity where empty.
        scale: Unit of the network's numbers: predictions are multiplied by it.
        references: Value of a single atom by atomic number, in the property's unit.
        shift: Added once to each structure.
        readout: Heads that name the same readout share its layers up to the last; a head without
            has layers of its own.
    """

    total: str = ""  # what of the structure the values of its atoms add up to
    num_scalars: int = 1
    num_vectors: int = 0
    use_bias: ClassVar[bool] = True
    is_differentiated: ClassVar[bool] = False  # whether forces and stress are its derivatives
    # attributes that are fitted to data, change predictions, and travel with the weights
    fitted_names: ClassVar[tuple[str, ...]] = ("references", "shift", "scale")

    def __init__(
        self,
        name: str,
        unit: str = "",
        scale: float = 1.0,
        references: Mapping[int, float] | None = None,
        shift: float = 0.0,
        readout: str = "",
    ) -> None:
        self.name = name
        self.unit = unit or quantities.unit(name)
        self.scale = float(scale)
        # JSON, which presets are stored in, knows text keys only
        self.references = {int(z): float(v) for z, v in (references or {}).items()}
        self.shift = float(shift)
        self.readout = readout

    # What a head is

    @property
    @abc.abstractmethod
    def outputs(self) -> tuple[Quantity, ...]:
        """Everything it predicts, the property that it is named after first."""

    @abc.abstractmethod
    def __call__(self, graph: Graph, scalars: Tensor, vectors: Tensor | None) -> dict[str, Tensor]:
        """Computes the property.

        Args:
            graph: The batch.
            scalars: `(num_atoms, num_scalars)`.
            vectors: `(num_atoms, 3, num_vectors)`; `None` where the architecture has none.

        Returns:
            Predictions by the names of `outputs`.
        """

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that can set its scale and offsets, the property's own first."""
        return (self.name,)

    @property
    def is_per_atom(self) -> bool:
        """Whether it predicts a value of each atom instead of one of the structure."""
        return self.outputs[0].level == "atom"

    @property
    def is_extensive(self) -> bool:
        """Whether it adds up one number of each atom, so that far systems have the sum of both."""
        return False

    def register_outputs(self) -> None:
        """Makes its outputs known to the table of quantities; making a model calls it.

        Raises:
            ValueError: If a name is known with another level, shape or unit.
        """
        for quantity in self.outputs:
            quantities.declare(quantity)

    def extent(self, graph: Mapping[str, Any]) -> float:
        """Estimates the property of one structure if every atom's number were one."""
        return 1.0

    # Offsets: what is added outside of the network

    @property
    def has_offset(self) -> bool:
        """Whether something is added outside of the network."""
        return bool(self.references) or self.shift != 0.0

    def reference_table(self) -> Array:
        """Tabulates the references by atomic number: `(119,)` float64, zero where unknown."""
        table = np.zeros(MAX_ATOMIC_NUMBER + 1)
        for number, value in self.references.items():
            table[number] = value
        return table

    def offset_tables(self) -> Tables:
        """Lists what is added to each output: values per element, and a shift.

        To an output of the structure the values of its atoms are added up, to an output of atoms
        each atom's own. What is not listed stays as the network says.
        """
        return {self.name: (self.reference_table(), self.shift)} if self.has_offset else {}

    def offsets(self, graph: Mapping[str, Any]) -> Array:
        """Computes what is added to the property, in float64.

        Returns:
            `(num_graphs,)`, or `(num_atoms,)` of a head per atom; zero for padding.
        """
        return label_offsets(self.outputs[0].level, graph, self.reference_table(), self.shift)

    def fit_offsets(self, graphs: Sequence[Graph]) -> None:
        """Sets scale and offsets from labeled structures; those without the label do not count.

        Here the scale alone: the label's size, over that of the property if every atom's number
        were one. Of a vector or tensor, data may know a norm or trace alone, which does as well.

        Raises:
            ValueError: If no structure has the label.
        """
        known, values = statistics.labeled(graphs, self.labels)
        extents = np.asarray([self.extent(graph) for graph in known])
        self.scale = statistics.spread(values) / statistics.spread(extents)

    def adapt_offsets(self, graphs: Sequence[Graph], predictions: Array) -> None:
        """Adds to the references, or the shift, what predictions miss of the labels on average.

        Args:
            graphs: Structures; those without the label do not count.
            predictions: What the model predicts for all of them, in their order, with today's
                offsets.

        Raises:
            ValueError: If no structure has the label.
        """
        missed = statistics.residuals(graphs, self.name, predictions)
        if not self.references:
            self.shift += float(np.mean(missed.values))
            return
        for number, value in statistics.solve(missed.graphs, missed.values, self.name).items():
            self.references[number] = self.references.get(number, 0.0) + value

    # Saving

    @property
    def fitted(self) -> dict[str, Any]:
        """What was fitted to data, as JSON knows it; setting it takes it over."""
        return {name: _plain(getattr(self, name)) for name in self.fitted_names}

    @fitted.setter
    def fitted(self, values: Mapping[str, Any]) -> None:
        for name in self.fitted_names:
            value = values[name]
            if isinstance(value, Mapping):
                value = {int(z): float(item) for z, item in value.items()}
            setattr(self, name, value)

    @property
    def is_fitted(self) -> bool:
        """Whether something was fitted to data, or given as if it were."""
        return self.has_offset or self.scale != 1.0

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments, and what its outputs mean where nobody else says so.

        Raises:
            AttributeError: If a subclass does not keep an argument under its own name.
        """
        parameters = inspect.signature(type(self).__init__).parameters
        config = {name: _plain(getattr(self, name)) for name in parameters if name != "self"}
        own = [q for q in self.outputs if not quantities.is_built_in(q.name)]
        if own:
            stated = [quantities.find(quantity.name) or quantity for quantity in own]
            config["quantities"] = [quantities.to_config(quantity) for quantity in stated]
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Head:
        """Makes the head of a config, and makes the quantities known that the config describes."""
        arguments = dict(config)
        for quantity in arguments.pop("quantities", ()):
            quantities.declare(Quantity(**quantity))
        return cls(**arguments)


def _plain(value: Any) -> Any:
    """Gives what JSON, which presets are stored in, gives back as it was: text keys, no tuples."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
