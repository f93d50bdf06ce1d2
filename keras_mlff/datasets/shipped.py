"""Data sets that come with the package, read by NumPy alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff.graph import Array, Graph, structure

CH2_FILE = Path(__file__).with_name("ch2.npz")
CH2_MULTIPLICITIES = {"singlet": (1,), "triplet": (3,), "both": (1, 3)}


def ch2(config: str = "both") -> dict[str, list[Graph]]:
    """Reads singlet and triplet carbene; recipes/generate_ch2.py computed it.

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


SHIPPED: dict[str, Callable[[str], dict[str, list[Graph]]]] = {"ch2": ch2}
CONFIGS = {"ch2": tuple(CH2_MULTIPLICITIES)}
DEFAULT_CONFIGS = {"ch2": "both"}


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
