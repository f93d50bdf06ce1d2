"""Statistics that a network should not have to learn: references per element, shift and scale."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from keras_mlff.graph import Array, Graph, split
from keras_mlff.heads import EnergyHead, Head, ScalarHead


def least_squares(graphs: Sequence[Graph], label: str) -> dict[int, float]:
    """Fits a value per element so that their sums come closest to a label of each structure.

    Elements whose counts are not independent (one molecule alone) get the solution of least
    norm, which predicts the same sums.

    Raises:
        ValueError: If a graph has no such label.
    """
    graphs = _single(graphs)
    values = _labels(graphs, label)[:, 0]
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


def fit_offsets(head: Head, graphs: Sequence[Graph]) -> None:
    """Sets a head's references, shift and scale from labeled structures."""
    pooled_mean = isinstance(head, ScalarHead) and head.pooling == "mean"
    graphs = _single(graphs)
    # of a vector or tensor, data may know a size alone
    known = (label for label in head.labels if all(label in graph for graph in graphs))
    values = _labels(graphs, next(known, head.name))
    if not isinstance(head, (EnergyHead, ScalarHead)):
        head.scale = _spread(values) / _spread(np.asarray([head.extent(graph) for graph in graphs]))
        return
    if pooled_mean:
        head.references, head.shift = {}, float(values.mean())
    else:
        head.references, head.shift = least_squares(graphs, head.name), 0.0
    rest = values[:, 0] - np.asarray([head.offsets(graph)[0] for graph in graphs])
    if isinstance(head, EnergyHead) and all("forces" in graph for graph in graphs):
        forces = np.concatenate([graph["forces"].reshape(-1) for graph in graphs])
        head.scale = _spread(forces)
    else:
        # where references fit exactly, as many structures as elements, rounding is left
        rest[np.abs(rest) < 1e-9 * np.abs(values[:, 0]).max()] = 0.0
        head.scale = _spread(rest)


def adapt_offsets(head: Head, graphs: Sequence[Graph], predictions: Array) -> None:
    """Adds to a head's references, or shift, what predictions miss of the labels on average."""
    graphs = _single(graphs)
    missing = _labels(graphs, head.name)[:, 0] - np.asarray(predictions, np.float64)
    if not head.references:
        head.shift += float(missing.mean())
        return
    corrected = [
        {**graph, "missing": value[None]} for graph, value in zip(graphs, missing, strict=True)
    ]
    for number, value in least_squares(corrected, "missing").items():
        head.references[number] = head.references.get(number, 0.0) + value


def _single(graphs: Sequence[Graph]) -> Sequence[Graph]:
    """Parts graphs that hold several structures or padding."""
    if all(len(graph["graph_mask"]) == 1 and graph["atom_mask"].all() for graph in graphs):
        return graphs
    return [part for graph in graphs for part in split(graph)]


def _labels(graphs: Sequence[Graph], label: str) -> Array:
    missing = next((i for i, graph in enumerate(graphs) if label not in graph), None)
    if len(graphs) == 0 or missing is not None:
        raise ValueError(
            f"References of '{label}' need structures that have it. Received: "
            + (f"graph {missing} without it." if len(graphs) else "no structures.")
        )
    return np.stack([np.asarray(graph[label], np.float64).reshape(-1) for graph in graphs])


def _spread(values: Array) -> float:
    spread = float(np.sqrt(np.mean(np.square(values))))
    return spread if spread > 0.0 else 1.0
