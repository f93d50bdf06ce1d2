"""One structure of a file: what its reader found, and how that becomes a graph."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FrameType, MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from keras_mlff import quantities
from keras_mlff.datasets.tools.file_units import UNIT_NAMES, FileUnits, stated_units
from keras_mlff.graph import (
    STATED_NAMES,
    Array,
    Graph,
    as_numbers,
    charge_and_spin,
    structure,
    unread_names,
)

OF_ATOMS = ("columns", "arrays")  # places that hold a value for each atom
_FROM_VOIGT = np.asarray([[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # of xx, yy, zz, yz, xz, xy
_TO_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


class Row(NamedTuple):
    """One structure of a file, in the file's units.

    Attributes:
        values: Arguments of `graph.structure`. A label that was asked for and is absent is `None`.
        found: Everything that the file has for it beside positions and elements, by its names.
        units: What the file says of its units, by the names of arguments.
        unread: Names that look like a charge, a spin, a cell or a unit, and were not read.
        of_virial: Whether the stress was computed from a virial.
        name: What messages call it.
    """

    values: dict[str, Any]
    found: Mapping[str, Any]
    units: Mapping[str, str] = MappingProxyType({})
    unread: Sequence[str] = ()
    of_virial: bool = False
    name: str = "a structure"

    def complete(self, labels: Sequence[str]) -> dict[str, Any]:
        """Gives the values if all labels are there.

        Raises:
            ValueError: If one is absent, with what there is.
        """
        missing = [label for label in labels if label_is_missing(self.values.get(label))]
        if missing:
            raise ValueError(
                f"{self.name} has no {' and no '.join(missing)}, only {sorted(self.found)}."
            )
        return self.values


def make_row(
    geometry: Mapping[str, Any],
    sources: Mapping[str, Mapping[str, Any]],
    labels: Sequence[str],
    keys: Mapping[str, str],
) -> Row:
    """Takes labels, charge and spin of one structure from the places where they may be stated.

    A label has the name that `keys` tells; else its own, or ASE's (`magmoms`, `charges`, ...).
    Where several places or names state it, they must agree. A stress that is not stated is
    computed from a virial, which is minus the stress times the volume.

    Args:
        geometry: Positions and elements, and cell and pbc where the structure is periodic.
        sources: By the name of each place what is stated there. `"info"` is of the whole structure
            and comes first; of places such as `"columns"`, labels of atoms alone are taken.
        labels: Which labels to take.
        keys: The source's names for labels, where they are others.

    Raises:
        ValueError: If a value is no number, has another shape, or places disagree.
    """
    info = sources["info"]
    found = {name: value for source in sources.values() for name, value in source.items()}
    values = {**geometry, **charge_and_spin(info, keys)}
    for label in labels:
        values[label] = _stated_label(label, geometry, sources, keys)
    virial = None
    if "stress" in labels and values["stress"] is None and "cell" in geometry:
        virial = found.get(keys.get("virial", "virial"))
        if virial is not None:
            values["stress"] = stress_of_virial(virial, geometry["cell"])
    read = {*UNIT_NAMES, *keys.values()}
    unread = unread_names(info, frozenset(read)) + _unread_states(found, values)
    if "stress" in labels and values["stress"] is None and "cell" in geometry:
        unread += [name for name in found if "virial" in name.lower()]
    return Row(values, found, stated_units(info), unread, virial is not None)


def check_labels(labels: Iterable[str], keys: Mapping[str, str]) -> None:
    """Refuses labels whose shape and unit are not known, and names for what nobody reads.

    Raises:
        ValueError: If a label is not a registered quantity, with the call that registers it, if
            `keys` names something else, or takes a virial for a stress.
    """
    for name in (*labels, *(key for key in keys if key not in ("virial", "num_atoms"))):
        quantities.get(name)
    if "virial" in keys.get("stress", "").lower():
        raise ValueError(
            "A virial is an energy and has another sign than a stress. Received: "
            f"keys={dict(keys)}. Write keys={{'virial': '{keys['stress']}'}}."
        )


def label_is_missing(value: Any) -> bool:
    """Tells whether a label is absent: `None`, or not a number throughout."""
    return value is None or bool(np.all(np.isnan(np.asarray(value, np.float64))))


def missing_label(name: str, num_atoms: int) -> Array:
    """Fills the place of a label that a structure does not have with NaN.

    Args:
        name: The quantity.
        num_atoms: How many atoms the structure has.

    Returns:
        `(num_atoms, *shape)` for a quantity of atoms, `(1, *shape)` for one of the structure, as
        the label has it in a graph.
    """
    quantity = quantities.get(name)
    return np.full((num_atoms if quantity.level == "atom" else 1, *quantity.shape), np.nan)


def with_missing_labels(graph: Graph, labels: Iterable[str]) -> Graph:
    """Adds those labels that a structure lacks as NaN, so that all structures have the same keys.

    Losses, metrics and the fit of offsets leave out what is NaN.
    """
    lacking = [label for label in labels if label not in graph]
    return {**graph, **{k: missing_label(k, len(graph["atomic_numbers"])) for k in lacking}}


def structure_of_row(name: str, row: Row, labels: Sequence[str], units: FileUnits) -> Graph:
    """Makes a graph of what a reader found: shapes, units, and NaN for labels that are absent.

    Args:
        name: What messages call the structure, such as `"Structure 3 of 'md.xyz'"`.
        row: What the reader found, in the file's units.
        labels: What the graph is to have. A symmetric tensor may be given by its six components
            in the order of Voigt, xx, yy, zz, yz, xz and xy.
        units: The sizes of the file's units.

    Raises:
        ValueError: If the structure is not usable, with its name.
    """
    values = {key: value for key, value in row.values.items() if value is not None}
    for label in labels:
        if label in values and label_is_missing(values[label]):
            del values[label]
    try:
        units = units.with_stated(row.units)
        for key, value in values.items():
            if key == "stress" and "cell" not in values and np.any(value):
                raise ValueError("There is a stress, and no cell.")
            if key in labels:
                value = _shaped(key, as_numbers(f"'{key}'", value), len(values["atomic_numbers"]))
            factor = units.factor(key, row.of_virial)
            values[key] = value if factor == 1.0 else np.asarray(value, np.float64) * factor
        return with_missing_labels(structure(**values), labels)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


class LabelCheck:
    """Notices which of the labels that were asked for no structure has.

    Args:
        labels: What was asked for.
        source: What the structures are from, for the message.
        keys: Names that were told; some structure must have what they are told of.
    """

    def __init__(
        self, labels: Sequence[str], source: str, keys: Mapping[str, str] | None = None
    ) -> None:
        told = [key for key in ("cell", "pbc", *STATED_NAMES) if key in (keys or {})]
        self.labels, self.source, self.keys = (*labels, *told), source, dict(keys or {})
        self._absent = set(self.labels)
        self._unread: set[str] = set()
        self._found: Mapping[str, Any] | None = None  # of the first structure

    def passed_on(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Passes rows on, and looks which labels they have.

        Raises:
            ValueError: After the last row, if a label was in none of them.
        """
        for row in rows:
            self.add(row)
            yield row
        self.finish()

    def add(self, row: Row) -> None:
        """Looks at one structure, and warns of what it states and nobody reads."""
        if unread := [name for name in row.unread if name not in self._unread]:
            self._unread.update(unread)
            warn_user(
                f"In {self.source} {unread} look like a charge, a spin, a cell or a "
                "unit, and are not read. If they are one, tell their names, such as "
                f"keys={{'total_charge': '{unread[0]}'}}, or the units, energy_unit."
            )
        if self._found is None:
            self._found = row.found
        if self._absent:
            found = {x for x in self._absent if not label_is_missing(row.values.get(x))}
            self._absent -= found

    @property
    def complete(self) -> bool:
        """Whether each label was found in some structure already."""
        return not self._absent

    def finish(self) -> None:
        """Ends the search.

        Raises:
            ValueError: If there were structures, and none of them had one of the labels.
        """
        if self._found is None or not self._absent:
            return
        absent = [label for label in self.labels if label in self._absent]
        raise ValueError(
            f"No structure of {self.source} has {' and none has '.join(absent)}. Received: "
            f"labels={self.labels}, keys={self.keys}; the first structure has "
            f"{sorted(self._found)}. Leave out what is not needed, or tell the names it has there: "
            "keys={'energy': 'REF_energy'}."
        )


