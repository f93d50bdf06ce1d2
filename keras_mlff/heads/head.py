"""The base of every head."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array, Graph, Tensor
from keras_mlff.packing.offsets import element_sums


class Head(abc.ABC):
    """Says which per-atom numbers a property needs and puts them together; it has no weights.

    The architecture owns the readout layer that makes the numbers. What a network should not have
    to learn is kept apart: `references` per element and a constant `shift` are added in float64
    outside of the compiled code, since 1e4 eV leave no room for 1 meV in float32.

    Args:
        name: Key of the prediction and of its label.
        unit: For display, `"eV"`.
        scale: Unit of the network's numbers: predictions are multiplied by it.
        references: Value of a single atom by atomic number, in the property's unit.
        shift: Added once to each structure.
        readout: Heads that name the same readout share its layers up to the last; a head without
            has layers of its own.
    """

    num_scalars: int = 1
    num_vectors: int = 0
    use_bias: ClassVar[bool] = True

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
        self.unit = unit
        self.scale = float(scale)
        # JSON, which presets are stored in, knows text keys only
        self.references = {int(z): float(v) for z, v in (references or {}).items()}
        self.shift = float(shift)
        self.readout = readout

    @abc.abstractmethod
    def __call__(self, graph: Graph, scalars: Tensor, vectors: Tensor | None) -> dict[str, Tensor]:
        """Computes the property.

        Args:
            graph: The batch.
            scalars: `(num_atoms, num_scalars)`.
            vectors: `(num_atoms, 3, num_vectors)`; `None` where the architecture has none.

        Returns:
            Predictions by name, the property's own name first.
        """

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the predictions that can be learned, the property's own first."""
        return (self.name,)

    def extent(self, graph: Mapping[str, Any]) -> float:
        """Tells what this property would be if every atom's number were one, about."""
        return 1.0

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

    def offsets(self, graph: Mapping[str, Any]) -> Array:
        """Sums references and shift of each graph: `(num_graphs,)` float64."""
        return element_sums(graph, self.reference_table(), self.shift)

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        names = inspect.signature(type(self).__init__).parameters
        config = {name: getattr(self, name) for name in names if name != "self"}
        config["references"] = {str(z): value for z, value in self.references.items()}
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Head:
        """Makes the head of a config."""
        return cls(**config)
