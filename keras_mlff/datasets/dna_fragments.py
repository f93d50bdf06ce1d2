"""Dimers of cytosine-guanine pairs, GeomAtt's DNA data, for TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_mlff.datasets.tools.builder import AtomisticConfig
from keras_mlff.datasets.tools.sgdml import LAYOUT, TrajectoryBuilder
from keras_mlff.datasets.tools.sources import Source, member

_ARCHIVE = "geomatt/datasets.zip"


class DNAFragments(TrajectoryBuilder):
    """Two stacked cytosine-guanine base pairs, 58 atoms, 20,000 frames at 500 K.

    With the training and test frames of the GeomAtt paper, in its order: 15,000 and the rest.
    """

    name = "dna_fragments"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(
            name="cg-cg",
            description="Training and test frames of Frank and Chmiela, 2021, "
            "https://arxiv.org/abs/2106.02549",
        )
    ]
    HOMEPAGE = "https://github.com/thorben-frank/geomatt"
    CITATION = """@misc{frank2021detect,
  title = {Detect the Interactions that Matter in Matter: Geometric Attention for Many-Body
    Systems},
  author = {Frank, Thorben and Chmiela, Stefan},
  year = {2021},
  eprint = {2106.02549},
  archivePrefix = {arXiv},
}"""
    LICENSE = "not stated at the source"
    LEVEL_OF_THEORY = "PBE+MBD"
    STRUCTURES = "20,000"
    ELEMENTS = "H C N O"
    SOURCES: ClassVar[dict[str, Source]] = {
        _ARCHIVE: Source(
            "http://www.quantum-machine.org/data/geomatt/datasets.zip",
            layout=f"cg-cg-train.npz and cg-cg-test.npz, {LAYOUT}",
        )
    }

    def splits(self, dl_manager: Any) -> dict[str, Any]:
        """Reads the published training and test frames, each from its file."""
        folder = self.source(dl_manager, _ARCHIVE)
        with self.readable(_ARCHIVE):
            return {
                split: self._generate_examples(member(folder, f"cg-cg-{split}.npz"))
                for split in ("train", "test")
            }

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, Any]]:
        """Reads frames in the published order, in kcal/mol and Å."""
        return self.frames(_ARCHIVE, path, shuffle=False)
