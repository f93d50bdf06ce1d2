"""Structures of any file, prepared like the published data sets."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_mlff.datasets.tools.builder import (
    AtomisticConfig,
    AtomisticDatasetBuilder,
    Example,
    Unusable,
    arguments_of,
)
from keras_mlff.datasets.tools.files import check_file, iterate
from keras_mlff.datasets.tools.sources import manual_folder

_SUFFIXES = (".xyz", ".extxyz", ".npz", ".db", ".aselmdb", ".traj")


@dataclasses.dataclass(eq=False)
class AtomsConfig(AtomisticConfig):
    """A file, what to take from it and in which units it is.

    Attributes:
        path: The file; `None` for `atoms.<suffix>` in `manual_dir`.
        units: The file's units, as arguments of `files.iterate`.
        keys: The file's names for labels, where they differ.
    """

    path: str | None = None
    units: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    keys: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Atoms(AtomisticDatasetBuilder):
    """Your own structures: an extended XYZ or npz file, an ASE database or a trajectory.

    `Atoms(config=file_config("md.xyz"))` prepares a file; without a configuration it is the file
    `atoms` with one of the usual suffixes in manual_dir. The file is read structure by structure,
    so it may be larger than the memory, and changed content makes a new configuration. It may hold
    both molecules and crystals, and single structures may lack labels.
    """

    name = "atoms"
    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"2.0.0": "Cells for all, labels may be missing."}
    BUILDER_CONFIGS: ClassVar[list[AtomsConfig]] = [
        AtomsConfig(
            name="file",
            description="manual_dir/atoms.*, molecules, crystals or both.",
            optional_labels=("energy", "forces"),
            periodic=True,
        ),
    ]
    HOMEPAGE = "https://wiki.fysik.dtu.dk/ase/ase/io/io.html"
    CITATION = ""
    LICENSE = "that of the file"
    LEVEL_OF_THEORY = "that of the file"
    STRUCTURES = "any number"
    ELEMENTS = "any"
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"One file of yours: atoms{', atoms'.join(_SUFFIXES)}."

    def splits(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Example | Unusable]]]:
        """Reads all structures of the file as one split, in their order."""
        config = self.builder_config
        path = _manual_file(dl_manager) if config.path is None else Path(config.path)
        return {"train": self._generate_examples(path)}

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, Example | Unusable]]:
        """Reads the structures of a file one by one, in the units of the package."""
        config = self.builder_config
        graphs = iterate(path, config.labels, keys=config.keys, **config.units)
        for index, graph in enumerate(graphs):
            yield index, self.example(**arguments_of(graph))


def file_config(
    path: str | Path,
    labels: Sequence[str] = ("energy", "forces"),
    energy_unit: str | None = None,
    length_unit: str | None = None,
    keys: Mapping[str, str] | None = None,
    stress_unit: str | None = None,
    stress_sign: int = 1,
) -> AtomsConfig:
    """Describes a file; its name holds a hash of the file's content and of the other arguments.

    Args:
        path: Name of the file.
        labels: What to read from it; single structures may lack labels.
        energy_unit: The file's unit of energy; see `files.load_structures`.
        length_unit: The file's unit of length.
        keys: The file's names for labels, where they differ.
        stress_unit: The file's unit of stress.
        stress_sign: The sign of its stresses relative to ASE's.

    Raises:
        ValueError: If there is no such file, it is empty or no structure has one of the labels.
    """
    path, keys = Path(path), dict(keys or {})
    check_file(path, labels, keys)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    units: dict[str, Any] = {"energy_unit": energy_unit, "length_unit": length_unit}
    units |= {"stress_unit": stress_unit, "stress_sign": stress_sign}
    digest.update(json.dumps([*labels, units, keys]).encode())
    return AtomsConfig(
        name=f"{''.join(c if c.isalnum() else '_' for c in path.stem)}_{digest.hexdigest()[:12]}",
        description=f"Structures of {path.name}.",
        labels=tuple(labels),
        optional_labels=tuple(labels),
        periodic=True,
        path=str(path),
        units=units,
        keys=keys,
    )


def _manual_file(dl_manager: Any) -> Path:
    folder = manual_folder(dl_manager)
    found = [] if folder is None else [folder / f"atoms{suffix}" for suffix in _SUFFIXES]
    found = [path for path in found if path.is_file()]
    if len(found) != 1:
        raise ValueError(
            f"The data set 'atoms' is one file of yours: atoms{' or atoms'.join(_SUFFIXES)} in "
            f"manual_dir. Received: manual_dir={str(folder)!r} with "
            f"{[path.name for path in found]}. A file elsewhere is prepared by "
            "`keras-mlff data build FILE`, or read at once by keras_mlff.datasets.load(FILE)."
        )
    return found[0]
