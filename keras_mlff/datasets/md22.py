"""MD22, trajectories of larger molecules, for TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_mlff.datasets.tools.builder import AtomisticConfig
from keras_mlff.datasets.tools.sgdml import LAYOUT, TrajectoryBuilder
from keras_mlff.datasets.tools.sources import Source

_URL = "http://www.quantum-machine.org/gdml/repo/datasets/"
_NUM_ATOMS = {
    "Ac-Ala3-NHMe": 42,
    "DHA": 56,
    "stachyose": 87,
    "AT-AT": 60,
    "AT-AT-CG-CG": 118,
    "buckyball-catcher": 148,
    "double-walled_nanotube": 370,
}


class MD22(TrajectoryBuilder):
    """Molecular dynamics of seven molecules and complexes of 42 to 370 atoms at 400 and 500 K.

    The frames are shuffled once for all, since the paper drew its training frames at random and
    published no list of them.
    """

    name = "md22"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(name=molecule, description=f"All frames of {molecule}, {size} atoms.")
        for molecule, size in _NUM_ATOMS.items()
    ]
    HOMEPAGE = "http://www.sgdml.org/#datasets"
    CITATION = """@article{chmiela2023accurate,
  title = {Accurate global machine learning force fields for molecules with hundreds of atoms},
  author = {Chmiela, Stefan and Vassilev-Galindo, Valentin and Unke, Oliver T. and
    Kabylda, Adil and Sauceda, Huziel E. and Tkatchenko, Alexandre and
    M{\\"u}ller, Klaus-Robert},
  journal = {Science Advances},
  volume = {9},
  pages = {eadf0873},
  year = {2023},
  doi = {10.1126/sciadv.adf0873},
}"""
    LICENSE = "not stated at the source"
    LEVEL_OF_THEORY = "PBE+MBD, FHI-aims"
    STRUCTURES = "5,032 to 85,109 of each molecule"
    ELEMENTS = "H C N O"
    SOURCES: ClassVar[dict[str, Source]] = {
        f"md22_{molecule}.npz": Source(f"{_URL}md22_{molecule}.npz", layout=LAYOUT)
        for molecule in _NUM_ATOMS
    }

    def splits(self, dl_manager: Any) -> dict[str, Any]:
        """All frames of a molecule are in one split, shuffled once for all."""
        key = f"md22_{self.builder_config.name}.npz"
        return {"train": self._generate_examples(key, self.source(dl_manager, key))}

    def _generate_examples(self, key: str, path: Path) -> Iterator[tuple[int, Any]]:
        """Reads frames in kcal/mol and Å; see `TrajectoryBuilder.frames`."""
        return self.frames(key, path)
