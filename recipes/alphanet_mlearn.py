"""AlphaNet on one element of mlearn, with stress: Li, Mo, Si, Ge, Cu or Ni.

Strained cells, vacancies, surfaces and hot dynamics of one element (Zuo et al., 2020,
https://doi.org/10.1021/acs.jpca.9b08723). The AlphaNet paper has no result for it. Stress is
compared in its nine components. Structures whose order of shear is not known, by the file's array
`shear_order_verified`, take no part; pass `--verified=` where a file has no such array. Copper and
nickel have a test split alone: take parts of it, `--training=test[:20] --test=test[20:]`.

Run: python recipes/alphanet_mlearn.py --data=mlearn_Si.npz --preset=zoo/alphanet/mlearn_si
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from alphanet_formate_cu import build, go_on, train

from keras_mlff import cli, datasets
from keras_mlff.experiments import experiment
from keras_mlff.graph import Graph

LABELS = ("energy", "forces", "stress")


def main(
    data: str,
    training: str = "train",
    test: str = "test",
    num_validation: int = 20,
    verified: str = "shear_order_verified_True",
    num_features: int = 64,
    num_layers: int = 2,
    num_heads: int = 16,
    cutoff: float = 5.0,
    variant: str = "smooth",
    without: tuple[str, ...] = (),
    zbl: bool = True,
    start: str = "",
    loss: str = "mae",
    per_atom: bool = True,
    energy_weight: float = 100.0,
    force_weight: float = 10.0,
    stress_weight: float = 100.0,
    batch_size: int = 4,
    num_epochs: int = 200,
    learning_rate: float = 1e-3,
    seed: int = 0,
    folder: str = "",
    preset: str = "",
    figures: bool = True,
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains on energies, forces and stress.

    Args:
        data: File with energy, forces and stress.
        training: Split to learn from.
        test: Split to be judged on.
        num_validation: Structures of the training split that choose the best weights.
        verified: Split of structures whose stress is trusted; all where empty.
        num_features: Width.
        num_layers: Layers.
        num_heads: Heads of the phase.
        cutoff: Å.
        variant: "smooth", or "p", "v1", "v2" of the authors.
        without: Ablations: "phase", "rotation", "frame_transition".
        zbl: Whether near atoms repel each other whatever the data say.
        start: Preset of the same sizes whose weights are gone on from; fresh ones where empty.
        loss: "mae", "mse", "huber", or "l2", the length of the error of a force.
        per_atom: Whether the energy is compared per atom.
        energy_weight: Of the energy's loss.
        force_weight: Of the forces' loss.
        stress_weight: Of the stress's loss; 0 leaves it out.
        batch_size: Structures per step.
        num_epochs: Of the cosine decay.
        learning_rate: Its peak.
        seed: Of validation, weights and order.
        folder: Receives log, state, best weights, results and figures; under runs/ where empty.
        preset: Folder to write a preset into.
        figures: Whether to draw predictions against labels.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    labels = LABELS if stress_weight else LABELS[:2]
    learned, judged = (datasets.load(data, split, labels) for split in (training, test))
    if verified and stress_weight:
        trusted = {experiment.identity(graph) for graph in datasets.load(data, verified, labels)}
        learned = [graph for graph in learned if experiment.identity(graph) in trusted]
        judged = [graph for graph in judged if experiment.identity(graph) in trusted]
    if {*map(experiment.identity, learned)} & {*map(experiment.identity, judged)}:
        raise ValueError(
            "Training and test share structures, so the test would flatter. Received: "
            f"training='{training}', test='{test}'; of a file with one split alone take parts, "
            "such as 'test[:200]' and 'test[200:]'."
        )
    parts = experiment.random_parts(learned, num_validation, 0, -1, seed)._replace(test=judged)
    symbol = _symbol(learned[0])
    model = build(num_features, num_layers, num_heads, cutoff, variant, without, zbl=zbl)
    history = go_on(model, start)
    return train(
        model,
        parts,
        folder or f"runs/alphanet_mlearn_{symbol.lower()}",
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
        description=f"{symbol}: strained cells, vacancies and hot dynamics.",
        dataset=f"mlearn, {symbol}, splits: training {training}, test {test}"
        + (f", of {verified}" if verified and stress_weight else ""),
        level_of_theory="PBE, VASP",
        recipe=cli.command(main, locals()),
        notes=history,
    )


def _symbol(graph: Graph) -> str:
    from ase.data import chemical_symbols

    numbers = np.unique(graph["atomic_numbers"])
    return "".join(chemical_symbols[number] for number in numbers)


if __name__ == "__main__":
    cli.run(main)
