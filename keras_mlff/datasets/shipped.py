"""Data sets that come with the package, read by NumPy alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff.graph import Array, Graph, structure

CH2_FILE = Path(__file__).with_name("ch2.npz")
CH2_MULTIPLICITIES = {"singlet": (1,), "triplet": (3,), "both": (1, 3)}
# four points on the unit circle, in steps of 45 degrees; the authors' shapes are not published
SHAPES = {
    "A": ((0, 2, 4, 6), (0, 1, 4, 5)),
    "B": ((0, 1, 3, 4), (0, 1, 2, 5)),
}


def ch2(config: str = "both") -> dict[str, list[Graph]]:
    """Reads singlet and triplet carbene; recipes/generate/generate_ch2.py computed it.

    Args:
        config: `"singlet"`, `"triplet"` or `"both"`.

    Returns:
        `train` and `test` with energy and forces, shuffled once for all, so that slices are
        random samples. `scan` (the angle at both lengths 1.1 Å) and `surface` (angle by length,
        equal lengths) have no forces, but `angle` in degrees and `length` in Å.
    """
    with CH2_FILE.open("rb") as stream:
        data = dict(np.load(stream))
    multiplicities = CH2_MULTIPLICITIES[config]
    parts = {}
    for name in ("train", "test"):
        rows = np.random.default_rng(0).permutation(data[f"split_{name}"])
        parts[name] = [
            structure(
                data["positions"][row],
                data["atomic_numbers"],
                spin_multiplicity=int(data["spin_multiplicity"][row]),
                energy=data["energy"][row],
                forces=data["forces"][row],
            )
            for row in rows
            if data["spin_multiplicity"][row] in multiplicities
        ]
    scan_energy = data["scan_energy"][:, :, None]  # (spin, angle, length), as surface_energy
    parts["scan"] = _ch2_points(data, multiplicities, "scan", np.asarray([1.1]), scan_energy)
    parts["surface"] = _ch2_points(
        data, multiplicities, "surface", data["surface_length"], data["surface_energy"]
    )
    return parts


def metadata(name: str) -> dict[str, Any]:
    """Tells how a shipped data set was computed."""
    with np.load({"ch2": CH2_FILE}[name]) as file:
        return dict(json.loads(str(file["metadata"])))


def geometry_shapes(config: str = "A") -> dict[str, list[Graph]]:
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
        number: Of copies, the shapes by turns.
        random: Where chance comes from.
        noise: Å, standard deviation of what is added to each coordinate.

    Returns:
        Positions `(number, 5, 3)` and labels `(number,)`, 0 and 1 by turns.
    """
    positions, labels = [], np.arange(number) % 2
    for label in labels:
        turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
        order = [0, *random.permutation(range(1, 5))]
        positions.append(shape_points(SHAPES[pair][label])[order] @ turn)
    noisy = np.stack(positions) + random.normal(size=(number, 5, 3)) * noise
    return noisy, labels


SHIPPED: dict[str, Callable[[str], dict[str, list[Graph]]]] = {
    "ch2": ch2,
    "geometry_shapes": geometry_shapes,
}
CONFIGS = {"ch2": tuple(CH2_MULTIPLICITIES), "geometry_shapes": tuple(SHAPES)}
DEFAULT_CONFIGS = {"ch2": "both", "geometry_shapes": "A"}


def _ch2_points(
    data: dict[str, Array],
    multiplicities: tuple[int, ...],
    name: str,
    lengths: Array,
    energies: Array,
) -> list[Graph]:
    points = []
    for spin, multiplicity in enumerate((1, 3)):
        if multiplicity not in multiplicities:
            continue
        for row, angle in enumerate(data[f"{name}_angle"]):
            half = np.deg2rad(0.5 * angle)
            direction = np.asarray([np.cos(half), np.sin(half), 0.0])
            hydrogens = np.stack([direction, direction * [1.0, -1.0, 1.0]])  # of length 1 Å
            for column, length in enumerate(lengths):
                points.append(
                    structure(
                        np.concatenate([np.zeros((1, 3)), length * hydrogens]),
                        data["atomic_numbers"],
                        spin_multiplicity=multiplicity,
                        energy=energies[spin, row, column],
                        angle=angle,
                        length=length,
                    )
                )
    return points
