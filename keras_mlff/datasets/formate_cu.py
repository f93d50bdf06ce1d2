"""Formate on a copper surface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from keras_mlff.datasets.tools.builder import (
    AtomisticConfig,
    AtomisticDatasetBuilder,
    Example,
    Unusable,
)
from keras_mlff.datasets.tools.extxyz import Frames
from keras_mlff.datasets.tools.sources import Source

NUM_TRAIN, NUM_VALIDATION, SEED = 2500, 250, 0


class FormateCu(AtomisticDatasetBuilder):
    """Dehydrogenation of formate on Cu(110): 6,855 frames of 12 ab-initio trajectories.

    48 Cu, 1 C, 2 O and 1 H in a periodic cell, 500 steps of 0.5 fs from each of 12 images of a
    nudged elastic band. Net forces are not zero in the source (up to 1.9 eV/Å).
    """

    name = "formate_cu"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(
            name="nequip",
            description="2,500 frames to train, 250 to validate, the rest to test: sizes of NequIP "
            "(https://doi.org/10.1038/s41467-022-29939-5) and AlphaNet. Which frames those were is "
            "not published; here NumPy's default generator permutes them with seed 0.",
            periodic=True,
        ),
        AtomisticConfig(
            name="unsplit", description="One split, in the order of the file.", periodic=True
        ),
    ]
    HOMEPAGE = "https://archive.materialscloud.org/record/2022.45"
    CITATION = """@article{batzner2022nequip,
  title = {E(3)-equivariant graph neural networks for data-efficient and accurate interatomic
           potentials},
  author = {Batzner, Simon and Musaelian, Albert and Sun, Lixin and Geiger, Mario and Mailoa,
            Jonathan P. and Kornbluth, Mordechai and Molinari, Nicola and Smidt, Tess E. and
            Kozinsky, Boris},
  journal = {Nature Communications},
  volume = {13},
  pages = {2453},
  year = {2022},
  doi = {10.1038/s41467-022-29939-5},
}"""
    LICENSE = "see the record of the Materials Cloud Archive (not read)"
    LEVEL_OF_THEORY = "DFT with CP2K; see the NequIP paper"
    STRUCTURES = "6,855"
    ELEMENTS = "H C O Cu"
    SOURCES: ClassVar[dict[str, Source]] = {
        "fcu.xyz": Source(
            "https://archive.materialscloud.org/records/ycbvx-knj69/files/fcu.xyz?download=1",
            "57f00395d6945a3018a873d229fd7fbb7352a44a66f00f3c6e8a36247e0851e5",
            None,
            "extended XYZ with energy (eV) and forces (eV/Å)",
        ),
    }

    def splits(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Example | Unusable]]]:
        """Reads all frames as one split, or draws those of three splits with seed 0."""
        with self.readable("fcu.xyz"):
            frames = Frames(self.source(dl_manager, "fcu.xyz"))
        if self.builder_config.name == "unsplit":
            return {"train": self._generate_examples(frames, range(len(frames)))}
        order = np.random.default_rng(SEED).permutation(len(frames)).tolist()
        validated = NUM_TRAIN + NUM_VALIDATION
        return {
            "train": self._generate_examples(frames, order[:NUM_TRAIN]),
            "validation": self._generate_examples(frames, order[NUM_TRAIN:validated]),
            "test": self._generate_examples(frames, order[validated:]),
        }

    def _generate_examples(
        self, frames: Frames, rows: Any
    ) -> Iterator[tuple[int, Example | Unusable]]:
        """Reads the frames of these rows of the file, in eV, eV/Å and Å."""
        for row in rows:
            yield row, self.example(**frames[row])
