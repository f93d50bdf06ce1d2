"""Bilayer graphene with defects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_mlff.datasets.tools.builder import (
    AtomisticConfig,
    AtomisticDatasetBuilder,
    Example,
    Unusable,
)
from keras_mlff.datasets.tools.extxyz import Frames
from keras_mlff.datasets.tools.sources import Source

_RECORD = "https://zenodo.org/records/10374206"
_LAYOUT = f"extended XYZ with energy (eV) and forces (eV/Å), converted from the files of {_RECORD}"


class BilayerGraphene(AtomisticDatasetBuilder):
    """Graphene bilayers without, with one and with two vacancies (V0V0, V0V1, V1V1).

    Interlayer distances, stackings, deformed cells and frames of molecular dynamics. The names of
    the record's files are not known to this package, so their frames are expected in three files
    of extended XYZ, one for each split.
    """

    name = "bilayer_graphene"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(
            name="published",
            description="The split of the source. AlphaNet (https://arxiv.org/abs/2501.07155) "
            "prints 3,988 / 4,467 / 200 structures to train, validate and test; the second number "
            "is probably a misprint.",
            periodic=True,
        ),
    ]
    HOMEPAGE = _RECORD
    CITATION = """@article{ying2024defected,
  author = {Ying, Penghua and others},
  journal = {ACS Nano},
  volume = {18},
  pages = {10133},
  year = {2024},
}"""
    LICENSE = "see the record at Zenodo (not read)"
    LEVEL_OF_THEORY = "PBE+MBD"
    STRUCTURES = "about 4,700 (8,655 as printed)"
    ELEMENTS = "C"
    SOURCES: ClassVar[dict[str, Source]] = {
        f"{split}.xyz": Source(None, None, None, f"{_LAYOUT}, to {verb}")
        for split, verb in (("train", "train"), ("validation", "validate"), ("test", "test"))
    }

    def splits(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Example | Unusable]]]:
        """Reads `train.xyz`, `validation.xyz` and `test.xyz`, which were placed by hand."""
        return {
            split: self._generate_examples(dl_manager, f"{split}.xyz")
            for split in ("train", "validation", "test")
        }

    def _generate_examples(
        self, dl_manager: Any, key: str
    ) -> Iterator[tuple[int, Example | Unusable]]:
        """Reads the frames of a file, in eV, eV/Å and Å, in their order."""
        with self.readable(key):
            frames = Frames(self.source(dl_manager, key))
        for row in range(len(frames)):
            yield row, self.example(**frames[row])
