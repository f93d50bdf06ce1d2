"""Edge vectors and what strain does to them."""

from __future__ import annotations

from keras import ops

from keras_mlff.graph import Graph, Tensor
from keras_mlff.ops import safe, segment


def edge_vectors(graph: Graph, cutoff: float) -> Tensor:
    """Computes sender minus receiver plus the shift between periodic images.

    Args:
        graph: A batch with edges.
        cutoff: Length in Å of which padding edges get a vector of twice as much, so that no basis
            meets a zero length and every envelope is zero there.

    Returns:
        `(num_edges, 3)`, Å.
    """
    positions = graph["positions"]
    vectors = ops.take(positions, graph["senders"], axis=0) - ops.take(
        positions, graph["receivers"], axis=0
    )
    if "cell" in graph:
        edge_graphs = ops.take(graph["graph_ids"], graph["receivers"], axis=0)
        cells = ops.take(graph["cell"], edge_graphs, axis=0)  # (num_edges, 3, 3)
        shifts = ops.cast(graph["cell_shifts"], positions.dtype)
        vectors = vectors + ops.sum(shifts[:, :, None] * cells, axis=1)
    outside = ops.zeros_like(vectors) + 2.0 * cutoff / 3.0**0.5
    return ops.where(graph["edge_mask"][:, None], vectors, outside)


def edge_lengths(vectors: Tensor) -> Tensor:
    """Computes the lengths of edge vectors: `(num_edges,)`, Å."""
    return safe.norm(vectors)


def strain(graph: Graph, positions: Tensor, strains: Tensor) -> Graph:
    """Stretches each graph by a symmetric strain, positions and cell alike.

    Args:
        graph: Any graph with a cell.
        positions: `(num_atoms, 3)`, Å.
        strains: `(num_graphs, 3, 3)`; the antisymmetric part, a rotation, is left out.

    Returns:
        A graph with new positions and cell, x (1 + strain) and cell (1 + strain).
    """
    symmetric = 0.5 * (strains + ops.transpose(strains, (0, 2, 1)))
    per_atom = ops.take(symmetric, graph["graph_ids"], axis=0)
    stretched = positions + ops.sum(positions[:, :, None] * per_atom, axis=1)
    cell = graph["cell"] + ops.matmul(graph["cell"], symmetric)
    return {**graph, "positions": stretched, "cell": cell}


def volumes(cell: Tensor) -> Tensor:
    """Computes cell volumes `(num_graphs,)`, Å³; a missing (zero) cell gives zero."""
    a, b, c = cell[:, 0], cell[:, 1], cell[:, 2]
    return ops.abs(ops.sum(a * ops.cross(b, c, axis=-1), axis=-1))


def charge_centers(graph: Graph) -> Tensor:
    """Computes the centers of nuclear charge, `(num_graphs, 3)`, Å."""
    charges = ops.cast(graph["atomic_numbers"], graph["positions"].dtype)
    totals = segment.sum_over_atoms(charges, graph)
    moments = segment.sum_over_atoms(charges[:, None] * graph["positions"], graph)
    return safe.divide(moments, totals[:, None])
