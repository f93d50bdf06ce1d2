"""The search for neighbors and triplets as TensorFlow functions, for SavedModels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mlff.graph import Tensor, level
from keras_mlff.graph.building import FARTHEST
from keras_mlff.graph.cells import DENSEST

_COINCIDENT = 1e-6  # Å, as in neighbors.py
_MOST_PAIRS = 2e8  # of atoms and images, which take 24 bytes each


def neighbor_list(
    positions: Tensor, cutoff: float, cell: Tensor, pbc: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Does in TensorFlow what `neighbors.neighbor_list` does in NumPy, in the same order.

    All atoms are compared with all images in reach: time and memory grow with the square of the
    number of atoms.

    Args:
        positions: `(num_atoms, 3)` float64, Å.
        cutoff: Å.
        cell: `(3, 3)` float64, Å, lattice vectors in rows; rows of open directions are ignored.
        pbc: `(3,)` bool.

    Returns:
        `senders`, `receivers` `(num_edges,)` and `cell_shifts` `(num_edges, 3)`, all int32.
    """
    num_atoms = tf.shape(positions)[0]
    lattice = tf.where(pbc[:, None], cell, 0.0)
    dual = dual_vectors(lattice[None], pbc[None])[0]
    reach = cutoff * (1.0 + 1e-6) * tf.norm(dual, axis=0)  # in lattice vectors
    reach = tf.where(pbc, reach, 0.0)  # not NaN where the cutoff is infinite
    num_real = tf.cast(num_atoms, tf.float64)
    num_pairs = num_real**2 * tf.reduce_prod(2.0 * reach + 1.0)
    density = tf.where(tf.reduce_all(pbc), num_real * tf.abs(tf.linalg.det(dual)), 0.0)
    feasible = require(
        (num_pairs < _MOST_PAIRS) & (density < DENSEST),
        "The cell is too flat, dense or skewed to search for neighbors, or the structure too large "
        f"for comparing all atoms. Pairs ({_MOST_PAIRS:.0e} at most), atoms per Å³:",
        num_pairs,
        density,
    )
    with tf.control_dependencies([feasible]):
        dual = tf.identity(dual)
    cells_away = tf.floor(tf.matmul(positions, dual))  # (num_atoms, 3)
    wrapped = positions - tf.matmul(cells_away, lattice)
    fractional = tf.matmul(wrapped, dual)

    images = tf.cast(tf.math.ceil(reach), tf.int32)
    axes = [tf.range(-images[axis], images[axis] + 1) for axis in range(3)]
    grid = tf.reshape(tf.stack(tf.meshgrid(*axes, indexing="ij"), axis=-1), (-1, 3))
    places = fractional[:, None] + tf.cast(grid, tf.float64)  # (num_atoms, num_shifts, 3)
    low, high = tf.reduce_min(fractional, axis=0) - reach, tf.reduce_max(fractional, axis=0) + reach
    candidates = tf.where(tf.reduce_all((places >= low) & (places <= high), axis=2))
    senders = tf.cast(candidates[:, 0], tf.int32)
    shifts = tf.gather(grid, candidates[:, 1])

    moved = tf.gather(wrapped, senders) + tf.matmul(tf.cast(shifts, tf.float64), lattice)
    vectors = moved - wrapped[:, None]  # (receiver, candidate, 3)
    lengths = tf.sqrt(tf.reduce_sum(tf.square(vectors), axis=2))
    itself = (senders == tf.range(num_atoms)[:, None]) & tf.reduce_all(shifts == 0, axis=1)
    apart = require(
        tf.reduce_all(itself | (lengths > _COINCIDENT)), "Two atoms are at the same place."
    )
    with tf.control_dependencies([apart]):
        pairs = tf.where((lengths <= cutoff) & ~itself)
    receivers = tf.cast(pairs[:, 0], tf.int32)
    senders, shifts = tf.gather(senders, pairs[:, 1]), tf.gather(shifts, pairs[:, 1])
    moves = tf.cast(cells_away, tf.int32)
    return senders, receivers, shifts + tf.gather(moves, receivers) - tf.gather(moves, senders)


