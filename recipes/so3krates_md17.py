"""So3krates on one molecule of MD17 or rMD17, 1,000 frames (table 1 of the paper).

The paper's schedule is not published for this table; its programs halve the rate every 10,000 to
50,000 steps, which `--halve` does. The default is Adam with warm-up, cosine decay and averaged
weights.

Run: python recipes/so3krates_md17.py --molecule=ethanol --preset=zoo/so3krates/md17_ethanol
From a file: python recipes/so3krates_md17.py --data=md17_ethanol.npz --training=cmret_train
    --validation=rmd17_train_01 --test=cmret_test
Revised labels: --dataset=rmd17 --data=rmd17_aspirin.npz --training=train_01 --validation=train_02
    --test=test_01
"""

from __future__ import annotations

from typing import Any

import keras
import md17

from keras_mlff import cli, models

# MAE in kcal/mol and kcal/mol/Å
PUBLISHED = {
    "aspirin": {"energy": 0.139, "forces": 0.236},
    "ethanol": {"energy": 0.052, "forces": 0.096},
    "malonaldehyde": {"energy": 0.077, "forces": 0.147},
    "naphthalene": {"energy": 0.115, "forces": 0.074},
    "salicylic": {"energy": 0.106, "forces": 0.145},
    "toluene": {"energy": 0.095, "forces": 0.073},
    "uracil": {"energy": 0.103, "forces": 0.111},
}


def main(
    molecule: str = "ethanol",
    dataset: str = "md17",
    data: str = "",
    training: str = "train[:1000]",
    validation: str = "train[1000:1200]",
    test: str = "train[1200:]",
    num_validation: int = 200,
    num_training: int = -1,
    num_features: int = 132,
    num_layers: int = 6,
    variant: str = "smooth",
    neighbor_scale: float = 8.0,
    spherical_filter: bool = True,
    degrees: tuple[int, ...] = (1, 2, 3),
    batch_size: int = 5,
    num_epochs: int = 300,
    learning_rate: float = 1e-3,
    energy_weight: float = 0.01,
    halve: int = 0,
    seed: int = 0,
    folder: str = "",
    preset: str = "",
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains So3krates and reports the errors of table 1.

    Args:
        molecule: Such as "ethanol" or "aspirin".
        dataset: "md17" (original labels) or "rmd17" (revised).
        data: File of the molecule, in kcal/mol and Å, instead of the data set.
        training: Split to learn from.
        validation: Split that chooses the best weights; frames of the other two are left out.
        test: Split to be judged on.
        num_validation: How many of them.
        num_training: Frames to learn from, drawn from that split by seed; all where -1.
        num_features: Width.
        num_layers: Layers.
        variant: "smooth", or "paper" as published.
        neighbor_scale: What the first coordinates are divided by.
        spherical_filter: Whether filters see distances between coordinates (ablation).
        degrees: Of the coordinates.
        batch_size: Frames per step.
        num_epochs: Of the cosine decay.
        learning_rate: Its peak.
        energy_weight: Of the energy's squared error in eV; forces have the rest of one.
        halve: Instead of the decay and the averages: steps after which the rate is halved.
        seed: Of weights and order.
        folder: Receives log, state, best weights and results; under runs/ where empty.
        preset: Folder to write a preset into.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    model = models.So3krates(
        num_features=num_features,
        num_layers=num_layers,
        variant=variant,
        neighbor_scale=neighbor_scale,
        degrees=degrees,
        spherical_hidden=(32,) if spherical_filter else None,
    )

    def halving(num_steps: int) -> keras.optimizers.Optimizer:
        rate = keras.optimizers.schedules.ExponentialDecay(learning_rate, halve, 0.5)
        return keras.optimizers.Adam(rate, epsilon=1e-8, global_clipnorm=1.0)

    _, results = md17.train(
        model,
        molecule,
        dataset,
        data,
        (training, validation, test),
        num_validation,
        folder or f"runs/so3krates_{dataset}_{molecule}",
        energy_weight,
        num_training,
        batch_size=batch_size,
        num_epochs=num_epochs,
        learning_rate=learning_rate,
        optimizer=halving if halve else None,
        seed=seed,
        resume=resume,
        verbose=verbose,
        display=md17.DISPLAY,
        published={
            "So3krates, paper" + (", original labels" if dataset != "md17" else ""): PUBLISHED.get(
                molecule, {}
            )
        },
        preset=preset,
        recipe=cli.command(main, locals()),
        citation="Frank, Unke and Müller, 2022, https://arxiv.org/abs/2205.14276",
    )
    return results


if __name__ == "__main__":
    cli.run(main)
