"""Cells: which have a volume, which can be searched, and positions in them that lose no digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_FLAT = 1e-6  # below it, a volume or a length is nothing beside what it is compared with
# what cannot end or cannot be meant; diamond, the densest matter, holds 0.18 atoms per Å³
DENSEST = 1.0  # atoms per Å³
_MOST_IMAGES = 1_000_000  # within reach
_MOST_EDGES = 100_000_000
_FARTHEST = 2**30  # cells: int32 holds the difference of two


def has_volume(cells: Any, library: Any = np) -> Any:
    """Tells which cells have a volume, as a stress needs; the one place where that is decided.

    A cell has none if its vectors lie in a plane, or if one of them is nothing beside another.

    Args:
        cells: `(..., 3, 3)`, lattice vectors in rows, Å, of which none has to be periodic.
        library: What computes: NumPy, or `keras.ops` and the like in a network.

    Returns:
        `(...,)` bool.
    """
    lengths = library.sqrt(library.sum(library.square(cells), axis=-1))
    normals = library.cross(cells[..., 1, :], cells[..., 2, :], axis=-1)
    volumes = library.abs(library.sum(cells[..., 0, :] * normals, axis=-1))
    shortest, longest = library.min(lengths, axis=-1), library.max(lengths, axis=-1)
    return (volumes > _FLAT * library.prod(lengths, axis=-1)) & (shortest > _FLAT * longest)


def centered(graph: Mapping[str, Any], wrap: bool = True) -> dict[str, Any]:
    """Moves each structure to the origin, and the atoms of crystals into one cell, in float64.

    Networks compute in float32, which keeps seven digits of a position and of a shift between
    periodic images, and energies depend on differences alone. Everything that a model predicts is
    defined by these; dipoles and extents count from the center of nuclear charge. The cell is the
    one around the structure's middle, so that a molecule in a periodic box stays in one piece.

    Args:
        graph: A graph or a batch of NumPy arrays, with edges or without.
        wrap: Whether atoms of crystals may change their cell.

    Returns:
        A graph with other `positions` and, in crystals, other `cell_shifts`, whose edges and far
        pairs have the same vectors.
    """
    dtype = np.asarray(graph["positions"]).dtype
    positions = np.asarray(graph["positions"], np.float64)
    moved, ids = dict(graph), np.asarray(graph["graph_ids"])
    weights, num_graphs = np.asarray(graph["atom_mask"], np.float64), len(graph["graph_mask"])

    def sums(values: Any) -> Any:
        columns = [np.bincount(ids, column * weights, num_graphs) for column in values.T]
        return np.stack(columns, axis=1)

    if wrap and "cell" in graph and np.any(graph["pbc"]):
        lattices = np.where(np.asarray(graph["pbc"])[:, :, None], graph["cell"], 0.0)
        lattices = lattices.astype(np.float64)
        # zero along open directions
        angles = 2 * np.pi * np.einsum("ij,ijk->ik", positions, np.linalg.pinv(lattices)[ids])
        middles = np.arctan2(sums(np.sin(angles)), sums(np.cos(angles)))  # (num_graphs, 3)
        cells_away = np.round((angles - middles[ids]) / (2 * np.pi))
        positions = positions - np.einsum("ij,ijk->ik", cells_away, lattices[ids])
        for kind in ("", "long_"):
            if f"{kind}senders" in graph:
                shifts = np.asarray(graph[f"{kind}cell_shifts"])
                ends = graph[f"{kind}senders"], graph[f"{kind}receivers"]
                change = cells_away[ends[0]] - cells_away[ends[1]]
                moved[f"{kind}cell_shifts"] = (shifts + change).astype(shifts.dtype)
    counts = np.maximum(np.bincount(ids, weights, num_graphs), 1.0)
    centers = sums(positions) / counts[:, None]
    moved["positions"] = (positions - centers[ids]).astype(dtype)
    return moved


def check_search(positions: Any, cutoff: float, lattice: Any, periodic: Any) -> None:
    """Refuses cells whose search for neighbors would not end, before it begins.

    Args:
        positions: `(num_atoms, 3)`, Å.
        cutoff: Å.
        lattice: `(3, 3)`, Å; open directions have unit vectors perpendicular to all others.
        periodic: `(3,)` bool.

    Raises:
        ValueError: With the estimate and its limit.
    """
    if not periodic.any() or len(positions) == 0:
        return
    # an open direction is as long as the atoms need and 2 Å more
    inverse = np.linalg.inv(lattice)
    fractions = positions @ inverse
    heights = np.where(periodic, 1.0, 2.0 + np.ptp(fractions, axis=0))
    reach = np.where(periodic, cutoff * np.linalg.norm(inverse, axis=0), 0.0)
    density = len(positions) / abs(np.linalg.det(lattice) * heights.prod())
    estimates = [
        (density, DENSEST, "atoms per Å³"),
        (np.abs(fractions[:, periodic]).max(), _FARTHEST, "cells from the origin to an atom"),
        (np.prod(2.0 * np.ceil(reach) + 1.0), _MOST_IMAGES, f"images within {cutoff:.3g} Å"),
        (len(positions) * density * 4 / 3 * np.pi * cutoff**3, _MOST_EDGES, "edges, about"),
    ]
    found = [f"{x:.3g} {what} ({most:,} at most)" for x, most, what in estimates if x > most]
    if found:
        raise ValueError(
            "The cell is too flat, dense, skewed or large to search for neighbors. Received: "
            f"cell={lattice[periodic].tolist()}, pbc={periodic.tolist()}, {len(positions)} atoms: "
            f"{'; '.join(found)}. Check the unit of cell and positions; `ase.Atoms.wrap` and "
            "`ase.build.niggli_reduce` bring atoms back and make a skewed cell compact."
        )


def complete_cell(cell: npt.ArrayLike | None, pbc: npt.ArrayLike | None) -> tuple[Any, Any]:
    """Returns the periodic directions `(3,)` and a cell `(3, 3)` that can be inverted.

    Directions that are not periodic get unit vectors perpendicular to all others, so that the
    distance between two lattice planes depends on the periodic vectors alone.
    """
    periodic = np.empty(3, "bool")
    periodic[:] = cell is not None if pbc is None else pbc
    if not periodic.any():
        return periodic, np.eye(3)
    if cell is None:
        raise ValueError(
            f"Periodic directions need a `cell`. Received: cell=None, pbc={periodic.tolist()}."
        )
    lattice = np.array(cell, "float64")
    lattice = np.diag(lattice) if lattice.shape == (3,) else lattice
    if lattice.shape != (3, 3) or not np.isfinite(lattice[periodic]).all():
        raise ValueError(
            "`cell` must hold three finite lattice vectors in rows, (3, 3), or three box lengths, "
            f"(3,). Received: cell={lattice.tolist()}."
        )
    lengths = np.linalg.norm(lattice[periodic], axis=1, keepdims=True)
    units = lattice[periodic] / np.where(lengths > 0, lengths, 1)
    _, singular_values, axes = np.linalg.svd(units)
    if singular_values[-1] < 1e-6:
        raise ValueError(
            "The lattice vectors along periodic directions must be linearly independent and longer "
            f"than zero. Received: cell={lattice.tolist()}, pbc={periodic.tolist()}. Pass "
            "pbc=False for a molecule, or False for the directions without a period."
        )
    lattice[~periodic] = axes[len(units) :]
    return periodic, lattice
