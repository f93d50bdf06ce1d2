"""All pairs of atoms of each graph in a dense table: receiver first, sender second."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_mlff import backend
from keras_mlff.graph import Graph
from keras_mlff.ops import safe, segment

Tensor = Any


def pair_mask(graph: Graph) -> Tensor:
    """Tells which pairs are real: `(num_graphs, max_atoms, max_atoms)` bool, diagonal included."""
    filled = segment.table_mask(graph)
    return ops.logical_and(filled[:, :, None], filled[:, None, :])


def distances(graph: Graph) -> Tensor:
    """Computes distances without periodic images: `(num_graphs, max_atoms, max_atoms)`, Å.

    The diagonal is zero and has no gradient; places of padding hold finite numbers.
    """
    table = segment.to_table(graph["positions"], graph)
    return safe.norm(table[:, None, :, :] - table[:, :, None, :])


def sum_over_images(values: Tensor, graph: Graph) -> Tensor:
    """Sums `(num_edges, width)` over all edges, that is images, between the same two atoms.

    Returns:
        `(num_graphs, max_atoms, max_atoms, width)`.
    """
    max_atoms = ops.shape(graph["atom_table"])[1]
    num_atoms = ops.shape(graph["atomic_numbers"])[0]
    places = segment.table_places(graph) - graph["graph_ids"] * max_atoms  # within the graph
    # edges are sorted by receiver, then sender, so these ids ascend
    ids = graph["receivers"] * max_atoms + ops.take(places, graph["senders"], axis=0)
    values = segment.mask(values, graph["edge_mask"])
    summed = backend.segment_sum(values, ids, num_atoms * max_atoms)
    return segment.to_table(ops.reshape(summed, (num_atoms, max_atoms, values.shape[1])), graph)
