"""What is measured on trajectories: drift, bonds, distances and angles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from ase.data import covalent_radii

from keras_mlff.graph import Array


def energy_drift(times: Array, energies: Array, num_atoms: int) -> float:
    """Fits a line to the total energy and returns its slope per atom.

    Args:
        times: Times of the frames, `(num_frames,)`, fs.
        energies: Total energies of the frames, `(num_frames,)`, eV.
        num_atoms: Number of atoms, by which the slope is divided.

    Returns:
        The slope in eV per atom and ps.

    Raises:
        ValueError: If there are fewer than two frames.
    """
    if len(times) < 2:
        raise ValueError(f"A drift needs at least two frames. Received: {len(times)}.")
    picoseconds = (times - np.mean(times)) * 1e-3
    slope = picoseconds @ (energies - np.mean(energies)) / (picoseconds @ picoseconds)
    return float(slope / num_atoms)


def bonds(positions: Array, atomic_numbers: Array, tolerance: float = 1.25) -> Array:
    """Lists the bonds of a molecule: pairs no farther apart than their covalent radii allow.

    Args:
        positions: Positions of the atoms, `(num_atoms, 3)`, Å.
        atomic_numbers: Their elements, `(num_atoms,)`.
        tolerance: A factor on the sum of the two radii.

    Returns:
        Indices of the bonded atoms, `(num_bonds, 2)`, the lower index first.
    """
    first, second = np.triu_indices(len(positions), k=1)
    lengths = np.linalg.norm(positions[first] - positions[second], axis=1)
    radii = covalent_radii[atomic_numbers]
    near = lengths < tolerance * (radii[first] + radii[second])
    return np.stack([first[near], second[near]], axis=1)


def pair_distances(positions: Array, pairs: npt.ArrayLike) -> Array:
    """Measures the distance of pairs of atoms in each frame.

    Args:
        positions: Positions in each frame, `(num_frames, num_atoms, 3)`, Å.
        pairs: Indices of the atoms of each pair, `(num_pairs, 2)`.

    Returns:
        `(num_frames, num_pairs)`, Å.
    """
    first, second = np.asarray(pairs, np.int64).reshape(-1, 2).T
    lengths: Array = np.linalg.norm(positions[:, first] - positions[:, second], axis=-1)
    return lengths


def angles(positions: Array, triples: npt.ArrayLike) -> Array:
    """Measures the angle at the middle atom of triples of atoms in each frame.

    Args:
        positions: Positions in each frame, `(num_frames, num_atoms, 3)`, Å.
        triples: Indices of the atoms of each triple, `(num_triples, 3)`.

    Returns:
        `(num_frames, num_triples)`, degrees between 0 and 180, exact near both ends too.
    """
    first, middle, last = np.asarray(triples, np.int64).reshape(-1, 3).T
    a, b = positions[:, first] - positions[:, middle], positions[:, last] - positions[:, middle]
    sines = np.linalg.norm(np.cross(a, b), axis=-1)
    cosines = np.sum(a * b, axis=-1)
    found: Array = np.degrees(np.arctan2(sines, cosines))
    return found
