"""Structures of npz files, in two layouts, and the splits that such files name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import quantities
from keras_mlff.datasets.tools.rows import Row
from keras_mlff.graph import Array, level

# names in npz files, ours first; others' names are told by `keys`
_NAMES = {
    "positions": ("positions", "R", "coords"),
    "atomic_numbers": ("atomic_numbers", "z", "numbers", "nuclear_charges"),
    "num_atoms": ("num_atoms", "n_atoms"),
    "energy": ("energy", "E", "energies"),
    "forces": ("forces", "F"),
}
_OPTIONAL = ("cell", "pbc", "total_charge", "spin_multiplicity")
_NOT_SPLITS = {name for names in _NAMES.values() for name in names} | {*_OPTIONAL}


def rows_of_npz(path: Path, labels: Sequence[str], keys: Mapping[str, str]) -> Iterator[Row]:
    """Reads the structures of an npz file; `files.load_structures` describes the two layouts.

    Args:
        path: The file.
        labels: Which labels to take. One that the file does not have is `None` in every row.
        keys: The file's names for arrays, where they differ from ours.

    Raises:
        ValueError: If positions or atomic numbers are absent, or the arrays do not fit together.
    """
    with np.load(path) as file:
        found = sorted(file.files)
        arrays = {
            key: file[name]
            for key in ("positions", "atomic_numbers", "num_atoms", *_OPTIONAL, *labels)
            if (name := _array_name(path, key, found, keys)) is not None
        }
    absent = [key for key in ("positions", "atomic_numbers") if key not in arrays]
    if absent:
        raise ValueError(
            f"'{path}' has no {' and no '.join(absent)}. Received: arrays {found}. Tell the file's "
            "names: keys={'positions': 'xyz'}."
        )
    positions, numbers = arrays.pop("positions"), arrays.pop("atomic_numbers")
    if positions.ndim == 3:
        count = len(positions)
        rows = np.arange(count)
        numbers = np.broadcast_to(numbers, positions.shape[:2])
        real = numbers != 0  # (num_structures, num_atoms)
        arrays.pop("num_atoms", None)
        atoms: list[Any] = list(rows) if real.all() else list(zip(rows, real, strict=True))
    elif "num_atoms" in arrays and positions.ndim == 2:
        ends = np.cumsum(arrays["num_atoms"].astype(np.int64))
        starts = ends - arrays.pop("num_atoms")
        count = len(ends)
        atoms = [slice(*bounds) for bounds in zip(starts, ends, strict=True)]
        if count == 0 or ends[-1] != len(positions):
            raise ValueError(
                f"The numbers of atoms in '{path}' add up to {ends[-1:].tolist()}, but there are "
                f"{len(positions)} positions."
            )
    else:
        raise ValueError(
            "Positions are (n, num_atoms, 3), or (all_atoms, 3) with n_atoms (n,) beside them. "
            f"Received: shape {positions.shape}, arrays {found} in '{path}'."
        )
    for key, array in arrays.items():
        arrays[key] = _rows_of_array(path, key, array, count, positions.shape[:-1])
    for index, places in enumerate(atoms):
        values: dict[str, Any] = {
            key: array[places if level(key) == "atom" else index] for key, array in arrays.items()
        }
        values |= {label: None for label in labels if label not in arrays}
        if "cell" in values and not np.any(values["cell"]):
            values["cell"] = values["pbc"] = None  # a molecule among crystals
        values |= {"positions": positions[places], "atomic_numbers": numbers[places]}
        yield Row(values, found)


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
    with np.load(path) as file:
        for name in file.files:
            try:
                array = file[name]
            except ValueError:  # an object, which is not read, is no split
                continue
            if f"{name}_names" in file.files and array.dtype.kind in "iu":
                array = file[f"{name}_names"][array]
            if array.shape == (count,) and array.dtype.kind in "USb":
                values, members = np.unique(array.astype(np.str_), return_inverse=True)
                if 2 * len(values) <= count or name == "split":  # else a name for each structure
                    prefix = "" if name == "split" else f"{name}_"
                    parts |= {
                        f"{prefix}{value}": np.flatnonzero(members == index)
                        for index, value in enumerate(values)
                    }
            elif array.ndim == 1 and array.dtype.kind in "iu" and name not in _NOT_SPLITS:
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


def _rows_of_array(path: Path, key: str, array: Array, count: int, atoms: tuple[int, ...]) -> Array:
    """Gives every structure its row, where the file has one value for all of them.

    Args:
        path: The file, for messages.
        key: The quantity.
        array: As the file has it.
        count: How many structures there are.
        atoms: The leading axes that count atoms, as those of the positions.
    """
    if level(key) == "atom":
        if array.shape[: len(atoms)] != atoms:
            raise ValueError(
                f"'{key}' in '{path}' needs a value for each atom, as the positions have one. "
                f"Received: shape {array.shape} instead of {(*atoms, '...')}."
            )
        return array
    shape = quantities.get(key).shape
    if key in _OPTIONAL and array.shape == shape:
        return np.broadcast_to(array, (count, *shape))
    if array.shape[:1] != (count,):
        raise ValueError(
            f"'{key}' in '{path}' needs a row for each of the {count} structures. "
            f"Received: shape {array.shape}."
        )
    return array
