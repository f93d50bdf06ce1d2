"""The base of data sets whose structures come with the package, so that they need no TensorFlow."""

from __future__ import annotations

import importlib
from typing import ClassVar

import numpy as np

from keras_mlff.datasets.tools.splits import select
from keras_mlff.graph import Graph


class ShippedDataset:
    """A data set that NumPy alone can read, from a file beside its module or from a formula.

    A subclass sets the attributes below and defines `read`. `datasets.load` calls `read`;
    `catalog.builder_class` makes a builder of TensorFlow Datasets of the same structures, for
    pipelines. Its module must not import TensorFlow.

    Attributes:
        name: The name of the data set, which is that of its module.
        VERSION: The version of its content, as TensorFlow Datasets writes it.
        CONFIGS: What each configuration is, by its name; the first is the default.
        LABELS: What the structures of the parts in `SPLITS` have.
        SPLITS: The parts that make up `all`. Others, such as scans, may have other labels.
        HOMEPAGE: Where the data are described.
        CITATION: BibTeX, which begins with `@`.
        LICENSE: The license of the data.
        LEVEL_OF_THEORY: How the labels were computed.
        STRUCTURES: How many structures there are, in words.
        ELEMENTS: The symbols of the elements.
    """

    name: ClassVar[str]
    VERSION: ClassVar[str] = "1.0.0"
    CONFIGS: ClassVar[dict[str, str]]
    LABELS: ClassVar[tuple[str, ...]] = ("energy", "forces")
    SPLITS: ClassVar[tuple[str, ...]] = ("train", "test")
    HOMEPAGE: ClassVar[str]
    CITATION: ClassVar[str]
    LICENSE: ClassVar[str]
    LEVEL_OF_THEORY: ClassVar[str]
    STRUCTURES: ClassVar[str]
    ELEMENTS: ClassVar[str]

    @classmethod
    def read(cls, config: str) -> dict[str, list[Graph]]:
        """Reads or makes the structures of a configuration.

        Args:
            config: One of `CONFIGS`.

        Returns:
            The structures of each part, in an order that never changes, so that a slice is the
            same for everybody.
        """
        raise NotImplementedError(f"{cls.__name__} does not say how its structures are read.")

    @classmethod
    def load(cls, config: str = "", split: str = "all") -> list[Graph]:
        """Reads a split of a configuration.

        Args:
            config: One of `CONFIGS`; the first where it is empty.
            split: The name of a part, with a slice or without, or several joined by `+`.

        Raises:
            ValueError: If there is no such configuration or split.
        """
        config = config or next(iter(cls.CONFIGS))
        if config not in cls.CONFIGS:
            raise ValueError(
                f"'{cls.name}' has no such configuration. Received: '{cls.name}/{config}', known "
                f"are {list(cls.CONFIGS)}."
            )
        parts = cls.read(config)
        structures = [graph for part in parts.values() for graph in part]
        ends = np.cumsum([len(part) for part in parts.values()])
        rows = {
            part: np.arange(end - len(parts[part]), end)
            for part, end in zip(parts, ends, strict=True)
        }
        rows["all"] = np.concatenate([rows[part] for part in cls.SPLITS])
        return [structures[row] for row in select(split, rows)]


def find_shipped(name: str) -> type[ShippedDataset] | None:
    """Finds the class of a data set that comes with the package; `None` for all others.

    Raises:
        ImportError: If the data set needs TensorFlow Datasets, which is not installed.
    """
    module = importlib.import_module(f"keras_mlff.datasets.{name}")
    for value in vars(module).values():
        if (
            isinstance(value, type)
            and issubclass(value, ShippedDataset)
            and value.__module__ == module.__name__
        ):
            return value
    return None
