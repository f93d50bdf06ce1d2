"""The units in which files state energies and lengths, and what follows for every quantity."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from keras_mlff import quantities, units

ENERGY_UNITS = {
    "eV": 1.0,
    "meV": units.meV,
    "hartree": units.hartree,
    "rydberg": units.rydberg,
    "kcal/mol": units.kcal_per_mol,
    "kJ/mol": units.kJ_per_mol,
}
LENGTH_UNITS = {"Å": 1.0, "angstrom": 1.0, "bohr": units.bohr, "nanometer": units.nanometer}


class FileUnits(NamedTuple):
    """How large the units of a file are in the units of this package.

    Attributes:
        energy: The file's unit of energy in eV.
        length: The file's unit of length in Å.
    """

    energy: float = 1.0
    length: float = 1.0

    def factor(self, name: str) -> float:
        """Computes what converts values of a quantity into the units of this package.

        Args:
            name: The quantity. Its dimension in `keras_mlff.quantities` says how it changes with
                the units of energy and length; charges are in e everywhere.

        Returns:
            The factor, 1 for a quantity that is not registered.
        """
        quantity = quantities.find(name)
        if quantity is None:
            return 1.0
        return quantity.dimension.factor(self.energy, self.length)


def file_units(energy_unit: str, length_unit: str) -> FileUnits:
    """Finds the sizes of a file's units by their names.

    Args:
        energy_unit: One of `ENERGY_UNITS`.
        length_unit: One of `LENGTH_UNITS`; both Unicode signs for Å are known.

    Raises:
        ValueError: If a unit is not known, with those that are.
    """
    return FileUnits(
        _size("energy_unit", energy_unit, ENERGY_UNITS),
        _size("length_unit", length_unit, LENGTH_UNITS),
    )


def _size(argument: str, unit: str, known: Mapping[str, float]) -> float:
    name = unicodedata.normalize("NFC", unit)  # there are two signs for Å
    if name not in known:
        raise ValueError(f"Unknown unit. Received: {argument}='{unit}', known are {list(known)}.")
    return known[name]
