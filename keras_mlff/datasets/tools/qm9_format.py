"""The files of QM9: properties and units, molecules, the failed ones, references, splits.

There are two forms of the same data: the archive of the publication, with a file for each molecule,
and the tables of the package `qm9pack` of its first author, which know polarizability tensors too.

Reference: Ramakrishnan et al., 2014, https://doi.org/10.1038/sdata.2014.22
"""

from __future__ import annotations

import importlib.util
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_mlff import units
from keras_mlff.datasets.tools.csv_files import csv_chunks
from keras_mlff.graph import Array

NUM_MOLECULES = 133_885
NUM_UNCHARACTERIZED = 3_054
ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}

# what the second line of a molecule's file holds, in its order, and the factor that converts it to
# the unit of the quantity of that name
FACTORS = {
    "A": 1.0,
    "B": 1.0,
    "C": 1.0,
    "mu": units.debye,
    "alpha": units.bohr_cubed,
    "homo": units.hartree,
    "lumo": units.hartree,
    "gap": units.hartree,
    "r2": units.bohr_squared,
    "zpve": units.hartree,
    "U0": units.hartree,
    "U": units.hartree,
    "H": units.hartree,
    "G": units.hartree,
    "Cv": units.cal_per_mol_kelvin,
}
TARGETS = tuple(FACTORS)[3:]  # the 12 properties that networks are compared on
# the tables of qm9pack, the names of these properties in them, and of what else is read
PACKED_TABLES = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")
PACKED_TENSORS = "qm9_polarizability.csv"
_PACKED_PROPERTIES = (
    *("RotA_GHz", "RotB_GHz", "RotC_GHz", "Dipole_debye", "Polarizability_bohr3", "HOMO_au"),
    *("LUMO_au", "HOMO_LUMO_gap_au", "R2_bohr2", "ZPVE_au", "InternalEnergy_0K_au"),
    *("InternalEnergy_298K_au", "Enthalphy_298K_au", "GibbsFreeEnergy_298K_au"),
    "Heatcapacity_Cv_cal_mol_K",
)
_PACKED_ARRAYS = ("Elements", "XYZ_Ang", "Mulliken_pop", "Harmonic_Freq_cmi")
_PACKED_TENSOR = ("A_xx", "A_xy", "A_xz", "A_xy", "A_yy", "A_yz", "A_xz", "A_yz", "A_zz")

# free atoms as atomref.txt has them (hartree, Cv in cal/(mol K))
_ATOMS = {  # U0, U, H, G, Cv
    1: (-0.500273, -0.498857, -0.497912, -0.510927, 2.981),
    6: (-37.846772, -37.845355, -37.844411, -37.861317, 2.981),
    7: (-54.583861, -54.582445, -54.581501, -54.598897, 2.981),
    8: (-75.064579, -75.063163, -75.062219, -75.079532, 2.981),
    9: (-99.718730, -99.717314, -99.716370, -99.733544, 2.981),
}
ATOM_REFERENCES: dict[str, dict[int, float]] = {
    label: {number: values[place] * FACTORS[label] for number, values in _ATOMS.items()}
    for place, label in enumerate(("U0", "U", "H", "G", "Cv"))
}


class Molecule(NamedTuple):
    """One file of QM9, in the units of this package.

    Attributes:
        gdb_index: The number of the molecule, from 1 to 133,885.
        atomic_numbers: `(num_atoms,)`.
        positions: `(num_atoms, 3)`, Å.
        labels: The 15 properties by the names of `FACTORS`, `partial_charges` `(num_atoms,)` by
            Mulliken, `frequencies` `(num_atoms, 3)` and, of qm9pack alone, `polarizability`
            `(3, 3)`.
    """

    gdb_index: int
    atomic_numbers: Array
    positions: Array
    labels: dict[str, Any]


