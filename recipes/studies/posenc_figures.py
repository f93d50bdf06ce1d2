"""Figures 1 to 5 and table 3 of "Regularised positional encoding" from trained models.

1: dimensions of the tables without and with regularization; 2: their principal components; 3: where
slopes are large; 4: similarity of what 12 properties learn; 5: errors against knots and dimensions.
Table 3 measures the tables. All come from EGNNs on QM9, one for each property: by default with a
cutoff, where tables end; `--paper` takes the authors' network, whose tables reach to the largest
distance. `--paper --num-train=0 --num-epochs=0 --batch-size=0` is the paper's budget.

Run: python recipes/studies/posenc_figures.py --commands, which prints the trainings that are missing; and
    after these python recipes/studies/posenc_figures.py, which draws what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cmret_qm9
import numpy as np

from keras_mlff import analysis, cli, models, plots, saving

TARGETS = tuple(cmret_qm9.TARGETS)
ENCODINGS = ("posenc", "smooth")
# EGNN +smooth; of the diversity most is not at hand
PUBLISHED = {
    "non_linearity": (0.21, 0.27, 0.19, 0.36, 0.27, 0.19, 0.38, 0.41, 0.35, 0.41, 0.30, 0.26),
    "non_monotonicity": (0.15, 0.19, 0.13, 0.24, 0.18, 0.18, 0.28, 0.33, 0.33, 0.29, 0.22, 0.23),
    "smoothness": (0.96, 0.86, 0.81, 0.68, 0.92, 0.94, 0.82, 0.82, 0.98, 0.90, 0.86, 0.79),
}


def main(
    folder: str = "",
    data: str = "runs/qm9.npz",
    targets: tuple[str, ...] = TARGETS,
    num_knots: int = 36,
    encoding_size: int = 32,
    sweep_target: str = "U0",
    sweep_knots: tuple[int, ...] = (6, 12, 24, 36, 72),
    sweep_sizes: tuple[int, ...] = (2, 4, 8, 16, 32),
    paper: bool = False,
    num_features: int = 128,
    num_layers: int = 7,
    num_train: int = 20000,
    batch_size: int = 8,
    num_epochs: int = 8,
    smoothness: float = 1.0,
    commands: bool = False,
) -> dict[str, Any]:
    """Draws what is trained, or lists what is not.

    Args:
        folder: Holds a folder for each training; receives `figure1.png` to `figure5.png` and
            `table3.json`. Under runs/, named by the settings below, where empty.
        data: Of recipes/egnn_qm9.py.
        targets: Properties of figure 4 and table 3.
        num_knots: Of all but the sweep of knots.
        encoding_size: Dimensions of all but the sweep of dimensions.
        sweep_target: Property of figure 5.
        sweep_knots: Numbers of knots in figure 5.
        sweep_sizes: Numbers of dimensions in figure 5.
        paper: Of recipes/egnn_qm9.py.
        num_features: Width of each network.
        num_layers: Layers of each network.
        num_train: Molecules of each training; 0 takes all.
        batch_size: Molecules per step, about; 0 takes that of recipes/egnn_qm9.py. Tables move
            little in a step, so that short trainings need many.
        num_epochs: Of each training; 0 takes those of recipes/egnn_qm9.py.
        smoothness: Factor of the smoothness loss; 0.01 would leave short trainings as they began.
        commands: Whether to print the trainings that are missing instead of drawing.

    Returns:
        Table 3: the measures of each property that is trained, by name.
    """
    network = {
        "num_features": num_features,
        "num_layers": num_layers,
        "num_train": num_train,
        "batch_size": batch_size,
        "num_epochs": num_epochs,
        "smoothness": smoothness,
    }
    folder = folder or "_".join(
        [
            "runs/posenc_qm9_paper" if paper else "runs/posenc_qm9",
            *(f"{name.removeprefix('num_')}{value}" for name, value in network.items()),
        ]
    )

    def place(target: str, kind: str, knots: int = num_knots, size: int = encoding_size) -> Path:
        return Path(folder, f"{target}_{kind}_knots{knots}_size{size}")

    sweeps = {
        "knots": [
            (sweep_target, kind, n, encoding_size) for kind in ENCODINGS for n in sweep_knots
        ],
        "dimensions": [
            (sweep_target, kind, num_knots, s) for kind in ENCODINGS for s in sweep_sizes
        ],
    }
    wanted = [(target, "smooth", num_knots, encoding_size) for target in targets]
    wanted += [(sweep_target, kind, num_knots, encoding_size) for kind in ENCODINGS]
    wanted += [case for cases in sweeps.values() for case in cases]
    if commands:
        for case in dict.fromkeys(wanted):
            if not (place(*case) / "model").exists():
                print(command(case, place(*case), {"data": data, "paper": paper, **network}))
        return {}
    trained = {
        target: read(place(target, "smooth"))
        for target in targets
        if (place(target, "smooth") / "model").exists()
    }
    if not trained:
        raise ValueError(
            f"There is nothing to draw. Received: folder='{folder}', which has no trained models. "
            "`--commands` prints the trainings."
        )
    pair = {
        label: read(place(sweep_target, kind))
        for kind, label in (("posenc", "no regularization"), ("smooth", "regularized"))
        if (place(sweep_target, kind) / "model").exists()
    }
    figures = {
        "figure1": tables_figure(pair),
        "figure2": components_figure(pair),
        "figure3": slopes_figure(trained),
        "figure4": similarity_figure(trained),
        "figure5": sweep_figure(
            {name: [(case, place(*case)) for case in cases] for name, cases in sweeps.items()}
        ),
    }
    for name, figure in figures.items():
        if figure is not None:
            figure.savefig(Path(folder, f"{name}.png"), dpi=120)
    table = {
        target: analysis.encoding_metrics(item.tables, item.knots)
        for target, item in trained.items()
    }
    print_table_3(table)
    saving.write_json(Path(folder, "table3.json"), table)
    return table


def command(case: tuple[str, str, int, int], folder: Path, settings: dict[str, Any]) -> str:
    """Writes the command of one training."""
    names = ("targets", "distance_encoding", "num_knots", "encoding_size")
    settings = {**settings, **dict(zip(names, case, strict=True)), "folder": folder, "resume": True}
    flags = {f"--{name.replace('_', '-')}": value for name, value in settings.items()}
    words = (f"{flag} {value}" for flag, value in flags.items() if not isinstance(value, bool))
    switches = (flag for flag, value in flags.items() if value is True)
    return " ".join(["python recipes/egnn_qm9.py", *words, *switches])


def read(folder: Path) -> analysis.Encodings:
    """Reads the tables of a training."""
    return analysis.encodings(models.load_preset(str(folder / "model")))["distance"]


def tables_figure(pair: dict[str, analysis.Encodings]) -> Any:
    """Draws the first ten dimensions of the first layer's table."""
    if not pair:
        return None
    figure, axes = plots.subplots(1, len(pair))
    for panel, (label, item) in zip(axes[0], pair.items(), strict=True):
        plots.encoding_dimensions(panel, item.knots, item.tables[0]).set(title=label)
    return figure