def each_once(senders: Tensor, receivers: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Keeps of each two opposite pairs one, as `neighbors.with_long_edges` does."""
    forward = tf.reduce_sum(tf.sign(shifts) * [4, 2, 1], axis=1) > 0
    once = (senders > receivers) | ((senders == receivers) & forward)
    return tuple(tf.boolean_mask(x, once) for x in (senders, receivers, shifts))


def triplets(senders: Tensor, receivers: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Does in TensorFlow what `neighbors.triplets` does in NumPy, in the same order."""
    num_atoms = tf.reduce_max(tf.concat([senders, receivers, [-1]], axis=0)) + 1
    incoming = tf.math.unsorted_segment_sum(tf.ones_like(receivers), receivers, num_atoms)
    partners = tf.gather(incoming, senders)  # (num_edges,)
    before = tf.gather(tf.cumsum(incoming, exclusive=True), senders)
    triplet_out = tf.repeat(tf.range(tf.size(senders)), partners)
    start = tf.repeat(before - tf.cumsum(partners, exclusive=True), partners)
    triplet_in = tf.range(tf.size(triplet_out)) + start
    back = tf.gather(senders, triplet_in) == tf.gather(receivers, triplet_out)
    moved = tf.gather(shifts, triplet_in) + tf.gather(shifts, triplet_out) != 0
    keep = ~back | tf.reduce_any(moved, axis=1)
    return tf.boolean_mask(triplet_in, keep), tf.boolean_mask(triplet_out, keep)


def dual_vectors(lattices: Tensor, pbc: Tensor) -> Tensor:
    """Computes the vectors dual to periodic lattice vectors, which must be independent.

    Args:
        lattices: `(num_graphs, 3, 3)` float64, Å, in rows, zero for open directions.
        pbc: `(num_graphs, 3)` bool.

    Returns:
        `(num_graphs, 3, 3)`, 1/Å, in columns, zero for open directions.
    """
    open_directions = tf.linalg.diag(tf.where(pbc, tf.zeros_like(lattices[:, 0]), 1.0))
    gram = tf.matmul(lattices, lattices, transpose_b=True) + open_directions
    scale = tf.sqrt(tf.linalg.diag_part(gram))
    units = gram / tf.maximum(scale[:, :, None] * scale[:, None], 1e-300)
    independent = require(
        tf.reduce_all(tf.linalg.det(units) > 1e-12),
        "The lattice vectors along periodic directions must be linearly independent and longer "
        "than zero. Give pbc = False for a molecule.",
    )
    with tf.control_dependencies([independent]):
        gram = tf.identity(gram)
    return tf.matmul(lattices, tf.linalg.inv(gram), transpose_a=True)


def centered(graph: Mapping[str, Tensor], wrap: bool) -> dict[str, Tensor]:
    """Does in TensorFlow what `graph.centered` does in NumPy."""
    positions, ids, moved = graph["positions"], graph["graph_ids"], dict(graph)
    real = tf.cast(graph["atom_mask"], tf.float64)[:, None]
    num_graphs = tf.shape(graph["graph_mask"])[0]

    def sums(values: Tensor) -> Tensor:
        return tf.math.unsorted_segment_sum(values * real, ids, num_graphs)

    if wrap and "cell" in graph:
        lattices = tf.where(graph["pbc"][:, :, None], graph["cell"], 0.0)
        dual = tf.gather(dual_vectors(lattices, graph["pbc"]), ids)
        angles = 2 * np.pi * tf.einsum("ij,ijk->ik", positions, dual)
        middles = tf.atan2(sums(tf.sin(angles)), sums(tf.cos(angles)))  # (num_graphs, 3)
        cells_away = tf.round((angles - tf.gather(middles, ids)) / (2 * np.pi))
        positions -= tf.einsum("ij,ijk->ik", cells_away, tf.gather(lattices, ids))
        for kind in ("", "long_"):
            if f"{kind}senders" in graph:
                ends = [
                    tf.gather(cells_away, graph[f"{kind}{end}"]) for end in ("senders", "receivers")
                ]
                moved[f"{kind}cell_shifts"] = graph[f"{kind}cell_shifts"] + ends[0] - ends[1]
    counts = tf.maximum(sums(tf.ones_like(real)), 1.0)
    moved["positions"] = positions - tf.gather(sums(positions) / counts, ids)
    return moved


def sensible(tensors: Mapping[str, Tensor], single: bool) -> dict[str, Tensor]:
    """Refuses inputs whose sizes do not belong together, and numbers that cannot be positions.

    Args:
        tensors: What a client gives, by key.
        single: Whether it is one structure, whose charge, spin and cell have no first axis.
    """
    size = tf.shape(tensors["atomic_numbers"])[0]
    checks = [require(size > 0, "A structure needs at least one atom. Atoms:", size)]
    first: dict[str, str] = {}
    for key, x in tensors.items():
        what = level(key)
        if x.dtype.is_floating:  # NaN would cut atoms off from their neighbors
            finite = tf.reduce_all(tf.math.is_finite(x))
            checks.append(require(finite, f"`{key}` holds NaN or infinite numbers."))
        if not single or what != "structure":
            other = first.setdefault(what, key)
            sizes = tf.shape(x)[0], tf.shape(tensors[other])[0]
            message = f"`{key}` and `{other}` must both have one row for each {what}. Rows:"
            checks.append(require(sizes[0] == sizes[1], message, *sizes))
    farthest = tf.reduce_max(tf.abs(tensors["positions"]))
    near = require(farthest <= FARTHEST, "Positions are too far from the origin. Å:", farthest)
    with tf.control_dependencies([*checks, near]):
        return {key: tf.identity(x) for key, x in tensors.items()}


def require(condition: Tensor, message: str, *values: Tensor) -> Any:
    """Stops the computation with this message, and numbers, where the condition is false."""
    return tf.debugging.Assert(condition, [message, *values])
