"""What learned tables of distances look like, in numbers.

A table has a row per knot and a column per dimension; a model has one per layer, `(num_layers,
num_knots, num_features)`. Constant columns, which have no correlation, count as uncorrelated.

Reference: https://arxiv.org/abs/2211.12773, with the printed lower limit of the sum in the
diversity corrected.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_mlff.graph import Array


def ranks(values: Array) -> Array:
    """Ranks each column of `(n, m)` from 1 on; equal values share the mean of their ranks."""
    ranked = np.empty(values.shape, np.float64)
    for column in range(values.shape[1]):
        _, places, counts = np.unique(values[:, column], return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        ranked[:, column] = (last - 0.5 * (counts - 1))[places]
    return ranked


def correlations(first: Array, second: Array) -> Array:
    """Computes Pearson's correlations of all columns of two tables: `(m, k)`."""
    a, b = _standardized(first), _standardized(second)
    return np.asarray(a.T @ b)


def _standardized(table: Array) -> Array:
    centered = table - table.mean(axis=0)
    sizes = np.linalg.norm(centered, axis=0)
    constant = sizes <= 1e-14 * np.maximum(np.linalg.norm(table, axis=0), 1e-300)
    return np.where(constant, 0.0, centered / np.where(constant, 1.0, sizes))


def non_linearity(tables: Array, knots: Array) -> float:
    """Computes 1 minus the mean squared correlation of columns with the knots."""
    return 1.0 - _mean_square(tables, knots[:, None], lambda table: table)


def non_monotonicity(tables: Array, knots: Array) -> float:
    """Computes 1 minus the mean squared rank correlation of columns with the knots."""
    return 1.0 - _mean_square(tables, ranks(knots[:, None]), ranks)


def _mean_square(tables: Array, column: Array, transform: Any) -> float:
    return float(np.mean([correlations(transform(table), column) ** 2 for table in tables]))


def diversity(tables: Array) -> float:
    """Computes 1 minus the mean squared correlation of pairs of different columns of a table."""
    upper = np.triu_indices(tables.shape[2], k=1)
    return 1.0 - float(np.mean([correlations(table, table)[upper] ** 2 for table in tables]))


def smoothness(tables: Array) -> float:
    """Computes 1 minus the smoothness loss, averaged over tables."""
    losses = [
        np.linalg.norm(np.diff(table, axis=0), axis=1).sum()
        / np.linalg.norm(table[:-1], axis=1).sum()
        for table in tables
    ]
    return 1.0 - float(np.mean(losses))


def similarity(first: Array, second: Array, normalized: bool = False) -> float:
    """Computes the mean squared correlation of the columns of two models, layer by layer.

    Args:
        first: `(num_layers, num_knots, num_features)`.
        second: Of another model, with as many layers and knots.
        normalized: Whether to divide by the root of both models' similarity with themselves. The
            printed form cannot reach the printed figures, this one can.
    """
    value = float(np.mean([correlations(a, b) ** 2 for a, b in zip(first, second, strict=True)]))
    if normalized:
        value /= (similarity(first, first) * similarity(second, second)) ** 0.5
    return value


def normalized_slopes(slopes: Array) -> Array:
    """Divides |G| by the standard deviation of G over layers, knots and dimensions."""
    return np.asarray(np.abs(slopes) / np.std(slopes))


def encoding_metrics(tables: Array, knots: Array) -> dict[str, float]:
    """Computes the four metrics of the paper's Table 3 by name."""
    return {
        "non_linearity": non_linearity(tables, knots),
        "non_monotonicity": non_monotonicity(tables, knots),
        "diversity": diversity(tables),
        "smoothness": smoothness(tables),
    }
