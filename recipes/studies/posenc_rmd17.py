"""Whether learned tables of distances help other architectures: CMRET and So3krates on rMD17.

Each is trained with the same budget and seed: with its own radial basis, and with a table of the
same width in its place that starts from random numbers or from Gaussians.

Run: python recipes/studies/posenc_rmd17.py --molecule=ethanol --num-epochs=100
From a file: python recipes/studies/posenc_rmd17.py --data=rmd17_ethanol.npz --training=train_01
    --validation=train_02 --test=test_01
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import egnn_md17
import keras

from keras_mlff import cli, models, saving

RATES = {"CMRET": 5e-4, "So3krates": 1e-3}  # peaks; 1e-3 for others
TABLES = ("posenc", "smooth")


def main(
    molecule: str = "ethanol",
    data: str = "",
    training: str = "train[:1000]",
    validation: str = "train[1000:1200]",
    test: str = "train[1200:2200]",
    num_validation: int = 200,
    architectures: tuple[str, ...] = ("CMRET", "So3krates"),
    encodings: tuple[str, ...] = ("original", "smooth"),
    num_features: int = 0,
    num_layers: int = 0,
    num_knots: int = 36,
    smoothness: float = 0.01,
    initials: tuple[egnn_md17.Start, ...] = ("normal", "gaussian_rbf"),
    batch_size: int = 5,
    num_epochs: int = 100,
    energy_weight: float = 0.01,
    seed: int = 0,
    folder: str = "runs/posenc_rmd17",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains every architecture with every encoding and writes `results.json`.

    Trainings that are complete are judged again, interrupted ones go on.

    Args:
        molecule: Such as "ethanol" or "aspirin".
        data: File of the molecule, in kcal/mol and Å, instead of the data set.
        training: Split to learn from.
        validation: Split that chooses the best weights; frames of the other two are left out.
        test: Split to be judged on.
        num_validation: How many of the validation frames.
        architectures: Any that take `distance_encoding`.
        encodings: "original", "mlp", "posenc" or "smooth".
        num_features: Width; 0 for that of each architecture.
        num_layers: Layers; 0 for those of each architecture.
        num_knots: Of the tables, which are as wide as the radial basis.
        smoothness: Factor of the smoothness loss.
        initials: What tables start from, each in a training of its own.
        batch_size: Frames per step.
        num_epochs: Of the cosine decay.
        energy_weight: Of the energy's squared error in eV; forces have the rest of one.
        seed: Of weights and order.
        folder: Receives a folder for each training, and `results.json`.
        verbose: As in Keras.
    """
    sizes = {"num_features": num_features, "num_layers": num_layers}
    sizes = {name: value for name, value in sizes.items() if value}
    results: dict[str, Any] = {}
    variants = [
        (kind, initial)
        for kind in encodings
        for initial in (initials if kind in TABLES else ("normal",))
    ]
    for architecture in architectures:
        for kind, initial in variants:
            name = f"{architecture}_{kind}" + ("" if initial == "normal" else f"_{initial}")
            settings = [f"{key}{value}" for key, value in sizes.items()]
            settings += [f"epochs{num_epochs}", f"batch{batch_size}", f"seed{seed}"]
            if kind in TABLES:
                settings += [f"knots{num_knots}", f"smoothness{smoothness:g}"]
            run_folder = Path(folder, "_".join([molecule, name, *settings]))
            chosen = egnn_md17.encoding(kind, num_knots, 0, smoothness, initial)
            if chosen is not None:
                del chosen["num_features"]  # as many as the basis has
            keras.utils.set_random_seed(seed)
            model = models.ARCHITECTURES[architecture](**sizes, distance_encoding=chosen)
            results[name] = egnn_md17.train(
                model,
                molecule,
                "rmd17",
                data,
                (training, validation, test),
                num_validation,
                kind,
                str(run_folder),
                energy_weight,
                batch_size=batch_size,
                num_epochs=num_epochs,
                learning_rate=RATES.get(architecture, 1e-3),
                seed=seed,
                resume=True,
                verbose=verbose,
            )
    saving.write_json(Path(folder, "results.json"), results)
    for name, result in results.items():
        errors = (f"{key} {result[key]['test_mae']:.2f} {result[key]['unit']}" for key in result)
        print(f"{name}: {', '.join(errors)}")
    return results


if __name__ == "__main__":
    cli.run(main)
