"""Plots: each function draws on the given axes and returns them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff.graph import Array

Axes = Any
_SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F", 14: "Si", 16: "S", 17: "Cl"}


def subplots(rows: int = 1, columns: int = 1, width: float = 4.2, height: float = 3.4) -> Any:
    """Makes a figure and an array of axes of one size each."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which is not installed. "
            "Install it with `pip install keras-mlff[plots]`."
        ) from error
    return pyplot.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows),
        squeeze=False,
        constrained_layout=True,
    )


def learning_curve(
    axes: Axes, log: str | Path, columns: Mapping[str, str], scale: float = 1.0
) -> Axes:
    """Draws columns of a training's CSV log against the epoch.

    Args:
        axes: Where to draw.
        log: `log.csv`.
        columns: Name of each column and the label of its line.
        scale: Factor, 1e3 for meV.
    """
    with Path(log).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for column, label in columns.items():
        points = [
            (int(row["epoch"]) + 1, scale * float(row[column])) for row in rows if row.get(column)
        ]
        axes.plot(*np.asarray(points).T, label=label, linewidth=1.2)
    axes.set(xlabel="epoch", yscale="log")
    axes.legend(frameon=False)
    return axes


def parity(axes: Axes, reference: Array, predicted: Array, quantity: str) -> Axes:
    """Draws predictions against reference values, with the mean absolute error in the corner."""
    reference, predicted = np.ravel(reference), np.ravel(predicted)
    limits = [min(reference.min(), predicted.min()), max(reference.max(), predicted.max())]
    axes.plot(limits, limits, color="0.7", linewidth=1.0, zorder=0)
    axes.scatter(reference, predicted, s=6, alpha=0.5, linewidths=0)
    error = np.abs(predicted - reference).mean()
    axes.text(0.05, 0.92, f"MAE {error:.3g}", transform=axes.transAxes, va="top")
    axes.set(xlabel=f"reference {quantity}", ylabel=f"predicted {quantity}")
    axes.set_aspect("equal", adjustable="box")
    return axes


def scan(
    axes: Axes, coordinate: Array, energies: Mapping[str, Array], xlabel: str, window: Any = None
) -> Axes:
    """Draws energies along one coordinate; the first entry, the reference, as points.

    Args:
        axes: Where to draw.
        coordinate: `(num_points,)`.
        energies: Energy of each curve, eV, by label; relative to the first one's minimum.
        xlabel: What the coordinate is.
        window: Range of the training data, shaded.
    """
    if window is not None:
        axes.axvspan(*window, color="0.93", label="training data")
    zero = min(next(iter(energies.values())))
    for index, (label, values) in enumerate(energies.items()):
        style: dict[str, Any] = {"linewidth": 1.3} if index else {"marker": "o", "ls": "", "ms": 3}
        if not index:
            style["color"] = "black"
        axes.plot(coordinate, values - zero, label=label, **style)
    axes.set(xlabel=xlabel, ylabel="energy / eV")
    axes.legend(frameon=False, fontsize="small")
    return axes


def surface(
    axes: Axes, x: Array, y: Array, values: Array, labels: tuple[str, str], maximum: float
) -> Axes:
    """Draws a map of values `(len(y), len(x))`, from 0 to `maximum`, with a color bar."""
    image = axes.pcolormesh(x, y, values, vmin=0.0, vmax=maximum, shading="nearest")
    axes.figure.colorbar(image, ax=axes, extend="max")
    axes.set(xlabel=labels[0], ylabel=labels[1])
    return axes


def attention(axes: Axes, coefficients: Array, atomic_numbers: Sequence[int]) -> Axes:
    """Draws attention coefficients `(num_atoms, num_atoms)`, receivers in rows."""
    names = [_SYMBOLS.get(int(z), str(z)) for z in atomic_numbers]
    image = axes.imshow(coefficients, cmap="viridis")
    axes.figure.colorbar(image, ax=axes)
    axes.set(xticks=range(len(names)), yticks=range(len(names)))
    axes.set_xticklabels(names)
    axes.set_yticklabels(names)
    axes.set(xlabel="sender", ylabel="receiver")
    return axes
