"""DES370K, interaction energies of dimers, for TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from keras_mlff import units
from keras_mlff.datasets.tools.builder import (
    AtomisticConfig,
    AtomisticDatasetBuilder,
    Example,
    Unusable,
)
from keras_mlff.datasets.tools.csv_files import csv_chunks
from keras_mlff.datasets.tools.elements import NUMBERS
from keras_mlff.datasets.tools.sources import Source, member
from keras_mlff.graph import Array

_ARCHIVE = "DES370K.zip"
_COLUMNS = {"cbs": "cbs_CCSD(T)_all", "small_basis": "cc_CCSD(T)_all"}


class DES370K(AtomisticDatasetBuilder):
    """370,959 geometries of 3,691 dimers of 392 molecules and ions, with interaction energies.

    The energy is that of the dimer minus those of its two monomers, so it is zero far apart, and
    there are no forces. The order is shuffled once for all: the CMRET paper trained on a random
    80 %, `train[:80%]`.
    """

    name = "des370k"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(
            name="cbs", labels=("energy",), description="Extrapolated to a complete basis set."
        ),
        AtomisticConfig(
            name="small_basis",
            labels=("energy",),
            description="CCSD(T) without extrapolation (column cc_CCSD(T)_all), the label of the "
            "CMRET paper, "
            "https://arxiv.org/abs/2308.10752",
        ),
    ]
    HOMEPAGE = "https://doi.org/10.5281/zenodo.5676266"
    CITATION = """@article{donchev2021quantum,
  title = {Quantum chemical benchmark databases of gold-standard dimer interaction energies},
  author = {Donchev, Alexander G. and Taube, Andrew G. and Decolvenaere, Elizabeth and
    Hargus, Cory and McGibbon, Robert T. and Law, Ka-Hei and Gregersen, Brent A. and
    Li, Je-Luen and Palmo, Kim and Siva, Karthik and Bergdorf, Michael and Klepeis, John L. and
    Shaw, David E.},
  journal = {Scientific Data},
  volume = {8},
  pages = {55},
  year = {2021},
  doi = {10.1038/s41597-021-00833-x},
}"""
    LICENSE = "CC-BY-4.0 (record at Zenodo), CC0-1.0 (record at figshare)"
    LEVEL_OF_THEORY = (
        "CCSD(T)/CBS, counterpoise corrected (cbs); CCSD(T) in a small basis (small_basis)"
    )
    STRUCTURES = "370,959"
    ELEMENTS = "H C N O and others, ions among them"
    SOURCES: ClassVar[dict[str, Source]] = {
        _ARCHIVE: Source(
            "https://zenodo.org/record/5676266/files/DES370K.zip",
            checksum="34e36d0a6a19e67b51d17e466dc2cd98200101e4f42768c23f8c774edb94f5a0",
            size=262_493_084,
            layout="DES370K.csv with elements, xyz in Å, charge0, charge1 and energies in kcal/mol",
        )
    }
    EXTENSIVE: ClassVar[tuple[str, ...]] = ()  # an interaction has no share per element

    def splits(self, dl_manager: Any) -> dict[str, Any]:
        """All dimers are in one split, in an order that is shuffled once for all."""
        folder = self.source(dl_manager, _ARCHIVE)
        with self.readable(_ARCHIVE):
            return {"train": self._generate_examples(member(folder, "DES370K.csv"))}

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, Example | Unusable]]:
        """Reads the dimers in chunks, then yields them in the order of a permutation with seed 0.

        A row whose elements or numbers cannot be read is left out and counted.
        """
        column = _COLUMNS[self.builder_config.name]
        columns = ("elements", "xyz", "charge0", "charge1", column)
        dimers: list[_Dimer | Unusable] = []
        with self.readable(_ARCHIVE):
            for chunk in csv_chunks(path, columns):
                dimers += [_dimer(*row) for row in chunk.itertuples(index=False)]
        # a random order needs all dimers at hand, 0.3 GB
        for index in np.random.default_rng(0).permutation(len(dimers)).tolist():
            dimer = dimers[index]
            if isinstance(dimer, Unusable):
                yield index, dimer
            else:
                yield index, self.example(**dimer._asdict())


class _Dimer(NamedTuple):
    """One row of the file, in the units of this package."""

    positions: Array
    atomic_numbers: Array
    total_charge: float
    energy: float


def _dimer(elements: str, xyz: str, charge0: str, charge1: str, energy: str) -> _Dimer | Unusable:
    """Reads a row, whose values are text: Å, e and kcal/mol."""
    try:
        return _Dimer(
            np.asarray(xyz.split(), np.float64).reshape(-1, 3),
            np.asarray([NUMBERS[symbol] for symbol in elements.split()], np.int32),
            float(charge0) + float(charge1),
            float(energy) * units.kcal_per_mol,
        )
    except (KeyError, ValueError) as error:  # no element, no number
        return Unusable(f"{type(error).__name__}: {error}")
