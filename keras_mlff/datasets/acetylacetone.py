"""Acetylacetone at two temperatures and along two paths, for TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_mlff.datasets.tools.builder import AtomisticConfig, AtomisticDatasetBuilder
from keras_mlff.datasets.tools.extxyz import rows_of_xyz
from keras_mlff.datasets.tools.sources import Source

_COMMIT = "29e6d467317e4b5967b7ea5cbee54de953fa0d45"
_URL = f"https://raw.githubusercontent.com/davkovacs/BOTNet-datasets/{_COMMIT}/"
_PAPER = "of Batatia et al., 2022, https://arxiv.org/abs/2205.06643"
_PARTS = {
    "300K": {"train": "train_300K", "test_300K": "test_MD_300K", "test_600K": "test_MD_600K"},
    "600K": {"train": "train_600K", "test_300K": "test_MD_300K", "test_600K": "test_MD_600K"},
    "paths": {"dihedral": "test_dihedral", "h_transfer": "test_H_transfer"},
}


class Acetylacetone(AtomisticDatasetBuilder):
    """Acetylacetone, 15 atoms: 500 training and 650 test frames at 300 K and at 600 K.

    The paths, a rotation and a transfer of hydrogen, have energies only.
    """

    name = "acetylacetone"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(name="300K", description=f"Training at 300 K, tests {_PAPER}"),
        AtomisticConfig(name="600K", description=f"Training at 600 K, tests {_PAPER}"),
        AtomisticConfig(
            name="paths", labels=("energy",), description=f"The two paths {_PAPER}, in order."
        ),
    ]
    HOMEPAGE = "https://github.com/davkovacs/BOTNet-datasets"
    CITATION = """@misc{batatia2022design,
  title = {The Design Space of {E(3)}-Equivariant Atom-Centered Interatomic Potentials},
  author = {Batatia, Ilyes and Batzner, Simon and Kov{\\'a}cs, D{\\'a}vid P{\\'e}ter and
    Musaelian, Albert and Simm, Gregor N. C. and Drautz, Ralf and Ortner, Christoph and
    Kozinsky, Boris and Cs{\\'a}nyi, G{\\'a}bor},
  year = {2022},
  eprint = {2205.06643},
  archivePrefix = {arXiv},
}"""
    LICENSE = "MIT"
    LEVEL_OF_THEORY = "unrestricted PBE+D3/def2-SVP, very tight convergence, ORCA 5.0"
    STRUCTURES = "500 to train and 650 to test at each temperature; two paths"
    ELEMENTS = "H C O"
    SOURCES: ClassVar[dict[str, Source]] = {
        f"dataset_acac/{part}.xyz": Source(
            f"{_URL}dataset_acac/{part}.xyz", layout="extended XYZ, energy in eV, forces in eV/Å"
        )
        for parts in _PARTS.values()
        for part in parts.values()
    }
    REFERENCES: ClassVar[dict[int, float]] = {  # isolated_atoms.xyz of the source
        1: -13.568422178253735,
        6: -1026.8538996116154,
        8: -2037.796869412825,
    }

    def splits(self, dl_manager: Any) -> dict[str, Any]:
        """Reads one file of the source for each split of the configuration."""
        parts = _PARTS[self.builder_config.name]
        keys = {split: f"dataset_acac/{part}.xyz" for split, part in parts.items()}
        return {
            split: self._generate_examples(key, self.source(dl_manager, key))
            for split, key in keys.items()
        }

    def _generate_examples(self, key: str, path: Path) -> Iterator[tuple[int, Any]]:
        """Reads the frames of a file of extended XYZ, in eV and Å, in their order.

        Args:
            key: The name of the file in `SOURCES`, for messages.
            path: The file.
        """
        with self.readable(key):
            labels = self.builder_config.labels
            for index, row in enumerate(rows_of_xyz(path, labels, {})):
                yield index, self.example(**row.complete(labels))
