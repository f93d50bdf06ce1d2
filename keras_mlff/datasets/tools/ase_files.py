"""Structures of ASE's atoms, and of the files that ASE reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import quantities
from keras_mlff.datasets.tools.rows import Row

_INPUTS = ("total_charge", "spin_multiplicity")


def rows_of_ase(path: Path, labels: Sequence[str], keys: Mapping[str, str]) -> Iterator[Row]:
    """Reads the structures of a file by ASE, one by one; see `row_of_atoms`.

    Raises:
        ValueError: If ASE cannot read the file, with the frame at which it stopped.
        ImportError: If ASE is not installed.
    """
    for atoms in images_of_file(path):
        yield row_of_atoms(atoms, labels, keys)


def row_of_atoms(atoms: Any, labels: Sequence[str], keys: Mapping[str, str]) -> Row:
    """Takes from ASE's atoms what `graph.structure` takes, in the units of the file.

    Args:
        atoms: `ase.Atoms`. Labels are in `info`, in `arrays` or in the results of a calculator,
            under the name of the quantity or under ASE's name for it (`magmoms`, `charges`, ...).
        labels: Which labels to take. Absent ones are `None`.
        keys: The file's names for labels, where they are others.
    """
    found = atoms.info | atoms.arrays | (atoms.calc.results if atoms.calc is not None else {})
    values = {label: _value(found, label, keys) for label in labels}
    for key in _INPUTS:
        if (value := _value(found, key, keys)) is not None:
            values[key] = value
    virial = found.get("virial")
    if "stress" in labels and values["stress"] is None and virial is not None and atoms.pbc.any():
        # a virial is minus the stress times the volume
        values["stress"] = -np.reshape(virial, (3, 3)) / atoms.get_volume()
    values |= {"positions": atoms.positions, "atomic_numbers": atoms.numbers}
    if atoms.pbc.any():
        values |= {"cell": atoms.cell.array, "pbc": atoms.pbc}
    return Row(values, found.keys() - {"numbers", "positions"})


def images_of_file(path: Path) -> Iterator[Any]:
    """Reads `ase.Atoms` from a file one by one: extended XYZ, a database, a trajectory, ...

    Raises:
        ValueError: If ASE cannot read the file, with the frame at which it stopped.
        ImportError: If ASE is not installed.
    """
    ase = import_ase()
    if path.suffix == ".db":
        yield from _images_of_database(path)
        return
    frames, index = ase.io.iread(str(path), index=":"), 0
    while True:
        try:
            atoms = next(frames)
        except StopIteration:
            return
        except Exception as error:  # ASE's errors are of many types
            raise ValueError(
                f"ASE cannot read frame {index} of '{path}' ({type(error).__name__}: {error}). Is "
                "the file whole, and does its suffix name its format?"
            ) from error
        yield atoms
        index += 1


def constraints(path: str | Path) -> list[Any]:
    """Reads ASE's constraints, such as atoms held fixed, of the first structure of a file."""
    path = Path(path).expanduser()
    return [] if path.suffix == ".npz" else list(next(images_of_file(path)).constraints)


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
            "Only npz files are read without ASE, which is not installed. Install it with "
            "`pip install keras-mlff[md]`."
        ) from error
    return ase


def _images_of_database(path: Path) -> Iterator[Any]:
    """Reads the rows of an ASE database, with keys and data of a row in `info`."""
    from ase.db import connect

    with connect(path) as database:
        for row in database.select():
            atoms = row.toatoms()
            # not their values there: a stored "charge" hides behind a property of the row
            stored = {key: vars(row)[key] for key in row.key_value_pairs}
            atoms.info |= {**row.data, **stored}
            yield atoms


def _value(found: Mapping[str, Any], name: str, keys: Mapping[str, str]) -> Any:
    """Finds a quantity by the name that the user gave, by our own, or by ASE's."""
    if name in keys:
        return found.get(keys[name])
    quantity = quantities.get(name)
    for known in (name, quantity.ase):
        if known is not None and found.get(known) is not None:
            return found[known]
    return None
