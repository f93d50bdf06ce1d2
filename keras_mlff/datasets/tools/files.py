"""Structures with labels from files: extended XYZ, npz, ASE databases and trajectories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff.datasets.tools.ase_files import images_of_file, rows_of_images
from keras_mlff.datasets.tools.checks import report
from keras_mlff.datasets.tools.extxyz import is_xyz, rows_of_xyz
from keras_mlff.datasets.tools.file_units import FileUnits, file_units
from keras_mlff.datasets.tools.npz import rows_of_npz, splits_of_npz
from keras_mlff.datasets.tools.rows import (
    LabelCheck,
    Row,
    check_labels,
    structure_of_row,
    warn_user,
)
from keras_mlff.datasets.tools.sources import Npz
from keras_mlff.datasets.tools.splits import select
from keras_mlff.graph import Array, Graph

CONFIGURATION = "config_type"  # the usual name in extended XYZ for what kind of structure it is


def load_structures(
    path: str | Path,
    labels: Sequence[str] = ("energy", "forces"),
    split: str = "all",
    energy_unit: str | None = None,
    length_unit: str | None = None,
    keys: Mapping[str, str] | None = None,
    stress_unit: str | None = None,
    stress_sign: int = 1,
) -> list[Graph]:
    """Reads structures and their labels from a file, and warns where the units look wrong.

    **npz** files hold `positions` (or `R`) and `atomic_numbers` (or `z`) in one of two layouts:
    `(n, num_atoms, 3)` with `(num_atoms,)` or, where 0 means no atom, `(n, num_atoms)`; or all
    structures one after the other, `(all_atoms, 3)` and `(all_atoms,)`, with the number of atoms
    of each in `n_atoms` `(n,)`. Beside them `energy` (or `E`) `(n,)`, `forces` (or `F`), any other
    registered quantity under its own name and, if need be, `cell` (or sGDML's `lattice`) and `pbc`.
    An array `split_<name>` or any other one-dimensional array of integers lists the structures of
    a split; an array `split` of text names the split of each structure. Other arrays with a text, a
    truth value or an index into `<name>_names` for each structure make splits too, one for each
    value: `"group_Surface"`, `"verified_True"`, `"topology_abw"`.

    **Extended XYZ** (`.xyz`, `.extxyz`, compressed with `.gz`, `.bz2` or `.xz` or not) is read by a
    strict reader of this package; databases (`.db`, `.aselmdb`), trajectories (`.traj`) and more
    are read by ASE. Labels have there the name of the quantity or ASE's name for it.

    In all of them the total charge is `total_charge` or `charge`, and the multiplicity 2S+1
    `spin_multiplicity`, `spin`, `multiplicity` or `mult`; a warning names what else looks like a
    charge, a spin, a cell or a unit. A stress may have nine numbers or six, in the order xx, yy,
    zz, yz, xz, xy. A `virial`, minus the stress times the volume, is read where there is no stress.
    Everything that a file has for a structure fits together, or the file is refused.

    Args:
        path: Name of the file. It may hold molecules and crystals.
        labels: What to read. A label may be missing in some structures, which have NaN in its
            place then, but not in all of them. Other labels in the file are left out.
        split: `"all"`, a slice of it (`"all[:100]"`), or a split that the file names.
        energy_unit: The file's unit of energy: eV, meV, hartree, rydberg, kcal/mol or kJ/mol; if
            not given, the one that the file states (`energy_unit`, or sGDML's `e_unit`), else eV.
        length_unit: The file's unit of length: Å (or angstrom), bohr or nanometer; if not given,
            the one that the file states (`length_unit`, `r_unit`), else Å. Every label is
            converted by its dimension: forces are energy over length, a dipole is e times length.
        keys: The file's names for labels, where they differ: `{"energy": "REF_energy"}`.
        stress_unit: The file's unit of stress: eV/Å³, GPa or kbar; energy over length³ if not
            given. A virial is an energy.
        stress_sign: -1 where stresses and virials have the sign opposite to ASE's, in which a
            stress is positive when stretched: VASP's are positive under pressure.

    Returns:
        The structures, in eV, Å and e.

    Raises:
        ValueError: If the file is damaged, no structure has one of the labels, a structure is not
            usable, or a unit, a split or a label is unknown.
        ImportError: If ASE is needed and not installed.

    Example:
        >>> frames = load_structures("md.npz", energy_unit="kcal/mol")  # doctest: +SKIP
    """
    path = Path(path).expanduser()
    units = file_units(energy_unit, length_unit, stress_unit, stress_sign)
    rows = list(rows_of_file(path, labels, keys))
    if not rows:
        raise ValueError(f"The file holds no structures. Received: path='{path}'.")
    chosen = _chosen(path, split, len(rows))
    check = LabelCheck(labels, f"'{path}', split '{split}',", keys)
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
    energy_unit: str | None = None,
    length_unit: str | None = None,
    keys: Mapping[str, str] | None = None,
    failures: dict[int, str] | None = None,
    stress_unit: str | None = None,
    stress_sign: int = 1,
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
        stress_unit: The file's unit of stress.
        stress_sign: The sign of its stresses relative to ASE's.

    Yields:
        The structures, in eV, Å and e.

    Raises:
        ValueError: If a structure is not usable, a unit or label is unknown or, at the end, if no
            structure had one of the labels.
        ImportError: If ASE is needed and not installed.
    """
    path = Path(path).expanduser()
    units = file_units(energy_unit, length_unit, stress_unit, stress_sign)
    check, index = LabelCheck(labels, f"'{path}'", keys), -1
    for index, row in enumerate(rows_of_file(path, labels, keys)):
        check.add(row)
        try:
            found = structure_of_row(_name(path, index), row, labels, units)
        except ValueError as error:
            if failures is None:
                raise
            failures[index] = str(error)
            continue
        yield found
    if index < 0:
        raise ValueError(f"The file holds no structures. Received: path='{path}'.")
    check.finish()


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
    check, empty = LabelCheck(labels, f"'{path}'", keys), True
    for row in rows_of_file(path, labels, keys):
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
            `info["charge"]` and `info["spin"]`, or have other names that `load_structures` knows.
            Labels are in `info`, in `arrays` or in the results of a calculator, in eV and Å.
            Results count only if they were computed for exactly these atoms, so one calculator
            for all images does not do; a label in several places must be the same in all.
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
    keys = dict(keys or {})
    check_labels(labels, keys)
    images = [images] if hasattr(images, "get_positions") else images
    rows = rows_of_images(images, "Image {}", labels, keys)
    checked = LabelCheck(labels, "the images", keys).passed_on(rows)
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
        with Npz(path) as file:
            if CONFIGURATION not in file.names:
                return None
            names = file[CONFIGURATION].astype(np.str_).tolist()
    else:
        rows = rows_of_file(path, (), None)
        names = [str(row.found.get(CONFIGURATION, "")) for row in rows]
    if not any(names):
        return None
    return [names[index] for index in _chosen(path, split, len(names))]


def rows_of_file(
    path: Path, labels: Sequence[str], keys: Mapping[str, str] | None
) -> Iterator[Row]:
    """Reads a file structure by structure, in its own units.

    Raises:
        ValueError: If there is no such file, it cannot be read, or a label is not known.
    """
    keys = dict(keys or {})
    check_labels(labels, keys)
    if not path.is_file():
        raise ValueError(f"There is no such file. Received: path='{path}'.")
    if path.suffix == ".npz":
        yield from rows_of_npz(path, labels, keys)
        return
    fixed = [key for key in ("positions", "atomic_numbers", "cell", "pbc") if key in keys]
    if fixed:
        raise ValueError(f"Only npz files may call {fixed} otherwise. Received: keys={keys}.")
    if is_xyz(path):
        yield from rows_of_xyz(path, labels, keys)
    else:
        rows = rows_of_images(images_of_file(path), f"Frame {{}} of '{path}'", labels, keys)
        yield from rows


def _chosen(path: Path, split: str, count: int) -> Array:
    """Lists the structures of a split, `all` or one that the file names."""
    parts: dict[str, Array] = {"all": np.arange(count)}
    chosen = select(split, parts | (splits_of_npz(path, count) if path.suffix == ".npz" else {}))
    if np.any((chosen < 0) | (chosen >= count)):
        raise ValueError(
            f"The split '{split}' of '{path}' names structures from {chosen.min()} to "
            f"{chosen.max()}, but there are only 0 to {count - 1}."
        )
    return chosen


def _name(path: Path, index: int) -> str:
    return f"Structure {index} of '{path}'"
