"""3BPA, a flexible drug-like molecule at several temperatures, for TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_mlff.datasets.tools.builder import AtomisticConfig, AtomisticDatasetBuilder
from keras_mlff.datasets.tools.extxyz import rows_of_xyz
from keras_mlff.datasets.tools.sources import Source

# the data were archived later than this commit, and extracted files are easier to place
_COMMIT = "29e6d467317e4b5967b7ea5cbee54de953fa0d45"
_URL = f"https://raw.githubusercontent.com/davkovacs/BOTNet-datasets/{_COMMIT}/"
_TESTS = ("test_300K", "test_600K", "test_1200K")
_PAPER = "of Kovács et al., 2021, https://doi.org/10.1021/acs.jctc.1c00647"


class ThreeBPA(AtomisticDatasetBuilder):
    """3-(Benzyloxy)pyridin-2-amine, 27 atoms: 500 training frames, tests up to 1,200 K."""

    name = "three_bpa"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(name="300K", description=f"Training frames at 300 K, test frames {_PAPER}"),
        AtomisticConfig(
            name="mixedT", description=f"Training frames at 300, 600, 1200 K, test frames {_PAPER}"
        ),
        AtomisticConfig(
            name="dihedral", labels=("energy",), description=f"The scan of two dihedrals {_PAPER}"
        ),
    ]
    HOMEPAGE = "https://github.com/davkovacs/BOTNet-datasets"
    CITATION = """@article{kovacs2021linear,
  title = {Linear Atomic Cluster Expansion Force Fields for Organic Molecules: Beyond {RMSE}},
  author = {Kov{\\'a}cs, D{\\'a}vid P{\\'e}ter and van der Oord, Cas and Kucera, Jiri and
    Allen, Alice E. A. and Cole, Daniel J. and Ortner, Christoph and Cs{\\'a}nyi, G{\\'a}bor},
  journal = {Journal of Chemical Theory and Computation},
  volume = {17},
  pages = {7696--7711},
  year = {2021},
  doi = {10.1021/acs.jctc.1c00647},
}"""
    LICENSE = "MIT"
    LEVEL_OF_THEORY = "ωB97X/6-31G(d), ORCA"
    STRUCTURES = "500 to train at 300 K or mixed; tests at 300, 600 and 1,200 K; a scan"
    ELEMENTS = "H C N O"
    SOURCES: ClassVar[dict[str, Source]] = {
        f"dataset_3BPA/{part}.xyz": Source(
            f"{_URL}dataset_3BPA/{part}.xyz", layout="extended XYZ, energy in eV, forces in eV/Å"
        )
        for part in ("train_300K", "train_mixedT", *_TESTS, "test_dih")
    }
    REFERENCES: ClassVar[dict[int, float]] = {  # iso_atoms.xyz of the source
        1: -13.587222780835477,
        6: -1029.4889999855063,
        7: -1484.9814568572233,
        8: -2041.9816003861047,
    }

    def splits(self, dl_manager: Any) -> dict[str, Any]:
        """Reads one file of the source for each split: training, and a test at each temperature."""
        config = self.builder_config.name
        if config == "dihedral":
            parts = {"test": "test_dih"}
        else:
            parts = {"train": f"train_{config}", **{test: test for test in _TESTS}}
        keys = {split: f"dataset_3BPA/{part}.xyz" for split, part in parts.items()}
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
