"""Figures 1 to 5 and table 3 of "Regularised positional encoding" from trained models.

1: dimensions of the tables without and with regularization; 2: their principal components; 3: where
slopes are large; 4: similarity of what 12 properties learn; 5: errors against knots and dimensions.
Table 3 measures the tables. All come from EGNNs on QM9, one for each property, by the recipe
`egnn_qm9`: by default with a cutoff, where tables end; `--variants paper` takes the authors'
network, whose tables reach to the largest distance, and their budget.

Run: python recipes/studies/posenc_figures.py --train, which trains what is missing before it draws;
    short trainings: --settings training.num_epochs=8 training.batch_size=8
    data.sizes.training=20000 model.distance_encoding.smoothness=1.0, since 0.01 would leave tables
    as they began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_mlff import analysis, cli, plots
from keras_mlff.experiments import recipes
from keras_mlff.experiments.study import Study
from keras_mlff.graph import Array

RECIPE = "egnn_qm9"
ENCODINGS = ("posenc", "smooth")
# EGNN +smooth, in the order of the targets of QM9; of the diversity most is not at hand
PUBLISHED = {
    "non_linearity": (0.21, 0.27, 0.19, 0.36, 0.27, 0.19, 0.38, 0.41, 0.35, 0.41, 0.30, 0.26),
    "non_monotonicity": (0.15, 0.19, 0.13, 0.24, 0.18, 0.18, 0.28, 0.33, 0.33, 0.29, 0.22, 0.23),
    "smoothness": (0.96, 0.86, 0.81, 0.68, 0.92, 0.94, 0.82, 0.82, 0.98, 0.90, 0.86, 0.79),
}


class Case(NamedTuple):
    """One training: a property, the kind of its table, and the table's knots and dimensions."""

    target: str
    kind: str
    knots: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.target}_{self.kind}_knots{self.knots}_size{self.size}"

    @property
    def overrides(self) -> dict[str, Any]:
        encoding = {"num_knots": self.knots, "num_features": self.size}
        if self.kind == "posenc":
            encoding["smoothness"] = 0  # whatever the settings are for regularized tables
        table = {f"model.distance_encoding.{key}": value for key, value in encoding.items()}
        return {"training.labels": [self.target], **table}

    @property
    def variants(self) -> list[str]:
        return [] if self.kind == "smooth" else [self.kind]


def main(
    targets: tuple[str, ...] = (),
    num_knots: int = 36,
    encoding_size: int = 32,
    sweep_target: str = "U0",
    sweep_knots: tuple[int, ...] = (6, 12, 24, 36, 72),
    sweep_sizes: tuple[int, ...] = (2, 4, 8, 16, 32),
    train: bool = False,
    variants: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    folder: str = "runs/posenc_figures",
    verbose: int = 2,
) -> dict[str, Any]:
    """Draws what is trained.

    Args:
        targets: Properties of figure 4 and table 3; all 12 where empty.
        num_knots: Knots of all tables but those of the sweep of knots.
        encoding_size: Dimensions of all tables but those of the sweep of dimensions.
        sweep_target: Property of figure 5.
        sweep_knots: Numbers of knots in figure 5.
        sweep_sizes: Numbers of dimensions in figure 5.
        train: Whether to train what is missing first.
        variants: Variants of the recipe, such as "paper".
        settings: Settings of all trainings.
        folder: Receives a folder for each training, `figure1.png` to `figure5.png`, `results.json`.
        verbose: Progress, as in Keras.

    Returns:
        Table 3: the measures of each property that is trained, by name.
    """
    study = Study(folder, variants, settings, verbose)
    targets = targets or all_targets()
    sweeps = {
        "knots": [
            Case(sweep_target, kind, knots, encoding_size)
            for kind in ENCODINGS
            for knots in sweep_knots
        ],
        "dimensions": [
            Case(sweep_target, kind, num_knots, size) for kind in ENCODINGS for size in sweep_sizes
        ],
    }
    regularized = {target: Case(target, "smooth", num_knots, encoding_size) for target in targets}
    compared = {
        label: Case(sweep_target, kind, num_knots, encoding_size)
        for kind, label in (("posenc", "no regularization"), ("smooth", "regularized"))
    }
    if train:
        wanted = [
            *regularized.values(),
            *compared.values(),
            *sweeps["knots"],
            *sweeps["dimensions"],
        ]
        for case in dict.fromkeys(wanted):
            study.train(case.name, RECIPE, case.overrides, case.variants)
    trained, pair = (
        {key: read(study, case) for key, case in cases.items() if case.name in study.errors}
        for cases in (regularized, compared)
    )
    if not trained:
        raise ValueError(
            f"There is nothing to draw. Received: folder='{folder}', which has no trained models. "
            "`--train` trains them."
        )
    figures = {
        "figure1": draw_panels(pair, plots.encoding_dimensions),
        "figure2": draw_panels(pair, draw_components),
        "figure3": draw_slopes(trained),
        "figure4": draw_similarities(trained),
        "figure5": draw_sweeps(study, sweeps),
    }
    for name, figure in figures.items():
        if figure is not None:
            figure.savefig(study.folder / f"{name}.png", dpi=120)
    table = {
        target: analysis.encoding_metrics(item.tables, item.knots)
        for target, item in trained.items()
    }
    print_table_3(table)
    study.write(table)
    return table


