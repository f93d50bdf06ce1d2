"""All pairs of a molecule, which the non-local network looks at."""

from __future__ import annotations

from keras import ops

from keras_mlff.graph import Graph, Tensor
from keras_mlff.ops import segment


class AllPairs:
    """All ordered pairs of different atoms of each graph, as many as atoms squared.

    They have the methods of `keras_mlff.ops.pairs.Pairs`, so that a layer need not know whether it
    works on these or on neighbors. They lie in the dense table of each graph, so that nothing is
    looked up by index: `num_pairs` is `num_graphs * max_atoms * max_atoms`.

    Args:
        graph: A batch of molecules.

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
        """Repeats a table along the axis of length one, and flattens it to pairs."""
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
