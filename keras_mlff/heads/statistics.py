"""Statistics of labels that a network should not have to learn; missing ones do not count."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_mlff.graph import Array, Graph, count, is_known, split


class Known(NamedTuple):
    """Structures that have a label, and its values."""

    graphs: list[Graph]
    values: Array  # (len(graphs), size) of a structure's label, (atoms with it, size) of atoms'


def labeled(graphs: Sequence[Graph], labels: Sequence[str]) -> Known:
    """Finds the structures that have a label of the structure, and its values.

    Args:
        graphs: Structures, or graphs of several.
        labels: Names; the first that any structure has is taken.

    Returns:
        The structures in their order, each on its own, and float64 values `(len(graphs), size)`.

    Raises:
        ValueError: If no structure has any of the labels.
    """
    single = single_graphs(graphs)
    for label in labels:
        known = [graph for graph in single if is_known(label, graph).all()]
        if known:
            rows = [np.asarray(graph[label], np.float64).reshape(-1) for graph in known]
            return Known(known, np.stack(rows))
    names = " or ".join(f"'{label}'" for label in labels)
    raise ValueError(
        f"Statistics of {names} need structures that have it. Received: "
        + (f"{len(single)} structures, none of them with it." if single else "no structures.")
        + " Give the label, or leave its head out."
    )


def labeled_atoms(graphs: Sequence[Graph], label: str) -> tuple[Array, Array]:
    """Collects a label of atoms wherever it is known.

    Returns:
        Atomic numbers `(num_known,)` and float64 values `(num_known, size)`.

    Raises:
        ValueError: If no atom has it.
    """
    numbers, values = [], []
    for graph in graphs:
        known = is_known(label, graph)
        if known.any():
            numbers.append(np.asarray(graph["atomic_numbers"])[known])
            rows = np.asarray(graph[label], np.float64)
            values.append(rows.reshape(len(known), -1)[known])
    if not values:
        raise ValueError(
            f"Statistics of '{label}' need atoms that have it. Received: {len(graphs)} graphs, "
            "none of them with it. Give the label, or leave its head out."
        )
    return np.concatenate(numbers), np.concatenate(values)


def means_by_element(numbers: Array, values: Array) -> dict[int, float]:
    """Computes the mean of one value per atom for each element.

    Args:
        numbers: `(num_atoms,)`, atomic numbers.
        values: `(num_atoms,)`.
    """
    return {int(z): float(np.mean(values[numbers == z])) for z in np.unique(numbers)}


def least_squares(graphs: Sequence[Graph], label: str) -> dict[int, float]:
    """Fits a value per element so that their sums come closest to a label of each structure.

    Elements whose counts are not independent (one molecule alone) get the solution of least
    norm, which predicts the same sums. Structures without the label do not count.

    Args:
        graphs: Structures, or graphs of several.
        label: Name of a number of each structure, such as `"energy"`.

    Returns:
        Values by atomic number, in the label's unit.

    Raises:
        ValueError: If no structure has the label.
    """
    known = labeled(graphs, (label,))
    return solve(known.graphs, known.values[:, 0], label)


def solve(graphs: Sequence[Graph], values: Array, label: str) -> dict[int, float]:
    """Fits a value per element to one number of each structure; see `least_squares`.

    Args:
        graphs: Single structures.
        values: `(len(graphs),)`.
        label: Their name, for the warning where compositions leave elements open.
    """
    numbers = sorted({int(z) for graph in graphs for z in np.unique(graph["atomic_numbers"]) if z})
    counts = np.asarray(
        [[np.sum(graph["atomic_numbers"] == z) for z in numbers] for graph in graphs], np.float64
    )
    solution, _, rank, _ = np.linalg.lstsq(counts, values, rcond=None)
    if rank < len(numbers) and np.any(counts != counts[0]):
        warnings.warn(
            f"The compositions determine {rank} of {len(numbers)} element references of '{label}'; "
            "the rest is shared out by least norm. Give `references` for other compositions.",
            stacklevel=2,
        )
    return dict(zip(numbers, solution.tolist(), strict=True))


def residuals(graphs: Sequence[Graph], label: str, predictions: Array) -> Known:
    """Computes labels of structures minus predictions, `(num_known,)`, where labels are known.

    Args:
        graphs: Structures, or graphs of several.
        label: Name of a number of each structure.
        predictions: `(num_structures,)`, of all structures in their order.

    Raises:
        ValueError: If no structure has the label.
    """
    single = single_graphs(graphs)
    known = labeled(single, (label,))
    places = [bool(is_known(label, graph).all()) for graph in single]
    return Known(known.graphs, known.values[:, 0] - np.asarray(predictions, np.float64)[places])


def single_graphs(graphs: Sequence[Graph]) -> Sequence[Graph]:
    """Splits graphs that hold several structures or padding."""
    if all(count(graph, "structure") == 1 and graph["atom_mask"].all() for graph in graphs):
        return graphs
    return [part for graph in graphs for part in split(graph)]


def spread(values: Array) -> float:
    """Computes the root mean square, or 1 where all values are zero."""
    found = float(np.sqrt(np.mean(np.square(values))))
    return found if found > 0.0 else 1.0
