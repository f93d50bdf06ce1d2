"""Structures to measure with, made from their geometry alone."""

from __future__ import annotations

import numpy as np

from keras_mlff.graph import Array, Graph, structure

# C, C, O, then hydrogens; MP2/6-31G(d), as in the G2 set of ASE
_ETHANOL_NUMBERS = [6, 6, 8, 1, 1, 1, 1, 1, 1]
_ETHANOL_POSITIONS = [
    [1.1682, -0.4004, 0.0],
    [0.0, 0.5595, 0.0],
    [-1.1901, -0.2277, 0.0],
    [-1.9466, 0.3815, 0.0],
    [0.0426, 1.2075, 0.8869],
    [0.0426, 1.2075, -0.8869],
    [2.1159, 0.1448, 0.0],
    [1.1286, -1.0372, 0.8859],
    [1.1286, -1.0372, -0.8859],
]
_SILICON_LATTICE = 5.431  # Å
_SILICON_CELL = [
    [0.0, 0.0, 0.0],
    [0.0, 0.5, 0.5],
    [0.5, 0.0, 0.5],
    [0.5, 0.5, 0.0],
    [0.25, 0.25, 0.25],
    [0.25, 0.75, 0.75],
    [0.75, 0.25, 0.75],
    [0.75, 0.75, 0.25],
]


def make(system: str, count: int, seed: int = 0) -> list[Graph]:
    """Makes structures with small random displacements and random labels.

    Args:
        system: `"ethanol"`, or `"silicon:64"` for a crystal of 64 atoms (a multiple of 8).
        count: How many.
        seed: Of displacements and labels.

    Raises:
        ValueError: If there is no such system.

    Example:
        >>> len(make("silicon:16", 2))
        2
    """
    name, _, size = system.partition(":")
    cell = None
    if name == "ethanol" and not size:
        positions, numbers = np.asarray(_ETHANOL_POSITIONS), np.asarray(_ETHANOL_NUMBERS)
    elif name == "silicon" and size.isdecimal() and int(size) > 0 and int(size) % 8 == 0:
        positions, cell = _silicon(int(size) // 8)
        numbers = np.full(len(positions), 14)
    else:
        raise ValueError(
            "There is no such system to measure with. "
            f"Received: system='{system}'. Choose 'ethanol' or 'silicon:N' with N a multiple of 8."
        )
    random = np.random.default_rng(seed)
    return [
        structure(
            positions + random.normal(scale=0.03, size=positions.shape),
            numbers,
            cell,
            energy=random.normal(),
            forces=random.normal(size=positions.shape),
        )
        for _ in range(count)
    ]


def _silicon(num_cells: int) -> tuple[Array, Array]:
    """Stacks cubic cells into the box with the smallest surface."""
    boxes = [
        (a, b, num_cells // (a * b))
        for a in range(1, num_cells + 1)
        for b in range(1, num_cells // a + 1)
        if num_cells % (a * b) == 0
    ]
    box = np.asarray(min(boxes, key=sum))
    origins = np.indices(tuple(box)).reshape(3, -1).T  # (num_cells, 3)
    fractional = (origins[:, None] + np.asarray(_SILICON_CELL)).reshape(-1, 3)
    return fractional * _SILICON_LATTICE, np.diag(box * _SILICON_LATTICE)
