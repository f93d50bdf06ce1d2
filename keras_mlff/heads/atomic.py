"""A scalar or a vector of each atom: charges, magnetic moments, shieldings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff import quantities
from keras_mlff.graph import Array, Graph, Tensor
from keras_mlff.heads import statistics
from keras_mlff.heads.head import Head
from keras_mlff.ops import segment
from keras_mlff.quantities import Quantity

TOTALS = ("total_charge", "num_unpaired_electrons")


@keras.saving.register_keras_serializable("keras_mlff")
class AtomicHead(Head):
    """Predicts a scalar `(num_atoms,)` or a vector `(num_atoms, 3)` of each atom.

    A scalar gets references, one value per element such as its mean charge, which `fit_offsets`
    finds. A vector is read from the architecture's vector features, so that it turns with the
    structure, and has a scale alone.

    With `total="total_charge"` the values of the atoms of each structure add up to its total
    charge: what they lack is shared equally among the atoms. The values of an atom then depend on
    all others of its structure, however far.

    Args:
        name: Key of the prediction and of its label: `"partial_charges"`, or any quantity of atoms
            that was registered with `keras_mlff.quantities.register`.
        unit: Unit of the values. That of the registered quantity where empty.
        shape: Shape of one atom's value, `()` or `(3,)`. That of the registered quantity where
            `None`, `()` where there is none.
        scale: Unit of the network's numbers, in the unit of the values.
        references: Value of an atom by atomic number, for scalars; zero where not given.
        total: What the values of a structure add up to: `"total_charge"`,
            `"num_unpaired_electrons"` (the spin multiplicity less one), or `""` for nothing.
        readout: Heads that name the same readout share its layers up to the last; for scalars.

    Raises:
        ValueError: If the shape is another, or if a vector is to have what scalars alone can have.

    Example:
        >>> head = AtomicHead("partial_charges", total="total_charge")
        >>> head.unit, head.is_per_atom
        ('e', True)
    """

    def __init__(
        self,
        name: str,
        unit: str = "",
        shape: Sequence[int] | None = None,
        scale: float = 1.0,
        references: Mapping[int, float] | None = None,
        total: str = "",
        readout: str = "",
    ) -> None:
        super().__init__(name, unit, scale, references, readout=readout)
        if shape is None:
            registered = quantities.find(name)
            shape = () if registered is None else registered.shape
        self.shape = tuple(int(size) for size in shape)
        self.total = total
        if self.shape not in ((), (3,)):
            raise ValueError(
                "An AtomicHead predicts one number or one vector of each atom: shape=() or (3,). "
                f"Received: shape={self.shape} for '{name}'."
            )
        if self._is_vector and (self.references or total or readout):
            raise ValueError(
                "References, a total and a shared readout are for scalars; an atom alone has no "
                f"direction. Received: references={self.references}, total='{total}', "
                f"readout='{readout}' for '{name}' with shape={self.shape}."
            )
        if total and total not in TOTALS:
            raise ValueError(
                f"The total that atoms add up to is one of {list(TOTALS)}, or '' for none. "
                f"Received: total='{total}'."
            )
        # a readout gives one scalar at least, which a vector leaves aside
        self.num_vectors = 1 if self._is_vector else 0

    @property
    def outputs(self) -> tuple[Quantity, ...]:
        return (Quantity(self.name, "atom", self.shape, self.unit),)

    @property
    def _is_vector(self) -> bool:
        return self.shape == (3,)

    def __call__(self, graph: Graph, scalars: Tensor, vectors: Tensor | None) -> dict[str, Any]:
        if self._is_vector:
            if vectors is None:
                raise ValueError(
                    f"'{self.name}' is a vector of each atom, and this architecture has no vector "
                    "features from which one could be made. Use CMRET or another that has them "
                    "(AlphaNet with its vectors), or predict a number: shape=()."
                )
            values = vectors[:, :, 0] * self.scale
        else:
            values = scalars[:, 0] * self.scale
        if self.total:
            values = self._with_total(values, graph)
        return {self.name: segment.mask(values, graph["atom_mask"])}

    def _with_total(self, values: Tensor, graph: Graph) -> Tensor:
        """Shifts values so that, with the references, they add up to each structure's total."""
        dtype = ops.dtype(values)
        table = ops.convert_to_tensor(self.reference_table(), dtype=dtype)
        references = ops.take(table, graph["atomic_numbers"], axis=0)
        if self.total == "total_charge":
            totals = ops.cast(graph["total_charge"], dtype)
        else:
            totals = ops.cast(graph["spin_multiplicity"], dtype) - 1.0
        shifted = segment.shift_to_totals(
            values + references, totals, graph["graph_ids"], graph["atom_mask"]
        )
        return shifted - references

    def fit_offsets(self, graphs: Sequence[Graph]) -> None:
        """Sets the references of scalars to the mean of each element, and the scale to the rest.

        Atoms without the label do not count; elements without any stay without a reference.

        Raises:
            ValueError: If no atom has the label.
        """
        numbers, values = statistics.labeled_atoms(graphs, self.name)
        if not self._is_vector:
            self.references = statistics.means_by_element(numbers, values[:, 0])
            values = values[:, 0] - self.reference_table()[numbers]
        self.scale = statistics.spread(values)

    def adapt_offsets(self, graphs: Sequence[Graph], predictions: Array) -> None:
        """Adds to each element's reference what predictions miss of the labels on average.

        Args:
            graphs: Structures; atoms without the label do not count.
            predictions: `(num_atoms,)` of all structures in their order.

        Raises:
            ValueError: If no atom has the label.
        """
        missed, first = [], 0
        for graph in graphs:
            real = np.asarray(graph["atom_mask"], np.bool_)
            rest = np.full(len(real), np.nan)
            size = int(real.sum())
            if self.name in graph:
                rest[real] = graph[self.name][real] - predictions[first : first + size]
            missed.append({**graph, self.name: rest})
            first += size
        numbers, values = statistics.labeled_atoms(missed, self.name)
        for number, value in statistics.means_by_element(numbers, values[:, 0]).items():
            self.references[number] = self.references.get(number, 0.0) + value
