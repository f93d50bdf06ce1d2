"""What `keras-mlff analyze` does: it looks into presets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mlff.cli.tables import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keras_mlff.graph import Graph
    from keras_mlff.models import ForceField


def encoding(presets: list[str], output: str, layer: int) -> None:
    """Measures and draws how presets encode distances: tables, components, slopes, similarity."""
    from keras_mlff import analysis, models, plots

    found = {name: analysis.encodings(models.load_preset(name)) for name in presets}
    rows = [["preset", "quantity", "tables", "knots", "size", *analysis.METRICS]]
    for name, by_quantity in found.items():
        for quantity, item in by_quantity.items():
            metrics = analysis.encoding_metrics(item.tables, item.knots).values()
            sizes = map(str, item.tables.shape)
            rows.append([name, quantity, *sizes, *(f"{value:.3f}" for value in metrics)])
    print_table(rows)
    figure = plots.encoding_figure(found, layer)
    figure.savefig(output, dpi=120)
    print(f"written: {output}")


def attention(file: str, preset: str, output: str) -> None:
    """Draws whom each atom attends to, beside distances, and tells whether that finds the bonds."""
    from keras_mlff import models
    from keras_mlff.datasets.tools.files import load_structures

    molecules = load_structures(file, labels=())
    if any("cell" in molecule and np.any(molecule["pbc"]) for molecule in molecules):
        raise ValueError(
            "Attention is drawn for molecules, since distances and bonds across periodic images "
            f"have no place in the picture. Received: a periodic structure in '{file}'. "
            "`model.attention(graph)` returns the coefficients of crystals."
        )
    figure, areas = draw_attention(models.load_preset(preset), molecules)
    heading = "ROC AUC, size of the coefficient against bonds"
    rows = [["layer", f"{heading}, mean of {len(molecules)}", "standard deviation"]]
    for name, (mean, spread) in areas.items():
        undecided = ["every pair or no pair is bonded", ""]
        rows.append([name, *(undecided if np.isnan(mean) else [f"{mean:.3f}", f"{spread:.3f}"])])
    print_table(rows)
    figure.savefig(output, dpi=120)
    print(f"written: {output}")


def draw_attention(
    model: ForceField, molecules: Sequence[Graph]
) -> tuple[Any, dict[str, tuple[float, float]]]:
    """Draws the attention of the first molecule and computes how well that of all finds bonds.

    Returns:
        The figure, and mean and standard deviation of what `analysis.bond_areas` finds; `nearness`
        ranks pairs by their distance alone.
    """
    from keras_mlff import analysis, plots
    from keras_mlff.md import observables

    figure, areas = None, []
    for molecule in molecules:
        positions, numbers = molecule["positions"], molecule["atomic_numbers"]
        found = model.attention(molecule)
        bonds = observables.bonds(positions, numbers)
        distances = np.linalg.norm(positions[:, None] - positions, axis=2)
        if figure is None:
            figure = plots.attention_figure(found, distances, bonds, numbers.tolist())
        nearness = {"nearness": 1.0 / (1.0 + distances)}
        areas.append(analysis.bond_areas({**found, **nearness}, bonds))
    by_name = {name: np.asarray([item[name] for item in areas]) for name in areas[0]}
    return figure, {name: (float(x.mean()), float(x.std())) for name, x in by_name.items()}
