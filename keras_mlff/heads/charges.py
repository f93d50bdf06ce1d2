"""Partial charges and the dipole moment they make; volume ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Graph, Tensor
from keras_mlff.heads import statistics
from keras_mlff.heads.dipole import centered_positions
from keras_mlff.heads.head import Head
from keras_mlff.ops import groups, safe, segment
from keras_mlff.packing.offsets import Tables
from keras_mlff.quantities import Quantity, get


def check_predicted(heads: Sequence[Head], names: Sequence[str]) -> None:
    """Refuses heads that lack what long-range terms read.

    Args:
        heads: Heads of a model.
        names: Predictions of atoms that the terms read.

    Raises:
        ValueError: If the heads do not predict them, or no energy.
    """
    known = [head.name for head in heads]
    if not {"energy", *names} <= set(known):
        raise ValueError(
            "Long-range terms are part of an energy and read what other heads predict. Received: "
            f"heads={known}, terms that read {list(names)}. Add EnergyHead(), PartialChargesHead() "
            "for electrostatics and HirshfeldHead() for dispersion."
        )


def totals(
    heads: Sequence[Head], names: Sequence[str], properties: Mapping[str, Tensor], graph: Graph
) -> list[Tensor]:
    """Computes what heads predict with what they add outside of the network, `(num_atoms,)`.

    Args:
        heads: Heads of a model.
        names: Some of them.
        properties: What the network predicts, by name.
        graph: The batch.
    """
    found = []
    for head in (head for name in names for head in heads if head.name == name):
        values = properties[head.name]
        if head.has_offset:
            table = ops.convert_to_tensor(head.reference_table() + head.shift, ops.dtype(values))
            values = values + ops.take(table, graph["atomic_numbers"], axis=0)
        found.append(values)
    return found


class _ElementalHead(Head):
    """Adds the references of elements inside of the network, which reads the sums again.

    They are of order one, so that float32 loses nothing.
    """

    @property
    def has_offset(self) -> bool:
        return False

    def offset_tables(self) -> Tables:
        return {}

    def atomic_values(self, graph: Graph, scalars: Tensor) -> Tensor:
        """Computes references plus scaled numbers of the network: `(num_atoms,)`."""
        table = ops.convert_to_tensor(self.reference_table(), dtype=ops.dtype(scalars))
        references = ops.take(table, graph["atomic_numbers"], axis=0)
        return references + scalars[:, 0] * self.scale

    def fit_offsets(self, graphs: Sequence[Graph]) -> None:
        """Sets the references to the mean of each element, and the scale to the rest.

        Without labels, as where charges are learned from dipoles or energies, all stays.
        """
        try:
            numbers, values = statistics.labeled_atoms(graphs, self.name)
        except ValueError:
            return
        self.references = statistics.means_by_element(numbers, values[:, 0])
        self.scale = statistics.spread(values[:, 0] - self.reference_table()[numbers])


@keras.saving.register_keras_serializable("keras_mlff")
class PartialChargesHead(_ElementalHead):
    """Predicts charges `(num_atoms,)`, e, that add up to the total charge, and their dipole moment.

    What is missing of the total charge is shared equally among the atoms of a structure, or of each
    fragment, where a structure has them (`graph.structure(..., fragments=...)`). The charges of an
    atom then depend on all others of its structure or fragment, however far.

    The dipole `(num_graphs, 3)`, e·Å, is the sum of charges times positions, which count from the
    center of nuclear charge; this matters where the total charge is not zero.

    Args:
        name: Key of the prediction and of its label.
        unit: Unit of the charges, `"e"`.
        scale: e, unit of the network's numbers.
        references: e, charge of an atom by atomic number, before the sum is made right.
        readout: Heads that name the same readout share its layers up to the last.
    """

    total = "total_charge"

    def __init__(
        self,
        name: str = "partial_charges",
        unit: str = "e",
        scale: float = 1.0,
        references: Mapping[int, float] | None = None,
        readout: str = "",
    ) -> None:
        super().__init__(name, unit, scale, references, readout=readout)

    @property
    def outputs(self) -> tuple[Quantity, ...]:
        own = Quantity(self.name, "atom", (), self.unit)
        return (own, get("dipole"), get("dipole_norm"))

    def __call__(self, graph: Graph, scalars: Tensor, vectors: Tensor | None) -> dict[str, Any]:
        values = self.atomic_values(graph, scalars)
        known = groups.charges(graph, ops.dtype(values))
        charges = segment.shift_to_totals(values, known.totals, known.ids, graph["atom_mask"])
        dipole = segment.sum_over_atoms(charges[:, None] * centered_positions(graph), graph)
        return {self.name: charges, "dipole": dipole, "dipole_norm": safe.norm(dipole)}


@keras.saving.register_keras_serializable("keras_mlff")
class HirshfeldHead(_ElementalHead):
    """Predicts the volume of each atom over that of the free atom: `(num_atoms,)`, above zero.

    The dispersion of `long_range` reads polarizabilities from it.

    Args:
        name: Key of the prediction and of its label.
        unit: A ratio has none.
        scale: Unit of the network's numbers.
        references: Ratio of an atom by atomic number, to which the network's numbers are added.
        readout: Heads that name the same readout share its layers up to the last.
    """

    def __init__(
        self,
        name: str = "hirshfeld_ratios",
        unit: str = "",
        scale: float = 1.0,
        references: Mapping[int, float] | None = None,
        readout: str = "",
    ) -> None:
        super().__init__(name, unit, scale, references, readout=readout)

    @property
    def outputs(self) -> tuple[Quantity, ...]:
        return (Quantity(self.name, "atom", (), self.unit),)

    def __call__(self, graph: Graph, scalars: Tensor, vectors: Tensor | None) -> dict[str, Any]:
        ratios = ops.abs(self.atomic_values(graph, scalars))
        return {self.name: segment.mask(ratios, graph["atom_mask"])}
