"""What `keras-mlff analyze` does: it looks into presets."""

from __future__ import annotations

import numpy as np

from keras_mlff import saving
from keras_mlff.cli.tables import print_table


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
    with saving.replacing(output) as unfinished:
        figure.savefig(unfinished, dpi=120)
    print(f"written: {output}")


def attention(file: str, preset: str, output: str) -> None:
    """Draws whom each atom attends to, beside distances, and tells whether that finds the bonds."""
    from keras_mlff import models, plots
    from keras_mlff.datasets.tools.files import load_structures

    molecules = load_structures(file, labels=())
    if any("cell" in molecule and np.any(molecule["pbc"]) for molecule in molecules):
        raise ValueError(
            "Attention is drawn for molecules, since distances and bonds across periodic images "
            f"have no place in the picture. Received: a periodic structure in '{file}'. "
            "`model.attention(graph)` returns the coefficients of crystals."
        )
    figure, areas = plots.draw_attention(models.load_preset(preset), molecules)
    heading = "ROC AUC, size of the coefficient against bonds"
    rows = [["layer", f"{heading}, mean of {len(molecules)}", "standard deviation"]]
    for name, (mean, spread) in areas.items():
        undecided = ["every pair or no pair is bonded", ""]
        rows.append([name, *(undecided if np.isnan(mean) else [f"{mean:.3f}", f"{spread:.3f}"])])
    print_table(rows)
    with saving.replacing(output) as unfinished:
        figure.savefig(unfinished, dpi=120)
    print(f"written: {output}")