def all_targets() -> tuple[str, ...]:
    """Lists the properties of QM9 in the order of the papers."""
    return tuple(recipes.load(RECIPE).table["report"]["units"])


def read(study: Study, case: Case) -> analysis.Encodings:
    """Reads the tables of a training."""
    return analysis.encodings(study.model(case.name))["distance"]


def draw_panels(pair: dict[str, analysis.Encodings], draw: Callable[..., Any]) -> Any:
    """Draws the first layer's table of each training by `draw(panel, knots, table)`."""
    if not pair:
        return None
    figure, axes = plots.subplots(1, len(pair))
    for panel, (label, item) in zip(axes[0], pair.items(), strict=True):
        draw(panel, item.knots, item.tables[0]).set(title=label)
    return figure


def draw_components(panel: Any, knots: Array, table: Array) -> Any:
    """Draws the knots of a table in two dimensions."""
    components = analysis.principal_components(table)
    return plots.encoding_components(panel, knots, components, "distance / Å")


def draw_slopes(trained: dict[str, analysis.Encodings]) -> Any:
    """Draws where slopes are large for two energies, and two properties of far electrons."""
    chosen = [target for target in ("U0", "H", "mu", "r2") if target in trained]
    if not chosen:
        return None
    figure, axes = plots.subplots(1, len(chosen), width=3.4)
    for panel, target in zip(axes[0], chosen, strict=True):
        slopes = analysis.normalized_slopes(trained[target].slopes)
        plots.slope_profile(panel, trained[target].knots, slopes).set(title=target)
    return figure


def draw_similarities(trained: dict[str, analysis.Encodings]) -> Any:
    """Draws the similarity of all properties, as printed and normalized."""
    tables = [item.tables for item in trained.values()]
    figure, axes = plots.subplots(1, 2, width=5.2, height=4.6)
    for panel, normalized in zip(axes[0], (False, True), strict=True):
        matrix = analysis.similarity_matrix(tables, normalized)
        plots.similarities(panel, matrix, list(trained))
        panel.set(title="normalized" if normalized else "equation as printed in the paper")
    return figure


def draw_sweeps(study: Study, sweeps: Mapping[str, list[Case]]) -> Any:
    """Draws test errors against the number of knots and of dimensions."""
    figure, axes = plots.subplots(1, len(sweeps))
    for panel, (name, cases) in zip(axes[0], sweeps.items(), strict=True):
        place = Case._fields.index("knots" if name == "knots" else "size")
        unit = ""
        for kind in ENCODINGS:
            points = []
            for case in cases:
                if case.kind == kind and case.name in study.errors:
                    errors = study.errors[case.name][case.target]
                    points.append((case[place], errors["test_mae"]))
                    unit = errors["unit"]
            if points:
                panel.plot(*np.asarray(points).T, marker="o", label=kind)
        panel.set(xlabel=name, ylabel=f"test MAE of {cases[0].target} / {unit}", xscale="log")
        panel.minorticks_off()
        panel.set_xticks(*[sorted({case[place] for case in cases})] * 2)
        if panel.lines:
            panel.legend(frameon=False)
    return figure if any(panel.lines for panel in axes[0]) else None


def print_table_3(table: dict[str, dict[str, float]]) -> None:
    """Prints the measures, the paper's in brackets, and those of a polynomial."""
    targets, knots = all_targets(), np.linspace(0.0, 1.0, 36)
    powers = np.stack([knots, knots**2, knots**3], axis=1)[None]
    rows = {**table, "polynomial": analysis.encoding_metrics(powers, knots)}
    print("".join(f"{name:>24}" for name in ("", *analysis.METRICS)))
    for target, values in rows.items():
        cells = []
        for name, value in values.items():
            cell = f"{value:.2f}"
            if name in PUBLISHED and target in targets:
                cell += f" ({PUBLISHED[name][targets.index(target)]:.2f})"
            cells.append(cell)
        print("".join(f"{cell:>24}" for cell in (target, *cells)))


if __name__ == "__main__":
    cli.run(main)
