"""Plots: each function draws on the given axes and returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import analysis
from keras_mlff.fit.logs import read_log
from keras_mlff.graph import Array, Graph
from keras_mlff.models import ForceField

Axes = Any
_SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F", 14: "Si", 16: "S", 17: "Cl"}


def subplots(
    rows: int = 1,
    columns: int = 1,
    width: float = 4.2,
    height: float = 3.4,
    projection: str | None = None,
) -> Any:
    """Makes a figure and an array of axes of one size each, maps where a projection is named."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which is not installed. "
            "Install it with `pip install keras-mlff[plots]`."
        ) from error
    # not by pyplot, which would keep every figure until somebody closes it
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    kind = {"projection": projection}
    return figure, figure.subplots(rows, columns, squeeze=False, subplot_kw=kind)


def learning_curve(
    axes: Axes, log: str | Path, columns: Mapping[str, str], scale: float = 1.0
) -> Axes:
    """Draws columns of a training's log against the number of completed epochs.

    Args:
        axes: Where to draw.
        log: The file `log.csv`.
        columns: The names of columns, and the label of each line.
        scale: A factor for all values, such as 1e3 for meV.

    Returns:
        The axes.
    """
    rows = read_log(log)
    for column, label in columns.items():
        points = [(row["epoch"] + 1, scale * row[column]) for row in rows if column in row]
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
    unit = quantity.partition(" / ")[2]
    axes.text(0.05, 0.92, f"MAE {error:.3g} {unit}", transform=axes.transAxes, va="top")
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
    size = "xx-small" if len(names) > 15 else "medium"
    axes.set_xticklabels(names, fontsize=size)
    axes.set_yticklabels(names, fontsize=size)
    axes.set(xlabel="sender", ylabel="receiver")
    return axes


