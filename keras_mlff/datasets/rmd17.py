"""rMD17, the revised labels of MD17, for TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from keras_mlff import units
from keras_mlff.datasets.tools.builder import AtomisticConfig, AtomisticDatasetBuilder
from keras_mlff.datasets.tools.sources import Source, indices, load_npz, member
from keras_mlff.graph import Array

_ARCHIVE = "rmd17.tar.bz2"
_ARRAYS = {
    "positions": "coords",
    "atomic_numbers": "nuclear_charges",
    "energy": "energies",
    "forces": "forces",
}
_MOLECULES = (
    "aspirin",
    "azobenzene",
    "benzene",
    "ethanol",
    "malonaldehyde",
    "naphthalene",
    "paracetamol",
    "salicylic",
    "toluene",
    "uracil",
)
_SPLITS = ("01", "02", "03", "04", "05")


class RMD17(AtomisticDatasetBuilder):
    """Up to 100,000 frames of ten molecules of MD17, their energies and forces computed again.

    A name such as `aspirin_01` has the published training and test frames, 1,000 of each, in their
    order. `aspirin` has all frames, shuffled once for all. The authors advise against training on
    more than 1,000 frames, because those of a trajectory are correlated.
    """

    name = "rmd17"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(name=molecule, description=f"All frames of {molecule}.")
        for molecule in _MOLECULES
    ] + [
        AtomisticConfig(
            name=f"{molecule}_{number}",
            description=f"{molecule}, split {number} of Christensen and von Lilienfeld, 2020, "
            "https://arxiv.org/abs/2007.09593",
        )
        for molecule in _MOLECULES
        for number in _SPLITS
    ]
    HOMEPAGE = "https://doi.org/10.6084/m9.figshare.12672038"
    CITATION = """@article{christensen2020role,
  title = {On the role of gradients for machine learning of molecular energies and forces},
  author = {Christensen, Anders S. and von Lilienfeld, O. Anatole},
  journal = {Machine Learning: Science and Technology},
  volume = {1},
  pages = {045018},
  year = {2020},
  doi = {10.1088/2632-2153/abba6f},
}"""
    LICENSE = "CC0-1.0"
    LEVEL_OF_THEORY = "PBE/def2-SVP, very tight convergence, dense grid, ORCA"
    STRUCTURES = "up to 100,000 of each molecule"
    ELEMENTS = "H C N O"
    SOURCES: ClassVar[dict[str, Source]] = {
        _ARCHIVE: Source(
            "https://figshare.com/ndownloader/files/23950376",
            checksum="cddeea2ec2c4b22a9de16a9a65a3eeedac5b29da9c99c20bbff0153912bf922b",
            size=1_066_301_513,
            layout="rmd17/npz_data/rmd17_<molecule>.npz (coords in Å, nuclear_charges, energies "
            "in kcal/mol, forces in kcal/mol/Å) and rmd17/splits/index_<train|test>_<01-05>.csv",
        )
    }

    def splits(self, dl_manager: Any) -> dict[str, Any]:
        """Reads all frames of a molecule, or the published training and test frames."""
        molecule, _, number = self.builder_config.name.partition("_")
        folder = self.source(dl_manager, _ARCHIVE)
        with self.readable(_ARCHIVE):
            path = member(folder, f"rmd17_{molecule}.npz")
            if not number:
                return {"train": self._generate_examples(path, None)}
            rows = {
                split: indices(member(folder, f"index_{split}_{number}.csv"))
                for split in ("train", "test")
            }
        return {split: self._generate_examples(path, rows[split]) for split in rows}

    def _generate_examples(self, path: Path, rows: Array | None) -> Iterator[tuple[int, Any]]:
        """Reads frames in kcal/mol and Å.

        Args:
            path: The npz file of a molecule.
            rows: The frames to read, in their order; all, shuffled with seed 0, where `None`.
        """
        with self.readable(_ARCHIVE):
            source = load_npz(path, _ARRAYS)
            count = len(source["positions"])
            if rows is not None and rows.max() >= count:
                raise OSError(f"a split names frame {rows.max()}, but there are {count}")
        chosen: npt.NDArray[Any] = (
            np.random.default_rng(0).permutation(count) if rows is None else rows
        )
        for row in chosen.tolist():
            example = self.example(
                positions=source["positions"][row],  # Å
                atomic_numbers=source["atomic_numbers"].astype(np.int32),
                energy=source["energy"][row] * units.kcal_per_mol,
                forces=source["forces"][row] * units.kcal_per_mol_per_angstrom,
            )
            yield row, example
