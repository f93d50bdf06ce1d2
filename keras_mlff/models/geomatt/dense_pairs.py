"""All pairs of atoms of each graph: each unordered pair once, or a table by receiver and sender.

What is symmetric is computed on the triangle, pairs (i, j) with j <= i in the order (0, 0), (1, 0),
(1, 1), (2, 0), ..., and laid out in the table afterwards.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_mlff import backend
from keras_mlff.graph import Graph, Tensor
from keras_mlff.ops import safe, segment


def triangle(max_atoms: Any) -> tuple[Tensor, Tensor]:
    """Lists rows i and columns j of the triangle.

    Args:
        max_atoms: Atoms of the largest graph, a number or a tensor.

    Returns:
        i and j, `(num_pairs,)` int32 each, with num_pairs = max_atoms (max_atoms + 1) / 2.
    """
    pairs = ops.arange(max_atoms * (max_atoms + 1) // 2, dtype="int32")
    # the inverse of p = i (i + 1) / 2 + j; float32 misses it by one row in thousands
    roots = ops.sqrt(8.0 * ops.cast(pairs, "float32") + 1.0)
    rows = ops.cast(ops.floor((roots - 1.0) / 2.0), "int32")
    rows = rows - ops.cast(rows * (rows + 1) // 2 > pairs, "int32")
    rows = rows + ops.cast((rows + 1) * (rows + 2) // 2 <= pairs, "int32")
    return rows, pairs - rows * (rows + 1) // 2


def table_of_triangle(max_atoms: Any) -> Tensor:
    """Tells the place of each pair in the triangle, `(max_atoms, max_atoms)` int32, symmetric."""
    atoms = ops.arange(max_atoms, dtype="int32")
    larger = ops.maximum(atoms[:, None], atoms)
    return larger * (larger + 1) // 2 + ops.minimum(atoms[:, None], atoms)


def pair_mask(graph: Graph) -> Tensor:
    """Tells which pairs of the triangle are real: `(num_graphs, num_pairs)` bool."""
    filled = segment.table_mask(graph)
    rows, columns = triangle(ops.shape(filled)[1])
    return ops.logical_and(ops.take(filled, rows, axis=1), ops.take(filled, columns, axis=1))


def distances(graph: Graph) -> Tensor:
    """Computes distances without periodic images: `(num_graphs, num_pairs)`, Å.

    Pairs of an atom with itself have distance zero, without gradient; those of padding are finite.
    """
    table = segment.to_table(graph["positions"], graph)
    rows, columns = triangle(ops.shape(table)[1])
    return safe.norm(ops.take(table, columns, axis=1) - ops.take(table, rows, axis=1))


def sum_over_images(values: Tensor, graph: Graph) -> Tensor:
    """Sums what edges have over all edges, that is images, between the same two atoms.

    Args:
        values: `(num_edges, width)`.
        graph: A batch whose edges are sorted by receiver, then sender.

    Returns:
        `(num_graphs, num_pairs, width)`, zero where there is no edge.
    """
    num_graphs, max_atoms = ops.shape(graph["atom_table"])
    num_atoms = ops.shape(graph["atomic_numbers"])[0]
    places = segment.table_places(graph) - graph["graph_ids"] * max_atoms  # within the graph
    # edges are sorted by receiver, then sender, so these ids ascend
    ids = graph["receivers"] * max_atoms + ops.take(places, graph["senders"], axis=0)
    values = segment.mask(values, graph["edge_mask"])
    width = values.shape[1]
    summed = backend.segment_sum(values, ids, num_atoms * max_atoms)
    table = segment.to_table(ops.reshape(summed, (num_atoms, max_atoms, width)), graph)
    table = ops.reshape(table, (num_graphs, max_atoms * max_atoms, width))
    rows, columns = triangle(max_atoms)
    return ops.take(table, rows * max_atoms + columns, axis=1)
