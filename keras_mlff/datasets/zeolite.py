"""Zeolites in hot molecular dynamics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
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

SEED = 0
_SOURCE = "zeolite"
_RECORD = "https://doi.org/10.6084/m9.figshare.27800211"


class Zeolite(AtomisticDatasetBuilder):
    """Frames of ab-initio molecular dynamics of 16 zeolites at 2000 K (Li, Al, Si, O).

    The names of the record's files are not known to this package, so the frames are expected in a
    folder with one extended XYZ file for each framework. The published text has 80,000 frames of
    each framework and 800,000 in total, which do not agree.
    """

    name = "zeolite"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(
            name="alphanet",
            description="Of each framework 60 % to train, 20 % to validate and 20 % to test, as in "
            "AlphaNet (https://arxiv.org/abs/2501.07155). Which frames those were is not "
            "published; here NumPy's default generator permutes them with seed 0.",
            periodic=True,
        ),
    ]
    HOMEPAGE = _RECORD
    CITATION = """@misc{yin2025alphanet,
  title = {AlphaNet: Scaling Up Local-frame-based Atomistic Interatomic Potential},
  author = {Yin, Bangchen and Wang, Jiaao and Du, Weitao and others},
  year = {2025},
  eprint = {2501.07155},
  archivePrefix = {arXiv},
}"""
    LICENSE = "see the record at figshare (not read)"
    LEVEL_OF_THEORY = "DFT with VASP, see the AlphaNet paper"
    STRUCTURES = "80,000 per framework, as printed"
    ELEMENTS = "Li O Al Si"
    SOURCES: ClassVar[dict[str, Source]] = {
        _SOURCE: Source(
            None,
            None,
            None,
            "a folder with one extended XYZ file (.xyz or .extxyz) for each framework, with energy "
            f"(eV) and forces (eV/Å), converted from the files of {_RECORD}",
        ),
    }

    def splits(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, Example | Unusable]]]:
        """Finds the files of all frameworks; each split takes its share of every one."""
        folder = self.source(dl_manager, _SOURCE)
        with self.readable(_SOURCE):
            files = sorted([*folder.glob("*.xyz"), *folder.glob("*.extxyz")])
            if not files:
                raise FileNotFoundError(f"no .xyz or .extxyz file in {folder}")
        return {
            split: self._generate_examples(files, split)
            for split in ("train", "validation", "test")
        }

    def _generate_examples(
        self, files: list[Path], split: str
    ) -> Iterator[tuple[str, Example | Unusable]]:
        """Reads the frames of a split, in eV, eV/Å and Å, framework by framework."""
        for path in files:
            with self.readable(_SOURCE):
                frames = Frames(path)
            order = np.random.default_rng(SEED).permutation(len(frames))
            trained, validated = round(0.6 * len(frames)), round(0.8 * len(frames))
            parts = {
                "train": order[:trained],
                "validation": order[trained:validated],
                "test": order[validated:],
            }
            for row in parts[split].tolist():
                yield f"{path.stem}-{row}", self.example(**frames[row])
