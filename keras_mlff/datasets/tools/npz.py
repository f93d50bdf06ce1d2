"""Structures of npz files, in two layouts, and the splits that such files name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import quantities
from keras_mlff.datasets.tools.file_units import UNIT_NAMES, stated_units
from keras_mlff.datasets.tools.rows import Row, stress_of_virial
from keras_mlff.datasets.tools.sources import Npz
from keras_mlff.graph import (
    STATED_NAMES,
    Array,
    as_numbers,
    charge_and_spin,
    level,
    unread_names,
)

# names in npz files, ours first; others' names are told by `keys`
_NAMES = {
    "positions": ("positions", "R", "coords"),
    "atomic_numbers": ("atomic_numbers", "z", "numbers", "nuclear_charges"),
    "num_atoms": ("num_atoms", "n_atoms"),
    "energy": ("energy", "E", "energies"),
    "forces": ("forces", "F"),
}
_CELL = ("cell", "pbc")
_SGDML = {"lattice", "e_unit", "r_unit", "theory", "code_version"}  # what its files have
_NOT_SPLITS = {name for names in _NAMES.values() for name in names}.union(
    _CELL, *STATED_NAMES.values()
)


def rows_of_npz(path: Path, labels: Sequence[str], keys: Mapping[str, str]) -> Iterator[Row]:
    """Reads the structures of an npz file; `files.load_structures` describes the two layouts.

    Args:
        path: The file.
        labels: Which labels to take. One that the file does not have is `None` in every row.
        keys: The file's names for arrays, where they differ from ours.

    Raises:
        ValueError: If the file is damaged, positions or atomic numbers are absent, an array holds
            anything but numbers, or the arrays do not fit together.
    """
    with Npz(path) as file:
        found = file.names
        names = {
            key: name
            for key in {*_NAMES, *_CELL, "virial", "stress", "dipole", *labels}
            if (name := _array_name(path, key, found, keys)) is not None
        }
        needed = {"positions", "atomic_numbers", "num_atoms", *_CELL, *labels}
        needed |= {"virial"} if "stress" in labels and "stress" not in names else set()
        arrays = {key: file[name] for key, name in names.items() if key in needed}
        state = {
            name: file[name]
            for key, usual in STATED_NAMES.items()
            for name in ((keys[key],) if key in keys else usual)
            if name in found
        }
        said = {name: file[name] for name in found if name in UNIT_NAMES}
        units = stated_units(said, f"'{path}': ")
        if "lattice" in found and "cell" not in names:
            arrays["cell"] = _cell_of_sgdml(path, file["lattice"], found)
        headers = {name: file.header(name) for name in found}
        for name in found:  # also those that nobody needs: a damaged name hides an array
            if headers[name] is None:
                file[name]  # tells what is wrong
    absent = [key for key in ("positions", "atomic_numbers") if key not in arrays]
    if absent:
        raise ValueError(
            f"'{path}' has no {' and no '.join(absent)}. Received: arrays {found}. Tell the file's "
            "names: keys={'positions': 'xyz'}."
        )
    for key, array in (arrays | state).items():
        if key != "pbc":  # of any shape, which is looked at later
            as_numbers(f"'{names.get(key, key)}' in '{path}'", array.reshape(-1)[:0])
    positions, numbers = arrays.pop("positions"), arrays.pop("atomic_numbers")
    atoms, numbers = _places(path, positions, numbers, arrays.pop("num_atoms", None), found)
    count, axes = len(atoms), positions.shape[:-1]
    for key, name in names.items():  # those that are not asked for too: rows could be shifted
        if key not in ("positions", "atomic_numbers", "num_atoms") and (header := headers[name]):
            _check_shape(path, key, name, header.shape, count, axes)
    # charges and spins of atoms have the same names; in one row they would be hard to tell
    state = {
        name: array
        for name, array in state.items()
        if name not in names.values() and (array.ndim < 2 or array.shape[:2] != axes)
    }
    for key, array in (arrays | state).items():
        shape = () if key in state else _shape(key)
        if _level(key) != "atom" and array.shape == shape and (key in state or key in _CELL):
            (state if key in state else arrays)[key] = np.broadcast_to(array, (count, *shape))
        elif key not in names:
            _check_shape(path, key, key, array.shape, count, axes)
    unread = unread_names(
        {
            name: np.empty(0, header.dtype)
            for name, header in headers.items()
            if header and header.shape[: len(axes)] != axes and header.shape != axes[1:]
        },
        frozenset({*names.values(), *keys.values(), *UNIT_NAMES, "lattice"}),
    )
    for index, places in enumerate(atoms):
        values: dict[str, Any] = {
            key: array[places if _level(key) == "atom" else index] for key, array in arrays.items()
        }
        values |= {label: None for label in labels if label not in arrays}
        if "cell" in values and not np.any(values["cell"]):
            values["cell"] = values["pbc"] = None  # a molecule among crystals
        values |= {"positions": positions[places], "atomic_numbers": numbers[places]}
        try:
            if state:
                stated = {name: array[index] for name, array in state.items()}
                values |= charge_and_spin(stated, keys)
            virial = values.pop("virial", None)
            if virial is not None and values.get("cell") is not None:
                values["stress"] = stress_of_virial(virial, values["cell"])
        except ValueError as error:
            raise ValueError(f"Structure {index} of '{path}': {error}") from error
        yield Row(values, dict.fromkeys(found), units, unread, virial is not None)


def splits_of_npz(path: Path, count: int) -> dict[str, Array]:
    """Reads the splits that a file names.

    Args:
        path: The file.
        count: How many structures it has.

    Returns:
        By the name of each split the indices of its structures: arrays of whole numbers, values of
        an array `split` of text, and values of other arrays with a text, a truth value or an index
        into `<name>_names` for each structure.
    """
    parts: dict[str, Array] = {}
    with Npz(path) as file:
        for name in file.names:
            header = file.header(name)
            if header is None or header.dtype.hasobject or len(header.shape) != 1:
                continue
            array = file[name]
            if f"{name}_names" in file.names and array.dtype.kind in "iu":
                names = file[f"{name}_names"]
                if names.ndim != 1 or np.any((array < 0) | (array >= len(names))):
                    raise ValueError(
                        f"'{name}' in '{path}' should be indices into '{name}_names', which has "
                        f"{names.shape[:1]} rows. Received: {array.min(initial=0)} to "
                        f"{array.max(initial=0)}."
                    )
                array = names[array]
            if array.shape == (count,) and array.dtype.kind in "USb":
                values, members = np.unique(array.astype(np.str_), return_inverse=True)
                if 2 * len(values) <= count or name == "split":  # else a name for each structure
                    prefix = "" if name == "split" else f"{name}_"
                    parts |= {
                        f"{prefix}{value}": np.flatnonzero(members == index)
                        for index, value in enumerate(values)
                    }
            elif array.dtype.kind in "iu" and name not in _NOT_SPLITS:
                parts[name.removeprefix("split_")] = array
    return parts


def _array_name(path: Path, key: str, found: Sequence[str], keys: Mapping[str, str]) -> str | None:
    """Finds the array of a quantity: by the user's name for it, ours, or a usual one.

    Raises:
        ValueError: If the file has arrays of several such names.
    """
    if key in keys:
        return keys[key] if keys[key] in found else None
    names = [name for name in _NAMES.get(key, (key,)) if name in found]
    if len(names) > 1:
        raise ValueError(
            f"'{path}' has several arrays for {key}: {names}. Choose one: "
            f"keys={{'{key}': '{names[0]}'}}."
        )
    return names[0] if names else None


def _places(
    path: Path, positions: Array, numbers: Array, num_atoms: Array | None, found: Sequence[str]
) -> tuple[list[Any], Array]:
    """Finds where the atoms of each structure are, in either layout.

    Returns:
        For each structure what takes its atoms from an array, and the atomic numbers in the shape
        of the positions.

    Raises:
        ValueError: If the shapes fit neither layout, or numbers of atoms are not those stated.
    """
    if num_atoms is not None and (
        num_atoms.ndim != 1 or num_atoms.dtype.kind not in "iu" or np.any(num_atoms < 1)
    ):
        raise ValueError(
            f"Numbers of atoms in '{path}' are integers of at least 1, one for each structure. "
            f"Received: {num_atoms.dtype} of shape {num_atoms.shape}, from "
            f"{num_atoms.min(initial=1)}."
        )
    if positions.ndim == 3:
        if numbers.shape not in (positions.shape[:2], positions.shape[1:2]):
            raise ValueError(
                f"'{path}' needs atomic numbers (num_atoms,) or (n, num_atoms) for positions "
                f"{positions.shape}. Received: shape {numbers.shape}."
            )
        numbers = np.broadcast_to(numbers, positions.shape[:2])
        real = numbers != 0  # (num_structures, num_atoms)
        if num_atoms is not None and not np.array_equal(real.sum(axis=1), num_atoms):
            raise ValueError(f"'{path}' states other numbers of atoms than it has atomic numbers.")
        if np.any(np.nan_to_num(positions[~real])):
            raise ValueError(
                f"'{path}' has positions of atoms whose atomic number is 0, which means no atom. "
                f"Received: structure {np.argwhere(~real)[0][0]} and others."
            )
        rows = np.arange(len(positions))
        return (list(rows) if real.all() else list(zip(rows, real, strict=True))), numbers
    if num_atoms is None or positions.ndim != 2:
        raise ValueError(
            "Positions are (n, num_atoms, 3), or (all_atoms, 3) with n_atoms (n,) beside them. "
            f"Received: shape {positions.shape}, arrays {found} in '{path}'."
        )
    ends = np.cumsum(num_atoms.astype(np.int64)).tolist()
    if not ends or ends[-1] != len(positions) or numbers.shape != positions.shape[:1]:
        raise ValueError(
            f"The numbers of atoms in '{path}' add up to {ends[-1:]}, but there are "
            f"{len(positions)} positions and atomic numbers of shape {numbers.shape}."
        )
    return [slice(*bounds) for bounds in zip([0, *ends[:-1]], ends, strict=True)], numbers


def _level(key: str) -> str:
    """Tells what the rows of an array belong to; a virial is no quantity."""
    return "structure" if quantities.find(key) is None else level(key)


def _shape(key: str) -> tuple[int, ...]:
    """Gives the shape of one value of a structure."""
    quantity = quantities.find(key)
    return (3, 3) if key == "virial" else () if quantity is None else quantity.shape


def _check_shape(
    path: Path, key: str, name: str, shape: tuple[int, ...], count: int, atoms: tuple[int, ...]
) -> None:
    """Refuses arrays that have not one row for each structure, or for each atom.

    Args:
        path: The file, for messages.
        key: The quantity.
        name: The file's name for it.
        shape: That of the array.
        count: How many structures there are.
        atoms: The leading axes that count atoms, as those of the positions.
    """
    if _level(key) == "atom":
        if shape[: len(atoms)] != atoms:
            raise ValueError(
                f"'{key}' in '{path}' needs a value for each atom, as the positions have one. "
                f"Received: array '{name}' of shape {shape} instead of {(*atoms, '...')}."
            )
    elif shape[:1] != (count,) and not (shape == _shape(key) and key in _CELL):
        raise ValueError(
            f"'{key}' in '{path}' needs a row for each of the {count} structures. "
            f"Received: array '{name}' of shape {shape}."
        )


def _cell_of_sgdml(path: Path, lattice: Array, found: Sequence[str]) -> Array:
    """Gives the cell of sGDML's `lattice`, whose columns are the lattice vectors.

    Raises:
        ValueError: If the file may be by somebody else, who could mean rows.
    """
    if len(_SGDML.intersection(found)) == 1 and not np.array_equal(
        lattice, lattice.swapaxes(-1, -2)
    ):
        raise ValueError(
            f"'lattice' in '{path}' may hold lattice vectors in rows, or in columns as sGDML's "
            "files do. Tell that they are in rows: keys={'cell': 'lattice'}."
        )
    return np.ascontiguousarray(lattice.swapaxes(-1, -2))
