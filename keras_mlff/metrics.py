"""Errors of predictions against labels, in NumPy and float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from keras_mlff.graph import Array, Graph, count, inputs_and_labels


class Errors(NamedTuple):
    """How far predictions of one property are off, in the property's unit."""

    mae: float  # mean absolute error
    rmse: float  # root of the mean square
    largest: float
    num_values: int  # compared


def errors(structures: Sequence[Graph], predictions: Mapping[str, Array]) -> dict[str, Errors]:
    """Compares predictions with the labels that all structures have.

    Args:
        structures: With labels.
        predictions: What `model.predict(structures)` returns.

    Returns:
        Errors by property, those of `energy` also as `energy_per_atom`.

    Raises:
        ValueError: If no label is predicted.

    Example:
        >>> from keras_mlff.graph import structure
        >>> helium = structure([[0, 0, 0]], [2], energy=-79.0)
        >>> errors([helium], {"energy": np.array([-78.5])})["energy"].mae
        0.5
    """
    labels = set.intersection(*(set(inputs_and_labels(graph)[1]) for graph in structures))
    compared = sorted(labels & predictions.keys())
    if not compared:
        raise ValueError(
            "There is nothing to compare: the structures and the model share no property. "
            f"Received: labels={sorted(labels)}, predictions={sorted(predictions)}."
        )
    found = {}
    for key in compared:
        known = np.concatenate([cast("dict[str, Any]", graph)[key] for graph in structures])
        difference = np.asarray(predictions[key], np.float64) - known
        found[key] = _errors(difference)
        if key == "energy":
            sizes = np.asarray([count(graph, "atom") for graph in structures])
            found["energy_per_atom"] = _errors(difference / sizes)
    return found


def _errors(difference: Array) -> Errors:
    absolute = np.abs(difference)
    return Errors(
        float(np.mean(absolute)),
        float(np.sqrt(np.mean(np.square(difference)))),
        float(np.max(absolute)),
        difference.size,
    )
