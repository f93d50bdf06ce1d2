"""Checks of a builder that its author can run, from a few invented structures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from keras_mlff import quantities
from keras_mlff.datasets.tools.builder import AtomisticDatasetBuilder
from keras_mlff.datasets.tools.catalog import read_split
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Graph

_TEXTS = ("HOMEPAGE", "CITATION", "LICENSE", "LEVEL_OF_THEORY", "STRUCTURES", "ELEMENTS")


def check_builder(
    builder_class: type[AtomisticDatasetBuilder],
    manual_dir: str | Path | None = None,
    config: str | None = None,
) -> dict[str, list[Graph]]:
    """Checks a builder: its description, and what it makes of invented source files.

    The data set is built twice, without network and without a look at published checksums. Both
    times must give the same structures in the same order, with all labels of the configuration.

    Args:
        builder_class: The builder.
        manual_dir: A folder with about four invented structures in the layout of the source's
            files, under the names of `SOURCES`. `None` for data that are generated.
        config: The name of a configuration; the first where `None`.

    Returns:
        The structures of each split, to compare a value with the source's value times its factor.

    Raises:
        AssertionError: If the builder does not keep what a data set promises, with the reason.
        ValueError: If a file of the source is missing or cannot be read.
    """
    check_description(builder_class)
    first = build(builder_class, manual_dir, config)
    second = build(builder_class, manual_dir, config)
    chosen = next(c for c in builder_class.BUILDER_CONFIGS if c.name == config or config is None)
    _require(first, "The builder has no split.")
    _require("all" not in first, "'all' is a reserved name, since it means all splits.")
    for split, structures in first.items():
        _require(structures, f"Split '{split}' is empty.")
        _require(
            len(structures) == len(second[split]) and all(map(_equal, structures, second[split])),
            f"Split '{split}' is another one each time. Shuffle with a fixed seed.",
        )
        for label in chosen.labels:
            known = [not np.isnan(graph[label]).any() for graph in structures]
            _require(
                all(known) or label in chosen.optional_labels,
                f"'{label}' is NaN in split '{split}' and not in `optional_labels`.",
            )
            _require(any(known), f"No structure of split '{split}' has '{label}'.")
    return first


def check_description(builder_class: type[AtomisticDatasetBuilder]) -> None:
    """Checks what a builder says about its data, without building them.

    Args:
        builder_class: The builder.

    Raises:
        AssertionError: If something is not said, or not in its form.
    """
    name = builder_class.__name__
    for attribute in _TEXTS:
        value = getattr(builder_class, attribute, "")
        _require(value or not builder_class.SOURCES, f"{name}.{attribute} says nothing.")
    citation = builder_class.CITATION
    _require(citation.startswith("@") or not citation, f"{name}.CITATION is BibTeX, '@article{{'.")
    _require("name" in vars(builder_class), f"{name}.name is not set; TFDS would derive one.")
    _require(builder_class.__doc__, f"{name} has no docstring.")
    names = [config.name for config in builder_class.BUILDER_CONFIGS]
    _require(names and len(set(names)) == len(names), f"{name} repeats a configuration: {names}.")
    for config in builder_class.BUILDER_CONFIGS:
        _require(config.description, f"{name}: the configuration '{config.name}' says nothing.")
        for label in config.labels:
            quantities.get(label)
        unknown = set(config.optional_labels) - set(config.labels)
        _require(not unknown, f"{name}: optional labels that are no labels: {sorted(unknown)}.")
    for key, source in builder_class.SOURCES.items():
        _require(source.layout, f"{name}: the source '{key}' has no layout.")
        _require(
            source.url is None or source.url.startswith("http"),
            f"{name}: the address of '{key}' is {source.url!r}.",
        )
        _require(
            source.checksum is None or len(source.checksum) in (32, 64),
            f"{name}: the checksum of '{key}' is neither MD5 nor SHA-256.",
        )
    for number, energy in builder_class.REFERENCES.items():
        _require(1 <= number <= MAX_ATOMIC_NUMBER, f"{name}: there is no element {number}.")
        # hydrogen has -13.6
        _require(energy < -13.0, f"{name}: {energy} eV is no total energy of element {number}.")


def build(
    builder_class: type[AtomisticDatasetBuilder],
    manual_dir: str | Path | None = None,
    config: str | None = None,
) -> dict[str, list[Graph]]:
    """Builds a data set of invented source files in a temporary folder and reads it again.

    Args:
        builder_class: The builder.
        manual_dir: The folder of the invented files.
        config: The name of a configuration; the first where `None`.

    Returns:
        The structures of each split.
    """
    with tempfile.TemporaryDirectory() as data_dir, unpublished(builder_class):
        builder = builder_class(data_dir=data_dir, config=config)
        settings = tfds.download.DownloadConfig(manual_dir=manual_dir)
        builder.download_and_prepare(download_config=settings)
        return {split: read_split(builder, split) for split in builder.info.splits}


@contextmanager
def unpublished(builder_class: type[AtomisticDatasetBuilder]) -> Iterator[None]:
    """Lets invented files take the place of the published ones, whatever their size and hash."""
    published = builder_class.SOURCES
    builder_class.SOURCES = {
        key: source._replace(checksum=None, size=None) for key, source in published.items()
    }
    try:
        yield
    finally:
        builder_class.SOURCES = published


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[key], other[key], equal_nan=one[key].dtype.kind == "f") for key in one
    )


def _require(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(message)
