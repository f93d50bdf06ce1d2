"""Sums over the atoms of each graph that a network does not have to learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mlff.graph import Array

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
