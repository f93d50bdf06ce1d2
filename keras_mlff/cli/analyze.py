"""What `keras-mlff analyze` does: it looks into presets."""

from __future__ import annotations

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
    figure.savefig(output, dpi=120)
    print(f"written: {output}")
