"""Structures from files and back: extended XYZ, npz, ASE databases and trajectories."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_mlff import saving, units
from keras_mlff.datasets.tools.checks import report
from keras_mlff.datasets.tools.splits import select
from keras_mlff.graph import INPUT_LEVELS, Array, Graph, level, structure

ENERGY_UNITS = {
    "eV": 1.0,
    "meV": units.meV,
    "hartree": units.hartree,
    "rydberg": units.rydberg,
    "kcal/mol": units.kcal_per_mol,
    "kJ/mol": units.kJ_per_mol,
}
LENGTH_UNITS = {"Å": 1.0, "angstrom": 1.0, "bohr": units.bohr, "nanometer": units.nanometer}
# names in npz files, ours first; others' names are told by `keys`
_NPZ_NAMES = {
    "positions": ("positions", "R", "coords"),
    "atomic_numbers": ("atomic_numbers", "z", "numbers", "nuclear_charges"),
    "num_atoms": ("num_atoms", "n_atoms"),
    "energy": ("energy", "E", "energies"),
    "forces": ("forces", "F"),
}
_ASE_RESULTS = ("energy", "forces", "stress", "dipole")
_ASE_NAMES = {"total_charge": "charge", "spin_multiplicity": "spin"}
_OPTIONAL = ("cell", "pbc", "total_charge", "spin_multiplicity")
_NOT_SPLITS = {name for names in _NPZ_NAMES.values() for name in names} | {*_OPTIONAL}
_FROM_VOIGT = np.asarray([[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # of xx, yy, zz, yz, xz, xy
_TO_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


class Row(NamedTuple):
    """One structure of a file, in the file's units."""

    values: dict[str, Any]  # arguments of graph.structure, labels included
    found: Collection[str]  # what the file has, in its own words


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
    of each in `n_atoms` `(n,)`. Beside them `energy` (or `E`) `(n,)`, `forces` (or `F`) and, if
    need be, `cell`, `pbc`, `stress`, `total_charge`, `spin_multiplicity`. An array `split_<name>`
    or any other one-dimensional array of integers lists the structures of a split; an array
    `split` of text names the split of each structure. Other arrays with a text, a truth value or
    an index into `<name>_names` for each structure make splits too, one for each value:
    `"group_Surface"`, `"verified_True"`, `"topology_abw"`.

    Everything else is read by ASE: extended XYZ (`.xyz`, `.extxyz`), databases (`.db`),
    trajectories (`.traj`) and more. Total charge and spin multiplicity are `info["charge"]` and
    `info["spin"]`; a `virial` is read as a stress where there is none.

    Args:
        path: Name of the file.
        labels: What every structure must have. Other labels in the file are left out.
        split: `"all"`, a slice of it (`"all[:100]"`), or a split that the file names.
        energy_unit: Of the file: eV, meV, hartree, rydberg, kcal/mol or kJ/mol.
        length_unit: Of the file: Å (or angstrom), bohr or nanometer. Forces are energy over
            length, stress energy over length cubed, a dipole e times length. Labels by other
            names are taken as they are.
        keys: The file's names for labels, where they differ: `{"energy": "REF_energy"}`.

    Raises:
        ValueError: If a structure lacks a label or is not usable, or a unit or split is unknown.
        ImportError: If ASE is needed and not installed.

    Example:
        >>> frames = load_structures("md.npz", energy_unit="kcal/mol")  # doctest: +SKIP
    """
    path = Path(path).expanduser()
    rows = list(_rows(path, labels, keys))
    if not rows:
        raise ValueError(f"The file holds no structures. Received: path='{path}'.")
    parts = {"all": np.arange(len(rows))}
    if path.suffix == ".npz":
        parts |= _splits_of_npz(path, len(rows))
    factors = _factors(energy_unit, length_unit)
    chosen = select(split, parts)
    structures = [_structure(_name(path, index), rows[index], labels, factors) for index in chosen]
    for warning in report(structures).warnings:
        warnings.warn(f"{path}: {warning}", stacklevel=2)
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
        path: See `load_structures`, as for the others.
        labels: What every structure must have.
        energy_unit: Of the file.
        length_unit: Of the file.
        keys: The file's names for labels.
        failures: Receives, where given, what is wrong with structures that are not usable, by their
            place in the file; they are left out then.

    Raises:
        ValueError: If a structure lacks a label or is not usable, or a unit is unknown.
        ImportError: If ASE is needed and not installed.
    """
    path, factors = Path(path).expanduser(), _factors(energy_unit, length_unit)
    for index, row in enumerate(_rows(path, labels, keys)):
        try:
            found = _structure(_name(path, index), row, labels, factors)
        except ValueError as error:
            if failures is None:
                raise
            failures[index] = str(error)
            continue
        yield found


