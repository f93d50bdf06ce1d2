"""So3krates on one molecule of MD17: force errors against the number of weights (figure 1c).

A model of each number of layers is trained by the recipe `so3krates_md17` and drawn beside those of
table 1 of the paper.

Run: python recipes/studies/so3krates_sizes.py --layers 1 2 3 6
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mlff import cli, plots
from keras_mlff.experiments.study import Study

MOLECULES = (
    *("aspirin", "ethanol", "malonaldehyde", "naphthalene", "salicylic", "toluene"),
    "uracil",
)
# of table 1: number of weights, and force errors of these molecules in kcal/mol/Å
PUBLISHED: dict[str, tuple[float, tuple[float, ...]]] = {
    "NequIP": (3.0e6, (0.19, 0.09, 0.13, 0.04, 0.09, 0.05, 0.08)),
    "SpookyNet": (3.0e6, (0.258, 0.094, 0.167, 0.089, 0.180, 0.087, 0.119)),
    "GemNetQ": (2.2e6, (0.217, 0.088, 0.159, 0.051, 0.124, 0.060, 0.104)),
    "DimeNet": (1.9e6, (0.499, 0.230, 0.383, 0.215, 0.374, 0.216, 0.301)),
    "PaiNN": (6.0e5, (0.371, 0.230, 0.319, 0.083, 0.209, 0.102, 0.140)),
    "NewtonNet": (5.0e5, (0.348, 0.211, 0.323, 0.084, 0.197, 0.088, 0.149)),
    "So3krates, paper": (7.0e5, (0.236, 0.096, 0.147, 0.074, 0.145, 0.073, 0.111)),
}


def main(
    layers: tuple[int, ...] = (1, 2, 3, 6),
    molecule: str = "ethanol",
    variants: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    folder: str = "runs/so3krates_sizes",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains what is missing and draws `sizes.png`.

    Args:
        layers: Numbers of layers, a model for each.
        molecule: Such as "ethanol" or "aspirin".
        variants: Variants of the recipe, such as "rmd17" or "file".
        settings: Settings of all trainings, such as `training.num_epochs=100`.
        folder: Receives a folder for each training, `results.json` and `sizes.png`.
        verbose: Progress, as in Keras.

    Returns:
        Test errors and `num_weights` by number of layers.
    """
    study = Study(folder, variants, settings, verbose)
    results = {}
    for number in layers:
        chosen = {"molecule": molecule, "model.num_layers": number}
        name = f"{molecule}_{number}_layers"
        errors = study.train(name, "so3krates_md17", chosen)
        results[str(number)] = errors | {"num_weights": study.model(name).count_params()}
        study.write(results)
    num_epochs = study.settle("so3krates_md17").training.num_epochs
    draw_sizes(results, molecule, num_epochs).savefig(study.folder / "sizes.png", dpi=120)
    return results


def draw_sizes(results: Mapping[str, Any], molecule: str, num_epochs: int) -> Any:
    """Draws force errors against the number of weights, beside those of table 1."""
    from matplotlib import ticker

    figure, ((axes,),) = plots.subplots(1, 1, width=7.0)
    if molecule in MOLECULES:
        column = MOLECULES.index(molecule)
        for label, (weights, errors) in PUBLISHED.items():
            axes.plot(weights, errors[column], "o", markersize=5, label=label)
    ours = [(item["num_weights"], item["forces"]["test_mae"]) for item in results.values()]
    curve = np.asarray(sorted(ours)).T
    fewest, most = min(results, key=int), max(results, key=int)
    label = f"So3krates, {fewest} to {most} layers, {num_epochs} epochs"
    unit = next(iter(results.values()))["forces"]["unit"]
    plots.error_curve(axes, {label: tuple(curve)}, ("weights", f"forces MAE / {unit}"))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ticker.EngFormatter())
    axes.tick_params(axis="x", which="minor", labelbottom=False)  # they overlap
    axes.set_title(molecule)
    return figure


if __name__ == "__main__":
    cli.run(main)
