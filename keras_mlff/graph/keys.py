"""The keys of a graph: what their first axis counts, which are labels, and which are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_mlff import quantities
from keras_mlff.graph.cells import has_volume
from keras_mlff.quantities import Level

Array = npt.NDArray[Any]
Tensor = Any  # an array of whichever backend
MAX_ATOMIC_NUMBER = 118


# Atoms and edges of one or several structures, and labels or predictions beside them, by name.
# `INPUT_LEVELS` lists the keys that a model reads; `keras_mlff.quantities` says what labels mean.
Graph = dict[str, Any]

INPUT_LEVELS: dict[str, Level] = {
    "positions": "atom",
    "atomic_numbers": "atom",
    "graph_ids": "atom",
    "atom_mask": "atom",
    "senders": "edge",
    "receivers": "edge",
    "edge_mask": "edge",
    "cell_shifts": "edge",
    "cell": "structure",
    "pbc": "structure",
    "total_charge": "structure",
    "spin_multiplicity": "structure",
    "graph_mask": "structure",
    "atom_table": "structure",
    "triplet_in": "triplet",
    "triplet_out": "triplet",
    "triplet_mask": "triplet",
    "fragments": "atom",
    "fragment_charges": "atom",
    "long_senders": "long_edge",
    "long_receivers": "long_edge",
    "long_edge_mask": "long_edge",
    "long_cell_shifts": "long_edge",
}
LEVELS: tuple[Level, ...] = ("structure", "atom", "edge", "triplet", "long_edge")
# what an index key counts: joining adds the number of these that came before
POINTS_AT: dict[str, Level] = {
    "graph_ids": "structure",
    "senders": "atom",
    "receivers": "atom",
    "atom_table": "atom",
    "triplet_in": "edge",
    "triplet_out": "edge",
    "fragments": "atom",
    "long_senders": "atom",
    "long_receivers": "atom",
}
COUNTED_BY: dict[Level, str] = {
    "atom": "atomic_numbers",
    "edge": "senders",
    "structure": "graph_mask",
    "triplet": "triplet_in",
    "long_edge": "long_senders",
}
MASKS: dict[Level, str] = {
    "atom": "atom_mask",
    "edge": "edge_mask",
    "structure": "graph_mask",
    "triplet": "triplet_mask",
    "long_edge": "long_edge_mask",
}
PERIODIC_KEYS = ("cell", "pbc", "cell_shifts", "long_cell_shifts")


def level(key: str) -> Level:
    """Tells what the first axis of an array of a graph, of a label or of a prediction counts.

    Args:
        key: A key that a model reads (`INPUT_LEVELS`) or the name of a quantity.

    Raises:
        ValueError: If it is neither, with the call that registers a quantity.
    """
    return INPUT_LEVELS[key] if key in INPUT_LEVELS else quantities.get(key).level


def count(graph: Mapping[str, Any], what: Level) -> int:
    """Counts the atoms, edges, structures, triplets or far pairs of a graph, padding included.

    Args:
        graph: A graph or a batch.
        what: What to count; 0 where the graph has no such key, such as edges of a structure.
    """
    key = COUNTED_BY[what]
    return len(graph[key]) if key in graph else 0


def inputs_and_labels(graph: Mapping[str, Any]) -> tuple[Graph, dict[str, Array]]:
    """Splits a graph into what a model reads and the labels it is compared with.

    Args:
        graph: A graph or a batch.

    Returns:
        Two dicts: the keys of `INPUT_LEVELS`, and all others.
    """
    inputs = {key: value for key, value in graph.items() if key in INPUT_LEVELS}
    labels = {key: value for key, value in graph.items() if key not in INPUT_LEVELS}
    return inputs, labels


def is_known(key: str, graph: Mapping[str, Any]) -> Array:
    """Tells which rows of a label, of structures or of atoms, are there and can be compared.

    Args:
        key: Name of the label.
        graph: A graph or a batch, padding included.

    Returns:
        `(num_graphs,)` or `(num_atoms,)` bool: False where the row is padding or NaN, and where
        the quantity needs a volume (a stress) and the cell has none. All False where the graph has
        no such label.
    """
    quantity = quantities.get(key)
    mask = np.asarray(graph[MASKS[quantity.level]], np.bool_)
    if key not in graph:
        return np.zeros_like(mask)
    known = mask & ~np.isnan(np.asarray(graph[key])).reshape(len(mask), -1).any(axis=1)
    if quantity.needs_volume:
        cells = graph.get("cell", np.zeros((len(mask), 3, 3)))
        known &= has_volume(np.asarray(cells, np.float64))
    return known


def elements(graphs: Iterable[Graph]) -> list[int]:
    """Lists the atomic numbers that occur, ascending, padding left out.

    Example:
        >>> elements([{"atomic_numbers": np.asarray([8, 1, 1, 0])}])
        [1, 8]
    """
    found: set[int] = set()
    for graph in graphs:
        found.update(np.unique(graph["atomic_numbers"]).tolist())
    return sorted(found - {0})