def from_atoms(
    images: Any,
    labels: Sequence[str] = ("energy", "forces"),
    keys: Mapping[str, str] | None = None,
) -> list[Graph]:
    """Makes structures of ASE's atoms, which may change afterwards.

    Args:
        images: One `ase.Atoms` or several. Total charge and spin multiplicity are
            `info["charge"]` and `info["spin"]`; labels stand in `info`, in `arrays` or in the
            results of a calculator, in eV and Å.
        labels: What every image must have; `()` for structures to predict.
        keys: The images' names for labels, where they differ: `{"energy": "REF_energy"}`.

    Raises:
        ValueError: If an image lacks a label or is not usable.

    Example:
        >>> model.predict(from_atoms(atoms, labels=()))  # doctest: +SKIP
    """
    images = [images] if hasattr(images, "get_positions") else images
    return [
        _structure(f"Image {index}", row_of_atoms(atoms, labels, keys or {}), labels, {})
        for index, atoms in enumerate(images)
    ]


def save_structures(
    path: str | Path,
    structures: Sequence[Graph],
    predictions: Mapping[str, Array] | None = None,
) -> None:
    """Writes structures as extended XYZ, which `load_structures` and ASE read.

    Args:
        path: Name of the file, which ends in `.xyz` or `.extxyz`.
        structures: With or without labels.
        predictions: What `model.predict(structures)` returns. They get the plain names (`energy`,
            `forces`), and labels of the structures the names `reference_energy` and so on.

    Raises:
        ValueError: If the name has another ending.
        ImportError: If ASE is not installed.
    """
    check_output(path)
    ase = _import_ase()
    from ase.calculators.singlepoint import SinglePointCalculator

    images, first_atom = [], 0
    for index, graph in enumerate(structures):
        periodic = {"cell": graph["cell"][0], "pbc": graph["pbc"][0]} if "cell" in graph else {}
        atoms = ase.Atoms(graph["atomic_numbers"], graph["positions"], **periodic)
        prefix = "" if predictions is None else "reference_"
        values: dict[str, Array] = {}
        for key, value in graph.items():
            if key not in INPUT_LEVELS:
                values[prefix + key] = value if level(key) == "atom" else value[0]
        for key, value in (predictions or {}).items():
            in_graph = slice(first_atom, first_atom + len(atoms))
            values[key] = value[in_graph] if level(key) == "atom" else value[index]
        first_atom += len(atoms)
        atoms.info |= {
            "charge": float(graph["total_charge"][0]),
            "spin": int(graph["spin_multiplicity"][0]),
        }
        if "cell" not in graph:
            values.pop("stress", None)
        if "stress" in values:
            values["stress"] = values["stress"][_TO_VOIGT]
        results = {key: values.pop(key) for key in _ASE_RESULTS if key in values}
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        for key, value in values.items():
            per_atom = level(key.removeprefix("reference_")) == "atom"
            (atoms.arrays if per_atom else atoms.info)[key] = value
        images.append(atoms)
    with saving.replacing(path) as file:
        ase.io.write(str(file), images, format="extxyz")


def check_output(path: str | Path) -> None:
    """Refuses names that `save_structures` would refuse; call it before the work, not after.

    Raises:
        ValueError: If the name does not end in `.xyz` or `.extxyz`.
    """
    if Path(path).suffix not in (".xyz", ".extxyz"):
        raise ValueError(
            f"Structures are written as extended XYZ. Received: '{path}'. Choose a name that ends "
            "in .xyz or .extxyz."
        )


def _rows(path: Path, labels: Sequence[str], keys: Mapping[str, str] | None) -> Iterator[Row]:
    if not path.is_file():
        raise ValueError(f"There is no such file. Received: path='{path}'.")
    read = _rows_of_npz if path.suffix == ".npz" else _rows_of_ase
    yield from read(path, labels, dict(keys or {}))


def _factors(energy_unit: str, length_unit: str) -> dict[str, float]:
    """Lists the factors to this package's units that are not one."""
    energy = _factor("energy_unit", energy_unit, ENERGY_UNITS)
    length = _factor("length_unit", length_unit, LENGTH_UNITS)
    factors = {
        "positions": length,
        "cell": length,
        "energy": energy,
        "atomic_energies": energy,
        "forces": energy / length,
        "stress": energy / length**3,
        "dipole": length,
    }
    return {key: factor for key, factor in factors.items() if factor != 1.0}


def _name(path: Path, index: int) -> str:
    return f"Structure {index} of '{path}'"


