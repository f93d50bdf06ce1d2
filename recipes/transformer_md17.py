"""The distance-biased Transformer with and without learned tables on MD17 forces (table 1).

The paper leaves all sizes open: those here are ours, as are loss, optimizer, batch size and epochs.

Run: python recipes/transformer_md17.py --molecule=ethanol --distance-encoding=smooth
From a file: python recipes/transformer_md17.py --data=md17_ethanol.npz --training=cmret_train
    --validation=rmd17_train_01 --test=cmret_test
"""

from __future__ import annotations

from typing import Any

import egnn_md17
import keras

from keras_mlff import cli, models


def main(
    molecule: str = "ethanol",
    dataset: str = "md17",
    data: str = "",
    training: str = "train[:1000]",
    validation: str = "train[1000:1200]",
    test: str = "train[1200:2200]",
    num_validation: int = 200,
    distance_encoding: egnn_md17.Encoding = "smooth",
    num_knots: int = 36,
    encoding_size: int = 32,
    smoothness: float = 0.01,
    initial: egnn_md17.Start = "normal",
    num_features: int = 128,
    num_layers: int = 6,
    num_heads: int = 8,
    batch_size: int = 5,
    num_epochs: int = 500,
    learning_rate: float = 5e-4,
    energy_weight: float = 0.01,
    seed: int = 0,
    folder: str = "",
    preset: str = "",
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains the Transformer on one molecule and reports the test errors beside those of table 1.

    Args:
        molecule: Such as "ethanol" or "aspirin".
        dataset: "md17" (original labels) or "rmd17" (revised).
        data: File of the molecule, in kcal/mol and Å, instead of the data set.
        training: Split to learn from.
        validation: Split that chooses the best weights; frames of the other two are left out.
        test: Split to be judged on.
        num_validation: How many of the validation frames.
        distance_encoding: What the bias reads: the distance, a perceptron of it, a learned table,
            or that with the smoothness loss.
        num_knots: Of the tables.
        encoding_size: Numbers that a distance becomes.
        smoothness: Factor of the smoothness loss.
        initial: What tables start from: random numbers, or Gaussians of the distance.
        num_features: Width.
        num_layers: Layers.
        num_heads: Heads.
        batch_size: Frames per step.
        num_epochs: Of the cosine decay.
        learning_rate: Its peak.
        energy_weight: Of the energy's squared error in eV; forces have the rest of one.
        seed: Of weights and order.
        folder: Receives log, state, best weights, results.json and the model.
        preset: Folder to publish a preset into.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    model = models.DistanceTransformer(
        num_features=num_features,
        num_layers=num_layers,
        num_heads=num_heads,
        distance_encoding=egnn_md17.encoding(
            distance_encoding, num_knots, encoding_size, smoothness, initial
        ),
    )
    return egnn_md17.train(
        model,
        molecule,
        dataset,
        data,
        (training, validation, test),
        num_validation,
        distance_encoding,
        folder or f"runs/transformer_{dataset}_{molecule}_{distance_encoding}_seed{seed}",
        energy_weight,
        preset,
        recipe=cli.command(main, locals()),
        citation="https://arxiv.org/abs/2211.12773; the bias: https://arxiv.org/abs/2106.05234",
        batch_size=batch_size,
        num_epochs=num_epochs,
        learning_rate=learning_rate,
        seed=seed,
        resume=resume,
        verbose=verbose,
    )


if __name__ == "__main__":
    cli.run(main)
