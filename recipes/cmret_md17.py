"""CMRET on one molecule of MD17 or rMD17, 1,000 frames (section 3.4 of the paper).

The paper gives its errors in figures and words only: 0.093 on toluene, 3.5 days of a V100 for all.
`--paper` is its optimizer, Adam along two triangles of the rate; the default, Adam with warm-up,
cosine decay and averaged weights, needs fewer epochs.

Run: python recipes/cmret_md17.py --molecule=toluene --preset=zoo/cmret/md17_toluene
From a file: python recipes/cmret_md17.py --data=md17_toluene.npz --training=cmret_train
    --validation=rmd17_train_01 --test=cmret_test
"""

from __future__ import annotations

from typing import Any

import keras
import md17

from keras_mlff import cli, models
from keras_mlff.fit import schedules


def main(
    molecule: str = "toluene",
    dataset: str = "md17",
    data: str = "",
    training: str = "train[:1000]",
    validation: str = "train[1000:1200]",
    test: str = "train[1200:11200]",
    num_validation: int = 200,
    num_features: int = 128,
    num_layers: int = 6,
    radial_basis: str = "gaussian",
    attention: str = "atoms",
    attention_activation: str = "softmax",
    paper: bool = False,
    batch_size: int = 5,
    num_epochs: int = 300,
    learning_rate: float = 1e-3,
    energy_weight: float = 0.2,
    seed: int = 0,
    folder: str = "",
    preset: str = "",
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains CMRET and reports errors in kcal/mol and kcal/mol/Å.

    Args:
        molecule: Such as "toluene" or "aspirin".
        dataset: "md17" (original labels) or "rmd17" (revised).
        data: File of the molecule, in kcal/mol and Å, instead of the data set.
        training: Split to learn from.
        validation: Split that chooses the best weights; frames of the other two are left out.
        test: Split to be judged on.
        num_validation: How many of the validation frames.
        num_features: Width.
        num_layers: Interaction layers.
        radial_basis: "gaussian" or "bessel".
        attention: "atoms", "projected" or "none" (ablations).
        attention_activation: "softmax", "softmax2d", "swish", ...
        paper: Adam along two triangular cycles of the rate, without averages.
        batch_size: Frames per step; the paper's.
        num_epochs: In all; the paper does not give its number.
        learning_rate: Peak, without `paper`.
        energy_weight: Of the energy's squared error in eV, eq. 15; forces have the rest of one.
        seed: Of weights and order.
        folder: Receives log, state, best weights and results; under runs/ where empty.
        preset: Folder to write a preset into.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    model = models.CMRET(
        num_features=num_features,
        num_layers=num_layers,
        radial_basis=radial_basis,
        attention=attention,
        variant={"attention_activation": attention_activation},
    )
    _, results = md17.train(
        model,
        molecule,
        dataset,
        data,
        (training, validation, test),
        num_validation,
        folder or f"runs/cmret_{dataset}_{molecule}_seed{seed}",
        energy_weight,
        batch_size=batch_size,
        num_epochs=num_epochs,
        learning_rate=learning_rate,
        optimizer=papers_adam if paper else None,
        seed=seed,
        resume=resume,
        verbose=verbose,
        display=md17.DISPLAY,
        preset=preset,
        recipe=cli.command(main, locals()),
        citation="Tao, Morimoto and Leoni, 2023, https://arxiv.org/abs/2308.10752",
    )
    return results


def papers_adam(num_steps: int) -> keras.optimizers.Optimizer:
    """Makes the paper's Adam for a number of steps."""
    return keras.optimizers.Adam(schedules.TriangularCycles(num_steps), epsilon=1e-8)


if __name__ == "__main__":
    cli.run(main)
