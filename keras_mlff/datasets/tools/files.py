"""Structures with labels from files: extended XYZ, npz, ASE databases and trajectories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff.datasets.tools.ase_files import images_of_file, row_of_atoms, rows_of_ase
from keras_mlff.datasets.tools.checks import report
from keras_mlff.datasets.tools.file_units import FileUnits, file_units
from keras_mlff.datasets.tools.npz import rows_of_npz, splits_of_npz
from keras_mlff.datasets.tools.rows import (
    LabelCheck,
    Row,
    check_labels,
    structure_of_row,
    warn_user,
)
from keras_mlff.datasets.tools.splits import select
from keras_mlff.graph import Array, Graph

CONFIGURATION = "config_type"  # the usual name in extended XYZ for what kind of structure it is


def load_structures(
    path: str | Path,
    labels: Sequence[str] = ("energy", "forces"),
    split: str = "all",
    energy_unit: str = "eV",
    length_unit: str = "Å",
    keys: Mapping[str, str] | None = None,
) -> list[Graph]:
    """Reads structures and their labels from a file, and warns where the units look wrong.

    An npz file holds `positions` (or `R`) and `atomic_numbers` (or `z`) in one of two layouts:
    `(n, num_atoms, 3)` with `(num_atoms,)` or, where 0 means no atom, `(n, num_atoms)`; or all
    structures one after the other, `(all_atoms, 3)` and `(all_atoms,)`, with the number of atoms
    of each in `n_atoms` `(n,)`. Beside them `energy` (or `E`) `(n,)`, `forces` (or `F`), any other
    registered quantity under its own name and, if need be, `cell`, `pbc`, `total_charge`,
    `spin_multiplicity`. An array `split_<name>` or any other one-dimensional array of integers
    lists the structures of a split; an array `split` of text names the split of each structure.
    Other arrays with a text, a truth value or an index into `<name>_names` for each structure make
    splits too, one for each value: `"group_Surface"`, `"verified_True"`, `"topology_abw"`.

    Everything else is read by ASE: extended XYZ (`.xyz`, `.extxyz`), databases (`.db`),
    trajectories (`.traj`) and more. Labels have there the name of the quantity or
    ASE's name for it. Total charge and spin multiplicity are `info["charge"]` and `info["spin"]`;
    a `virial` is read as a stress where there is none.

    Args:
        path: Name of the file. It may hold molecules and crystals.
        labels: What to read. A label may be missing in some structures, which have NaN in its
            place then, but not in all of them. Other labels in the file are left out.
        split: `"all"`, a slice of it (`"all[:100]"`), or a split that the file names.
        energy_unit: The file's unit of energy: eV, meV, hartree, rydberg, kcal/mol or kJ/mol.
        length_unit: The file's unit of length: Å (or angstrom), bohr or nanometer. Every label is
            converted by its dimension: forces are energy over length, a dipole is e times length.
        keys: The file's names for labels, where they differ: `{"energy": "REF_energy"}`.

    Returns:
        The structures, in eV, Å and e.

    Raises:
        ValueError: If no structure has one of the labels, a structure is not usable, or a unit, a
            split or a label is unknown.
        ImportError: If ASE is needed and not installed.

    Example:
        >>> frames = load_structures("md.npz", energy_unit="kcal/mol")  # doctest: +SKIP
    """
    path = Path(path).expanduser()
    units = file_units(energy_unit, length_unit)
    rows = list(_rows(path, labels, keys))
    if not rows:
        raise ValueError(f"The file holds no structures. Received: path='{path}'.")
    chosen = select(split, _parts(path, len(rows)))
    check = LabelCheck(labels, f"'{path}', split '{split}',")
    for index in chosen:
        check.add(rows[index])
    check.finish()
    structures = [
        structure_of_row(_name(path, index), rows[index], labels, units) for index in chosen
    ]
    for warning in report(structures).warnings:
        warn_user(f"{path}: {warning}")
    return structures


def iterate(
    path: str | Path,
    labels: Sequence[str] = ("energy", "forces"),
    energy_unit: str = "eV",
    length_unit: str = "Å",
    keys: Mapping[str, str] | None = None,
    failures: dict[int, str] | None = None,
) -> Iterator[Graph]:
    """Reads structures one after the other, so that the file may be larger than the memory.

    An npz file is an exception: its arrays are in memory as long as the iteration runs.

    Args:
        path: Name of the file; see `load_structures` for this and the following arguments.
        labels: What to read; it may be missing in some structures.
        energy_unit: The file's unit of energy.
        length_unit: The file's unit of length.
        keys: The file's names for labels.
        failures: Receives, where given, what is wrong with structures that are not usable, by their
            place in the file; they are left out then.

    Yields:
        The structures, in eV, Å and e.

    Raises:
        ValueError: If a structure is not usable, a unit or label is unknown or, at the end, if no
            structure had one of the labels.
        ImportError: If ASE is needed and not installed.
    """
    path, units = Path(path).expanduser(), file_units(energy_unit, length_unit)
    rows = LabelCheck(labels, f"'{path}'").passed_on(_rows(path, labels, keys))
    for index, row in enumerate(rows):
        try:
            found = structure_of_row(_name(path, index), row, labels, units)
        except ValueError as error:
            if failures is None:
                raise
            failures[index] = str(error)
            continue
        yield found


def check_file(
    path: str | Path, labels: Sequence[str], keys: Mapping[str, str] | None = None
) -> None:
    """Refuses a file that is empty or lacks a label everywhere; it stops when all were found.

    Args:
        path: Name of the file.
        labels: What some structure of it must have.
        keys: The file's names for labels.

    Raises:
        ValueError: If there is no such file, it is empty, or no structure has one of the labels.
    """
    path = Path(path).expanduser()
    check, empty = LabelCheck(labels, f"'{path}'"), True
    for row in _rows(path, labels, keys):
        check.add(row)
        empty = False
        if check.complete:
            return
    if empty:
        raise ValueError(f"The file holds no structures. Received: path='{path}'.")
    check.finish()


def from_atoms(
    images: Any,
    labels: Sequence[str] = ("energy", "forces"),
    keys: Mapping[str, str] | None = None,
) -> list[Graph]:
    """Makes structures of ASE's atoms, which may change afterwards.

    Args:
        images: One `ase.Atoms` or several. Total charge and spin multiplicity are
            `info["charge"]` and `info["spin"]`; labels are in `info`, in `arrays` or in the
            results of a calculator, in eV and Å.
        labels: What to take; it may be missing in some images, which have NaN in its place then.
            `()` for structures to predict.
        keys: The images' names for labels, where they differ: `{"energy": "REF_energy"}`.

    Returns:
        The structures, in the order of the images.

    Raises:
        ValueError: If no image has one of the labels, or an image is not usable.

    Example:
        >>> model.predict(from_atoms(atoms, labels=()))  # doctest: +SKIP
    """
    check_labels(labels)
    images = [images] if hasattr(images, "get_positions") else images
    rows = (row_of_atoms(atoms, labels, dict(keys or {})) for atoms in images)
    checked = LabelCheck(labels, "the images").passed_on(rows)
    return [
        structure_of_row(f"Image {index}", row, labels, FileUnits())
        for index, row in enumerate(checked)
    ]


def configurations(path: str | Path, split: str = "all") -> list[str] | None:
    """Reads what kind of structure a file says that each one is, to sort errors by it.

    Args:
        path: A file of ASE's formats, where the kind is `info["config_type"]`, or an npz file with
            an array `config_type` of text.
        split: The part of the file, as `load_structures` takes it.

    Returns:
        A name for each structure of the split, `""` where there is none; `None` if no structure
        has one.
    """
    path = Path(path).expanduser()
    if path.suffix == ".npz":
        with np.load(path) as file:
            if CONFIGURATION not in file.files:
                return None
            names = file[CONFIGURATION].astype(np.str_).tolist()
    else:
        names = [str(atoms.info.get(CONFIGURATION, "")) for atoms in images_of_file(path)]
    if not any(names):
        return None
    return [names[index] for index in select(split, _parts(path, len(names)))]


def _rows(path: Path, labels: Sequence[str], keys: Mapping[str, str] | None) -> Iterator[Row]:
    """Reads the rows of a file one by one, after a look at the labels and at the file's name."""
    check_labels(labels)
    if not path.is_file():
        raise ValueError(f"There is no such file. Received: path='{path}'.")
    read = rows_of_npz if path.suffix == ".npz" else rows_of_ase
    yield from read(path, labels, dict(keys or {}))


def _parts(path: Path, count: int) -> dict[str, Array]:
    """Lists the splits of a file, `all` among them."""
    parts: dict[str, Array] = {"all": np.arange(count)}
    return parts | (splits_of_npz(path, count) if path.suffix == ".npz" else {})


def _name(path: Path, index: int) -> str:
    return f"Structure {index} of '{path}'"
