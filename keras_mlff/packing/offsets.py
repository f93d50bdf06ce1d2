"""Sums over the atoms of each graph that a network does not have to learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mlff.graph import Array
from keras_mlff.quantities import Level

Tables = Mapping[str, tuple[Array, float]]  # by label: values per element, shift


def element_sums(graph: Mapping[str, Any], table: Array, shift: float = 0.0) -> Array:
    """Sums a table of values per element over the atoms of each graph, plus a shift.

    Args:
        graph: A graph or a batch.
        table: `(119,)`, the value of each atomic number; row 0 belongs to padding.
        shift: Added once to each real graph. Defaults to 0.

    Returns:
        `(num_graphs,)` float64, zero for padding.
    """
    values = np.where(graph["atom_mask"], table[np.asarray(graph["atomic_numbers"])], 0.0)
    num_graphs = len(graph["graph_mask"])
    sums = np.bincount(np.asarray(graph["graph_ids"]), weights=values, minlength=num_graphs)
    return np.where(graph["graph_mask"], sums + shift, 0.0)


def label_offsets(what: Level, graph: Mapping[str, Any], table: Array, shift: float = 0.0) -> Array:
    """Computes what a network does not have to learn of a label, in float64.

    Args:
        what: Whether the label belongs to structures, whose atoms' values are added up, or to
            atoms, which have their own.
        graph: Graph or batch.
        table: `(119,)`, the value of each atomic number.
        shift: Added once to each real structure, or atom.

    Returns:
        `(num_graphs,)` or `(num_atoms,)`, zero for padding.
    """
    if what != "atom":
        return element_sums(graph, table, shift)
    values = table[np.asarray(graph["atomic_numbers"])] + shift
    return np.where(graph["atom_mask"], values, 0.0)
