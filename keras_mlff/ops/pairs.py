"""Pairs of atoms, between which an architecture exchanges features: neighbors, or all of a graph.

Both kinds have the same methods, so that a layer need not know which it works on.
"""

from __future__ import annotations

from typing import Protocol

from keras import ops

from keras_mlff import backend
from keras_mlff.graph import Graph, Tensor
from keras_mlff.ops import geometry, segment


class Pairs(Protocol):
    """Ordered pairs of a receiver and a sender; `mask` is false for padding."""

    mask: Tensor  # (num_pairs,) bool

    def vectors(self, cutoff: float) -> Tensor:
        """Computes sender minus receiver, `(num_pairs, 3)` Å; twice the cutoff for padding."""
        ...

    def from_receivers(self, values: Tensor) -> Tensor:
        """Gives each pair the value of its receiver: `(num_atoms, n)` -> `(num_pairs, n)`."""
        ...

    def from_senders(self, values: Tensor) -> Tensor:
        """Gives each pair the value of its sender: `(num_atoms, n)` -> `(num_pairs, n)`."""
        ...

    def sum(self, values: Tensor) -> Tensor:
        """Sums over the pairs of each receiver: `(num_pairs, n)` -> `(num_atoms, n)`."""
        ...

    def as_matrix(self, values: Tensor) -> Tensor:
        """Lays pairs out as `(num_graphs, n, max_atoms, max_atoms)`, receiver first."""
        ...


class EdgePairs:
    """The edges of a graph: pairs within the cutoff, periodic images included."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.mask = graph["edge_mask"]

    def vectors(self, cutoff: float) -> Tensor:
        """Computes sender minus receiver plus shift."""
        return geometry.edge_vectors(self.graph, cutoff)

    def from_receivers(self, values: Tensor) -> Tensor:
        """Takes rows by receiver."""
        return ops.take(values, self.graph["receivers"], axis=0)

    def from_senders(self, values: Tensor) -> Tensor:
        """Takes rows by sender."""
        return ops.take(values, self.graph["senders"], axis=0)

    def sum(self, values: Tensor) -> Tensor:
        """Sums over edges."""
        return segment.sum_over_edges(values, self.graph)

    def as_matrix(self, values: Tensor) -> Tensor:
        """Sums edges between the same two atoms, which periodic images give."""
        num_graphs, max_atoms = ops.shape(self.graph["atom_table"])
        places = segment.table_places(self.graph)  # (num_atoms,)
        rows = ops.take(places, self.graph["receivers"], axis=0)
        columns = ops.take(places, self.graph["senders"], axis=0) % max_atoms
        values = segment.mask(values, self.mask)
        cells = rows * max_atoms + columns
        order = ops.argsort(cells)
        values, cells = ops.take(values, order, axis=0), ops.take(cells, order)
        matrix = backend.segment_sum(values, cells, num_graphs * max_atoms * max_atoms)
        matrix = ops.reshape(matrix, (num_graphs, max_atoms, max_atoms, -1))
        return ops.transpose(matrix, (0, 3, 1, 2))


class AllPairs:
    """All ordered pairs of different atoms of each graph, as many as atoms squared.

    They lie in the dense table of each graph, so that nothing is looked up by index: pairs count
    `num_graphs * max_atoms * max_atoms`.

    Raises:
        ValueError: If the graph is periodic, where the pairs have no end.
    """

    def __init__(self, graph: Graph) -> None:
        if "cell" in graph:
            raise ValueError(
                "Non-local corrections reach all atoms of a structure, and a crystal has no end. "
                "Received: a graph with a cell. Use the local model, or leave the cell out."
            )
        self.graph = graph
        filled = segment.table_mask(graph)
        self.num_graphs, self.max_atoms = ops.shape(filled)
        apart = ops.logical_not(ops.eye(self.max_atoms, dtype="bool"))
        self.matrix_mask = ops.logical_and(
            apart, ops.logical_and(filled[:, None, :], filled[:, :, None])
        )  # (num_graphs, max_atoms, max_atoms)
        self.mask = ops.reshape(self.matrix_mask, (-1,))

    def vectors(self, cutoff: float) -> Tensor:
        """Computes sender minus receiver."""
        positions = segment.to_table(self.graph["positions"], self.graph)
        vectors = positions[:, None, :, :] - positions[:, :, None, :]
        outside = ops.zeros_like(vectors) + 2.0 * cutoff / 3.0**0.5
        vectors = ops.where(self.matrix_mask[:, :, :, None], vectors, outside)
        return ops.reshape(vectors, (-1, 3))

    def from_receivers(self, values: Tensor) -> Tensor:
        """Repeats the table's rows."""
        return self._expand(segment.to_table(values, self.graph)[:, :, None])

    def from_senders(self, values: Tensor) -> Tensor:
        """Repeats the table's columns."""
        return self._expand(segment.to_table(values, self.graph)[:, None])

    def _expand(self, table: Tensor) -> Tensor:
        num_columns = table.shape[-1]
        shape = (self.num_graphs, self.max_atoms, self.max_atoms, num_columns)
        return ops.reshape(ops.broadcast_to(table, shape), (-1, num_columns))

    def sum(self, values: Tensor) -> Tensor:
        """Sums along the table's rows."""
        return segment.from_table(ops.sum(self.table(values), axis=2), self.graph)

    def table(self, values: Tensor) -> Tensor:
        """Lays pairs out as `(num_graphs, max_atoms, max_atoms, n)`, receiver first."""
        shape = (self.num_graphs, self.max_atoms, self.max_atoms, values.shape[-1])
        return ops.reshape(values, shape)

    def as_matrix(self, values: Tensor) -> Tensor:
        """Lays pairs out, which are in the right order already."""
        return ops.transpose(self.table(segment.mask(values, self.mask)), (0, 3, 1, 2))
