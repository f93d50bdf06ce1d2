"""The files of QM9: properties and units, molecules, the failed ones, references, splits.

Reference: Ramakrishnan et al., 2014, https://doi.org/10.1038/sdata.2014.22
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_mlff import units
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
        labels: The 15 properties by the names of `FACTORS`.
    """

    gdb_index: int
    atomic_numbers: Array
    positions: Array
    labels: dict[str, float]


def parse(text: str) -> Molecule:
    """Reads the text of a `dsgdb9nsd_*.xyz` file.

    The first line has the number of atoms, the second one the properties, and each of the next
    ones an atom: symbol, positions in Å, and a charge that is not read. Some numbers are written as
    Mathematica does, `6.8*^-6`.

    Raises:
        ValueError: If the text is not such a file, or cut off.
    """
    lines = text.splitlines()
    try:
        num_atoms = int(lines[0])
        # frequencies, SMILES and InChI stand behind the atoms
        behind = [line.split() for line in lines[2 + num_atoms :] if line.strip()]
        tag, index, *properties = lines[1].split()
        labels = {
            key: _number(value) * factor
            for (key, factor), value in zip(FACTORS.items(), properties, strict=True)
        }
        atoms = [line.split() for line in lines[2 : 2 + num_atoms]]
        numbers = np.asarray([ELEMENTS[atom[0]] for atom in atoms], np.int32)
        positions = np.asarray([[_number(x) for x in atom[1:4]] for atom in atoms], np.float64)
        complete = tag == "gdb" and positions.shape == (num_atoms, 3)
        if any(len(words) == 5 and words[0] in ELEMENTS for words in behind):
            raise ValueError(f"more than {num_atoms} atoms")
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(f"This is not a molecule of QM9 ({error}): {text[:80]!r}.") from error
    if not complete:
        raise ValueError(f"This molecule of QM9 is cut off: {text[:80]!r}.")
    return Molecule(int(index), numbers, positions, labels)


def molecules(path: Path) -> Iterator[Molecule]:
    """Reads `dsgdb9nsd.xyz.tar.bz2`, or a folder of its files, complete or not.

    Raises:
        ValueError: If the archive or one of its files is damaged.
    """
    if path.is_dir():
        for file in sorted(path.rglob("dsgdb9nsd_*.xyz")):
            yield parse(file.read_text("utf-8"))
        return
    try:
        with tarfile.open(path, "r|*") as archive:  # as a stream: seeking in bz2 is slow
            for member in archive:
                if member.isfile() and (content := archive.extractfile(member)) is not None:
                    yield parse(content.read().decode("utf-8"))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"'{path}' is damaged ({error}). Download it again.") from error


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


def _number(text: Any) -> float:
    """Reads a number that may be written as Mathematica does."""
    return float(text.replace("*^", "e"))