def attention_figure(
    attention_by_layer: Mapping[str, Array],
    distances: Array,
    bonds: Array,
    atomic_numbers: Sequence[int],
    circled: str = "bonds",
) -> Any:
    """Draws the attention of each layer, mean of sizes over heads, beside the distances.

    What an atom takes from itself is left out, which would outshine all else.

    Args:
        attention_by_layer: What `ForceField.attention` returns.
        distances: `(num_atoms, num_atoms)`, Å.
        bonds: `(num_bonds, 2)`, marked by circles.
        atomic_numbers: `(num_atoms,)`.
        circled: What these are, for the title.
    """
    columns = min(4, len(attention_by_layer) + 1)
    rows = -(-(len(attention_by_layer) + 1) // columns)
    figure, grid = subplots(rows, columns)
    panels = np.asarray(grid).reshape(-1)
    panels[0].set_title(f"distance, Å; {circled} circled")
    attention(panels[0], distances, atomic_numbers)
    for axes, (name, coefficients) in zip(panels[1:], attention_by_layer.items(), strict=False):
        sizes = np.abs(coefficients).reshape(-1, *coefficients.shape[-2:]).mean(axis=0)
        np.fill_diagonal(sizes, 0.0)
        attention(axes, sizes, atomic_numbers)
        axes.set_title(name)
    both = np.concatenate([bonds, bonds[:, ::-1]])
    for axes in panels[: len(attention_by_layer) + 1]:
        axes.plot(both[:, 0], both[:, 1], "o", color="white", markerfacecolor="none", markersize=5)
    for axes in panels[len(attention_by_layer) + 1 :]:
        axes.set_axis_off()
    return figure


def draw_attention(
    model: ForceField, molecules: Sequence[Graph]
) -> tuple[Any, dict[str, tuple[float, float]]]:
    """Draws the attention of the first molecule and computes how well that of all finds bonds.

    Args:
        model: A model with attention.
        molecules: Structures without a cell; the first one is drawn.

    Returns:
        The figure, and mean and standard deviation of what `analysis.bond_areas` finds; `nearness`
        ranks pairs by their distance alone.
    """
    from keras_mlff.md import observables

    figure, areas = None, []
    for molecule in molecules:
        positions, numbers = molecule["positions"], molecule["atomic_numbers"]
        found = model.attention(molecule)
        bonds = observables.bonds(positions, numbers)
        distances = np.linalg.norm(positions[:, None] - positions, axis=2)
        if figure is None:
            figure = attention_figure(found, distances, bonds, numbers.tolist())
        nearness = {"nearness": 1.0 / (1.0 + distances)}
        areas.append(analysis.bond_areas({**found, **nearness}, bonds))
    by_name = {name: np.asarray([item[name] for item in areas]) for name in areas[0]}
    return figure, {name: (float(x.mean()), float(x.std())) for name, x in by_name.items()}


def encoding_dimensions(
    axes: Axes, knots: Array, table: Array, label: str = "distance / Å", number: int = 10
) -> Axes:
    """Draws the first dimensions of a table `(num_knots, num_features)` over its range."""
    axes.plot(knots, table[:, :number], linewidth=1.0)
    axes.set(xlabel=label, ylabel="encoding")
    return axes


def encoding_components(axes: Axes, knots: Array, components: Array, label: str) -> Axes:
    """Draws the knots of a table in two principal components `(num_knots, 2)`, colored by x."""
    axes.plot(*components.T, color="0.85", linewidth=0.8, zorder=0)
    points = axes.scatter(*components.T, c=knots, cmap="viridis", s=14)
    axes.figure.colorbar(points, ax=axes, label=label)
    axes.set(xlabel="first component", ylabel="second component")
    return axes


def projected_atoms(
    axes: Axes, components: Array, groups: Mapping[str, tuple[Sequence[int], str]]
) -> Axes:
    """Draws what atoms carry in two principal components, a color per group; makes no legend.

    Args:
        axes: Where to draw.
        components: `(num_atoms, 2)`.
        groups: Atoms and color of each group, by label.
    """
    for label, (atoms, color) in groups.items():
        axes.scatter(*components[list(atoms)].T, s=36, color=color, label=label, alpha=0.8)
    axes.set(xlabel="first component", ylabel="second component")
    return axes


def error_curve(
    axes: Axes, points: Mapping[str, tuple[Array, Array]], labels: tuple[str, str]
) -> Axes:
    """Draws errors on logarithmic scales against the size of something, a line per label."""
    for label, (sizes, values) in points.items():
        axes.plot(sizes, values, marker="o", markersize=4, linewidth=1.2, label=label)
    axes.set(xlabel=labels[0], ylabel=labels[1], xscale="log", yscale="log")
    axes.legend(frameon=False)
    return axes


def slope_profile(axes: Axes, knots: Array, slopes: Array, label: str = "distance / Å") -> Axes:
    """Draws how large normalized slopes `(num_layers, num_knots, num_features)` are, and where.

    The line is the median over layers and dimensions, the band the middle half.
    """
    low, middle, high = np.percentile(slopes, [25, 50, 75], axis=(0, 2))
    (line,) = axes.plot(knots, middle, linewidth=1.3)
    axes.fill_between(knots, low, high, alpha=0.2, linewidth=0, color=line.get_color())
    axes.set(xlabel=label, ylabel="|slope| / standard deviation")
    return axes


def similarities(axes: Axes, matrix: Array, names: Sequence[str]) -> Axes:
    """Draws a matrix of similarities, colored from its smallest to its largest."""
    image = axes.imshow(matrix, cmap="viridis")
    axes.figure.colorbar(image, ax=axes, label="similarity")
    axes.set(xticks=range(len(names)), yticks=range(len(names)))
    axes.set_xticklabels(names, rotation=90)
    axes.set_yticklabels(names)
    return axes


def encoding_figure(found: Mapping[str, Mapping[str, analysis.Encodings]], layer: int = 0) -> Any:
    """Draws all of the above for presets, a row each, and a last row with their similarity.

    Args:
        found: `analysis.encodings` of each preset by its name.
        layer: Whose table the first two columns show.

    Returns:
        The figure.

    Raises:
        ValueError: If a preset has no such layer.
    """
    rows = [(name, key, item) for name, items in found.items() for key, item in items.items()]
    alike = {name: items["distance"].tables for name, items in found.items()}
    compared = len(alike) > 1 and len({tables.shape[:2] for tables in alike.values()}) == 1
    figure, grid = subplots(len(rows) + compared, 4)
    for axes, (name, quantity, item) in zip(grid, rows, strict=False):
        number = len(item.tables)
        if quantity == "distance" and not -number <= layer < number:
            raise ValueError(
                f"The preset has {number} tables. Received: layer={layer}, preset='{name}'."
            )
        table = item.tables[layer if quantity == "distance" else 0]
        label = f"{quantity} / {'Å' if quantity == 'distance' else 'rad'}"
        encoding_dimensions(axes[0], item.knots, table, label).set(title=name)
        components = analysis.principal_components(table)
        encoding_components(axes[1], item.knots, components, label)
        slope_profile(axes[2], item.knots, analysis.normalized_slopes(item.slopes), label)
        matrix = analysis.similarity_matrix([one[None] for one in item.tables])
        similarities(axes[3], matrix, [f"table {i}" for i in range(number)])
    if compared:
        similarities(grid[-1][0], analysis.similarity_matrix(list(alike.values())), list(alike))
        for axes in grid[-1][1:]:
            axes.axis("off")
    return figure
