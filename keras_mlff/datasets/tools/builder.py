"""The base of every builder of TensorFlow Datasets: features, units, metadata."""

from __future__ import annotations

import dataclasses
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

from keras_mlff import quantities, saving
from keras_mlff.datasets.tools.checks import Check, Fingerprints, Report
from keras_mlff.datasets.tools.rows import label_is_missing, with_missing_labels
from keras_mlff.datasets.tools.shipped import ShippedDataset
from keras_mlff.datasets.tools.sources import Source, instructions, locate, readable
from keras_mlff.datasets.tools.statistics import Statistics, Tally
from keras_mlff.graph import Array, Graph, level, structure, with_periodic_keys

Example = dict[str, Array]
REPORT, STATISTICS = "report.json", "statistics.json"  # beside the prepared data
# TFDS sorts examples by key within 1,000 ranges of 128-bit keys, and has one range at a time in
# memory: keys that count in small steps would all be in the first
_KEY_STEP = 2**128 // (1_000 * 16_384)  # 16,384 examples in a range


@dataclasses.dataclass(eq=False)
class AtomisticConfig(tfds.core.BuilderConfig):
    """One configuration of a data set, and what its structures have.

    Attributes:
        labels: The labels of its structures, which are registered quantities: their levels, shapes
            and units are those of `keras_mlff.quantities`.
        optional_labels: Those of the labels that single structures may lack. They are stored as
            NaN there; a structure that lacks another label is left out and counted.
        periodic: Whether some structures are periodic. Cells are stored then, zeros for molecules.
    """

    labels: tuple[str, ...] = ("energy", "forces")
    optional_labels: tuple[str, ...] = ()
    periodic: bool = False


class Unusable(NamedTuple):
    """Takes the place of an example that is left out.

    Attributes:
        reason: Why, for the report.
    """

    reason: str


