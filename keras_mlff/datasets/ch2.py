"""Singlet and triplet carbene for TensorFlow Datasets; `datasets.load("ch2")` needs no builder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_mlff.datasets import shipped
from keras_mlff.datasets.tools.builder import AtomisticConfig, AtomisticDatasetBuilder
from keras_mlff.graph import Graph


class CH2(AtomisticDatasetBuilder):
    """Carbene with two lengths and the angle on a grid, 1,000 geometries per spin state.

    Computed by recipes/generate/generate_ch2.py as the CMRET paper describes, and part of
    the package, so nothing is downloaded.
    """

    name = "ch2"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(name="both", description="Singlet and triplet."),
        AtomisticConfig(name="singlet", description="Singlet, restricted Kohn-Sham."),
        AtomisticConfig(name="triplet", description="Triplet, unrestricted Kohn-Sham."),
    ]
    HOMEPAGE = "https://arxiv.org/abs/2308.10752"
    CITATION = """@misc{tao2023cmret,
  title = {Comprehensive Molecular Representation from Equivariant Transformer},
  author = {Tao, Nianze and Morimoto, Hiromi and Leoni, Stefano},
  year = {2023},
  eprint = {2308.10752},
  archivePrefix = {arXiv},
}"""
    LICENSE = "Apache-2.0"
    LEVEL_OF_THEORY = "B3LYP/cc-pVDZ (VWN5), PySCF"
    STRUCTURES = "1,000 in each spin state"
    ELEMENTS = "H C"

    def splits(self, dl_manager: Any) -> dict[str, Any]:
        parts = shipped.ch2(self.builder_config.name)
        return {split: self._generate_examples(parts[split]) for split in ("train", "test")}

    def _generate_examples(self, graphs: list[Graph]) -> Iterator[tuple[int, Any]]:
        for index, graph in enumerate(graphs):
            yield (
                index,
                self.example(
                    positions=graph["positions"],
                    atomic_numbers=graph["atomic_numbers"],
                    spin_multiplicity=int(graph["spin_multiplicity"][0]),
                    energy=graph["energy"][0],
                    forces=graph["forces"],
                ),
            )
