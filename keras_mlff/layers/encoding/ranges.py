"""The ends of learned tables, fitted to the distances that training data have."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np

from keras_mlff.graph import Graph

_ROWS = 256  # of the matrix of all distances at a time, so that memory has a bound


def fit_ranges(
    layers: Sequence[keras.layers.Layer], graphs: Sequence[Graph]
) -> dict[str, float] | None:
    """Moves the last knot of tables of distances to the largest distance that occurs.

    Knots beyond it would never see data. In models that see nothing beyond their cutoff the last
    knot goes no further than that, and crystals, in which every distance up to the cutoff occurs,
    leave it there. Tables whose ends the user has given, and those of angles, stay as they are.

    Args:
        layers: All layers of a model that has not been trained; those that are no tables are
            passed over.
        graphs: Structures to train on.

    Returns:
        The new `x_min` and `x_max` in Å; `None` if nothing has changed.
    """
    tables = [layer for layer in layers if getattr(layer, "range_from_data", False)]
    if not tables or any("cell" in graph for graph in graphs):
        return None
    largest = _largest_distance(graphs, max(table.limit for table in tables))
    if largest == 0.0:  # single atoms
        return None
    for table in tables:
        table.set_range(0.0, largest)
    return {"x_min": 0.0, "x_max": largest}


def _largest_distance(graphs: Sequence[Graph], limit: float = math.inf) -> float:
    """Finds the largest distance within a molecule in Å; stops where it exceeds a limit."""
    largest = 0.0
    for graph in graphs:
        ids = np.where(graph["atom_mask"], graph["graph_ids"], -1)
        for index in range(int(ids.max()) + 1):
            positions = np.asarray(graph["positions"])[ids == index]
            for first in range(0, len(positions), _ROWS):
                vectors = positions[first : first + _ROWS, None] - positions
                largest = max(largest, float(np.sqrt(np.sum(vectors**2, axis=-1).max())))
        if largest >= limit:
            return limit
    return largest
