"""DES370K, interaction energies of dimers, for TensorFlow Datasets."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from keras_mlff import units
from keras_mlff.datasets.tools.builder import AtomisticConfig, AtomisticDatasetBuilder, Unusable
from keras_mlff.datasets.tools.elements import NUMBERS
from keras_mlff.datasets.tools.sources import Source, member

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
        folder = self.source(dl_manager, _ARCHIVE)
        with self.readable(_ARCHIVE):
            return {"train": self._generate_examples(member(folder, "DES370K.csv"))}

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, Any]]:
        column = _COLUMNS[self.builder_config.name]
        with self.readable(_ARCHIVE), path.open("rb") as file:
            names = next(csv.reader([file.readline().decode()]))
            needed = {"elements", "xyz", "charge0", "charge1", column}
            if not needed <= set(names):
                raise KeyError(f"no columns {sorted(needed - set(names))}, only {names}")
            starts = array("q", [file.tell()])
            for line in file:
                starts.append(starts[-1] + len(line))
            for index in np.random.default_rng(0).permutation(len(starts) - 1).tolist():
                file.seek(starts[index])
                values = next(csv.reader([file.readline().decode()]))
                if len(values) != len(names):
                    raise OSError(f"row {index} has {len(values)} values, not {len(names)}")
                row = dict(zip(names, values, strict=True))
                try:
                    example = self._dimer(row, row[column])
                except (KeyError, ValueError) as error:  # no element, no number
                    example = Unusable(f"{type(error).__name__}: {error}")
                yield index, example

    def _dimer(self, row: dict[str, str], energy: str) -> Any:
        return self.example(
            positions=np.asarray(row["xyz"].split(), np.float64).reshape(-1, 3),  # Å
            atomic_numbers=[NUMBERS[symbol] for symbol in row["elements"].split()],
            total_charge=float(row["charge0"]) + float(row["charge1"]),
            energy=float(energy) * units.kcal_per_mol,
        )