def parse(text: str) -> Molecule:
    """Reads the text of a `dsgdb9nsd_*.xyz` file.

    The first line has the number of atoms and the second one the properties. Each of the next ones
    has an atom: symbol, positions in Å and charge. Then come the frequencies in 1/cm, SMILES and
    InChI, a line each. Some numbers are written as Mathematica does, `6.8*^-6`.

    Raises:
        ValueError: If the text is not such a file, or cut off.
    """
    lines = text.splitlines()
    try:
        num_atoms = int(lines[0])
        tag, index, *properties = lines[1].split()
        if tag != "gdb" or len(lines) != num_atoms + 5:
            raise ValueError(f"{len(lines)} lines instead of {num_atoms + 5}")
        atoms = [line.split() for line in lines[2 : 2 + num_atoms]]
        symbols, *columns = zip(*atoms, strict=True)
        *positions, charges = [[_number(value) for value in column] for column in columns]
        frequencies = [_number(value) for value in lines[2 + num_atoms].split()]
        places = np.asarray(positions).T
        return _molecule(index, symbols, places, properties, charges, frequencies)
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(
            f"This is not a molecule of QM9, or it is cut off ({error}): {text[:80]!r}."
        ) from error


def molecules(path: Path) -> Iterator[Molecule]:
    """Reads the molecules of QM9 in one of its forms.

    Args:
        path: `dsgdb9nsd.xyz.tar.bz2`, a folder of its files, complete or not, or the folder that
            `packed_folder` finds.

    Raises:
        ValueError: If the archive or one of the files is damaged.
    """
    if (path / PACKED_TENSORS).is_file():
        yield from _packed(path)
    elif path.is_dir():
        for file in sorted(path.rglob("dsgdb9nsd_*.xyz")):
            yield parse(file.read_text("utf-8"))
    else:
        try:
            with tarfile.open(path, "r|*") as archive:  # as a stream: seeking in bz2 is slow
                for member in archive:
                    if member.isfile() and (content := archive.extractfile(member)) is not None:
                        yield parse(content.read().decode("utf-8"))
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ValueError(f"'{path}' is damaged ({error}). Download it again.") from error


def packed_folder() -> Path | None:
    """Finds the tables of the package `qm9pack`, where it is installed, without importing it."""
    spec = importlib.util.find_spec("qm9pack")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (folder := Path(place, "data")).is_dir():
            return folder
    return None


def packed_indices(folder: Path) -> set[int]:
    """Lists the molecules in the tables of `qm9pack`, which lack those that are uncharacterized.

    Raises:
        ValueError: If a table is damaged.
    """
    chunks = (chunk for table in PACKED_TABLES for chunk in _chunks(folder / table, ["Index"]))
    return {int(index) for chunk in chunks for index in chunk["Index"]}


