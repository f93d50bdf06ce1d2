"""Structures of ASE's atoms, and of the files that ASE reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff.datasets.tools.extxyz import is_xyz, rows_of_xyz
from keras_mlff.datasets.tools.rows import Row, make_row, names_of

_READ = (
    "extended XYZ (.xyz and .extxyz, compressed too), npz (.npz), ASE databases (.db, .json, "
    ".aselmdb), trajectories (.traj) and more that ase.io.formats lists"
)


def rows_of_images(
    images: Iterable[Any], where: str, labels: Sequence[str], keys: Mapping[str, str]
) -> Iterator[Row]:
    """Takes from ASE's atoms what `graph.structure` takes, in their units, image by image.

    Labels are in `info`, in `arrays` or in the results of a calculator, under the name of the
    quantity or under ASE's name for it (`magmoms`, `charges`, ...). Results count only if they were
    computed for exactly these atoms (`calc.check_state`), and a label that both the atoms and their
    calculator have must be the same in both.

    Args:
        images: `ase.Atoms`.
        where: What messages call an image, with `{}` for its number.
        labels: Which labels to take. Absent ones are `None`.
        keys: The images' names for labels, where they are others.

    Raises:
        ValueError: If labels, charge or spin of an image are not usable, with its number.
    """
    for index, atoms in enumerate(images):
        try:
            row = _row_of_atoms(atoms, labels, keys)
        except ValueError as error:
            raise ValueError(f"{where.replace('{}', str(index), 1)}: {error}") from error
        yield row


def images_of_file(path: Path) -> Iterator[Any]:
    """Reads `ase.Atoms` from a database, a trajectory or another file of ASE, one by one.

    Raises:
        ValueError: If ASE cannot read the file, with the frame at which it stopped.
        ImportError: If ASE, or what it reads LMDB with, is not installed.
    """
    ase, index = import_ase(), 0
    read = _images_of_database if path.suffix in (".db", ".aselmdb") else ase.io.iread
    try:
        for atoms in read(str(path), index=":"):
            yield atoms
            index += 1
    except ModuleNotFoundError as error:
        raise ImportError(
            f"'{path}' is read by the package ase-db-backends, which is not installed. Install it "
            "with `pip install keras-mlff[lmdb]`."
        ) from error
    except Exception as error:  # ASE's errors are of many types
        raise ValueError(
            f"ASE cannot read frame {index} of '{path}' ({type(error).__name__}: {error}). Is the "
            f"file whole, and does its suffix name its format? Files that are read: {_READ}."
        ) from error


def constraints(path: str | Path) -> list[Any]:
    """Reads ASE's constraints, such as atoms held fixed, of the first structure of a file."""
    path = Path(path).expanduser()
    if path.suffix == ".npz":
        return []
    if not is_xyz(path):
        return list(next(images_of_file(path)).constraints)
    moves = next(rows_of_xyz(path, (), {})).found.get("move_mask")
    if moves is None:
        return []
    from ase.constraints import FixAtoms, FixCartesian

    fixed = ~np.asarray(moves, np.bool_)  # (num_atoms,) or (num_atoms, 3)
    if fixed.ndim == 1:
        return [FixAtoms(mask=fixed)]
    return [FixCartesian(index, mask=row) for index, row in enumerate(fixed) if row.any()]


def import_ase() -> Any:
    """Imports ASE and its readers.

    Raises:
        ImportError: If ASE is not installed, with the extra that has it.
    """
    try:
        import ase
        import ase.io
    except ImportError as error:
        raise ImportError(
            "Only npz and extended XYZ files are read without ASE, which is not installed. Install "
            "it with `pip install keras-mlff[md]`."
        ) from error
    return ase


def _row_of_atoms(atoms: Any, labels: Sequence[str], keys: Mapping[str, str]) -> Row:
    geometry = {"positions": atoms.positions, "atomic_numbers": atoms.numbers}
    if atoms.pbc.any():
        geometry |= {"cell": atoms.cell.array, "pbc": atoms.pbc}
    arrays = {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
    sources = {"info": atoms.info, "arrays": arrays}
    results = getattr(atoms.calc, "results", None) or {}
    check = getattr(atoms.calc, "check_state", None)
    if check is not None and not check(atoms):
        return make_row(geometry, {**sources, "calculator": results}, labels, keys)
    row = make_row(geometry, sources, labels, keys)
    for label in labels:
        if row.values[label] is None and any(name in results for name in names_of(label, keys)):
            raise ValueError(
                f"'{label}' is in the results of a calculator that were computed for other atoms, "
                "or for these before they changed. Compute each image and keep its results: "
                "atoms.calc = SinglePointCalculator(atoms, energy=..., forces=...)."
            )
    return row


def _images_of_database(path: str, **_: str) -> Iterator[Any]:
    """Reads the rows of an ASE database, with keys and data of a row in `info`."""
    from ase.db import connect

    read_only = {}
    if path.endswith(".aselmdb"):
        _check_lmdb(path)
        read_only["readonly"] = True
    with connect(path, **read_only) as database:
        for row in database.select():
            atoms = row.toatoms()
            # not their values there: a stored "charge" hides behind a property of the row
            stored = {key: vars(row)[key] for key in row.key_value_pairs}
            if twice := stored.keys() & row.data.keys():
                raise ValueError(f"{sorted(twice)} are both keys and data of a row")
            atoms.info |= {**row.data, **stored}
            yield atoms


def _check_lmdb(path: str) -> None:
    """Refuses a file that was cut off; LMDB maps files, and to read beyond the end kills Python."""
    import lmdb

    with lmdb.open(path, subdir=False, readonly=True, lock=False) as environment:
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if needed > (size := Path(path).stat().st_size):
        raise ValueError(f"the file is cut off: {size:,} bytes instead of {needed:,}")
