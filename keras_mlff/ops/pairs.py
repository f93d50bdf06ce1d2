"""Pairs of atoms, and what layers do along them: look up both ends, sum what arrives."""

from __future__ import annotations

from typing import Protocol

from keras import ops

from keras_mlff import backend
from keras_mlff.graph import Graph, Tensor
from keras_mlff.ops import geometry, segment


class Pairs(Protocol):
    """Ordered pairs of a receiver and a sender; `mask` is false for padding.

    `EdgePairs` are neighbors. An architecture that looks at other pairs offers the same methods, so
    that its layers need not know which they work on.
    """

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
    """The edges of a graph: pairs within the cutoff, periodic images included.

    Args:
        graph: A batch with edges.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.mask = graph["edge_mask"]

    def vectors(self, cutoff: float) -> Tensor:
        """Computes sender minus receiver plus shift, `(num_edges, 3)` Å."""
        return geometry.edge_vectors(self.graph, cutoff)

    def from_receivers(self, values: Tensor) -> Tensor:
        """Takes rows by receiver: `(num_atoms, ...)` -> `(num_edges, ...)`."""
        return ops.take(values, self.graph["receivers"], axis=0)

    def from_senders(self, values: Tensor) -> Tensor:
        """Takes rows by sender: `(num_atoms, ...)` -> `(num_edges, ...)`."""
        return ops.take(values, self.graph["senders"], axis=0)

    def sum(self, values: Tensor) -> Tensor:
        """Sums over the edges of each receiver: `(num_edges, ...)` -> `(num_atoms, ...)`."""
        return segment.sum_over_edges(values, self.graph)

    def as_matrix(self, values: Tensor) -> Tensor:
        """Lays edges out as `(num_graphs, n, max_atoms, max_atoms)`, receiver first.

        Edges between the same two atoms, which periodic images give, are summed.
        """
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
