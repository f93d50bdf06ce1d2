"""What is measured on trajectories: drift, lengths, angles, radii."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from ase.data import covalent_radii

from keras_mlff.graph import Array


def energy_drift(times: Array, energies: Array, num_atoms: int) -> float:
    """Fits a line to the total energy and returns its slope, eV per atom and ps.

    Args:
        times: `(num_frames,)`, fs.
        energies: `(num_frames,)`, eV.
        num_atoms: What the slope is divided by.
    """
    if len(times) < 2:
        raise ValueError(f"A drift needs at least two frames. Received: {len(times)}.")
    picoseconds = (times - np.mean(times)) * 1e-3
    slope = picoseconds @ (energies - np.mean(energies)) / (picoseconds @ picoseconds)
    return float(slope / num_atoms)


def bonds(positions: Array, atomic_numbers: Array, tolerance: float = 1.25) -> Array:
    """Lists pairs of a molecule's atoms no farther apart than their covalent radii allow.

    Args:
        positions: `(num_atoms, 3)`, Å.
        atomic_numbers: `(num_atoms,)`.
        tolerance: Factor on the sum of the radii.

    Returns:
        `(num_bonds, 2)`, the lower index first.
    """
    first, second = np.triu_indices(len(positions), k=1)
    lengths = np.linalg.norm(positions[first] - positions[second], axis=1)
    radii = covalent_radii[atomic_numbers]
    near = lengths < tolerance * (radii[first] + radii[second])
    return np.stack([first[near], second[near]], axis=1)


def distances(positions: Array, pairs: npt.ArrayLike) -> Array:
    """Measures pairs of atoms in each frame: `(num_frames, num_pairs)`, Å.

    Args:
        positions: `(num_frames, num_atoms, 3)`, Å.
        pairs: `(num_pairs, 2)` indices of atoms.
    """
    first, second = np.asarray(pairs, np.int64).reshape(-1, 2).T
    lengths: Array = np.linalg.norm(positions[:, first] - positions[:, second], axis=-1)
    return lengths


def angles(positions: Array, triples: npt.ArrayLike) -> Array:
    """Measures the angle at the middle atom of each triple: `(num_frames, num_triples)`, degrees.

    Args:
        positions: `(num_frames, num_atoms, 3)`, Å.
        triples: `(num_triples, 3)` indices of atoms.
    """
    first, middle, last = np.asarray(triples, np.int64).reshape(-1, 3).T
    a, b = positions[:, first] - positions[:, middle], positions[:, last] - positions[:, middle]
    sines = np.linalg.norm(np.cross(a, b), axis=-1)
    cosines = np.sum(a * b, axis=-1)
    found: Array = np.degrees(np.arctan2(sines, cosines))  # exact near 0 and 180 degrees too
    return found


def radii_of_gyration(positions: Array, masses: Array) -> Array:
    """Measures how far the mass reaches from its center in each frame: `(num_frames,)`, Å.

    Args:
        positions: `(num_frames, num_atoms, 3)`, Å.
        masses: `(num_atoms,)`, amu.
    """
    weights = masses / np.sum(masses)
    centers = np.einsum("a,fax->fx", weights, positions)
    squares = np.sum(np.square(positions - centers[:, None]), axis=-1)
    radii: Array = np.sqrt(squares @ weights)
    return radii
