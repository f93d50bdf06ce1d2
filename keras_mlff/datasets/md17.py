"""MD17, the original trajectories, for TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_mlff.datasets.tools.builder import AtomisticConfig
from keras_mlff.datasets.tools.sgdml import LAYOUT, TrajectoryBuilder
from keras_mlff.datasets.tools.sources import Source, indices, member
from keras_mlff.graph import Array

_URL = "http://www.quantum-machine.org/gdml/data/npz/"
_FILES = {
    "aspirin": "md17_aspirin.npz",
    "azobenzene": "azobenzene_dft.npz",
    "benzene": "md17_benzene2017.npz",
    "benzene2018": "benzene2018_dft.npz",
    "ethanol": "md17_ethanol.npz",
    "malonaldehyde": "md17_malonaldehyde.npz",
    "naphthalene": "md17_naphthalene.npz",
    "paracetamol": "paracetamol_dft.npz",
    "salicylic": "md17_salicylic.npz",
    "toluene": "md17_toluene.npz",
    "uracil": "md17_uracil.npz",
}
_NUM_FRAMES = {
    "aspirin": 211_762,
    "azobenzene": 99_999,
    "benzene": 627_983,
    "benzene2018": 49_863,
    "ethanol": 555_092,
    "malonaldehyde": 993_237,
    "naphthalene": 326_250,
    "paracetamol": 106_490,
    "salicylic": 320_231,
    "toluene": 442_790,
    "uracil": 133_770,
}
_COUPLED_CLUSTER = {
    "aspirin_ccsd": "CCSD/cc-pVDZ",
    "benzene_ccsd_t": "CCSD(T)/cc-pVDZ",
    "ethanol_ccsd_t": "CCSD(T)/cc-pVTZ",
    "malonaldehyde_ccsd_t": "CCSD(T)/cc-pVDZ",
    "toluene_ccsd_t": "CCSD(T)/cc-pVDZ",
}
_CMRET = "cmret/md17_split_indices/"  # in manual_dir
_CMRET_URL = (
    "https://raw.githubusercontent.com/Augus1999/torch_CMRET/"
    "727460fe7b87c1eff1876ac2b94a16cbd4ce33a4/dataset/md17_split_indices/"
)
_CMRET_LISTS = {
    "train": "train_idx.txt",
    "validation": "validation_idx.txt",
    "test": "test_idx.txt",
}


class MD17(TrajectoryBuilder):
    """Molecular dynamics of small molecules at 500 K, up to 993,237 frames of one molecule.

    The frames are shuffled once for all: there is no published split of these, and slices of
    `train` are random samples. The coupled cluster sets have the splits of the sGDML paper, names
    such as `ethanol_cmret` those of the CMRET program. Do not mix these labels with those of
    rMD17, which were computed again.
    """

    name = "md17"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = (
        [
            AtomisticConfig(name=molecule, description=f"{count:,} frames of {molecule}, DFT.")
            for molecule, count in _NUM_FRAMES.items()
        ]
        + [
            AtomisticConfig(
                name=f"{molecule}_cmret",
                description=f"{molecule}; 950 training, 50 validation and 99,000 test frames of "
                "the program of Tao et al., 2023, https://arxiv.org/abs/2308.10752",
            )
            for molecule, count in _NUM_FRAMES.items()
            if count >= 100_000  # the lists name frames up to there
        ]
        + [
            AtomisticConfig(
                name=config,
                description=f"{theory}; training and test frames of Chmiela et al., 2018, "
                "https://doi.org/10.1038/s41467-018-06169-2",
            )
            for config, theory in _COUPLED_CLUSTER.items()
        ]
    )
    HOMEPAGE = "http://www.sgdml.org/#datasets"
    CITATION = """@article{chmiela2017machine,
  title = {Machine learning of accurate energy-conserving molecular force fields},
  author = {Chmiela, Stefan and Tkatchenko, Alexandre and Sauceda, Huziel E. and
    Poltavsky, Igor and Sch{\\"u}tt, Kristof T. and M{\\"u}ller, Klaus-Robert},
  journal = {Science Advances},
  volume = {3},
  pages = {e1603015},
  year = {2017},
  doi = {10.1126/sciadv.1603015},
}"""
    LICENSE = "not stated at the source"
    LEVEL_OF_THEORY = "PBE+TS, FHI-aims; configurations with ccsd in their name: coupled cluster"
    STRUCTURES = "49,863 to 993,237 of each molecule"
    ELEMENTS = "H C N O"
    SOURCES: ClassVar[dict[str, Source]] = {
        **{file: Source(_URL + file, layout=LAYOUT) for file in _FILES.values()},
        **{
            f"{config}.zip": Source(
                f"{_URL}{config}.zip", layout=f"{config}-train.npz and {config}-test.npz, {LAYOUT}"
            )
            for config in _COUPLED_CLUSTER
        },
        **{
            _CMRET + file: Source(_CMRET_URL + file, layout="rows of MD17's files, one per line")
            for file in _CMRET_LISTS.values()
        },
    }

    def splits(self, dl_manager: Any) -> dict[str, Any]:
        """Reads the file of a molecule; how it is split depends on the configuration.

        There is one shuffled split, the frames that the CMRET program lists, or the two files of a
        coupled cluster set.
        """
        config = self.builder_config.name
        if config in _FILES:
            key = _FILES[config]
            return {"train": self._generate_examples(key, self.source(dl_manager, key))}
        if config.endswith("_cmret"):
            key = _FILES[config.removesuffix("_cmret")]
            path = self.source(dl_manager, key)
            rows = {}
            for split, file in _CMRET_LISTS.items():
                listed = self.source(dl_manager, _CMRET + file)
                with self.readable(_CMRET + file):
                    rows[split] = indices(listed)
            return {split: self._generate_examples(key, path, rows=rows[split]) for split in rows}
        key = f"{config}.zip"
        folder = self.source(dl_manager, key)
        parts = {}
        for split in ("train", "test"):
            with self.readable(key):
                path = member(folder, f"{config}-{split}.npz")
            parts[split] = self._generate_examples(key, path, shuffle=False)
        return parts

    def _generate_examples(
        self, key: str, path: Path, shuffle: bool = True, rows: Array | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Reads frames in kcal/mol and Å; see `TrajectoryBuilder.frames`."""
        return self.frames(key, path, shuffle, rows)
