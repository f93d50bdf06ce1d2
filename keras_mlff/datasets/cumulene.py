"""Cumulenes, whose energy no local model can know, for TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_mlff.datasets.tools.builder import AtomisticConfig, AtomisticDatasetBuilder
from keras_mlff.datasets.tools.extxyz import rows_of_xyz
from keras_mlff.datasets.tools.sources import Source

_COMMIT = "7cc3f6bf3fcd9d54248713ce19d7c76fea2abfe0"
_URL = "https://raw.githubusercontent.com/LarsSchaaf/Guaranteed-Non-Local-Molecular-Dataset/"
_URL += f"{_COMMIT}/"
_LAYOUT = "extended XYZ, orca_vtscf_energy in eV, orca_vtscf_forces in eV/Å"
_PARTS = {part: f"gnl-dataset/GNL-v0.2/gnl-v0.2-{part}.xyz" for part in ("train", "val", "test")}
_TESTS = {  # by config_type in the file
    "test": "in-domain",
    "test_11_12": "out-domain-nc-11,12",
    "test_15_16": "out-domain-nc-15,16",
}
_KEYS = {"energy": "orca_vtscf_energy", "forces": "orca_vtscf_forces"}  # eV, eV/Å
_SCANS = {
    "angle_12": "visualise/cumulene-angle-scan-n12.xyz",
    "length_5deg": "visualise/cumulene-length-scan-5deg.xyz",
    "length_5deg_30": "visualise/cumulene-length-scan-5deg-30.xyz",
    "length_85deg_30": "visualise/cumulene-length-scan-85deg-30.xyz",
}


class Cumulene(AtomisticDatasetBuilder):
    """Chains of 3 to 16 carbon atoms in double bonds, GNL v0.2, distorted and turned at one end.

    `train` (200) and `validation` (50) have 3 to 10, 13 and 14 carbon atoms, as has `test` (50);
    `test_11_12` and `test_15_16` (60 each) have lengths that were never seen. The data of the
    So3krates paper, cumulene with up to nine carbon atoms, are not public.
    """

    name = "cumulene"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(
            name="gnl",
            description="The splits of Batatia et al., 2023, https://arxiv.org/abs/2310.10434",
        ),
        AtomisticConfig(
            name="scans", description="Energies against the angle and the length, of the same."
        ),
    ]
    HOMEPAGE = "https://github.com/LarsSchaaf/Guaranteed-Non-Local-Molecular-Dataset"
    CITATION = """@inproceedings{batatia2023equivariant,
  title = {Equivariant Matrix Function Neural Networks},
  author = {Batatia, Ilyes and Schaaf, Lars L. and Chen, Huajie and Cs{\\'a}nyi, G{\\'a}bor and
    Ortner, Christoph and Faber, Felix A.},
  booktitle = {International Conference on Learning Representations},
  year = {2024},
}"""
    LICENSE = "not stated at the source"
    LEVEL_OF_THEORY = (
        "density functional theory, very tight convergence, ORCA; functional not stated"
    )
    STRUCTURES = "200 to train, 50 to validate, 170 to test; four scans"
    ELEMENTS = "H C"
    SOURCES: ClassVar[dict[str, Source]] = {
        file: Source(_URL + file, layout=_LAYOUT) for file in (*_PARTS.values(), *_SCANS.values())
    }

    def splits(self, dl_manager: Any) -> dict[str, Any]:
        """Reads a file for each split; the three tests are kinds of structures of one file.

        The file of the tests names the kind of each structure in `config_type`.
        """
        if self.builder_config.name == "scans":
            return {
                split: self._generate_examples(key, self.source(dl_manager, key))
                for split, key in _SCANS.items()
            }
        files = {key: self.source(dl_manager, key) for key in _PARTS.values()}
        parts = {
            "train": self._generate_examples(_PARTS["train"], files[_PARTS["train"]]),
            "validation": self._generate_examples(_PARTS["val"], files[_PARTS["val"]]),
        }
        for split, kind in _TESTS.items():
            parts[split] = self._generate_examples(_PARTS["test"], files[_PARTS["test"]], kind)
        return parts

    def _generate_examples(
        self, key: str, path: Path, kind: str | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Reads the frames of a file, or those of one kind, in eV and eV/Å.

        Args:
            key: The name of the file in `SOURCES`, for messages.
            path: The file of extended XYZ.
            kind: The `config_type` of the frames to take; all where `None`.
        """
        with self.readable(key):
            for index, row in enumerate(rows_of_xyz(path, tuple(_KEYS), _KEYS)):
                if kind is None or row.found.get("config_type") == kind:
                    yield index, self.example(**row.complete(tuple(_KEYS)))
