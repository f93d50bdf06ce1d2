"""The base of every builder of TensorFlow Datasets: features, units, metadata."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

try:
    import tensorflow_datasets as tfds
except ImportError as error:
    raise ImportError(
        "This data set needs TensorFlow Datasets, which is not installed. Install it with "
        "`pip install keras-mlff[datasets]`."
    ) from error

from keras_mlff.graph import Array, Graph, level, structure

_VALUE_SHAPES: dict[str, tuple[int, ...]] = {"forces": (3,), "stress": (3, 3), "dipole": (3,)}


@dataclasses.dataclass(eq=False)
class AtomisticConfig(tfds.core.BuilderConfig):
    """One configuration of a data set, and what its structures have."""

    labels: tuple[str, ...] = ("energy", "forces")
    periodic: bool = False


class AtomisticDatasetBuilder(tfds.core.GeneratorBasedBuilder):
    """Stores structures with labels in eV, Å and e, under the keys of a graph.

    A subclass sets `name`, `VERSION`, `BUILDER_CONFIGS` and the attributes below, and yields
    `self.example(...)`. Examples keep the order in which they are generated, so that a slice is
    the same everywhere: a builder of a trajectory shuffles the frames itself, with a fixed seed.
    """

    HOMEPAGE: ClassVar[str]
    CITATION: ClassVar[str]  # BibTeX
    LICENSE: ClassVar[str]
    LEVEL_OF_THEORY: ClassVar[str]
    REFERENCES: ClassVar[dict[int, float]] = {}  # eV, energies of lone atoms, where published
    UNITS: ClassVar[dict[str, str]] = {}  # of labels whose units are not the usual ones

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        units = {"positions": "Å", "energy": "eV", "forces": "eV/Å", "stress": "eV/Å³"}
        units |= {"cell": "Å", "dipole": "e·Å", "total_charge": "e"}
        features = {
            "positions": _floats(None, 3),
            "atomic_numbers": tfds.features.Tensor(shape=(None,), dtype=np.int32),
            "total_charge": _floats(),
            "spin_multiplicity": tfds.features.Scalar(dtype=np.int32),
        }
        if config.periodic:
            features["cell"] = _floats(3, 3)
            features["pbc"] = tfds.features.Tensor(shape=(3,), dtype=np.bool_)
        for label in config.labels:
            atoms = (None,) if level(label) == "atom" else ()
            features[label] = _floats(*atoms, *_VALUE_SHAPES.get(label, ()))
        units = {key: unit for key, unit in (units | self.UNITS).items() if key in features}
        return tfds.core.DatasetInfo(
            builder=self,
            description=config.description or self.__doc__,
            features=tfds.features.FeaturesDict(features),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            license=self.LICENSE,
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                level_of_theory=self.LEVEL_OF_THEORY,
                units=units,
                references={str(number): energy for number, energy in self.REFERENCES.items()},
            ),
        )

    def example(
        self, positions: npt.ArrayLike, atomic_numbers: npt.ArrayLike, **more: Any
    ) -> dict[str, Array]:
        """Checks and casts one structure.

        Args:
            positions: `(num_atoms, 3)`, Å.
            atomic_numbers: `(num_atoms,)`.
            **more: What else `graph.structure` takes: cell, charge, spin multiplicity, labels.

        Raises:
            ValueError: If a value is not usable, or the labels are not those of the configuration.
        """
        graph: dict[str, Any] = {**structure(positions, atomic_numbers, **more)}
        features = self.info.features
        if not features.keys() <= graph.keys():
            raise ValueError(
                f"'{self.info.full_name}' promises {sorted(features)}. Received an example "
                f"without {sorted(features.keys() - graph.keys())}."
            )
        return {key: graph[key] if level(key) == "atom" else graph[key][0] for key in features}


def read(name: str, split: str, data_dir: str | None = None) -> list[Graph]:
    """Prepares a data set unless that was done before, and reads a split of it.

    Args:
        name: Data set and, after a slash, configuration.
        split: As TensorFlow Datasets writes it.
        data_dir: Folder of TensorFlow Datasets; its usual one where `None`.
    """
    importlib.import_module(f"keras_mlff.datasets.{name.partition('/')[0]}")  # registers it
    builder = tfds.builder(name, data_dir=data_dir)
    builder.download_and_prepare()
    read_config = tfds.ReadConfig(interleave_cycle_length=1)  # keeps the order
    examples = builder.as_dataset(split=split, read_config=read_config, shuffle_files=False)
    return [structure(**example) for example in tfds.as_numpy(examples)]


def _floats(*shape: int | None) -> tfds.features.Tensor:
    """Describes float64 values; TFRecord's own floats have 32 bits."""
    return tfds.features.Tensor(shape=shape, dtype=np.float64, encoding="bytes")
