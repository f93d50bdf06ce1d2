"""The search for neighbors and triplets as TensorFlow functions, for SavedModels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from keras_mlff.graph import Tensor

_COINCIDENT = 1e-6  # Å, as in neighbors.py


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
    open_directions = tf.linalg.diag(tf.where(pbc, tf.zeros(3, tf.float64), 1.0))
    gram = tf.matmul(lattice, lattice, transpose_b=True) + open_directions
    scale = tf.sqrt(tf.linalg.diag_part(gram))
    units = gram / tf.maximum(scale[:, None] * scale, 1e-300)
    independent = require(
        tf.linalg.det(units) > 1e-12,
        "The lattice vectors along periodic directions must be linearly independent and longer "
        "than zero. Give pbc = False for a molecule.",
    )
    with tf.control_dependencies([independent]):
        gram = tf.identity(gram)
    # columns dual to the periodic lattice vectors, zero for open directions
    dual = tf.matmul(lattice, tf.linalg.inv(gram), transpose_a=True)
    cells_away = tf.floor(tf.matmul(positions, dual))  # (num_atoms, 3)
    wrapped = positions - tf.matmul(cells_away, lattice)
    fractional = tf.matmul(wrapped, dual)

    reach = cutoff * (1.0 + 1e-6) * tf.norm(dual, axis=0)  # in lattice vectors
    reach = tf.where(pbc, reach, 0.0)  # not NaN where the cutoff is infinite
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


def finite(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Refuses NaN and infinite numbers, which would cut atoms off from their neighbors."""
    checks = [
        require(tf.reduce_all(tf.math.is_finite(x)), f"`{key}` holds NaN or infinite numbers.")
        for key, x in tensors.items()
        if x.dtype.is_floating
    ]
    with tf.control_dependencies(checks):
        return {key: tf.identity(x) for key, x in tensors.items()}


def require(condition: Tensor, message: str) -> Any:
    """Stops the computation with this message where the condition is false."""
    return tf.debugging.Assert(condition, [message])
