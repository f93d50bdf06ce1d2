"""Pairs of shapes that need angles, or more, to be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from keras_mlff.datasets.tools.shipped import ShippedDataset
from keras_mlff.graph import Array, Graph, structure

# four points on the unit circle, in steps of 45 degrees; the authors' shapes are not published
SHAPES = {
    "A": ((0, 2, 4, 6), (0, 1, 4, 5)),
    "B": ((0, 1, 3, 4), (0, 1, 2, 5)),
}


class GeometryShapes(ShippedDataset):
    """Turned copies of two shapes of five points, the first in the center; `shape` is 0 or 1.

    In place of the shapes of GeomAtt's figure 3, which are not at hand. Generated with a fixed
    seed, so nothing is downloaded; the points are hydrogen atoms on a circle of 1 Å.
    """

    name = "geometry_shapes"
    CONFIGS: ClassVar[dict[str, str]] = {
        "A": "Same distances from the center, other angles.",
        "B": "Homometric: all distances between all points occur equally often.",
    }
    LABELS = ("shape",)
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

    @classmethod
    def read(cls, config: str) -> dict[str, list[Graph]]:
        """Generates the two shapes of a pair, turned at random: 200 to train, 100 to test.

        Args:
            config: Pair `"A"` has the same distances from the center but other angles; `"B"` is
                homometric, all distances between all points occur equally often in both shapes.
        """
        random = np.random.default_rng(0)
        parts = {}
        for split, number in (("train", 200), ("test", 100)):
            positions, labels = shape_copies(config, number, random)
            parts[split] = [
                structure(points, np.ones(5, np.int32), shape=label)
                for points, label in zip(positions, labels, strict=True)
            ]
        return parts


def shape_points(steps: Sequence[int]) -> Array:
    """Places the center and four points on a circle of 1 Å, in steps of 45 degrees: `(5, 3)`."""
    angles = np.pi / 4 * np.asarray(steps)
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros(4)], axis=-1)
    return np.concatenate([np.zeros((1, 3)), circle])


def shape_copies(
    pair: str, number: int, random: np.random.Generator, noise: float = 0.0
) -> tuple[Array, Array]:
    """Turns both shapes of a pair at random and shuffles the outer points.

    Args:
        pair: `"A"` or `"B"`.
        number: How many copies to make, the two shapes by turns.
        random: The generator of turns, orders and noise.
        noise: The standard deviation, in Å, of what is added to each coordinate.

    Returns:
        Positions `(number, 5, 3)` in Å and labels `(number,)`, 0 and 1 by turns.
    """
    positions, labels = [], np.arange(number) % 2
    for label in labels:
        turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
        order = [0, *random.permutation(range(1, 5))]
        positions.append(shape_points(SHAPES[pair][label])[order] @ turn)
    noisy = np.stack(positions) + random.normal(size=(number, 5, 3)) * noise
    return noisy, labels
