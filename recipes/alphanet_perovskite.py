"""AlphaNet on the hybrid perovskites FAPbI3 and MAPbI3, with stress.

Frames of these crystals came with an early state of the authors' program; the paper has no result
for them. Which level of theory they are is not stated there.

Run: python recipes/alphanet_perovskite.py --data mapbi3_48.npz --preset=zoo/alphanet/mapbi3
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
from alphanet_formate_cu import build, train

from keras_mlff import cli, datasets
from keras_mlff.experiments import experiment

LABELS = ("energy", "forces", "stress")


def main(
    data: tuple[str, ...],
    num_training: int = -1,
    num_validation: int = 100,
    num_test: int = 200,
    num_features: int = 64,
    num_layers: int = 2,
    num_heads: int = 16,
    cutoff: float = 5.0,
    variant: str = "smooth",
    without: tuple[str, ...] = (),
    loss: str = "mae",
    per_atom: bool = True,
    energy_weight: float = 100.0,
    force_weight: float = 10.0,
    stress_weight: float = 100.0,
    batch_size: int = 4,
    num_epochs: int = 100,
    learning_rate: float = 1e-3,
    seed: int = 0,
    folder: str = "",
    preset: str = "",
    figures: bool = True,
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains one model on the frames of one or several files.

    Args:
        data: Files with energy, forces and stress, such as mapbi3_48.npz.
        num_training: Frames of each file to learn from; -1 takes the rest.
        num_validation: Frames of each file that choose the best weights.
        num_test: Frames of each file to be judged on.
        num_features: Width.
        num_layers: Layers.
        num_heads: Heads of the phase.
        cutoff: Å.
        variant: "smooth", or "p", "v1", "v2" of the authors.
        without: Ablations: "phase", "rotation", "frame_transition".
        loss: "mae", "mse", "huber", or "l2", the length of the error of a force.
        per_atom: Whether the energy is compared per atom.
        energy_weight: Of the energy's loss.
        force_weight: Of the forces' loss.
        stress_weight: Of the stress's loss; 0 leaves it out.
        batch_size: Frames per step.
        num_epochs: Of the cosine decay.
        learning_rate: Its peak.
        seed: Of the split, weights and order.
        folder: Receives log, state, best weights, results and figures; under runs/ where empty.
        preset: Folder to write a preset into.
        figures: Whether to draw predictions against labels.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    labels = LABELS if stress_weight else LABELS[:2]
    parts = experiment.join_parts(
        experiment.random_parts(
            datasets.load(file, labels=labels), num_validation, num_test, num_training, seed
        )
        for file in data
    )
    names = ", ".join(Path(file).stem for file in data)
    return train(
        build(num_features, num_layers, num_heads, cutoff, variant, without),
        parts,
        folder or f"runs/alphanet_{'_'.join(Path(file).stem for file in data)}",
        loss,
        {"energy": energy_weight, "forces": force_weight, "stress": stress_weight},
        per_atom,
        figures,
        batch_size=batch_size,
        num_epochs=num_epochs,
        learning_rate=learning_rate,
        seed=seed,
        resume=resume,
        verbose=verbose,
        preset=preset,
        description=f"Hybrid halide perovskites in hot dynamics ({names}).",
        dataset=f"frames of {names}, a random split by seed {seed}",
        level_of_theory="not stated at the source",
        license="of the data: none stated, in a repository under GPL-3.0",
        recipe=cli.command(main, locals()),
    )


if __name__ == "__main__":
    cli.run(main)
