"""Pairs of shapes that need angles, or more, to be told apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from keras_mlff.datasets import shipped
from keras_mlff.datasets.tools.builder import (
    AtomisticConfig,
    AtomisticDatasetBuilder,
    Example,
    Unusable,
)
from keras_mlff.graph import Graph


class GeometryShapes(AtomisticDatasetBuilder):
    """Turned copies of two shapes of five points, the first in the center; `shape` is 0 or 1.

    In place of the shapes of GeomAtt's figure 3, which are not at hand. Generated with a fixed
    seed, so nothing is downloaded; the points are hydrogen atoms on a circle of 1 Å.
    """

    name = "geometry_shapes"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[AtomisticConfig]] = [
        AtomisticConfig(
            name="A",
            description="Same distances from the center, other angles.",
            labels=("shape",),
        ),
        AtomisticConfig(
            name="B",
            description="Homometric: all distances between all points occur equally often.",
            labels=("shape",),
        ),
    ]
    HOMEPAGE = "https://arxiv.org/abs/2106.02549"
    CITATION = """@misc{frank2021geomatt,
  title = {Detect the Interactions that Matter in Matter: Geometric Attention for Many-Body
           Systems},
  author = {Frank, Thorben and Chmiela, Stefan},
  year = {2021},
  eprint = {2106.02549},
  archivePrefix = {arXiv},
}"""
    LICENSE = "Apache-2.0"
    LEVEL_OF_THEORY = "none: points in space"
    STRUCTURES = "300 in each pair"
    ELEMENTS = "H"
    EXTENSIVE: ClassVar[tuple[str, ...]] = ()
    UNITS: ClassVar[dict[str, str]] = {"shape": "0 or 1"}

    def splits(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Example | Unusable]]]:
        parts = shipped.geometry_shapes(self.builder_config.name)
        return {split: self._generate_examples(graphs) for split, graphs in parts.items()}

    def _generate_examples(self, graphs: list[Graph]) -> Iterator[tuple[int, Example | Unusable]]:
        for index, graph in enumerate(graphs):
            yield (
                index,
                self.example(
                    graph["positions"],
                    graph["atomic_numbers"],
                    shape=graph["shape"][0],
                ),
            )
