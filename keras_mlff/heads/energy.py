"""The energy of a structure, whose gradient is the force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff.graph import MAX_ATOMIC_NUMBER, Graph, Tensor
from keras_mlff.heads.head import Head
from keras_mlff.ops import segment


@keras.saving.register_keras_serializable("keras_mlff")
class EnergyHead(Head):
    """Adds atomic energies up to `energy` (num_graphs,), eV; keeps `atomic_energies` (num_atoms,).

    `references` are the energies of free atoms; `ForceField.fit_offsets` finds them.

    Args:
        name: Key of the prediction and of its label.
        unit: For display.
        scale: eV, unit of the network's numbers.
        references: eV, energy of a single atom by atomic number.
        shift: eV, added once to each structure.
        element_scales: Further factors by atomic number, 1 where not given.
    """

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

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        scales = {str(z): value for z, value in self.element_scales.items()}
        return {**super().get_config(), "element_scales": scales}
