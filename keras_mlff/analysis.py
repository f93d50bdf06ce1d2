"""What learned tables of distances look like, in numbers.

A table has a row per knot and a column per dimension; a model has one per layer, `(num_layers,
num_knots, num_features)`. Constant columns, which have no correlation, count as uncorrelated.

Reference: https://arxiv.org/abs/2211.12773, with the printed lower limit of the sum in the
diversity corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras_mlff.frameworks  # noqa: F401 - before Keras

# isort: split
import keras
import numpy as np

from keras_mlff.backend import keras_private
from keras_mlff.core.construction import precision
from keras_mlff.graph import Array
from keras_mlff.layers.encoding import PerceptronEncoding, PositionalEncoding
from keras_mlff.models import ForceField

METRICS = ("non_linearity", "non_monotonicity", "diversity", "smoothness")
_NUM_SAMPLES = 36  # of encodings that have no knots


class Encodings(NamedTuple):
    """Encodings of one quantity, such as those of all layers of a model, sampled at knots."""

    knots: Array  # (num_knots,)
    tables: Array  # (num_layers, num_knots, num_features)
    slopes: Array  # the same, per spacing of the knots


def encodings(model: ForceField) -> dict[str, Encodings]:
    """Reads what a model has learned about distances, and about angles where it has learned that.

    Tables are read at their knots. Perceptrons are sampled from 0 to the largest distance that the
    model encodes (`ForceField.encoding_range`), or to pi. A model with neither is asked what its
    layers make of distances (`ForceField.encode_distances`), from a tenth of that range on, since
    some divide by the distance.

    Args:
        model: A force field of any architecture.

    Returns:
        Encodings by quantity, `"distance"` (knots in Å) or `"angle"` (in radians).
    """
    found: dict[str, list[tuple[Array, Array, Array]]] = {}
    for layer in keras_private.layers_inside(model):
        if isinstance(layer, PositionalEncoding):
            found.setdefault(layer.quantity, []).append(_read_table(layer))
        elif isinstance(layer, PerceptronEncoding):
            end = np.pi if layer.quantity == "angle" else model.encoding_range
            found.setdefault(layer.quantity, []).extend(_sample(model, layer, 0.0, end))
    if not found:
        found["distance"] = _sample(
            model, model.encode_distances, 0.1 * model.encoding_range, model.encoding_range
        )
    return {
        quantity: Encodings(parts[0][0], *(np.stack([part[i] for part in parts]) for i in (1, 2)))
        for quantity, parts in found.items()
    }


def _read_table(layer: PositionalEncoding) -> tuple[Array, Array, Array]:
    """Reads knots, values and slopes per spacing of the knots from one table."""
    values = np.asarray(keras.ops.convert_to_numpy(layer.values), np.float64)
    if layer.slopes is None:
        return layer.knots, values, np.gradient(values, axis=0)
    slopes = np.asarray(keras.ops.convert_to_numpy(layer.slopes), np.float64)
    return layer.knots, values, slopes * (layer.spacing if layer.scaled_slopes else 1.0)


def _sample(
    model: ForceField, function: Callable[[Any], Any], start: float, end: float
) -> list[tuple[Array, Array, Array]]:
    """Samples what a function makes of numbers, with slopes by finite differences."""
    knots = np.linspace(start, end, _NUM_SAMPLES)
    with precision(model.dtype_policy):
        tensors = function(keras.ops.convert_to_tensor(knots, dtype=model.compute_dtype))
        tables = [
            np.asarray(keras.ops.convert_to_numpy(item), np.float64)
            for item in keras.tree.flatten(tensors)
        ]
    return [(knots, table, np.gradient(table, axis=0)) for table in tables]


def principal_components(table: Array, number: int = 2) -> Array:
    """Projects the knots of a table to their directions of largest spread (figure 2).

    Args:
        table: `(num_knots, num_features)`.
        number: How many directions to keep.

    Returns:
        `(num_knots, number)`; columns are zero where there is no spread left.
    """
    places, sizes, _ = np.linalg.svd(table - table.mean(axis=0), full_matrices=False)
    # what rounding leaves of a straight line is no direction
    return np.asarray(places * np.where(sizes > 1e-6 * sizes[0], sizes, 0.0))[:, :number]


def ranks(values: Array) -> Array:
    """Ranks each column from 1 on; equal values share the mean of their ranks.

    Args:
        values: `(n, m)`.

    Returns:
        Ranks of the same shape, float64.

    Example:
        >>> ranks(np.array([[0.2], [0.1], [0.2]]))[:, 0].tolist()
        [2.5, 1.0, 2.5]
    """
    ranked = np.empty(values.shape, np.float64)
    for column in range(values.shape[1]):
        _, places, counts = np.unique(values[:, column], return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        ranked[:, column] = (last - 0.5 * (counts - 1))[places]
    return ranked


def correlations(first: Array, second: Array) -> Array:
    """Computes Pearson's correlations of all columns of two tables.

    Args:
        first: `(n, m)`.
        second: `(n, k)`.

    Returns:
        `(m, k)`, zero where a column is constant.
    """
    a, b = _standardized(first), _standardized(second)
    return np.asarray(a.T @ b)


def _standardized(table: Array) -> Array:
    """Gives columns mean zero and length one; constant ones become zero."""
    centered = table - table.mean(axis=0)
    sizes = np.linalg.norm(centered, axis=0)
    constant = sizes <= 1e-14 * np.maximum(np.linalg.norm(table, axis=0), 1e-300)
    return np.where(constant, 0.0, centered / np.where(constant, 1.0, sizes))


def non_linearity(tables: Array, knots: Array) -> float:
    """Computes 1 minus the mean squared correlation of columns with the knots.

    Args:
        tables: `(num_layers, num_knots, num_features)`.
        knots: `(num_knots,)`.

    Returns:
        0 for straight lines, up to 1.
    """
    return 1.0 - _mean_square(tables, knots[:, None], lambda table: table)


def non_monotonicity(tables: Array, knots: Array) -> float:
    """Computes 1 minus the mean squared rank correlation of columns with the knots.

    Args:
        tables: `(num_layers, num_knots, num_features)`.
        knots: `(num_knots,)`.

    Returns:
        0 for monotonic columns, up to 1.
    """
    return 1.0 - _mean_square(tables, ranks(knots[:, None]), ranks)


def _mean_square(tables: Array, column: Array, transform: Any) -> float:
    return float(np.mean([correlations(transform(table), column) ** 2 for table in tables]))


def diversity(tables: Array) -> float:
    """Computes 1 minus the mean squared correlation of pairs of different columns of a table.

    Args:
        tables: `(num_layers, num_knots, num_features)`.

    Returns:
        0 where all columns are alike, up to 1; 0 for tables of one column.
    """
    if tables.shape[2] < 2:
        return 0.0
    upper = np.triu_indices(tables.shape[2], k=1)
    return 1.0 - float(np.mean([correlations(table, table)[upper] ** 2 for table in tables]))


def smoothness(tables: Array) -> float:
    """Computes 1 minus the smoothness loss, averaged over tables.

    `keras_mlff.layers.encoding.smoothness_loss` is the loss itself.

    Args:
        tables: `(num_layers, num_knots, num_features)`.

    Returns:
        1 for constant tables; about -0.4 for random ones.
    """
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
        second: Tables of another model, with as many layers and knots.
        normalized: Whether to divide by the root of both models' similarity with themselves. The
            printed form cannot reach the printed figures, this one can.
    """
    value = float(np.mean([correlations(a, b) ** 2 for a, b in zip(first, second, strict=True)]))
    if normalized:
        value /= (similarity(first, first) * similarity(second, second)) ** 0.5
    return value