class AtomisticDatasetBuilder(tfds.core.GeneratorBasedBuilder):
    """Stores structures with labels in eV, Å and e, under the keys of a graph.

    A subclass sets `name`, `VERSION`, `BUILDER_CONFIGS` and the attributes below; `splits` gives
    the generator of each split, which yields a name and `self.example(...)`. Examples keep the
    order in which they are generated, so that a slice is the same everywhere: a builder of a
    trajectory shuffles the frames itself, with a fixed seed.

    Structures with values that are not finite are left out, and said to be: while the data are
    built, all are checked, and the findings are printed and kept (`report_of`), as are statistics
    (`statistics_of`). `tools.testing.check_builder` checks a builder.

    Attributes:
        HOMEPAGE: Where the data are described.
        CITATION: BibTeX, which begins with `@`.
        LICENSE: The license that the source states.
        LEVEL_OF_THEORY: How the labels were computed.
        STRUCTURES: How many structures there are, as published.
        ELEMENTS: The symbols of the elements, as published.
        SOURCES: The files of the publication, by their names in the folder `manual_dir`.
        REFERENCES: Energies of free atoms by atomic number, in eV, where they are published.
        EXTENSIVE: The labels that statistics fit with a value for each element. Where it is
            `None`, they are the labels that `keras_mlff.quantities` calls extensive.
        shipped: The class that reads the structures from the package, where they come with it.
    """

    HOMEPAGE: ClassVar[str]
    CITATION: ClassVar[str]
    LICENSE: ClassVar[str]
    LEVEL_OF_THEORY: ClassVar[str]
    STRUCTURES: ClassVar[str]
    ELEMENTS: ClassVar[str]
    SOURCES: ClassVar[dict[str, Source]] = {}
    REFERENCES: ClassVar[dict[int, float]] = {}
    EXTENSIVE: ClassVar[tuple[str, ...] | None] = None
    shipped: ClassVar[type[ShippedDataset] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.SOURCES:
            cls.MANUAL_DOWNLOAD_INSTRUCTIONS = instructions(cls.name, cls.SOURCES)

    def splits(self, dl_manager: Any) -> dict[str, Iterator[tuple[Any, Example | Unusable]]]:
        """Gives the generator of each split; `self.source` finds the files.

        Args:
            dl_manager: The download manager that TFDS hands over.

        Returns:
            By the name of each split an iterator of pairs: a name that is unique in the split, for
            messages, and what `self.example` returns.
        """
        raise NotImplementedError(f"{type(self).__name__} says nothing of its splits.")

    def _generate_examples(self, *args: Any) -> Iterator[tuple[Any, Example | Unusable]]:
        """Yields names and examples; TFDS wants a method of this name, and `splits` may call it."""
        raise NotImplementedError(f"The generators of {type(self).__name__} are in `splits`.")

    def source(self, dl_manager: Any, key: str, extract: bool = True) -> Path:
        """Finds a file of `SOURCES` in manual_dir or downloads it; an archive gives a folder.

        Args:
            dl_manager: The download manager that TFDS hands over.
            key: The name of the file in `SOURCES`.
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
        check, tally, number = Check(fingerprints), Tally(self._extensive()), 0
        for key, example in examples:
            if isinstance(example, Unusable):
                check.leave_out(f"{key}: {example.reason}")
                continue
            graph = structure(**example)  # type: ignore[arg-type]
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
        for column, file_name in enumerate((REPORT, STATISTICS)):
            by_split = {name: pair[column]._asdict() for name, pair in self._found.items()}
            saving.write_json(Path(self.data_dir, file_name), by_split)

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
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
            quantity = quantities.get(label)
            atoms = (None,) if quantity.level == "atom" else ()
            features[label] = _floats(*atoms, *quantity.shape)
        units = {key: unit for key in features if (unit := quantities.unit(key))}
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
            **more: What else `graph.structure` takes: cell, charge, spin multiplicity, labels. An
                optional label may be absent, `None` or NaN.

        Returns:
            What is stored, by the names of the features; or the reason why it cannot be used.

        Raises:
            ValueError: If the labels are not those of the configuration, or it is not periodic and
                the structure is.
        """
        config = self.builder_config
        more = {
            key: value
            for key, value in more.items()
            if not (key in config.optional_labels and label_is_missing(value))
        }
        try:
            graph = structure(positions, atomic_numbers, **more)
        except ValueError as error:
            return Unusable(str(error))
        graph = with_missing_labels(graph, config.optional_labels)
        if config.periodic:
            graph = with_periodic_keys(graph)
        elif "cell" in graph:
            raise ValueError(
                f"'{self.info.full_name}' promises molecules. Received a periodic structure. Set "
                "periodic=True in the configuration."
            )
        features = self.info.features
        if not features.keys() <= graph.keys():
            raise ValueError(
                f"'{self.info.full_name}' promises {sorted(features)}. Received an example "
                f"without {sorted(features.keys() - graph.keys())}."
            )
        for label in config.labels:
            if label not in config.optional_labels and not np.all(np.isfinite(graph[label])):
                return Unusable(f"'{label}' holds NaN or infinite values")
        return {key: graph[key] if level(key) == "atom" else graph[key][0] for key in features}

    def _extensive(self) -> tuple[str, ...]:
        """Lists the labels that statistics fit with a value for each element."""
        if self.EXTENSIVE is not None:
            return self.EXTENSIVE
        labels = self.builder_config.labels
        return tuple(label for label in labels if quantities.get(label).extensive)


def arguments_of(graph: Graph) -> dict[str, Any]:
    """Turns a structure back into the arguments of `graph.structure`, labels included."""
    arguments: dict[str, Any] = {}
    for key, value in graph.items():
        quantity = quantities.find(key)
        if quantity is not None:
            arguments[key] = value if quantity.level == "atom" else value[0]
    return arguments


def _floats(*shape: int | None) -> tfds.features.Tensor:
    """Describes float64 values; TFRecord's own floats have 32 bits."""
    return tfds.features.Tensor(shape=shape, dtype=np.float64, encoding="bytes")
