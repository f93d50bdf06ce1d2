"""Open Catalyst 2020, structure to energy and forces."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_mlff.datasets.tools.builder import (
    AtomisticConfig,
    AtomisticDatasetBuilder,
    Example,
    Unusable,
)
from keras_mlff.datasets.tools.extxyz import rows_of_xyz
from keras_mlff.datasets.tools.sources import DAMAGE, Source

_URL = "https://dl.fbaipublicfiles.com/opencatalystproject/data/{}.tar"
_LAYOUT = "chunks <n>.extxyz.xz with energy, forces and <n>.txt.xz with system,frame,reference"
_LABELS = ("energy", "forces", "reference_energy")
# configuration: archive, its MD5 from OC20's list of downloads, what it is
_ARCHIVES = {
    "200k": ("s2ef_train_200K", "f8d0909c2623a393148435dede7d3a46", "200,000 to train."),
    "2M": (
        "s2ef_train_2M",
        "863bc983245ffc0285305a1850e19cf7",
        "2,000,000 to train: OC2M, which AlphaNet and others use.",
    ),
    "val_id": (
        "s2ef_val_id",
        "f57f7f5c1302637940f2cc858e789410",
        "999,866 to validate, from the distribution of the training data.",
    ),
    "val_ood_ads": (
        "s2ef_val_ood_ads",
        "431ab0d7557a4639605ba8b67793f053",
        "999,838 to validate, with unseen adsorbates.",
    ),
    "val_ood_cat": (
        "s2ef_val_ood_cat",
        "532d6cd1fe541a0ddb0aa0f99962b7db",
        "999,809 to validate, with unseen compositions of the catalyst.",
    ),
    "val_ood_both": (
        "s2ef_val_ood_both",
        "5731862978d80502bbf7017d68c2c729",
        "999,944 to validate, with unseen adsorbates on unseen catalysts.",
    ),
}


class OC20S2EF(AtomisticDatasetBuilder):
    """Adsorbates on surfaces along their relaxation, from the Open Catalyst Project.

    `energy` is the adsorption energy that the benchmark asks for: the total of density functional
    theory minus `reference_energy`, that of the clean slab and the adsorbate in the gas. Their sum
    is the total. Forces are those of all atoms, the fixed ones too.

    One configuration for each archive, so that nobody downloads what they do not need. Chunks are
    read one after the other and take no more memory than one structure.
    """

    name = "oc20_s2ef"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(name=name, description=text, labels=_LABELS, periodic=True)
        for name, (_, _, text) in _ARCHIVES.items()
    ]
    HOMEPAGE = "https://opencatalystproject.org/"
    CITATION = """@article{chanussot2021oc20,
  title = {Open Catalyst 2020 (OC20) Dataset and Community Challenges},
  author = {Chanussot, Lowik and Das, Abhishek and Goyal, Siddharth and Lavril, Thibaut and
            Shuaibi, Muhammed and Riviere, Morgane and Tran, Kevin and Heras-Domingo, Javier and
            Ho, Caleb and Hu, Weihua and Palizhati, Aini and Sriram, Anuroop and Wood, Brandon and
            Yoon, Junwoong and Parikh, Devi and Zitnick, C. Lawrence and Ulissi, Zachary},
  journal = {ACS Catalysis},
  volume = {11},
  pages = {6059--6072},
  year = {2021},
  doi = {10.1021/acscatal.0c04525},
}"""
    LICENSE = "CC BY 4.0"
    LEVEL_OF_THEORY = "RPBE, VASP"
    STRUCTURES = "200,000 / 2,000,000; about 1,000,000 in each validation set"
    ELEMENTS = "56 elements, as printed"
    SOURCES: ClassVar[dict[str, Source]] = {
        f"{archive}.tar": Source(_URL.format(archive), checksum, None, _LAYOUT)
        for archive, checksum, _ in _ARCHIVES.values()
    }

    def splits(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, Example | Unusable]]]:
        """Reads the chunks of an archive in the order of their numbers."""
        config = self.builder_config.name
        key = f"{_ARCHIVES[config][0]}.tar"
        folder = self.source(dl_manager, key)
        with self.readable(key):
            chunks = sorted(folder.rglob("*.extxyz.xz"), key=_number)
            if not chunks:
                raise FileNotFoundError(f"no .extxyz.xz file in {folder}")
        split = "validation" if config.startswith("val") else "train"
        return {split: self._generate_examples(key, chunks)}

    def _generate_examples(
        self, key: str, chunks: list[Path]
    ) -> Iterator[tuple[str, Example | Unusable]]:
        """Reads the frames of all chunks; energies become those of adsorption.

        The energy of a frame is its total energy minus the reference energy of its system. A text
        file beside each chunk has the latter, in a line for each frame. What can be read of a chunk
        that is cut off is kept, and the loss is reported.

        Args:
            key: The name of the archive in `SOURCES`, for messages.
            chunks: The compressed files of extended XYZ.
        """
        for chunk in chunks:
            named = chunk.with_name(chunk.name.replace(".extxyz.xz", ".txt.xz"))
            with self.readable(key), lzma.open(named, "rt") as stream:
                systems = [line.strip().split(",") for line in stream if line.strip()]
            count = 0
            try:
                for values, (system, frame, reference) in self._frames(chunk, systems):
                    count += 1
                    values["reference_energy"] = float(reference)
                    values["energy"] = values["energy"] - float(reference)
                    # a frame may be in two chunks, and keys are unique
                    name = f"{_number(chunk)}-{count}-{system}-{frame}"
                    yield name, self.example(**values)
            except (ValueError, *DAMAGE) as error:
                # one known chunk is cut off; that is no reason to lose the other 5,000 x n frames
                lost = len(systems) - count
                yield (
                    f"{_number(chunk)}-rest",
                    Unusable(f"{chunk.name} ends after {count} frames, {lost} lost: {error}"),
                )

    @staticmethod
    def _frames(chunk: Path, systems: list[list[str]]) -> Iterator[tuple[Any, list[str]]]:
        """Yields the frames of a chunk beside system, frame and reference energy of each."""
        labels = ("energy", "forces")
        rows = rows_of_xyz(chunk, labels, {})
        yield from zip((row.complete(labels) for row in rows), systems, strict=True)


def _number(chunk: Path) -> int:
    """Finds the number of a chunk in the name of its file."""
    return int(chunk.name.partition(".")[0])
