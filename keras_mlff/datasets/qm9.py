"""QM9: 130,831 small organic molecules with 12 properties, charges and frequencies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_mlff.datasets.tools import qm9_format
from keras_mlff.datasets.tools.builder import (
    AtomisticConfig,
    AtomisticDatasetBuilder,
    Example,
    Unusable,
)
from keras_mlff.datasets.tools.sources import Source, manual_folder

_LABELS = (*qm9_format.FACTORS, "polarizability", "partial_charges", "frequencies")


@dataclasses.dataclass(eq=False)
class QM9Config(AtomisticConfig):
    """A published way to part the molecules."""

    labels: tuple[str, ...] = _LABELS
    optional_labels: tuple[str, ...] = ("polarizability",)  # which the archive lacks
    num_train: int = 0
    num_validation: int = 0
    permutation_seed: int | None = None  # of NumPy's RandomState


class QM9(AtomisticDatasetBuilder):
    """Relaxed molecules of up to nine C, N, O and F atoms with 12 properties and A, B, C.

    Mulliken charges and harmonic frequencies are there too, and tensors of polarizability where the
    data come from `qm9pack`, a package of QM9's first author with the complete data set, which
    needs no network once it is installed (the extra `qm9`). Its tables are taken unless the
    archive of the publication is in manual_dir; where both are missing, the archive is downloaded.

    QM9 has 133,885 molecules; the 3,054 whose relaxed geometry did not pass the consistency check
    (uncharacterized.txt) are removed. Energies are totals; `ATOM_REFERENCES` has those of lone
    atoms for U0, U, H and G, and their heat capacity.

    A folder `dsgdb9nsd.xyz` with some of the molecules' files works too: splits stay as published,
    and the molecules that are missing are counted in the report.
    """

    name = "mlff_qm9"  # TFDS has a qm9 of its own
    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS: ClassVar[list[QM9Config]] = [
        QM9Config(
            name="110k",
            description="110,000 to train, 10,000 to validate, 10,831 to test, permuted with seed "
            "42: sizes and seed of DimeNet, https://arxiv.org/abs/2003.03123. Its file lacks other "
            "molecules than the uncharacterized ones (off by one), so single molecules differ.",
            num_train=110_000,
            num_validation=10_000,
            permutation_seed=42,
        ),
        QM9Config(
            name="100k",
            description="100,000 to train, 17,748 to validate, 13,083 to test, permuted with seed "
            "0: the split of Cormorant, https://arxiv.org/abs/1906.04015, and EGNN, "
            "https://arxiv.org/abs/2102.09844.",
            num_train=100_000,
            num_validation=17_748,
            permutation_seed=0,
        ),
        QM9Config(name="unsplit", description="One split, in the order of QM9."),
    ]
    HOMEPAGE = "https://doi.org/10.6084/m9.figshare.c.978904.v5"
    CITATION = """@article{ramakrishnan2014quantum,
  title = {Quantum chemistry structures and properties of 134 kilo molecules},
  author = {Ramakrishnan, Raghunathan and Dral, Pavlo O. and Rupp, Matthias and von Lilienfeld,
            O. Anatole},
  journal = {Scientific Data},
  volume = {1},
  pages = {140022},
  year = {2014},
  doi = {10.1038/sdata.2014.22},
}"""
    LICENSE = "CC0 according to secondary sources (load-atoms); not read at figshare"
    LEVEL_OF_THEORY = "B3LYP/6-31G(2df,p)"
    STRUCTURES = "130,831"
    ELEMENTS = "H C N O F"
    # checksums and sizes are those of TensorFlow Datasets' own qm9
    SOURCES: ClassVar[dict[str, Source]] = {
        "dsgdb9nsd.xyz.tar.bz2": Source(
            "https://springernature.figshare.com/ndownloader/files/3195389",
            "3a63848ac80691bdb8d41834b575afad345b9300d7a2db0c38adb7f6eaa8360c",
            86_144_227,
            "133,885 files dsgdb9nsd_*.xyz, one for each molecule",
        ),
        "uncharacterized.txt": Source(
            "https://springernature.figshare.com/ndownloader/files/3195404",
            "3aa5115d540b356de94791d4a74c3bf1ed91c469ecf52a4f5d7cc0506fe02e24",
            486_752,
            "lines that start with the index of one of the 3,054 molecules to leave out",
        ),
    }
    EXTENSIVE: ClassVar[tuple[str, ...]] = tuple(qm9_format.ATOM_REFERENCES)
    ATOM_REFERENCES: ClassVar[dict[str, dict[int, float]]] = qm9_format.ATOM_REFERENCES
    REFERENCES: ClassVar[dict[int, float]] = qm9_format.ATOM_REFERENCES["U0"]

    def _info(self) -> tfds.core.DatasetInfo:
        info = super()._info()
        info.metadata["atom_references"] = {
            label: {str(number): value for number, value in references.items()}
            for label, references in self.ATOM_REFERENCES.items()
        }
        return info

    def splits(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Example | Unusable]]]:
        """Reads all molecules that passed the check, and splits them as the configuration says."""
        config = self.builder_config
        packed = qm9_format.packed_folder()
        if packed is not None and not self._is_placed(dl_manager):
            archive, everything = packed, range(1, qm9_format.NUM_MOLECULES + 1)
            excluded = set(everything) - qm9_format.packed_indices(packed)
        else:
            try:
                path = self.source(dl_manager, "uncharacterized.txt")
                archive = self.source(dl_manager, "dsgdb9nsd.xyz.tar.bz2", extract=False)
            except ValueError as error:
                raise ValueError(
                    f"{error} Or install the same data: pip install 'keras-mlff[qm9]'"
                ) from error
            with self.readable("uncharacterized.txt"):
                excluded = qm9_format.uncharacterized(path)
        indices = qm9_format.split_indices(
            excluded, config.num_train, config.num_validation, config.permutation_seed
        )
        # a random order needs all molecules at hand, 0.2 GB
        with self.readable("dsgdb9nsd.xyz.tar.bz2"):
            molecules = {
                molecule.gdb_index: molecule
                for molecule in qm9_format.molecules(archive)
                if molecule.gdb_index not in excluded
            }
        return {split: self._generate_examples(molecules, rows) for split, rows in indices.items()}

    @staticmethod
    def _is_placed(dl_manager: Any) -> bool:
        """Tells whether the archive of the publication, or its folder, was placed by hand."""
        folder = manual_folder(dl_manager)
        return folder is not None and any(folder.glob("dsgdb9nsd.xyz*"))

    def _generate_examples(
        self, molecules: dict[int, qm9_format.Molecule], indices: Any
    ) -> Iterator[tuple[int, Example | Unusable]]:
        """Yields the molecules of these indices; one whose file is missing is counted."""
        for index in indices.tolist():
            if (molecule := molecules.get(index)) is None:
                yield index, Unusable("the source lacks its file")
            else:
                _, numbers, positions, labels = molecule
                yield index, self.example(positions, numbers, **labels)
