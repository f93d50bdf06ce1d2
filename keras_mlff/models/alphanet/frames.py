"""A frame of three vectors for each edge, and the choice of an atom's nearest edges."""

from __future__ import annotations

from keras import ops

from keras_mlff import backend
from keras_mlff.graph import Graph, Tensor
from keras_mlff.ops import safe, segment

FRAMES = ("weighted_mean", "edge_mean", "raw_mean")
_FLOOR = 1e-3  # keeps the weighted mean smooth where the last neighbor leaves


def nearest(lengths: Tensor, graph: Graph, max_neighbors: int) -> Tensor:
    """Tells which edges are among the `max_neighbors` shortest of their receiver.

    Of equally long edges those that come first in the graph are taken.

    Args:
        lengths: `(num_edges,)`, Å; longer for padding edges than for real ones.
        graph: The batch, whose edges are sorted by receiver.
        max_neighbors: How many edges of a receiver are kept.

    Returns:
        `(num_edges,)` bool.
    """
    receivers = graph["receivers"]
    lengths = ops.stop_gradient(lengths)
    by_length = ops.argsort(lengths)
    # stable, so that edges of one receiver stay sorted by length
    by_receiver = ops.argsort(ops.take(receivers, by_length, axis=0))
    order = ops.take(by_length, by_receiver, axis=0)
    ones = ops.ones_like(receivers)
    counts = backend.segment_sum(ones, receivers, ops.shape(graph["atomic_numbers"])[0])
    first = ops.take(ops.cumsum(counts) - counts, receivers, axis=0)
    # receivers ascend, so the sorted edges have the same receivers as the edges
    ranks = ops.cast(ops.arange(ops.shape(receivers)[0]), first.dtype) - first
    return ops.take(ranks, ops.argsort(order), axis=0) < max_neighbors


def edge_mean(values: Tensor, weights: Tensor, graph: Graph, floor: float = 0.0) -> Tensor:
    """Averages over the edges of each receiver, by weight.

    Args:
        values: `(num_edges, width)`.
        weights: `(num_edges, 1)`, zero for padding.
        graph: The batch.
        floor: Added to the sum of weights that the sum is divided by.

    Returns:
        `(num_atoms, width)`; zero for an atom without neighbors.
    """
    sums = segment.sum_over_edges(ops.concatenate([weights * values, weights], axis=1), graph)
    return safe.divide(sums[:, :-1], sums[:, -1:] + floor)


def edge_frames(
    graph: Graph,
    vectors: Tensor,
    directions: Tensor,
    weights: Tensor,
    kind: str,
    normalized: bool = False,
) -> Tensor:
    """Computes the frame of each edge (step 3): u, f2 and f3 = u x f2.

    f2 is perpendicular to the plane of the edge and the mean of the receiver's neighbors. Where
    they lie on one line, both f2 and f3 are zero. The paper gives both length one, which has no
    meaning there.

    Args:
        graph: The batch.
        vectors: v, `(num_edges, 3)`, Å.
        directions: u, the same divided by their lengths.
        weights: Weights of the mean, `(num_edges, 1)`, zero for padding.
        kind: `"weighted_mean"` or `"edge_mean"`: f2 = v x mean(v), Å², the former with 0.001 added
            to the sum of weights. `"raw_mean"`: (x_i - m) x (x_j - m) with m the mean of the
            neighbors' positions, without periodic images, so that wrapping an atom into the cell
            changes it.
        normalized: Whether f2 and f3 have length one, which jumps near collinear atoms.

    Returns:
        `(num_edges, 3, 3)`, one vector per row.

    Reference: AlphaNet, 2025, https://arxiv.org/abs/2501.07155, local frames
    """
    receivers, senders, positions = graph["receivers"], graph["senders"], graph["positions"]
    if kind == "raw_mean":
        ends = ops.take(positions, senders, axis=0)
        means = ops.take(edge_mean(ends, weights, graph), receivers, axis=0)
        centers = ops.take(positions, receivers, axis=0)
        second = _cross(centers - means, ends - means)
    else:
        floor = _FLOOR if kind == "weighted_mean" else 0.0
        means = ops.take(edge_mean(vectors, weights, graph, floor), receivers, axis=0)
        second = _cross(vectors, means)
    if normalized:
        second = safe.divide(second, safe.norm(second, keepdims=True))
    return ops.stack([directions, second, _cross(directions, second)], axis=1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Computes the cross products of the rows of two arrays, all three `(num_edges, 3)`."""
    x, y, z = a[:, 0], a[:, 1], a[:, 2]
    u, v, w = b[:, 0], b[:, 1], b[:, 2]
    return ops.stack([y * w - z * v, z * u - x * w, x * v - y * u], axis=1)