def _structure(name: str, row: Row, labels: Sequence[str], factors: Mapping[str, float]) -> Graph:
    values, found = row
    missing = [label for label in labels if values.get(label) is None]
    if missing:
        raise ValueError(
            f"{name} has no {' and no '.join(missing)}. Received: "
            f"labels={tuple(labels)}; there are {sorted(found)}. Leave out what is not "
            "needed, or tell the names it has there: keys={'energy': 'REF_energy'}."
        )
    for key in factors.keys() & values.keys():
        if values[key] is not None:
            values[key] = np.asarray(values[key], np.float64) * factors[key]
    try:
        return structure(**values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _factor(argument: str, unit: str, known: Mapping[str, float]) -> float:
    name = unicodedata.normalize("NFC", unit)  # there are two signs for Å
    if name not in known:
        raise ValueError(f"Unknown unit. Received: {argument}='{unit}', known are {list(known)}.")
    return known[name]


def _rows_of_npz(path: Path, labels: Sequence[str], keys: Mapping[str, str]) -> Iterator[Row]:
    with np.load(path) as file:
        found = sorted(file.files)
        arrays = {
            key: file[name]
            for key in ("positions", "atomic_numbers", "num_atoms", *_OPTIONAL, *labels)
            if (name := _npz_name(path, key, found, keys)) is not None
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
        real = numbers != 0  # (n, num_atoms)
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
    arrays = {key: _per_structure(path, key, array, count) for key, array in arrays.items()}
    for index, places in enumerate(atoms):
        values = {
            key: array[places if level(key) == "atom" else index] for key, array in arrays.items()
        }
        if "cell" in values and not np.any(values["cell"]):
            values["cell"] = values["pbc"] = None  # a molecule among crystals
        values |= {"positions": positions[places], "atomic_numbers": numbers[places]}
        yield Row(values, found)


def _npz_name(path: Path, key: str, found: Sequence[str], keys: Mapping[str, str]) -> str | None:
    if key in keys:
        return keys[key] if keys[key] in found else None
    names = [name for name in _NPZ_NAMES.get(key, (key,)) if name in found]
    if len(names) > 1:
        raise ValueError(
            f"'{path}' has several arrays for {key}: {names}. Choose one: "
            f"keys={{'{key}': '{names[0]}'}}."
        )
    return names[0] if names else None


def _per_structure(path: Path, key: str, array: Array, count: int) -> Array:
    """Gives every structure its row, where the file has one value for all of them."""
    if level(key) == "atom":
        return array
    single = {"cell": (3, 3), "pbc": (3,), "total_charge": (), "spin_multiplicity": ()}
    if array.shape == single.get(key):
        return np.broadcast_to(array, (count, *array.shape))
    if array.shape[:1] != (count,):
        raise ValueError(
            f"'{key}' in '{path}' needs a row for each of the {count} structures. "
            f"Received: shape {array.shape}."
        )
    return array.reshape(count) if array.shape == (count, 1) else array


def _splits_of_npz(path: Path, count: int) -> dict[str, Array]:
    """Reads named splits: arrays of row numbers, or `split` with a name for each structure."""
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


def _rows_of_ase(path: Path, labels: Sequence[str], keys: Mapping[str, str]) -> Iterator[Row]:
    for atoms in _images(path):
        yield row_of_atoms(atoms, labels, keys)


def constraints(path: str | Path) -> list[Any]:
    """Reads ASE's constraints, such as atoms held fixed, of the first structure of a file."""
    path = Path(path).expanduser()
    return [] if path.suffix == ".npz" else list(next(_images(path)).constraints)


def row_of_atoms(atoms: Any, labels: Sequence[str], keys: Mapping[str, str]) -> Row:
    """Takes from ASE's atoms what `graph.structure` takes, in the units of the file.

    Args:
        atoms: `ase.Atoms`; labels are in `info`, in `arrays` or in the results of a calculator.
        labels: What to take. Absent ones are `None`.
        keys: The file's names for labels, where they differ.
    """
    found = atoms.info | atoms.arrays | (atoms.calc.results if atoms.calc is not None else {})
    values = {key: found.get(keys.get(key, key)) for key in labels}
    for key, name in _ASE_NAMES.items():
        if found.get(keys.get(key, name)) is not None:
            values[key] = found[keys.get(key, name)]
    if values.get("stress") is not None:
        stress = np.asarray(values["stress"])
        values["stress"] = stress[_FROM_VOIGT] if stress.size == 6 else stress.reshape(3, 3)
    elif "stress" in labels and found.get("virial") is not None and atoms.pbc.any():
        values["stress"] = -np.reshape(found["virial"], (3, 3)) / atoms.get_volume()
    values |= {"positions": atoms.positions, "atomic_numbers": atoms.numbers}
    if atoms.pbc.any():
        values |= {"cell": atoms.cell.array, "pbc": atoms.pbc}
    return Row(values, found.keys() - {"numbers", "positions"})


def _images(path: Path) -> Iterator[Any]:
    reader = _import_ase().io
    if path.suffix != ".db":
        yield from reader.iread(str(path), index=":")
        return
    from ase.db import connect

    with connect(path) as database:
        for row in database.select():
            atoms = row.toatoms()
            # not their values there: a stored "charge" hides behind a property of the row
            stored = {key: vars(row)[key] for key in row.key_value_pairs}
            atoms.info |= {**row.data, **stored}
            yield atoms


def _import_ase() -> Any:
    try:
        import ase
        import ase.io
    except ImportError as error:
        raise ImportError(
            "Only npz files are read without ASE, which is not installed. Install it with "
            "`pip install keras-mlff[md]`."
        ) from error
    return ase
