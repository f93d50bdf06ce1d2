"""Groups of atoms that share a charge: structures, or the fragments of one."""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from keras_mlff import backend
from keras_mlff.graph import Graph, Tensor


class Groups(NamedTuple):
    """The group of each atom, and what its atoms add up to."""

    ids: Tensor  # (num_atoms,) int32, ascending
    totals: Tensor  # (num_groups,)

    def of_atoms(self, values: Tensor) -> Tensor:
        """Gives each atom the value of its group: `(num_groups,)` -> `(num_atoms,)`."""
        return ops.take(values, self.ids, axis=0)

    def sum(self, values: Tensor) -> Tensor:
        """Sums over the atoms of each group: `(num_atoms,)` -> `(num_groups,)`."""
        return backend.segment_sum(values, self.ids, ops.shape(self.totals)[0])


def charges(graph: Graph, dtype: str) -> Groups:
    """Finds the groups of atoms whose charge is known: fragments where there are any.

    Args:
        graph: A batch.
        dtype: Precision of the charges.

    Returns:
        The groups, whose totals are charges in e. A fragment is numbered by its first atom, so that
        there are as many groups as atoms, most of them empty.
    """
    if "fragments" in graph:
        return Groups(graph["fragments"], ops.cast(graph["fragment_charges"], dtype))
    return Groups(graph["graph_ids"], ops.cast(graph["total_charge"], dtype))
