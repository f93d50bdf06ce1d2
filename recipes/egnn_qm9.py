"""EGNN with and without learned tables of distances on QM9 (table 2 and table 3 of the paper).

By default one model learns all 12 properties; `--targets=U0` trains one as the paper does, whose
table 3 and figures come from 12 such models (recipes/posenc_figures.py lists their commands). The
paper's budget, 1,000 epochs of 100,000 molecules for each property, is far from a CPU's: the
defaults take hours on one core.

Run: python recipes/egnn_qm9.py --preset=zoo/egnn/qm9
Data: see recipes/cmret_qm9.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cmret_qm9
import egnn_md17
import keras

from keras_mlff import cli, models

# test errors in the order and units of cmret_qm9.TARGETS, one model for each property
PUBLISHED = {
    "EGNN original": (0.029, 0.071, 29, 25, 48, 0.106, 1.55, 11, 12, 12, 12, 0.031),
    "EGNN mlp": (0.027, 0.068, 35, 24, 45, 0.122, 1.50, 10, 11, 10, 10, 0.029),
    "EGNN posenc": (0.027, 0.063, 26, 22, 44, 0.086, 1.49, 9, 10, 10, 10, 0.028),
    "EGNN smooth": (0.023, 0.062, 27, 23, 43, 0.091, 1.50, 9, 9, 9, 9, 0.028),
    "DimeNet++ original": (0.032, 0.048, 27, 21, 44, 0.334, 1.18, 7, 7, 7, 7, 0.023),
    "DimeNet++ mlp": (0.035, 0.059, 30, 25, 49, 0.286, 1.54, 10, 11, 11, 11, 0.027),
    "DimeNet++ posenc": (0.030, 0.048, 26, 20, 44, 0.260, 1.18, 7, 7, 7, 7, 0.023),
    "DimeNet++ smooth": (0.028, 0.048, 24, 20, 44, 0.260, 1.18, 7, 7, 7, 7, 0.023),
}
DESCRIPTION = "Properties of small organic molecules (H, C, N, O, F) at equilibrium."


def main(
    data: str = "runs/qm9.npz",
    targets: tuple[str, ...] = tuple(cmret_qm9.TARGETS),
    distance_encoding: egnn_md17.Encoding = "smooth",
    num_knots: int = 36,
    encoding_size: int = 32,
    smoothness: float = 0.01,
    initial: egnn_md17.Start = "normal",
    paper: bool = False,
    num_validation: int = 1000,
    num_test: int = 5000,
    num_train: int = 0,
    num_features: int = 128,
    num_layers: int = 7,
    batch_size: int = 32,
    num_epochs: int = 16,
    learning_rate: float = 1e-3,
    seed: int = 0,
    folder: str = "runs/egnn_qm9",
    preset: str = "",
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains EGNN on properties of QM9 and reports the test errors.

    Args:
        data: File of recipes/convert_qm9.py, or "qm9" for the data set of TensorFlow Datasets.
        targets: Properties, such as "U0" or "mu"; all 12 by default.
        distance_encoding: What stands for a distance: its square, a perceptron, a learned table, or
            that with the smoothness loss.
        num_knots: Of the tables.
        encoding_size: Numbers that a distance becomes.
        smoothness: Factor of the smoothness loss.
        initial: What tables start from: random numbers, or Gaussians of the distance.
        paper: Whether all atoms exchange messages, and elements are coded as in the paper.
        num_validation: Molecules that choose the best weights.
        num_test: Molecules that are judged.
        num_train: Molecules to learn from; 0 takes the rest.
        num_features: Width.
        num_layers: Layers.
        batch_size: Molecules per step, about; the paper has 96.
        num_epochs: Of the cosine decay.
        learning_rate: Its peak; the paper has 1e-3 for gap, HOMO, LUMO, and half of it for others.
        seed: Of split, weights and order.
        folder: Receives log, state, best weights, results.json and the model.
        preset: Folder to write a preset into, such as zoo/egnn/qm9.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    model = models.EGNN(
        num_features=num_features,
        num_layers=num_layers,
        distance_encoding=egnn_md17.encoding(
            distance_encoding, num_knots, encoding_size, smoothness, initial
        ),
        all_pairs=paper,
        species=(1, 6, 7, 8, 9) if paper else None,
        num_inputs=15 if paper else None,
        heads=cmret_qm9.make_heads(targets),
    )
    results = cmret_qm9.train(
        model,
        data,
        num_validation,
        num_test,
        num_train,
        batch_size,
        num_epochs,
        learning_rate,
        seed,
        folder,
        preset,
        resume,
        verbose,
        published={name: row for name, row in PUBLISHED.items() if "EGNN" in name},
        recipe=cli.command(main, locals()),
        description=DESCRIPTION,
        citation="Satorras et al., 2021, https://arxiv.org/abs/2102.09844; "
        "distance encodings: https://arxiv.org/abs/2211.12773",
    )
    save_model(model, folder, results, seed)
    return results


def save_model(model: models.ForceField, folder: str, results: dict[str, Any], seed: int) -> None:
    """Keeps what figures are drawn from."""
    model.save_to_preset(
        str(Path(folder, "model")),
        elements=[1, 6, 7, 8, 9],
        properties=list(results),
        metrics=results,
        seed=seed,
    )


if __name__ == "__main__":
    cli.run(main)
