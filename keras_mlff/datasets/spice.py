"""SPICE, drug-like molecules, peptides and their pairs, for TensorFlow Datasets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import tensorflow_datasets as tfds

from keras_mlff import units
from keras_mlff.datasets.tools.builder import AtomisticConfig, AtomisticDatasetBuilder, Unusable
from keras_mlff.datasets.tools.sources import Source

_FILES = {"v2": "SPICE-2.0.1.hdf5", "v1": "SPICE-1.1.4.hdf5"}
_LAYOUT = "HDF5, a group per molecule with atomic_numbers, conformations in bohr, "
_LAYOUT += "dft_total_energy in hartree, dft_total_gradient in hartree/bohr, smiles, subset"
_ARRAYS = (
    "atomic_numbers",
    "conformations",
    "dft_total_energy",
    "dft_total_gradient",
    "smiles",
    "subset",
)
_SUBSETS = {  # the beginning of their names in the files
    "dipeptides": "SPICE Dipeptides",
    "solvated_amino_acids": "SPICE Solvated Amino Acids",
    "des_dimers": "SPICE DES370K",
    "des_monomers": "SPICE DES Monomers",
    "pubchem": "SPICE PubChem",
    "ion_pairs": "SPICE Ion Pairs",
    "solvated_pubchem": "SPICE Solvated PubChem",
    "amino_acid_ligand": "SPICE Amino Acid Ligand",
    "water": "SPICE Water Clusters",
}
_ONLY_IN_2 = ("solvated_pubchem", "amino_acid_ligand", "water")
_CHARGED_ATOM = re.compile(r"\[[^\]]*?(?P<signs>[+-]+)(?P<size>\d*)(?::\d+)?\]")


class SPICE(AtomisticDatasetBuilder):
    """Up to 2,008,628 conformations of 113,999 molecules and clusters of 2 to 110 atoms.

    Molecules are shuffled once for all and their conformations stay together, so that slices of
    `train` hold different molecules. The total charge follows from the formal charges of the
    SMILES. Some conformations have forces of hundreds of eV/Å.
    """

    name = "spice"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(name=version, description=f"All of {Path(file).stem}.")
        for version, file in _FILES.items()
    ] + [
        AtomisticConfig(name=f"{version}_{subset}", description=f"{title}, {Path(file).stem}.")
        for version, file in _FILES.items()
        for subset, title in _SUBSETS.items()
        if version == "v2" or subset not in _ONLY_IN_2
    ]
    HOMEPAGE = "https://github.com/openmm/spice-dataset"
    CITATION = """@article{eastman2023spice,
  title = {{SPICE}, A Dataset of Drug-like Molecules and Peptides for Training Machine Learning
    Potentials},
  author = {Eastman, Peter and Behara, Pavan Kumar and Dotson, David L. and
    Galvelis, Raimondas and Herr, John E. and Horton, Josh T. and Mao, Yuezhi and
    Chodera, John D. and Pritchard, Benjamin P. and Wang, Yuanqing and De Fabritiis, Gianni and
    Markland, Thomas E.},
  journal = {Scientific Data},
  volume = {10},
  pages = {11},
  year = {2023},
  doi = {10.1038/s41597-022-01882-6},
}"""
    LICENSE = "CC0-1.0"
    LEVEL_OF_THEORY = "ωB97M-D3(BJ)/def2-TZVPPD, Psi4"
    STRUCTURES = "2,008,628 (v2)"
    ELEMENTS = "H Li B C N O F Na Mg Si P S Cl K Ca Br I"
    SOURCES: ClassVar[dict[str, Source]] = {
        _FILES["v1"]: Source(
            "https://zenodo.org/records/8222043/files/SPICE-1.1.4.hdf5",
            checksum="f27d4c81da0e37d6547276bf6b4ae6a1",
            layout=_LAYOUT,
        ),
        _FILES["v2"]: Source(
            "https://zenodo.org/records/10975225/files/SPICE-2.0.1.hdf5",
            checksum="bfba2224b6540e1390a579569b475510",
            size=37_479_271_148,
            layout=_LAYOUT,
        ),
    }

    def splits(self, dl_manager: Any) -> dict[str, Any]:
        """Reads all molecules, or those of one subset, as one split."""
        version, _, subset = self.builder_config.name.partition("_")
        key = _FILES[version]
        path = self.source(dl_manager, key)
        return {"train": self._generate_examples(key, path, _SUBSETS.get(subset, ""))}

    def _generate_examples(self, key: str, path: Path, subset: str) -> Iterator[tuple[str, Any]]:
        """Reads molecules in a shuffled order from an HDF5 file.

        Args:
            key: The name of the file in `SOURCES`, for messages.
            path: The file.
            subset: How the name of the subset begins; empty for all.
        """
        with self.readable(key), h5py.File(path, "r") as file:
            names = list(file)
            for index in np.random.default_rng(0).permutation(len(names)).tolist():
                name, molecule = names[index], file[names[index]]
                missing = [key for key in _ARRAYS if key not in molecule]
                if missing or np.ndim(molecule["conformations"]) != 3:
                    yield name, Unusable(f"no conformations or no {missing}")
                elif _text(molecule["subset"]).startswith(subset):
                    yield from self._conformations(name, molecule)

    def _conformations(self, name: str, molecule: Any) -> Iterator[tuple[str, Any]]:
        """Reads the conformations of a molecule, in hartree and bohr, forces from gradients."""
        numbers = molecule["atomic_numbers"][()].astype(np.int32)
        positions = molecule["conformations"][()] * units.bohr
        energies = molecule["dft_total_energy"][()] * units.hartree
        gradients = molecule["dft_total_gradient"][()] * units.hartree_per_bohr
        charge = formal_charge(_text(molecule["smiles"]))
        for index, energy in enumerate(energies):
            example = self.example(
                positions=positions[index],
                atomic_numbers=numbers,
                total_charge=charge,
                energy=energy,
                forces=-gradients[index],
            )
            yield f"{name}-{index}", example


def formal_charge(smiles: str) -> int:
    """Adds up the charges of the atoms of a SMILES, in e.

    Example:
        >>> formal_charge("[NH4+:1].[Ca++].[O-2:6]")
        1
    """
    total = 0
    for match in _CHARGED_ATOM.finditer(smiles):
        signs, size = match["signs"], match["size"]
        amount = int(size) if size else len(signs)
        total += amount if signs[0] == "+" else -amount
    return total


def _text(values: Any) -> str:
    """Reads a text of an HDF5 file, which may be an array of one."""
    value = values[0] if values.shape else values[()]
    return value.decode() if isinstance(value, bytes) else str(value)
