"""Whether learned tables of distances help other architectures: CMRET and So3krates on rMD17.

Each is trained with the same budget and seed: with its own radial basis, and with a table of the
same width in its place that starts from random numbers or from Gaussians.

Run: python recipes/studies/posenc_rmd17.py --settings molecule=ethanol
"""

from __future__ import annotations

from typing import Any

from keras_mlff import cli
from keras_mlff.experiments.study import Study

# what differs from the recipes of the architectures: one budget, squared errors, one scale for all
COMMON = {
    "molecule": "ethanol",
    "data.split.test": "train[1200:2200]",
    "training.loss": "mse",
    "training.loss_weights": {"energy": 0.01, "forces": 0.99},
    "training.batch_size": 5,
    "report.units": {"energy": "meV", "forces": "meV/Å"},
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "CMRET": ("cmret_md17", {"training.learning_rate": 5e-4}),
    "So3krates": (
        "so3krates_md17",
        {"training.learning_rate": 1e-3, "model.neighbor_scale": "None"},
    ),
}


def main(
    architectures: tuple[str, ...] = tuple(ARCHITECTURES),
    encodings: tuple[str, ...] = ("original", "smooth"),
    initials: tuple[str, ...] = ("normal", "gaussian_rbf"),
    num_knots: int = 36,
    num_epochs: int = 100,
    variants: tuple[str, ...] = ("rmd17",),
    settings: tuple[str, ...] = (),
    folder: str = "runs/posenc_rmd17",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains every architecture with every encoding and writes `results.json`.

    Args:
        architectures: "CMRET", "So3krates".
        encodings: "original", "mlp", "posenc" or "smooth".
        initials: What tables start from, each in a training of its own.
        num_knots: Knots of the tables, which are as wide as the radial basis.
        num_epochs: Epochs of each training.
        variants: Variants of the recipes; "file" instead of "rmd17" reads a file.
        settings: Settings of all trainings, such as `molecule=aspirin`.
        folder: Receives a folder for each training, and `results.json`.
        verbose: Progress, as in Keras.

    Returns:
        Test errors by architecture, encoding and start.
    """
    study = Study(folder, variants, settings, verbose, COMMON)
    results: dict[str, Any] = {}
    for architecture in architectures:
        recipe, own = ARCHITECTURES[architecture]
        for kind in encodings:
            is_table = kind in ("posenc", "smooth")
            for initial in initials if is_table else ("normal",):
                encoding = {"num_knots": num_knots, "initial": initial} if is_table else {}
                chosen = {
                    **own,
                    "training.num_epochs": num_epochs,
                    "model.distance_encoding": {"kind": kind, **encoding},
                }
                name = f"{architecture}_{kind}" + ("" if initial == "normal" else f"_{initial}")
                results[name] = study.train(name, recipe, chosen)
                errors = (
                    f"{label} {error['test_mae']:.2f} {error['unit']}"
                    for label, error in results[name].items()
                )
                print(f"{name}: {', '.join(errors)}", flush=True)
    study.write(results)
    return results


if __name__ == "__main__":
    cli.run(main)
