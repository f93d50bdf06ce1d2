"""Named data sets by their names: their builders, their structures, and what was found in them."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# before TensorFlow Datasets itself, since it says which extra is missing
from keras_mlff.datasets.tools.builder import (
    REPORT,
    STATISTICS,
    AtomisticConfig,
    AtomisticDatasetBuilder,
    Example,
    Unusable,
    arguments_of,
)
from keras_mlff.datasets.tools.checks import Report
from keras_mlff.datasets.tools.shipped import ShippedDataset, find_shipped
from keras_mlff.datasets.tools.statistics import Statistics
from keras_mlff.graph import Graph, structure


def find(name: str, data_dir: str | None = None) -> Any:
    """Makes the builder of a data set, without preparing anything.

    Args:
        name: The data set and, after a slash, its configuration.
        data_dir: The folder of TensorFlow Datasets; its usual one where `None`.
    """
    module, _, config = name.partition("/")
    return builder_class(module)(data_dir=data_dir, config=config or None)


@functools.cache
def builder_class(name: str) -> type[AtomisticDatasetBuilder]:
    """Finds the builder of a data set in the module of that name.

    Not by the name that TFDS knows it by, which may have to differ: TFDS has a `qm9` too. For data
    that come with the package, the builder is made of the class that reads them.

    Args:
        name: The name of the data set, without a configuration.
    """
    shipped = find_shipped(name)
    if shipped is not None:
        return _builder_of_shipped(shipped)
    module = importlib.import_module(f"keras_mlff.datasets.{name}")
    (found,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, AtomisticDatasetBuilder)
        and value.__module__ == module.__name__
    ]
    return found


def _builder_of_shipped(shipped: type[ShippedDataset]) -> type[AtomisticDatasetBuilder]:
    """Makes a builder of the structures that come with the package."""
    import tensorflow_datasets as tfds

    described = ("name", "HOMEPAGE", "CITATION", "LICENSE", "LEVEL_OF_THEORY")
    attributes = {
        **{key: getattr(shipped, key) for key in (*described, "STRUCTURES", "ELEMENTS")},
        "VERSION": tfds.core.Version(shipped.VERSION),
        "BUILDER_CONFIGS": [
            AtomisticConfig(name=config, description=text, labels=shipped.LABELS)
            for config, text in shipped.CONFIGS.items()
        ],
        "shipped": shipped,
        "splits": _splits_of_shipped,
        "__doc__": shipped.__doc__,
        "__module__": shipped.__module__,
    }
    return type(shipped.__name__, (AtomisticDatasetBuilder,), attributes)


def _splits_of_shipped(
    self: AtomisticDatasetBuilder, dl_manager: Any
) -> dict[str, Iterator[tuple[int, Example | Unusable]]]:
    shipped = self.shipped
    assert shipped is not None
    parts = shipped.read(self.builder_config.name)
    return {
        split: (
            (index, self.example(**arguments_of(graph))) for index, graph in enumerate(parts[split])
        )
        for split in shipped.SPLITS
    }


def prepare(name: str, data_dir: str | None = None, manual_dir: str | Path | None = None) -> Any:
    """Prepares a data set unless that was done before, and returns its builder.

    Args:
        name: The data set and, after a slash, its configuration.
        data_dir: The folder of TensorFlow Datasets; its usual one where `None`.
        manual_dir: The folder of source files that were placed by hand.
    """
    import tensorflow_datasets as tfds

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
        split: The split, as TensorFlow Datasets writes it: `"train[:100]"`.
        data_dir: Folder of TensorFlow Datasets; its usual one where `None`.
        manual_dir: The folder of source files that were placed by hand.
    """
    return read_split(prepare(name, data_dir, manual_dir), split)


def read_split(builder: Any, split: str) -> list[Graph]:
    """Reads a split of a prepared data set in its order.

    Args:
        builder: The builder, after `download_and_prepare`.
        split: The split, as TensorFlow Datasets writes it.
    """
    import tensorflow_datasets as tfds

    read_config = tfds.ReadConfig(interleave_cycle_length=1)  # keeps the order
    examples = builder.as_dataset(split=split, read_config=read_config, shuffle_files=False)
    return [structure(**example) for example in tfds.as_numpy(examples)]


def report_of(name: str, data_dir: str | None = None) -> dict[str, Report]:
    """Reads what was found, split by split, when a data set was prepared.

    Raises:
        ValueError: If it is not prepared.
    """
    found = _findings(name, data_dir, REPORT)
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
    for split, values in _findings(name, data_dir, STATISTICS).items():
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
