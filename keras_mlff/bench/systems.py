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
_FACES = np.asarray([[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
# by name: edge of the cubic cell in Å, and the first atom of two, with where the second is
_CRYSTALS = {
    "silicon": (5.431, (14, 14), 0.25),
    "salt": (5.640, (11, 17), 0.5),
}
# of cumulenes: C=C at the ends and within and C-H in Å, H-C-H in degrees
_END_BOND, _INNER_BOND, _CH_BOND, _HCH_ANGLE = 1.315, 1.279, 1.086, 118.71


def make(system: str, count: int, seed: int = 0) -> list[Graph]:
    """Makes structures with small random displacements and random labels.

    Args:
        system: `"ethanol"`; `"cluster:21"` for 21 atoms cut out of diamond; `"silicon:64"` or
            `"salt:64"` (NaCl) for a crystal of 64 atoms, a multiple of 8.
        count: How many structures to make.
        seed: Fixes displacements and labels.

    Returns:
        Structures with `energy` and `forces`, without edges.

    Raises:
        ValueError: If there is no such system.

    Example:
        >>> len(make("silicon:16", 2))
        2
    """
    name, _, size = system.partition(":")
    number = int(size) if size.isdecimal() else 0
    cell = None
    if system == "ethanol":
        positions, numbers = np.asarray(_ETHANOL_POSITIONS), np.asarray(_ETHANOL_NUMBERS)
    elif name == "cluster" and number > 0:
        positions, numbers = _cluster(number), np.full(number, 6)
    elif name in _CRYSTALS and number > 0 and number % 8 == 0:
        positions, numbers, cell = _crystal(name, number // 8)
    else:
        raise ValueError(
            f"There is no such system to measure with. Received: system='{system}'. Choose "
            "'ethanol', 'cluster:N', or 'silicon:N' or 'salt:N' with N a multiple of 8."
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


def cumulene(num_carbons: int, dihedral: float) -> tuple[Array, Array]:
    """Lays a cumulene along z, with the hydrogens of its start in the plane of x and z.

    Bonds and angles are those of the scans of the GNL cumulenes v0.2 (Batatia et al., 2023,
    https://arxiv.org/abs/2310.10434).

    Args:
        num_carbons: Length of the chain, at least 2.
        dihedral: Angle between the planes of the two ends, degrees.

    Returns:
        Positions `(num_carbons + 4, 3)` in Å and atomic numbers `(num_carbons + 4,)`, carbons
        first.
    """
    inner = [_INNER_BOND] * (num_carbons - 3)
    heights = np.cumsum([0.0, _END_BOND, *inner, _END_BOND][:num_carbons])
    half = np.deg2rad(0.5 * _HCH_ANGLE)
    out, across = _CH_BOND * np.cos(half), _CH_BOND * np.sin(half)
    positions = [[0.0, 0.0, height] for height in heights]
    for height, turn in ((-out, 0.0), (heights[-1] + out, np.deg2rad(dihedral))):
        for side in (across, -across):
            positions.append([side * np.cos(turn), side * np.sin(turn), height])
    return np.asarray(positions), np.asarray([6] * num_carbons + [1] * 4, np.int32)


def _crystal(name: str, num_cells: int) -> tuple[Array, Array, Array]:
    """Stacks cubic cells into the box with the smallest surface."""
    edge, pair, shift = _CRYSTALS[name]
    boxes = [
        (a, b, num_cells // (a * b))
        for a in range(1, num_cells + 1)
        for b in range(1, num_cells // a + 1)
        if num_cells % (a * b) == 0
    ]
    box = np.asarray(min(boxes, key=sum))
    origins = np.indices(tuple(box)).reshape(3, -1).T  # (num_cells, 3)
    basis = np.concatenate([_FACES, _FACES + shift])
    fractional = (origins[:, None] + basis).reshape(-1, 3)
    return fractional * edge, np.tile(np.repeat(pair, 4), num_cells), np.diag(box * edge)


def _cluster(num_atoms: int) -> Array:
    """Takes the atoms of diamond that are nearest to the middle of a crystal."""
    edge = 3.567
    width = 2 + int(np.cbrt(num_atoms / 4.0))
    cells = np.indices((width, width, width)).reshape(3, -1).T
    positions = (cells[:, None] + np.concatenate([_FACES, _FACES + 0.25])).reshape(-1, 3) * edge
    middle = np.full(3, 0.5 * width * edge + 0.1)  # a little off, so that few are equally near
    order = np.argsort(np.linalg.norm(positions - middle, axis=1), kind="stable")
    return positions[order[:num_atoms]]
