"""Sums over edges and atoms, and the change between flat atoms and a table per graph."""

from __future__ import annotations

from keras import ops

from keras_mlff import backend
from keras_mlff.graph import Graph, Tensor


def sum_over_edges(values: Tensor, graph: Graph) -> Tensor:
    """Sums over the edges of each receiver.

    Args:
        values: `(num_edges, ...)`; those of padding edges are counted, so they should be zero.
        graph: The batch, whose edges are sorted by receiver.

    Returns:
        `(num_atoms, ...)`.
    """
    num_atoms = ops.shape(graph["atomic_numbers"])[0]
    return backend.segment_sum(values, graph["receivers"], num_atoms)


def sum_over_atoms(values: Tensor, graph: Graph) -> Tensor:
    """Sums over the real atoms of each graph: `(num_atoms, ...)` -> `(num_graphs, ...)`."""
    num_graphs = ops.shape(graph["graph_mask"])[0]
    return backend.segment_sum(mask(values, graph["atom_mask"]), graph["graph_ids"], num_graphs)


def count_atoms(graph: Graph, dtype: str) -> Tensor:
    """Counts the real atoms of each graph: `(num_graphs,)` of the given dtype."""
    return sum_over_atoms(ops.ones_like(graph["atomic_numbers"], dtype=dtype), graph)


def shift_to_totals(values: Tensor, totals: Tensor, ids: Tensor, real: Tensor) -> Tensor:
    """Shifts the values of each group of atoms equally, so that they add up to the group's total.

    Args:
        values: `(num_atoms,)`.
        totals: `(num_groups,)`, what the atoms of each structure, or of each fragment of one, add
            up to.
        ids: `(num_atoms,)` int32, ascending: the group of each atom.
        real: `(num_atoms,)` bool, False for padding, which does not count.

    Returns:
        `(num_atoms,)`; padding is zero.
    """
    num_groups = ops.shape(totals)[0]
    kept = mask(values, real)
    sums = backend.segment_sum(kept, ids, num_groups)
    counts = backend.segment_sum(ops.cast(real, ops.dtype(values)), ids, num_groups)
    shifts = (totals - sums) / ops.maximum(counts, ops.ones_like(counts))
    return mask(kept + ops.take(shifts, ids, axis=0), real)


def mask(values: Tensor, keep: Tensor) -> Tensor:
    """Sets rows to zero where `keep` is false.

    Args:
        values: `(n, ...)`.
        keep: `(n,)` bool.
    """
    shape = (-1,) + (1,) * (len(values.shape) - 1)
    return ops.where(ops.reshape(keep, shape), values, ops.zeros_like(values))


def table_mask(graph: Graph) -> Tensor:
    """Tells which places of the atom table hold a real atom: `(num_graphs, max_atoms)` bool."""
    return graph["atom_table"] >= 0


def to_table(values: Tensor, graph: Graph) -> Tensor:
    """Lays flat atoms out in one row per graph.

    Args:
        values: `(num_atoms, ...)`.
        graph: The batch; its `atom_table` says which atom belongs where.

    Returns:
        `(num_graphs, max_atoms, ...)`, zero where a graph has no atom.
    """
    table = graph["atom_table"]
    filled = table >= 0
    rows = ops.take(values, ops.where(filled, table, ops.zeros_like(table)), axis=0)
    shape = (*ops.shape(table), *(1,) * (len(values.shape) - 1))
    return ops.where(ops.reshape(filled, shape), rows, ops.zeros_like(rows))


def from_table(values: Tensor, graph: Graph) -> Tensor:
    """Takes atoms out of a table again, the reverse of `to_table`.

    Args:
        values: `(num_graphs, max_atoms, ...)`.
        graph: The batch.

    Returns:
        `(num_atoms, ...)`; padding atoms get some value of the table.
    """
    table = graph["atom_table"]
    num_graphs, max_atoms = ops.shape(table)
    flat = ops.reshape(values, (num_graphs * max_atoms, *ops.shape(values)[2:]))
    return ops.take(flat, table_places(graph), axis=0)


def table_places(graph: Graph) -> Tensor:
    """Finds the place of each atom in the flattened table: `(num_atoms,)` int32."""
    table = graph["atom_table"]
    num_graphs, max_atoms = ops.shape(table)
    first_atoms = ops.take(table[:, 0], graph["graph_ids"], axis=0)
    atoms = ops.arange(ops.shape(graph["atomic_numbers"])[0], dtype="int32")
    places = graph["graph_ids"] * max_atoms + atoms - first_atoms
    # a padding atom has no place of its own: any valid one will do, it is masked
    return ops.clip(places, 0, num_graphs * max_atoms - 1)