def _chunks(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Reads columns of a table of `qm9pack` in chunks.

    Raises:
        ValueError: If the table is damaged.
    """
    try:
        yield from csv_chunks(path, columns)
    except (KeyError, OSError) as error:
        raise ValueError(
            f"'{path}' of qm9pack is damaged ({error}). Install the package again."
        ) from error


def _packed(folder: Path) -> Iterator[Molecule]:
    """Reads the tables of `qm9pack`.

    Raises:
        ValueError: If a row is not a molecule of QM9, or has no tensor.
    """
    columns = ["XYZ_file", *_PACKED_TENSOR]
    tensors = {
        row[0]: row[1:]
        for chunk in _chunks(folder / PACKED_TENSORS, sorted(set(columns)))
        for row in zip(*(chunk[column] for column in columns), strict=True)
    }
    columns = ["XYZ_file", "Index", *_PACKED_ARRAYS, *_PACKED_PROPERTIES]
    for table in PACKED_TABLES:
        for chunk in _chunks(folder / table, columns):
            for row in chunk.itertuples(index=False, name=None):
                name, index, symbols, positions, charges, frequencies, *properties = row
                try:
                    molecule = _molecule(
                        index,
                        json.loads(symbols.replace("'", '"')),
                        _numbers(positions),
                        properties,
                        _numbers(charges),
                        _numbers(frequencies),
                    )
                    tensor = np.asarray([_number(x) for x in tensors[name]]).reshape(3, 3)
                except (ValueError, KeyError) as error:
                    raise ValueError(
                        f"'{table}' of qm9pack has a row that is not a molecule of QM9 ({error}): "
                        f"{name}. Install the package again."
                    ) from error
                molecule.labels["polarizability"] = tensor * units.bohr_cubed
                yield molecule


def _molecule(
    index: str,
    symbols: Sequence[str],
    positions: Any,
    properties: Sequence[str],
    charges: Any,
    frequencies: Any,
) -> Molecule:
    """Puts a molecule together, in the units of this package."""
    labels: dict[str, Any] = {
        key: _number(value) * factor
        for (key, factor), value in zip(FACTORS.items(), properties, strict=True)
    }
    numbers = np.asarray([ELEMENTS[symbol] for symbol in symbols], np.int32)
    places = np.asarray(positions, np.float64)
    labels["partial_charges"] = np.asarray(charges, np.float64)
    modes = np.zeros(3 * len(numbers))
    if len(frequencies) == 2 * (len(modes) - 6):
        # of two calculations, which 334 molecules have; half the sum of the second is `zpve`
        frequencies = frequencies[len(modes) - 6 :]
    num_rigid = len(modes) - len(frequencies)
    if places.shape != (len(numbers), 3) or len(charges) != len(numbers) or num_rigid not in (5, 6):
        raise ValueError(
            f"{len(numbers)} elements with positions {places.shape}, {len(charges)} charges and "
            f"{len(frequencies)} frequencies"
        )
    modes[num_rigid:] = frequencies
    labels["frequencies"] = modes.reshape(-1, 3)
    return Molecule(int(index), numbers, places, labels)


def uncharacterized(path: Path) -> set[int]:
    """Reads `uncharacterized.txt`: molecules whose relaxed geometry has another bonding.

    Raises:
        ValueError: If they are not 3,054.
    """
    lines = path.read_text("utf-8", errors="replace").splitlines()
    found = {int(words[0]) for line in lines if (words := line.split()) and words[0].isdigit()}
    if len(found) != NUM_UNCHARACTERIZED:
        raise ValueError(
            f"'{path}' is damaged: it should list {NUM_UNCHARACTERIZED} molecules. Received: "
            f"{len(found)}."
        )
    return found


def split_indices(
    excluded: set[int], num_train: int, num_validation: int, seed: int | None
) -> dict[str, npt.NDArray[np.int64]]:
    """Splits the indices of the molecules that are left, as published programs do.

    Args:
        excluded: The molecules that `uncharacterized` lists.
        num_train: The number of training molecules, which are the first of the permutation.
        num_validation: The number of validation molecules, which come next; the rest is for tests.
        seed: The seed of NumPy's `RandomState`. Where `None`, everything is for training, in order.

    Returns:
        The indices of the molecules of each split, from 1 to 133,885.
    """
    left = np.asarray(sorted(set(range(1, NUM_MOLECULES + 1)) - excluded), np.int64)
    if seed is None:
        return {"train": left}
    left = np.random.RandomState(seed).permutation(left)  # the published generator
    ends = (num_train, num_train + num_validation)
    return {"train": left[: ends[0]], "validation": left[slice(*ends)], "test": left[ends[1] :]}


def _number(text: str) -> float:
    """Reads a number that may be written as Mathematica does."""
    return float(text.replace("*^", "e"))


def _numbers(text: str) -> Array:
    """Reads an array of numbers, of which some may be written as `0.` or `6.8*^-6`."""
    rows = text.strip("[]").split("],[")
    values = np.asarray([[_number(value) for value in row.split(",")] for row in rows])
    return values if text.startswith("[[") else values[0]
