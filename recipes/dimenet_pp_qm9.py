"""DimeNet++ with and without learned tables of distances and angles on QM9 (table 2 of the paper).

By default one model learns all 12 properties; `--targets=U0` trains one. The authors of DimeNet++
train 3,000,000 steps of 32 molecules for each property; the defaults take hours on one core.

Run: python recipes/dimenet_pp_qm9.py --preset=zoo/dimenetpp/qm9
Data: see recipes/cmret_qm9.py.
"""

from __future__ import annotations

from typing import Any

import cmret_qm9
import egnn_md17
import egnn_qm9
import keras

from keras_mlff import cli, models


def main(
    data: str = "runs/qm9.npz",
    targets: tuple[str, ...] = tuple(cmret_qm9.TARGETS),
    distance_encoding: egnn_md17.Encoding = "smooth",
    num_knots: int = 36,
    encoding_size: int = 32,
    smoothness: float = 0.01,
    initial: egnn_md17.Start = "normal",
    num_validation: int = 1000,
    num_test: int = 5000,
    num_train: int = 0,
    num_features: int = 128,
    num_layers: int = 4,
    cutoff: float = 5.0,
    batch_size: int = 32,
    num_epochs: int = 8,
    learning_rate: float = 1e-3,
    seed: int = 0,
    folder: str = "",
    preset: str = "",
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains DimeNet++ on properties of QM9 and reports the test errors.

    Args:
        data: File of recipes/convert_qm9.py, or "qm9" for the data set of TensorFlow Datasets.
        targets: Properties, such as "U0" or "mu"; all 12 by default.
        distance_encoding: What stands for distances and angles: Bessel functions and Legendre
            polynomials, perceptrons, learned tables, or these with the smoothness loss.
        num_knots: Of the tables.
        encoding_size: Numbers that a distance or angle becomes.
        smoothness: Factor of the smoothness loss.
        initial: What tables start from: random numbers, or Gaussians of the distance.
        num_validation: Molecules that choose the best weights.
        num_test: Molecules that are judged.
        num_train: Molecules to learn from; 0 takes the rest.
        num_features: Width.
        num_layers: Interaction blocks.
        cutoff: Å. The number of triplets grows with its sixth power.
        batch_size: Molecules per step, about.
        num_epochs: Of the cosine decay.
        learning_rate: Its peak.
        seed: Of split, weights and order.
        folder: Receives log, state, best weights, results.json and the model; under runs/, named
            by what is trained, where empty.
        preset: Folder to write a preset into, such as zoo/dimenetpp/qm9.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    model = models.DimeNetPP(
        num_features=num_features,
        num_layers=num_layers,
        cutoff=cutoff,
        distance_encoding=egnn_md17.encoding(
            distance_encoding, num_knots, encoding_size, smoothness, initial
        ),
        heads=cmret_qm9.make_heads(targets),
    )
    folder = folder or egnn_qm9.name_folder(
        "dimenet_pp_qm9",
        targets,
        distance_encoding,
        {"knots": num_knots, "size": encoding_size, "smoothness": smoothness, "from": initial},
        features=num_features,
        layers=num_layers,
        cutoff=cutoff,
        train=num_train,
        epochs=num_epochs,
        seed=seed,
    )
    parts, results = cmret_qm9.train(
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
        published={name: row for name, row in egnn_qm9.PUBLISHED.items() if "DimeNet" in name},
        recipe=cli.command(main, locals()),
        description=egnn_qm9.DESCRIPTION,
        citation="Gasteiger et al., 2020, https://arxiv.org/abs/2011.14115; "
        "distance encodings: https://arxiv.org/abs/2211.12773",
    )
    egnn_qm9.save_model(model, folder, parts.training, results, seed)
    return results


if __name__ == "__main__":
    cli.run(main)
