"""Structures that break what is wrong: random, symmetric, lonely, periodic and very small ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_mlff.graph import Array, Graph, structure


def molecule(num_atoms: int = 7, seed: int = 1, **arguments: Any) -> Graph:
    """Places atoms at random, none closer than 0.9 Å, and some pairs farther apart than 4 Å.

    Args:
        num_atoms: How many atoms.
        seed: Fixes positions and elements (H, C, N, O, Cl).
        **arguments: What else `graph.structure` takes. A charge comes with the lowest spin
            multiplicity that its number of electrons allows, where none is given.

    Returns:
        The structure, without edges.
    """
    random = np.random.default_rng(seed)
    positions = [np.zeros(3)]
    while len(positions) < num_atoms:
        place = positions[-1] + random.normal(size=3) * 1.1
        if min(np.linalg.norm(place - other) for other in positions) > 0.9:
            positions.append(place)
    numbers = random.choice([1, 6, 7, 8, 17], num_atoms)
    if "total_charge" in arguments:
        num_electrons = int(numbers.sum() - arguments["total_charge"])
        arguments = {"spin_multiplicity": 1 + num_electrons % 2, **arguments}
    return structure(np.asarray(positions), numbers, **arguments)


def crystal(pbc: Any = True) -> Graph:
    """Makes a skewed cell of four different atoms.

    Args:
        pbc: One or three bools: along which lattice vectors it repeats.
    """
    positions = [[0.1, 0.2, 0.3], [2.1, 2.4, 2.2], [0.4, 2.5, 1.9], [2.6, 0.3, 4.1]]
    cell = [[4.6, 0.3, 0.0], [-0.4, 5.0, 0.5], [0.2, 0.6, 5.4]]
    return structure(positions, [11, 17, 8, 1], cell=cell, pbc=pbc)


def symmetric_molecules() -> dict[str, Graph]:
    """Makes molecules whose symmetry says which forces vanish, among them a lone atom."""
    carbons, hydrogens = _ring(1.39), _ring(2.48)
    corner = 1.09 / 3**0.5
    return {
        "atom": structure([[0.3, 0.1, -0.2]], [6]),
        "N2": structure([[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]], [7, 7]),
        "CO2": structure([[0.0, 0.0, 0.0], [1.16, 0.0, 0.0], [-1.16, 0.0, 0.0]], [6, 8, 8]),
        "methane": structure(
            np.asarray([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * corner,
            [6, 1, 1, 1, 1],
        ),
        "benzene": structure(carbons + hydrogens, [6] * 6 + [1] * 6),
        "two far atoms": structure([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]], [1, 8]),
    }


def moved(graph: Graph, **arrays: Any) -> Graph:
    """Copies a structure with other arrays, and without edges, which may have changed."""
    kept = {k: v for k, v in graph.items() if not k.startswith(("send", "rec", "edge", "trip"))}
    return {**kept, **{key: np.asarray(value) for key, value in arrays.items()}}


def rotation(seed: int, sign: int) -> Array:
    """Draws an orthogonal matrix `(3, 3)`: a rotation (+1), or one with a mirror (-1)."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * sign * np.sign(np.linalg.det(matrix))


def _ring(radius: float) -> list[list[float]]:
    angles = np.arange(6) * np.pi / 3
    return [[radius * np.cos(angle), radius * np.sin(angle), 0.0] for angle in angles]