def to_voigt(tensor: Array) -> Array:
    """Picks the six components `(6,)` of a symmetric tensor `(3, 3)`, in the order of Voigt."""
    return np.asarray(tensor)[_TO_VOIGT]


def warn_user(message: str) -> None:
    """Warns about data, at the line outside of this package that asked for them."""
    package, level = __name__.partition(".")[0], 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def _stated_label(
    label: str,
    geometry: Mapping[str, Any],
    sources: Mapping[str, Mapping[str, Any]],
    keys: Mapping[str, str],
) -> Array | None:
    """Finds a label in all places where it may be.

    Raises:
        ValueError: If a value is no number, or two values differ.
    """
    quantity, num_atoms = quantities.get(label), len(geometry["atomic_numbers"])
    found: dict[str, Array] = {}
    for place, source in sources.items():
        if quantity.level == "structure" and place in OF_ATOMS:
            continue
        for name in names_of(label, keys):
            if (value := source.get(name)) is not None:
                where = f"'{name}' ({place})"
                found[where] = _shaped(label, as_numbers(where, value), num_atoms)
    if not found:
        return None
    (first, value), *others = found.items()
    for where, other in others:
        # files have about eight digits
        if value.shape != other.shape or not np.allclose(value, other, 1e-6, 1e-7, equal_nan=True):
            raise ValueError(
                f"{first} and {where} both state {label}, and differ. Remove the wrong one, or "
                "choose one of two names by keys."
            )
    return value