def components_figure(pair: dict[str, analysis.Encodings]) -> Any:
    """Draws the knots of the first layer's table in two dimensions."""
    if not pair:
        return None
    figure, axes = plots.subplots(1, len(pair))
    for panel, (label, item) in zip(axes[0], pair.items(), strict=True):
        components = analysis.principal_components(item.tables[0])
        plots.encoding_components(panel, item.knots, components, "distance / Å").set(title=label)
    return figure


def slopes_figure(trained: dict[str, analysis.Encodings]) -> Any:
    """Draws where slopes are large for two energies, and two properties of far electrons."""
    chosen = [target for target in ("U0", "H", "mu", "r2") if target in trained]
    if not chosen:
        return None
    figure, axes = plots.subplots(1, len(chosen), width=3.4)
    for panel, target in zip(axes[0], chosen, strict=True):
        slopes = analysis.normalized_slopes(trained[target].slopes)
        plots.slope_profile(panel, trained[target].knots, slopes).set(title=target)
    return figure


def similarity_figure(trained: dict[str, analysis.Encodings]) -> Any:
    """Draws the similarity of all properties, as printed and normalized."""
    tables = [item.tables for item in trained.values()]
    figure, axes = plots.subplots(1, 2, width=5.2, height=4.6)
    for panel, normalized in zip(axes[0], (False, True), strict=True):
        matrix = analysis.similarity_matrix(tables, normalized)
        plots.similarities(panel, matrix, list(trained))
        panel.set(title="normalized" if normalized else "equation as printed in the paper")
    return figure


def sweep_figure(sweeps: dict[str, list[tuple[Any, Path]]]) -> Any:
    """Draws test errors against the number of knots and of dimensions."""
    figure, axes = plots.subplots(1, len(sweeps))
    drawn = 0
    for panel, (name, cases) in zip(axes[0], sweeps.items(), strict=True):
        place = 2 if name == "knots" else 3
        for kind in ENCODINGS:
            points = list(_errors(cases, kind, place))
            if points:
                panel.plot(*np.asarray(points).T, marker="o", label=kind)
                drawn += 1
        target = cases[0][0][0]
        unit = cmret_qm9.TARGETS[target][0]
        panel.set(xlabel=name, ylabel=f"test MAE of {target} / {unit}", xscale="log")
        panel.minorticks_off()
        panel.set_xticks(*[sorted({case[place] for case, _ in cases})] * 2)
        if panel.lines:
            panel.legend(frameon=False)
    return figure if drawn else None


def _errors(cases: list[tuple[Any, Path]], kind: str, place: int) -> Iterator[tuple[int, float]]:
    for case, folder in cases:
        if case[1] == kind and (folder / "results.json").exists():
            results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            yield case[place], results[case[0]]["test_mae"]


def print_table_3(table: dict[str, dict[str, float]]) -> None:
    """Prints the measures, the paper's in brackets, and those of a polynomial."""
    knots = np.linspace(0.0, 1.0, 36)
    powers = np.stack([knots, knots**2, knots**3], axis=1)[None]
    rows = {**table, "polynomial": analysis.encoding_metrics(powers, knots)}
    print("".join(f"{name:>24}" for name in ("", *analysis.METRICS)))
    for target, values in rows.items():
        cells = []
        for name, value in values.items():
            cell = f"{value:.2f}"
            if name in PUBLISHED and target in TARGETS:
                cell += f" ({PUBLISHED[name][TARGETS.index(target)]:.2f})"
            cells.append(cell)
        print("".join(f"{cell:>24}" for cell in (target, *cells)))


if __name__ == "__main__":
    cli.run(main)
