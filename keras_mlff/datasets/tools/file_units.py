"""The units in which files state energies, lengths and stresses, and what follows for the rest."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

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
STRESS_UNITS = {"eV/Å³": 1.0, "GPa": units.gigapascal, "kbar": 0.1 * units.gigapascal}
_KNOWN = {"energy_unit": ENERGY_UNITS, "length_unit": LENGTH_UNITS, "stress_unit": STRESS_UNITS}
# what files call them beside the names above, and sGDML's word for "not stated"
_ALIASES = {"ang": "Å", "a": "Å", "å": "Å", "nm": "nanometer", "a0": "bohr", "ha": "hartree"}
_ALIASES |= {"ry": "rydberg", "ev/angstrom^3": "eV/Å³", "ev/a^3": "eV/Å³", "ev/ang^3": "eV/Å³"}
_NOTHING = ("", "n/a", "unknown")
_NAMES = {  # that state a unit in a file; the short ones are sGDML's
    "energy_unit": ("energy_unit", "energy_units", "e_unit"),
    "length_unit": ("length_unit", "length_units", "r_unit"),
    "stress_unit": ("stress_unit", "stress_units"),
}
UNIT_NAMES = frozenset(name for names in _NAMES.values() for name in names)


class FileUnits(NamedTuple):
    """How large the units of a file are in the units of this package; `None` if nobody said.

    Attributes:
        energy: The file's unit of energy in eV.
        length: The file's unit of length in Å.
        stress: The file's unit of stress in eV/Å³; that of energy over length³ where `None`.
        stress_sign: 1 where a stress is positive when stretched, as ASE's is, else -1.
    """

    energy: float | None = None
    length: float | None = None
    stress: float | None = None
    stress_sign: int = 1

    def factor(self, name: str, of_virial: bool = False) -> float:
        """Computes what converts values of a quantity into the units of this package.

        Args:
            name: The quantity. Its dimension in `keras_mlff.quantities` says how it changes with
                the units of energy and length; charges are in e everywhere.
            of_virial: Whether a stress was computed from a virial, which is an energy.

        Returns:
            The factor, 1 for a quantity that is not registered.
        """
        quantity = quantities.find(name)
        if quantity is None:
            return 1.0
        sign = self.stress_sign if name == "stress" else 1
        if name == "stress" and self.stress is not None and not of_virial:
            return sign * self.stress
        energy = 1.0 if self.energy is None else self.energy
        length = 1.0 if self.length is None else self.length
        return sign * quantity.dimension.factor(energy, length)

    def with_stated(self, stated: Mapping[str, str]) -> FileUnits:
        """Adds the units that a file states itself, where none were told.

        Args:
            stated: What `stated_units` found.

        Raises:
            ValueError: If the file states another unit than was told, or one that is not known.
        """
        completed: dict[str, Any] = {}
        for argument, text in stated.items():
            field = argument.removesuffix("_unit")
            told = getattr(self, field)
            size = _size(argument, text, told)
            if told is not None and size is not None and not np.isclose(size, told):
                raise ValueError(
                    f"The file says {argument}='{text}', and another one was told. Received: a "
                    f"unit of {told:.6g} instead of {size:.6g} of ours. Leave {argument} out."
                )
            completed[field] = size if told is None else told
        return self._replace(**completed)


def file_units(
    energy_unit: str | None = None,
    length_unit: str | None = None,
    stress_unit: str | None = None,
    stress_sign: int = 1,
) -> FileUnits:
    """Finds the sizes of a file's units by their names.

    Args:
        energy_unit: One of `ENERGY_UNITS`, or `None` for what the file says, else eV.
        length_unit: One of `LENGTH_UNITS`, or `None` for what the file says, else Å; both Unicode
            signs for Å are known.
        stress_unit: One of `STRESS_UNITS`, or `None` for energy over length³.
        stress_sign: 1 or -1, the sign of a stress relative to ASE's.

    Raises:
        ValueError: If a unit is not known, with those that are, or the sign is neither.
    """
    if stress_sign not in (1, -1):
        raise ValueError(
            "stress_sign is 1 where a stress is positive when stretched, and -1 where it is "
            f"positive under pressure, as VASP's. Received: stress_sign={stress_sign!r}."
        )
    given = {"energy_unit": energy_unit, "length_unit": length_unit, "stress_unit": stress_unit}
    sizes: list[Any] = []
    for argument, unit in given.items():
        name = None if unit is None else unicodedata.normalize("NFC", unit)  # two signs for Å
        if name is not None and name not in _KNOWN[argument]:
            raise ValueError(
                f"Unknown unit. Received: {argument}='{unit}', known are {list(_KNOWN[argument])}."
            )
        sizes.append(None if name is None else _KNOWN[argument][name])
    return FileUnits(*sizes)._replace(stress_sign=stress_sign)


def stated_units(found: Mapping[str, Any], where: str = "") -> dict[str, str]:
    """Finds what a file says of its units, by the names of the arguments of `file_units`.

    Args:
        found: Everything that the file states, by its names.
        where: What messages begin with.

    Raises:
        ValueError: If a unit is not text.
    """
    stated = {}
    for argument, names in _NAMES.items():
        for name in names:
            if (value := found.get(name)) is None:
                continue
            array = np.asarray(value)
            if array.dtype.kind not in "US" or array.size != 1:
                raise ValueError(f"{where}'{name}' should be a unit. Received: {value!r}.")
            text = str(array.astype(np.str_).reshape(())).strip()
            if text.lower() not in _NOTHING:
                stated[argument] = text
    return stated


def _size(argument: str, text: str, told: float | None) -> float | None:
    """Finds the size of a unit that a file names as it likes; what was told excuses the unknown."""
    text = unicodedata.normalize("NFC", text).strip()
    names = {name.lower(): size for name, size in _KNOWN[argument].items()}
    size = names.get(_ALIASES.get(text.lower(), text).lower())
    if size is None and told is None:
        raise ValueError(
            f"The file says {argument}='{text}', which is not known. Give {argument}, one of "
            f"{list(_KNOWN[argument])}."
        )
    return size
