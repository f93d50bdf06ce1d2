"""So3krates on one molecule of MD17: errors against the number of training frames.

With the filters of coordinates and, as an ablation, without (appendix A.4 of the paper). Every
training has as many steps, so that fewer frames do not mean less training. The trainings are those
of the recipe `so3krates_md17`.

Run: python recipes/studies/so3krates_data_efficiency.py --settings molecule=aspirin
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_mlff import cli, plots
from keras_mlff.experiments.study import Study

FILTERS = {"with": (), "without": ("no_spherical_filter",)}


def main(
    sizes: tuple[int, ...] = (50, 100, 200, 400, 1000),
    filters: tuple[str, ...] = tuple(FILTERS),
    num_steps: int = 30_000,
    variants: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    folder: str = "runs/so3krates_data_efficiency",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains what is missing and draws `errors.png`.

    Args:
        sizes: Numbers of training frames, drawn by seed; more frames hold the fewer.
        filters: "with" and "without" spherical filters.
        num_steps: Steps of each training.
        variants: Variants of the recipe, such as "file".
        settings: Settings of all trainings, such as `molecule=aspirin`.
        folder: Receives a folder for each training, `results.json` and `errors.png`.
        verbose: Progress, as in Keras.

    Returns:
        Test errors by kind of filter and number of frames.
    """
    study = Study(folder, variants, settings, verbose)
    batch_size = study.settle("so3krates_md17").training.batch_size
    results: dict[str, Any] = {kind: {} for kind in filters}
    for size in sizes:
        steps_per_epoch = math.ceil(size / batch_size)
        chosen = {
            "data.sizes.training": size,
            "training.num_epochs": max(1, round(num_steps / steps_per_epoch)),
        }
        for kind in filters:
            name = f"{size}_{kind}"
            results[kind][str(size)] = study.train(name, "so3krates_md17", chosen, FILTERS[kind])
            study.write(results)
    draw_errors(results).savefig(study.folder / "errors.png", dpi=120)
    return results


def draw_errors(results: dict[str, Any]) -> Any:
    """Draws energy and force errors against the number of frames."""
    figure, axes = plots.subplots(1, 2)
    for panel, label in zip(axes[0], ("energy", "forces"), strict=True):
        curves = {
            f"{kind} spherical filter": (
                np.asarray([int(size) for size in by_size]),
                np.asarray([errors[label]["test_mae"] for errors in by_size.values()]),
            )
            for kind, by_size in results.items()
        }
        unit = next(iter(next(iter(results.values())).values()))[label]["unit"]
        plots.error_curve(panel, curves, ("training frames", f"{label} MAE / {unit}"))
    return figure


if __name__ == "__main__":
    cli.run(main)
