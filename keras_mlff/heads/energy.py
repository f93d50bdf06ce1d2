"""The energy of a structure, whose gradient is the force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_mlff.graph import Graph
from keras_mlff.heads.head import Head, Tensor
from keras_mlff.ops import segment


@keras.saving.register_keras_serializable("keras_mlff")
class EnergyHead(Head):
    """Adds atomic energies up to `energy` (num_graphs,), eV; keeps `atomic_energies` (num_atoms,).

    `references` are the energies of free atoms; `ForceField.fit_references` finds them.
    """

    def __init__(
        self,
        name: str = "energy",
        unit: str = "eV",
        scale: float = 1.0,
        references: Mapping[int, float] | None = None,
        shift: float = 0.0,
    ) -> None:
        super().__init__(name, unit, scale, references, shift)

    def __call__(self, graph: Graph, scalars: Tensor, vectors: Tensor | None) -> dict[str, Any]:
        atomic_energies = segment.mask(scalars[:, 0] * self.scale, graph["atom_mask"])
        return {
            self.name: segment.sum_over_atoms(atomic_energies, graph),
            "atomic_energies": atomic_energies,
        }
