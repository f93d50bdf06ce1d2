"""The base of every builder of TensorFlow Datasets: features, units, metadata."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

try:
    import tensorflow_datasets as tfds
except ImportError as error:
    raise ImportError(
        "This data set needs TensorFlow Datasets, which is not installed. Install it with "
        "`pip install keras-mlff[datasets]`."
    ) from error

from keras_mlff import saving
from keras_mlff.datasets.tools.checks import Check, Fingerprints, Report
from keras_mlff.datasets.tools.sources import Source, instructions, locate, readable
from keras_mlff.datasets.tools.statistics import Statistics, Tally
from keras_mlff.graph import Array, Graph, level, structure

Example = dict[str, Array]
_REPORT, _STATISTICS = "report.json", "statistics.json"  # beside the prepared data
# TFDS sorts examples by key within 1,000 ranges of 128-bit keys, and has one range at a time in
# memory: keys that count in small steps would all be in the first
_KEY_STEP = 2**128 // (1_000 * 16_384)  # 16,384 examples in a range
_VALUE_SHAPES: dict[str, tuple[int, ...]] = {"forces": (3,), "stress": (3, 3), "dipole": (3,)}


@dataclasses.dataclass(eq=False)
class AtomisticConfig(tfds.core.BuilderConfig):
    """One configuration of a data set, and what its structures have."""

    labels: tuple[str, ...] = ("energy", "forces")
    periodic: bool = False


class Unusable(NamedTuple):
    """Takes the place of an example that is left out."""

    reason: str


class AtomisticDatasetBuilder(tfds.core.GeneratorBasedBuilder):
    """Stores structures with labels in eV, Å and e, under the keys of a graph.

    A subclass sets `name`, `VERSION`, `BUILDER_CONFIGS` and the attributes below; `splits` gives
    the generator of each split, which yields a name and `self.example(...)`. Examples keep the
    order in which they are generated, so that a slice is the same everywhere: a builder of a
    trajectory shuffles the frames itself, with a fixed seed.

    Structures with values that are not finite are left out, and said to be: while the data are
    built, all are checked, and the findings are printed and kept (`report_of`), as are statistics
    (`statistics_of`).
    """

    HOMEPAGE: ClassVar[str]
    CITATION: ClassVar[str]  # BibTeX
    LICENSE: ClassVar[str]
    LEVEL_OF_THEORY: ClassVar[str]
    STRUCTURES: ClassVar[str]  # how many, as published
    ELEMENTS: ClassVar[str]  # symbols, as published
    SOURCES: ClassVar[dict[str, Source]] = {}  # by their names in the folder manual_dir
    REFERENCES: ClassVar[dict[int, float]] = {}  # eV, energies of lone atoms, where published
    UNITS: ClassVar[dict[str, str]] = {}  # of labels whose units are not the usual ones
    EXTENSIVE: ClassVar[tuple[str, ...]] = ("energy",)  # labels that are fitted per element

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.SOURCES:
            cls.MANUAL_DOWNLOAD_INSTRUCTIONS = instructions(cls.name, cls.SOURCES)

    def splits(self, dl_manager: Any) -> dict[str, Iterator[tuple[Any, Example | Unusable]]]:
        """Gives the generator of each split; `self.source` finds the files."""
        raise NotImplementedError(f"{type(self).__name__} says nothing of its splits.")

    def source(self, dl_manager: Any, key: str, extract: bool = True) -> Path:
        """Finds a file of `SOURCES` in manual_dir or downloads it; an archive gives a folder.

        Args:
            dl_manager: What TFDS hands over.
            key: Name of the file.
            extract: Whether an archive is extracted, if it does not lie there as a folder already.

        Raises:
            ValueError: If it is neither there nor can be downloaded, or is not the published file.
        """
        return locate(self.name, self.SOURCES, key, dl_manager, extract)

    def readable(self, key: str) -> AbstractContextManager[None]:
        """Tells which file of `SOURCES` is damaged or lacks something, in errors raised inside."""
        return readable(self.name, self.SOURCES[key], key)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        self._found: dict[str, tuple[Report, Statistics]] = {}
        fingerprints = Fingerprints()  # of all splits, so that one does not leak into another
        return {
            # what is not a generator belongs to Beam, which runs elsewhere
            split: self._checked(split, examples, fingerprints)
            if isinstance(examples, Iterator)
            else examples
            for split, examples in self.splits(dl_manager).items()
        }

    def _checked(
        self,
        split: str,
        examples: Iterator[tuple[Any, Example | Unusable]],
        fingerprints: Fingerprints,
    ) -> Iterator[tuple[Any, Example]]:
        """Passes examples on, measures them, and leaves out those that are not usable."""
        check, tally, number = Check(fingerprints), Tally(self.EXTENSIVE), 0
        for key, example in examples:
            if isinstance(example, Unusable):
                check.leave_out(f"{key}: {example.reason}")
                continue
            graph: Any = {
                name: value if level(name) == "atom" else np.asarray(value)[None]
                for name, value in example.items()
            }
            check.add(graph)
            tally.add(graph)
            yield number * _KEY_STEP, example
            number += 1
        report = check.report()
        if report.num_structures == 0:
            raise ValueError(
                f"'{self.info.full_name}' has no usable structure in split '{split}'. "
                f"{report.num_left_out} were left out. {' '.join(report.left_out)}"
            )
        print(f"{self.info.full_name}, {split}: {report}")
        self._found[split] = report, tally.statistics()
        for column, file_name in enumerate((_REPORT, _STATISTICS)):
            by_split = {name: pair[column]._asdict() for name, pair in self._found.items()}
            saving.write_json(Path(self.data_dir, file_name), by_split)

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
    ) -> Example | Unusable:
        """Checks and casts one structure, or tells why it is to be left out.

        Args:
            positions: `(num_atoms, 3)`, Å.
            atomic_numbers: `(num_atoms,)`.
            **more: What else `graph.structure` takes: cell, charge, spin multiplicity, labels.

        Raises:
            ValueError: If the labels are not those of the configuration.
        """
        try:
            graph: dict[str, Any] = {**structure(positions, atomic_numbers, **more)}
        except ValueError as error:
            return Unusable(str(error))
        features = self.info.features
        if not features.keys() <= graph.keys():
            raise ValueError(
                f"'{self.info.full_name}' promises {sorted(features)}. Received an example "
                f"without {sorted(features.keys() - graph.keys())}."
            )
        return {key: graph[key] if level(key) == "atom" else graph[key][0] for key in features}


def find(name: str, data_dir: str | None = None) -> Any:
    """Makes the builder of a data set, without preparing anything.

    Args:
        name: Data set and, after a slash, configuration.
        data_dir: Folder of TensorFlow Datasets; its usual one where `None`.
    """
    module, _, config = name.partition("/")
    return builder_class(module)(data_dir=data_dir, config=config or None)


def builder_class(name: str) -> type[AtomisticDatasetBuilder]:
    """Finds the builder of a data set in the module of that name.

    Not by the name that TFDS knows it by, which may have to differ: TFDS has a `qm9` too.
    """
    module = importlib.import_module(f"keras_mlff.datasets.{name}")
    (found,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, AtomisticDatasetBuilder)
        and value.__module__ == module.__name__
    ]
    return found


def prepare(name: str, data_dir: str | None = None, manual_dir: str | Path | None = None) -> Any:
    """Prepares a data set unless that was done before, and returns its builder.

    Args:
        name: Data set and, after a slash, configuration.
        data_dir: Folder of TensorFlow Datasets; its usual one where `None`.
        manual_dir: Folder of files that were placed by hand.
    """
    builder = find(name, data_dir)
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=config)
    return builder


def read(
    name: str, split: str, data_dir: str | None = None, manual_dir: str | Path | None = None
) -> list[Graph]:
    """Prepares a data set unless that was done before, and reads a split of it.

    Args:
        name: Data set and, after a slash, configuration.
        split: As TensorFlow Datasets writes it.
        data_dir: Folder of TensorFlow Datasets; its usual one where `None`.
        manual_dir: Folder of files that were placed by hand.
    """
    builder = prepare(name, data_dir, manual_dir)
    read_config = tfds.ReadConfig(interleave_cycle_length=1)  # keeps the order
    examples = builder.as_dataset(split=split, read_config=read_config, shuffle_files=False)
    return [structure(**example) for example in tfds.as_numpy(examples)]


def report_of(name: str, data_dir: str | None = None) -> dict[str, Report]:
    """Reads what was found, split by split, when a data set was prepared.

    Raises:
        ValueError: If it is not prepared.
    """
    found = _findings(name, data_dir, _REPORT)
    lists = ("warnings", "left_out")
    return {
        split: Report(**{**values, **{key: tuple(values[key]) for key in lists}})
        for split, values in found.items()
    }


def statistics_of(name: str, data_dir: str | None = None) -> dict[str, Statistics]:
    """Reads the statistics of a prepared data set, split by split.

    Raises:
        ValueError: If it is not prepared.
    """
    statistics = {}
    for split, values in _findings(name, data_dir, _STATISTICS).items():
        values["num_atoms"] = _by_number(values["num_atoms"])
        values["references"] = {
            label: _by_number(references) for label, references in values["references"].items()
        }
        statistics[split] = Statistics(**values)
    return statistics


def _findings(name: str, data_dir: str | None, file_name: str) -> dict[str, Any]:
    path = Path(find(name, data_dir).data_dir, file_name)
    if not path.is_file():
        raise ValueError(
            f"'{name}' is not prepared. Received: data_dir={data_dir!r}, where there is no {path}. "
            f"Prepare it: keras-mlff data build {name}."
        )
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _by_number(values: dict[str, Any]) -> dict[int, Any]:
    return {int(number): value for number, value in values.items()}


def _floats(*shape: int | None) -> tfds.features.Tensor:
    """Describes float64 values; TFRecord's own floats have 32 bits."""
    return tfds.features.Tensor(shape=shape, dtype=np.float64, encoding="bytes")
