"""AlphaNet on bilayer graphene with vacancies (table 1 of the paper: 32.0 meV/Å, 1.7 meV/atom).

The paper learns from the data set `bilayer_graphene`. A file with other frames is cut at random;
frames with other settings of spin (an array `spin_polarized`) are another level and left out. The
model is kept for the binding curve and the sliding surface of recipes/studies/bilayer_graphene.py.

Run: python recipes/alphanet_graphene.py
From a file: add --data=bilayer_graphene_vasp_56.npz
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
from alphanet_formate_cu import build, train

from keras_mlff import cli, datasets
from keras_mlff.experiments import experiment

PUBLISHED = {"AlphaNet, paper": {"forces": 32.0, "energy_per_atom": 1.7}}  # meV/Å, meV/atom


def main(
    data: str = "",
    frames: str = "spin_polarized_False",
    num_validation: int = 5,
    num_test: int = 10,
    num_features: int = 128,
    num_layers: int = 3,
    num_heads: int = 16,
    cutoff: float = 5.0,
    variant: str = "smooth",
    without: tuple[str, ...] = (),
    loss: str = "mae",
    per_atom: bool = False,
    energy_weight: float = 4.0,
    force_weight: float = 100.0,
    batch_size: int = 4,
    num_epochs: int = 200,
    learning_rate: float = 5e-4,
    seed: int = 0,
    folder: str = "runs/alphanet_graphene",
    preset: str = "",
    figures: bool = True,
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains AlphaNet and reports errors per atom and per component of a force.

    Args:
        data: File with frames instead of the data set.
        frames: Split of the file to take; "all" for all.
        num_validation: Frames of the file that choose the best weights.
        num_test: Frames of the file to be judged on.
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
        batch_size: Frames per step.
        num_epochs: Of the cosine decay.
        learning_rate: Its peak.
        seed: Of the split, weights and order.
        folder: Receives log, state, best weights, results, figures and the model.
        preset: Folder to publish a preset into.
        figures: Whether to draw predictions against labels.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    if data:
        parts = experiment.random_parts(
            datasets.load(data, frames), num_validation, num_test, seed=seed
        )
    else:
        parts = experiment.load_parts("bilayer_graphene", "train", "validation", "test")
    model = build(num_features, num_layers, num_heads, cutoff, variant, without)
    results = train(
        model,
        parts,
        folder,
        loss,
        {"energy": energy_weight, "forces": force_weight},
        per_atom,
        figures,
        batch_size=batch_size,
        num_epochs=num_epochs,
        learning_rate=learning_rate,
        seed=seed,
        resume=resume,
        verbose=verbose,
        published=None if data else PUBLISHED,
        preset=preset,
        description="Two layers of graphene, with and without vacancies.",
        dataset=f"{Path(data).stem or 'bilayer_graphene'}, {frames if data else 'its own split'}",
        level_of_theory="PBE+MBD",
        recipe=cli.command(main, locals()),
    )
    model.save_to_preset(
        str(Path(folder, "model")),
        elements=[6],
        properties=["energy", "forces"],
        metrics=results,
        seed=seed,
    )
    return results


if __name__ == "__main__":
    cli.run(main)