def similarity_matrix(models: Sequence[Array], normalized: bool = True) -> Array:
    """Computes `similarity` of each pair of models' tables (figure 4).

    Args:
        models: Tables of each model, `(num_layers, num_knots, num_features)`.
        normalized: As in `similarity`.

    Returns:
        `(num_models, num_models)`.
    """
    return np.asarray([[similarity(a, b, normalized) for b in models] for a in models])


def normalized_slopes(slopes: Array) -> Array:
    """Divides |G| by the standard deviation of G over layers, knots and dimensions (figure 3).

    Args:
        slopes: G, `(num_layers, num_knots, num_features)`.

    Returns:
        The same shape, without unit.
    """
    return np.asarray(np.abs(slopes) / max(float(np.std(slopes)), 1e-300))  # zero before training


def encoding_metrics(tables: Array, knots: Array) -> dict[str, float]:
    """Computes the four metrics of the paper's Table 3.

    Args:
        tables: `(num_layers, num_knots, num_features)`.
        knots: `(num_knots,)`.

    Returns:
        Values by the names in `METRICS`.
    """
    values = (
        non_linearity(tables, knots),
        non_monotonicity(tables, knots),
        diversity(tables),
        smoothness(tables),
    )
    return dict(zip(METRICS, values, strict=True))


def attention_sizes(coefficients: Array) -> Array:
    """Reduces attention coefficients to how much two atoms take of each other.

    Args:
        coefficients: `([num_heads,] num_atoms, num_atoms)`, receivers in rows, of either sign.

    Returns:
        `(num_atoms, num_atoms)`: absolute values, averaged over heads and both directions.
    """
    sizes = np.abs(coefficients)
    if sizes.ndim == 3:
        sizes = sizes.mean(axis=0)
    return 0.5 * (sizes + sizes.T)


def roc_auc(scores: Array, positive: Array) -> float:
    """Computes the area under the receiver operating characteristic: 1 is perfect, 0.5 is chance.

    It is the probability that a positive scores higher than a negative; ties count half.

    Args:
        scores: `(count,)`.
        positive: `(count,)` bool.

    Raises:
        ValueError: If all are positive or none is.

    Example:
        >>> roc_auc(np.array([0.9, 0.8, 0.1]), np.array([True, False, False]))
        1.0
    """
    num_positive = int(np.sum(positive))
    num_negative = len(positive) - num_positive
    if num_positive == 0 or num_negative == 0:
        raise ValueError(
            "The curve needs positives and negatives. "
            f"Received: {num_positive} positives, {num_negative} negatives."
        )
    ranked = ranks(np.asarray(scores)[:, None])[np.asarray(positive, np.bool_)]
    surplus = ranked.sum() - num_positive * (num_positive + 1) / 2
    return float(surplus / (num_positive * num_negative))


def bond_areas(attention: Mapping[str, Array], bonds: Array) -> dict[str, float]:
    """Tells how well the size of attention coefficients finds bonds.

    Args:
        attention: What `ForceField.attention` returns for a molecule.
        bonds: `(num_bonds, 2)`, see `keras_mlff.md.observables.bonds`.

    Returns:
        By layer: `roc_auc` over all pairs of different atoms; NaN where all or none are bonded.
    """
    found = {}
    for name, coefficients in attention.items():
        sizes = attention_sizes(coefficients)
        bonded = np.zeros(sizes.shape, np.bool_)
        bonded[bonds[:, 0], bonds[:, 1]] = bonded[bonds[:, 1], bonds[:, 0]] = True
        apart = ~np.eye(len(sizes), dtype=np.bool_)
        decided = bonded.any() and not bonded[apart].all()
        found[name] = roc_auc(sizes[apart], bonded[apart]) if decided else float("nan")
    return found
