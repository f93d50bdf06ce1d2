"""Numbers as people state them beside a structure: one rule for files, images and the calculator.

A number is what a source holds as a number: an integer or a float, of Python or of NumPy, alone or
as the only element of an array. `None` says nothing. Text, truth values, NaN, infinity and several
elements are no number, and are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mlff import quantities
from keras_mlff.graph.keys import Array

# names with one meaning in practice, ours first; `spin` is 2S+1 there, as `multiplicity` is
STATED_NAMES = {
    "total_charge": ("total_charge", "charge"),
    "spin_multiplicity": ("spin_multiplicity", "spin", "multiplicity", "mult"),
}
_ALIKE = re.compile(
    r"(?i:charge|spin(?!_squ)|mult|unpaired|uhf|cell|lattice|^box$|periodic)|^[QS]$"
)
_TEXT_ALIKE = re.compile(r"(?i:(^|_)units?($|_)|charge|spin|mult)")
_TRUTH_ALIKE = re.compile(r"(?i:^pbc$|periodic)")
_PATTERNS = dict.fromkeys("iuf", _ALIKE) | dict.fromkeys("US", _TEXT_ALIKE) | {"b": _TRUTH_ALIKE}


def as_numbers(name: str, value: Any) -> Array:
    """Casts numbers to float64, and refuses what is not a number.

    Args:
        name: What messages call the value.
        value: A number, or a sequence or an array of them, of any shape.

    Raises:
        ValueError: If there is anything but numbers, with the type that there is.
    """
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = np.asarray(value, object)
    usable = array.dtype.kind in "iuf"
    if usable and isinstance(value, list | tuple):
        # NumPy would make numbers of truth values that stand among them
        held = {type(item) for item in np.asarray(value, object).ravel()}
        usable = held.isdisjoint((bool, np.bool_))
    if not usable:
        shown = repr(value) if array.size <= 10 else f"shape {array.shape}"
        kind = "text" if array.dtype.kind in "US" else array.dtype.name
        raise ValueError(f"{name} needs numbers. Received: {shown:.100}, of type {kind}.")
    return array.astype(np.float64, copy=False)


def plain_number(name: str, value: Any) -> float:
    """Reads one finite number.

    Raises:
        ValueError: If the value is no number, not finite, or not one.
    """
    if type(value) in (int, float) and math.isfinite(value):
        return float(value)
    numbers = as_numbers(name, value)
    if numbers.size != 1 or not np.isfinite(numbers).all():
        raise ValueError(f"{name} is one finite number. Received: {value!r}.")
    return float(numbers.reshape(()))


def charge_and_spin(
    found: Mapping[str, Any], keys: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Reads total charge and spin multiplicity by any of their usual names.

    The total charge is `total_charge` or `charge`, in e; the multiplicity 2S+1 is
    `spin_multiplicity`, `spin`, `multiplicity` or `mult`.

    Args:
        found: What is stated, such as the `info` of `ase.Atoms`.
        keys: Other names: `{"spin_multiplicity": "total_spin"}`. The usual ones do not count then.

    Returns:
        Arguments of `graph.structure`, `total_charge` and `spin_multiplicity`, without what is not
        stated.

    Raises:
        ValueError: If a value is not a finite number, a multiplicity not a whole number of at least
            1, or two names state different numbers.
    """
    stated = {}
    for key, names in STATED_NAMES.items():
        names = names if key not in (keys or {}) else ((keys or {})[key],)
        values = {
            name: plain_number(f"'{name}'", found[name])
            for name in names
            if found.get(name) is not None
        }
        if len(set(values.values())) > 1:
            raise ValueError(
                f"There are different numbers for {key}. Received: {values}. "
                f"Choose one: keys={{'{key}': '{next(iter(values))}'}}."
            )
        for name, value in values.items():
            if key == "spin_multiplicity" and (value < 1 or value != round(value)):
                raise ValueError(
                    "The spin multiplicity is 2S+1, a whole number of at least 1 (1 = singlet). "
                    f"Received: '{name}' = {value:g}."
                )
            stated[key] = value
    return stated


def unread_names(found: Mapping[str, Any], read: frozenset[str | None] = frozenset()) -> list[str]:
    """Lists names that look like a charge, a spin, a cell or a unit, and that nobody reads.

    Args:
        found: What is stated of a whole structure.
        read: Names that were read, beside those of `STATED_NAMES`.

    Returns:
        The names of numbers, and those of text and truth values that look like what these state.
    """
    known = {x for quantity in quantities.known().values() for x in (quantity.name, quantity.ase)}
    known -= {"cell", "pbc"}  # whose places are elsewhere
    known = known.union(read, *STATED_NAMES.values())
    unread = []
    for name, value in found.items():
        try:
            kind = np.asarray(value).dtype.kind
        except ValueError:  # rows of different lengths
            continue
        if name not in known and kind in _PATTERNS and _PATTERNS[kind].search(name):
            unread.append(name)
    return unread
