"""QM7-X, small molecules in and out of equilibrium, for TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import tensorflow_datasets as tfds

from keras_mlff.datasets.tools.builder import AtomisticConfig, AtomisticDatasetBuilder
from keras_mlff.datasets.tools.sources import Source

_URL = "https://zenodo.org/record/4288677/files/"
_LAYOUT = "HDF5, a group per molecule and in it one per geometry, with atNUM, atXYZ in Å, "
_LAYOUT += "ePBE0+MBD in eV and totFOR in eV/Å"
_CHECKSUMS = {
    "1000.xz": "b50c6a5d0a4493c274368cf22285503e",
    "2000.xz": "4418a813daf5e0d44aa5a26544249ee6",
    "3000.xz": "f7b5aac39a745f11436047c12d1eb24e",
    "4000.xz": "26819601705ef8c14080fa7fc69decd4",
    "5000.xz": "85ac444596b87812aaa9e48d203d0b70",
    "6000.xz": "787fc4a9036af0e67c034a30ad854c07",
    "7000.xz": "5ecce00a188410d06b747cb683d8d347",
    "8000.xz": "c893ae88b8f5c32541c3f024fc1daa45",
}
_DUPLICATES = "DupMols.dat"


class QM7X(AtomisticDatasetBuilder):
    """4.2 million geometries of 6,950 molecules of up to seven atoms of C, N, O, S and Cl.

    Each of 41,537 structures in equilibrium is followed by 100 displaced ones. The geometries that
    the authors list as duplicates are left out. Molecules are shuffled once for all and stay
    together, so that slices of `train` hold different molecules.
    """

    name = "qm7x"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(name="all", description="In and out of equilibrium."),
        AtomisticConfig(name="equilibrium", description="Only structures in equilibrium."),
    ]
    HOMEPAGE = "https://doi.org/10.5281/zenodo.4288677"
    CITATION = """@article{hoja2021qm7x,
  title = {{QM7-X}, a comprehensive dataset of quantum-mechanical properties spanning the chemical
    space of small organic molecules},
  author = {Hoja, Johannes and Medrano Sandonas, Leonardo and Ernst, Brian G. and
    Vazquez-Mayagoitia, Alvaro and DiStasio Jr., Robert A. and Tkatchenko, Alexandre},
  journal = {Scientific Data},
  volume = {8},
  pages = {43},
  year = {2021},
  doi = {10.1038/s41597-021-00812-2},
}"""
    LICENSE = "CC-BY-4.0"
    LEVEL_OF_THEORY = "PBE0+MBD, tight numeric atomic orbitals, FHI-aims"
    STRUCTURES = "4.2 million (6,950 molecules)"
    ELEMENTS = "H C N O S Cl"
    SOURCES: ClassVar[dict[str, Source]] = {
        **{
            file: Source(_URL + file, checksum=checksum, layout=_LAYOUT)
            for file, checksum in _CHECKSUMS.items()
        },
        _DUPLICATES: Source(
            _URL + _DUPLICATES,
            checksum="5d886ccac38877c8cb26c07704dd1034",
            layout="names of geometries that occur twice, one per line",
        ),
    }
    REFERENCES: ClassVar[dict[int, float]] = {  # PBE0, of the authors' scripts
        1: -13.641404161,
        6: -1027.592489146,
        7: -1484.274819088,
        8: -2039.734879322,
        16: -10828.707468187,
        17: -12516.444619523,
    }

    def splits(self, dl_manager: Any) -> dict[str, Any]:
        """All geometries are in one split; molecules are shuffled once for all."""
        files = {key: self.source(dl_manager, key) for key in _CHECKSUMS}
        duplicates = self.source(dl_manager, _DUPLICATES)
        return {"train": self._generate_examples(files, duplicates)}

    def _generate_examples(
        self, files: dict[str, Path], duplicates: Path
    ) -> Iterator[tuple[str, Any]]:
        """Reads the geometries of all molecules from eight HDF5 files.

        Args:
            files: The files by their names in `SOURCES`.
            duplicates: The list of geometries that occur twice, which are left out.
        """
        names = duplicates.read_text().split()
        dropped = {name.removesuffix("-opt") for name in names}
        with ExitStack() as stack:
            molecules = []
            for key, path in files.items():
                with self.readable(key):
                    file = stack.enter_context(h5py.File(path, "r"))
                    molecules += [(key, file, molecule) for molecule in file]
            for index in np.random.default_rng(0).permutation(len(molecules)).tolist():
                key, file, molecule = molecules[index]
                with self.readable(key):
                    yield from self._geometries(file[molecule], dropped)

    def _geometries(self, molecule: Any, dropped: set[str]) -> Iterator[tuple[str, Any]]:
        """Reads the geometries of a molecule, in eV, eV/Å and Å; duplicates are left out."""
        only_equilibrium = self.builder_config.name == "equilibrium"
        for name, geometry in molecule.items():  # such as Geom-m1-i1-c1-opt or ...-d1
            structure, _, kind = name.rpartition("-")
            if structure in dropped or (only_equilibrium and kind != "opt"):
                continue
            example = self.example(
                positions=geometry["atXYZ"][()],  # Å
                atomic_numbers=geometry["atNUM"][()].astype(np.int32),
                energy=float(geometry["ePBE0+MBD"][0]),  # eV
                forces=geometry["totFOR"][()],  # eV/Å
            )
            yield name, example
