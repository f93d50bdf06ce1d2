"""The energy of a structure, whose gradient is the force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_mlff import quantities
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Graph, Tensor, is_known
from keras_mlff.heads import statistics
from keras_mlff.heads.scalar import ScalarHead
from keras_mlff.ops import segment
from keras_mlff.packing.offsets import Tables
from keras_mlff.quantities import Quantity


@keras.saving.register_keras_serializable("keras_mlff")
class EnergyHead(ScalarHead):
    """Adds atomic energies up to `energy` (num_graphs,), eV; keeps `atomic_energies` (num_atoms,).

    The model differentiates the sum: forces are its negative gradient with respect to positions,
    the stress its derivative with respect to a strain, over the volume. `references` are the
    energies of free atoms; `ForceField.fit_offsets` finds them.

    Args:
        name: Key of the prediction and of its label.
        unit: Unit of the energy, `"eV"`.
        scale: eV, unit of the network's numbers.
        references: eV, energy of a single atom by atomic number.
        shift: eV, added once to each structure.
        element_scales: Further factors by atomic number, 1 where not given.
    """

    is_differentiated: ClassVar[bool] = True
    fitted_names: ClassVar[tuple[str, ...]] = (*ScalarHead.fitted_names, "element_scales")

    def __init__(
        self,
        name: str = "energy",
        unit: str = "eV",
        scale: float = 1.0,
        references: Mapping[int, float] | None = None,
        shift: float = 0.0,
        element_scales: Mapping[int, float] | None = None,
    ) -> None:
        super().__init__(name, unit, scale, references, shift)
        # JSON, which presets are stored in, knows text keys only
        self.element_scales = {int(z): float(v) for z, v in (element_scales or {}).items()}

    @property
    def outputs(self) -> tuple[Quantity, ...]:
        return (*super().outputs, quantities.get("atomic_energies"))

    def __call__(self, graph: Graph, scalars: Tensor, vectors: Tensor | None) -> dict[str, Any]:
        atomic_energies = scalars[:, 0] * self.scale
        if self.element_scales:
            table = np.ones(MAX_ATOMIC_NUMBER + 1)
            table[list(self.element_scales)] = list(self.element_scales.values())
            factors = ops.convert_to_tensor(table, dtype=atomic_energies.dtype)
            atomic_energies = atomic_energies * ops.take(factors, graph["atomic_numbers"], axis=0)
        atomic_energies = segment.mask(atomic_energies, graph["atom_mask"])
        return {
            self.name: segment.sum_over_atoms(atomic_energies, graph),
            "atomic_energies": atomic_energies,
        }

    def offset_tables(self) -> Tables:
        """Lists what is added to the energy and to the energies of atoms, in float64 always."""
        table = self.reference_table()
        return {self.name: (table, self.shift), "atomic_energies": (table, 0.0)}

    def fit_offsets(self, graphs: Sequence[Graph]) -> None:
        """Fits references by least squares, and the scale to the forces where there are any.

        The scale is the root mean square of the components of all known forces, else the spread
        of what the references leave of the energies.

        Raises:
            ValueError: If no structure has an energy.
        """
        super().fit_offsets(graphs)
        if any(is_known("forces", graph).any() for graph in graphs):
            _, forces = statistics.labeled_atoms(graphs, "forces")
            self.scale = statistics.spread(forces)
