"""ISO17, trajectories of isomers of C7O2H10, for TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from keras_mlff.datasets.tools.builder import AtomisticConfig, AtomisticDatasetBuilder
from keras_mlff.datasets.tools.sources import Source, member

_ARCHIVE = "iso17.tar.gz"


class ISO17(AtomisticDatasetBuilder):
    """129 isomers of C7O2H10, 5,000 frames of each at 500 K, with the splits of the SchNet paper.

    `train` and `validation` are frames of 80 % of the molecules, `test_within` other frames of
    these, `test_other` frames of molecules that were never seen. Training frames are shuffled once
    for all.
    """

    name = "iso17"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(
            name="dynamics",
            description="The split of Schütt et al., 2017, https://arxiv.org/abs/1706.08566",
        ),
        AtomisticConfig(
            name="equilibrium",
            labels=("energy",),
            description="Equilibrium geometries of the molecules that were seen in training "
            "(`reference`) and of the others (`test`).",
        ),
    ]
    HOMEPAGE = "http://quantum-machine.org/datasets/"
    CITATION = """@inproceedings{schutt2017schnet,
  title = {{SchNet}: A continuous-filter convolutional neural network for modeling quantum
    interactions},
  author = {Sch{\\"u}tt, Kristof T. and Kindermans, Pieter-Jan and Sauceda, Huziel E. and
    Chmiela, Stefan and Tkatchenko, Alexandre and M{\\"u}ller, Klaus-Robert},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {30},
  year = {2017},
}"""
    LICENSE = "not stated at the source"
    LEVEL_OF_THEORY = "PBE+TS, FHI-aims"
    STRUCTURES = "645,000 (129 molecules)"
    ELEMENTS = "H C O"
    SOURCES: ClassVar[dict[str, Source]] = {
        _ARCHIVE: Source(
            "http://quantum-machine.org/datasets/iso17.tar.gz",
            layout="ASE databases reference.db, test_within.db, test_other.db, reference_eq.db and "
            "test_eq.db (total_energy in eV, atomic_forces in eV/Å), train_ids.txt and "
            "validation_ids.txt",
        )
    }

    def splits(self, dl_manager: Any) -> dict[str, Any]:
        """Reads the ASE databases of the archive.

        Training and validation frames are in the same database, `reference.db`, and two lists name
        them.
        """
        folder = self.source(dl_manager, _ARCHIVE)
        if self.builder_config.name == "equilibrium":
            files = {"reference": "reference_eq.db", "test": "test_eq.db"}
            ids: dict[str, str] = {}
        else:
            files = {
                "train": "reference.db",
                "validation": "reference.db",
                "test_within": "test_within.db",
                "test_other": "test_other.db",
            }
            ids = {"train": "train_ids.txt", "validation": "validation_ids.txt"}
        parts = {}
        for split, file in files.items():
            with self.readable(_ARCHIVE):
                path = member(folder, file)
                listed = member(folder, ids[split]) if split in ids else None
            parts[split] = self._generate_examples(path, listed)
        return parts

    def _generate_examples(self, path: Path, listed: Path | None) -> Iterator[tuple[int, Any]]:
        """Reads the structures of a database, in eV, eV/Å and Å.

        Args:
            path: The database.
            listed: The list of the structures to take, counted from 1, which are shuffled with
                seed 0; all of them in their order where `None`.
        """
        try:
            import ase.db
        except ImportError as error:
            raise ImportError(
                "ISO17 consists of ASE databases, and ASE is not installed. Install it with "
                "`pip install keras-mlff[md]`."
            ) from error
        with self.readable(_ARCHIVE), ase.db.connect(path) as database:
            if listed is None:
                ids = np.arange(1, len(database) + 1)
            else:
                numbers = [int(line) for line in listed.read_text().split()]  # from 1
                ids = np.random.default_rng(0).permutation(numbers)
            for number in ids.tolist():
                row = database.get(id=number)
                labels = {"energy": row.key_value_pairs["total_energy"]}  # eV
                if "forces" in self.builder_config.labels:  # zeros in the others
                    labels["forces"] = row.data["atomic_forces"]  # eV/Å
                yield number, self.example(row.positions, row.numbers, **labels)