def names_of(label: str, keys: Mapping[str, str]) -> tuple[str, ...]:
    """Lists the names that a label may have in images and in extended XYZ."""
    if label in keys:
        return (keys[label],)
    ase = quantities.get(label).ase
    return (label,) if ase in (None, label) else (label, ase)


def stress_of_virial(virial: Any, cell: Array) -> Array:
    """Computes a stress in the source's units.

    Raises:
        ValueError: If the virial has another shape or the cell no volume.
    """
    tensor = _shaped("stress", as_numbers("'virial'", virial), 0)
    if tensor.shape != (3, 3):
        raise ValueError(f"'virial' has six or nine numbers. Received: shape {np.shape(virial)}.")
    volume = abs(float(np.linalg.det(cell)))
    if volume <= 1e-9 * np.prod(np.linalg.norm(cell, axis=1)):
        raise ValueError("'virial' is no stress without a volume, and the cell has none.")
    return -tensor / volume


def _unread_states(found: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Names charges and moments of atoms whose sum is not that of the structure."""
    unread = []
    sums = {"initial_charges": values.get("total_charge", 0.0)}
    if "cell" not in values:  # in crystals they are guesses
        sums["initial_magmoms"] = values.get("spin_multiplicity", 1.0) - 1.0
    for name, stated in sums.items():
        array = np.asarray(found.get(name, stated))
        if array.dtype.kind in "iuf" and array.ndim <= 1:
            total = float(np.sum(array))
            # not abs() of a charge, whose sign counts
            total = abs(total) if name == "initial_magmoms" else total
            unread += [name] if abs(total - stated) > 0.01 else []
    return unread


def _shaped(label: str, value: Array, num_atoms: int) -> Array:
    """Gives a value its shape where only the layout differs; else `structure` will refuse it.

    Raises:
        ValueError: If a stress is not symmetric.
    """
    quantity = quantities.get(label)
    shape = (*((num_atoms,) if quantity.level == "atom" else ()), *quantity.shape)
    if shape == (3, 3) and value.shape == (6,):
        return value[_FROM_VOIGT]
    if value.size == np.prod(shape, dtype=int):
        value = value.reshape(shape)
    if quantity.needs_volume and value.shape == (3, 3):
        off = np.abs(value - value.T).max()
        if off > 1e-3 * np.abs(value).max():
            raise ValueError(
                f"'{label}' is not symmetric, which says that it is something else or in another "
                f"order. Received: {value.ravel().tolist()}."
            )
    return value
