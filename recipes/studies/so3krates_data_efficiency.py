"""So3krates on one molecule of MD17: force errors against the number of training frames.

With the filters of coordinates and, as an ablation, without (appendix A.4 of the paper). Every
training has as many steps, so that fewer frames do not mean less training.

Run: python recipes/studies/so3krates_data_efficiency.py --data=md17_ethanol.npz --training=cmret_train
    --validation=rmd17_train_01 --test=cmret_test
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import so3krates_md17

from keras_mlff import cli, plots, saving
from keras_mlff.experiments import experiment


def main(
    molecule: str = "ethanol",
    dataset: str = "md17",
    data: str = "",
    training: str = "train[:1000]",
    validation: str = "train[1000:1200]",
    test: str = "train[1200:]",
    num_validation: int = 200,
    num_train: tuple[int, ...] = (50, 100, 200, 400, 1000),
    spherical_filters: tuple[str, ...] = ("with", "without"),
    num_features: int = 132,
    num_layers: int = 6,
    batch_size: int = 5,
    num_steps: int = 30_000,
    seed: int = 0,
    folder: str = "runs/so3krates_data_efficiency",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains what is missing and draws.

    Args:
        molecule: Such as "ethanol" or "aspirin".
        dataset: "md17" (original labels) or "rmd17" (revised).
        data: File of the molecule, in kcal/mol and Å, instead of the data set.
        training: Split whose frames are learned, drawn by seed; more frames hold the fewer.
        validation: Split that chooses the best weights.
        test: Split to be judged on.
        num_validation: How many of the split that chooses; few training frames make short epochs,
            each of which ends with all of these.
        num_train: Numbers of training frames.
        spherical_filters: "with" and "without".
        num_features: Width.
        num_layers: Layers.
        batch_size: Frames per step.
        num_steps: Of each training.
        seed: Of weights and order.
        folder: Receives a folder for each training, `results.json` and `errors.png`.
        verbose: As in Keras.

    Returns:
        Test errors by kind of filter and number of frames.
    """
    results: dict[str, Any] = {kind: {} for kind in spherical_filters}
    for number in num_train:
        for kind in spherical_filters:
            results[kind][str(number)] = so3krates_md17.main(
                molecule=molecule,
                dataset=dataset,
                data=data,
                training=training,
                num_training=number,
                validation=validation,
                test=test,
                num_validation=num_validation,
                num_features=num_features,
                num_layers=num_layers,
                spherical_filter={"with": True, "without": False}[kind],
                batch_size=batch_size,
                num_epochs=max(1, round(num_steps / math.ceil(number / batch_size))),
                seed=seed,
                folder=str(Path(folder, f"{molecule}_{number}_{kind}")),
                resume=True,  # what is finished is only judged again
                verbose=verbose,
            )
            saving.write_json(Path(folder, experiment.RESULTS), results)
    figure(results).savefig(Path(folder, "errors.png"), dpi=120)
    return results


def figure(results: dict[str, Any]) -> Any:
    """Draws energy and force errors against the number of frames."""
    made, axes = plots.subplots(1, 2)
    for panel, name in zip(axes[0], ("energy", "forces"), strict=True):
        curves, unit = {}, ""
        for kind, by_number in results.items():
            numbers = [int(number) for number in by_number]
            errors = [item[name]["test_mae"] for item in by_number.values()]
            unit = next(iter(by_number.values()))[name]["unit"]
            curves[f"{kind} spherical filter"] = (np.asarray(numbers), np.asarray(errors))
        plots.error_curve(panel, curves, ("training frames", f"{name} MAE / {unit}"))
    return made


if __name__ == "__main__":
    cli.run(main)
