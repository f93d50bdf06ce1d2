"""Hydrogen bonds in the attention of GeomAtt (figure 6 of the paper), on the dimers of S66x8.

The paper looks at dimers of cytosine-guanine pairs, whose data have to be asked for. The 66 dimers
of S66x8, each at eight distances, stand in: 24 are held by hydrogen bonds, a base pair of uracil
among them. Some dimers are not trained on. The question is whether coefficients between two
molecules are larger where there is a hydrogen bond; how near the atoms are is the answer to compare
with, since coefficients come from distances alone.

Run: python recipes/studies/geomatt_dimers.py --data=s66x8.npz
The file has the frames of each dimer one after the other, by rising distance (COMP6's are such).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import md17
import numpy as np

from keras_mlff import analysis, cli, datasets, models, plots, saving
from keras_mlff.datasets.tools import splits
from keras_mlff.experiments import experiment
from keras_mlff.graph import Array, Graph
from keras_mlff.md import observables

FRAMES = 8  # of each dimer
EQUILIBRIUM = 2  # which of them is at the equilibrium distance
LONGEST, SMALLEST = 2.5, 120.0  # of a hydrogen bond H...A in Å, D-H...A in degrees
POLAR = (7, 8, 9)


def main(
    data: str = "s66x8.npz",
    num_validation: int = 6,
    num_test: int = 12,
    orders: tuple[int, ...] = (2, 3, 4),
    num_features: int = 128,
    num_layers: int = 3,
    subtract_far_value: bool = True,
    shown: int = 16,
    batch_size: int = 8,
    num_epochs: int = 100,
    learning_rate: float = 1e-3,
    seed: int = 0,
    folder: str = "runs/geomatt_dimers",
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains on dimers and compares coefficients between molecules with hydrogen bonds.

    Args:
        data: File of the dimers.
        num_validation: Dimers that choose the best weights.
        num_test: Dimers to be judged on.
        orders: Of the streams.
        num_features: Width.
        num_layers: Of each stream.
        subtract_far_value: Whether energies of far molecules add up.
        shown: Which dimer is drawn; 16 is the Watson-Crick pair of uracil.
        batch_size: Structures per step.
        num_epochs: Of the cosine decay.
        learning_rate: Its peak.
        seed: Of the split, weights and order.
        folder: Receives log, state, best weights, results and figure.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    graphs = datasets.load(data)
    groups = np.arange(len(graphs)) // FRAMES
    sizes = {"training": -1, "validation": num_validation, "test": num_test}
    rows = splits.by_group(groups, sizes, seed)
    parts = experiment.Parts(*([graphs[row] for row in rows[name]] for name in sizes))
    model = models.GeomAtt(
        num_features=num_features,
        num_layers=num_layers,
        orders=orders,
        subtract_far_value=subtract_far_value,
        cutoff=1.0,  # of no meaning for molecules, and few edges take little memory
    )
    errors = experiment.run(
        model,
        parts,
        folder,
        loss={"energy": "mse", "forces": "mse"},
        loss_weights={"energy": 0.01, "forces": 0.99},
        batch_size=batch_size,
        num_epochs=num_epochs,
        learning_rate=learning_rate,
        seed=seed,
        resume=resume,
        verbose=verbose,
        display=md17.DISPLAY,
    )
    unseen = sorted({int(row) // FRAMES for row in rows["test"]})
    dimers = graphs[EQUILIBRIUM::FRAMES]
    results = {
        "errors": errors,
        "auc_all": areas(model, dimers),
        "auc_unseen": areas(model, [dimers[index] for index in unseen]),
    }
    saving.write_json(Path(folder, experiment.RESULTS), results)
    figure(model, dimers[shown % len(dimers)]).savefig(Path(folder, "dimer.png"), dpi=120)
    return results


def areas(model: models.ForceField, dimers: Sequence[Graph]) -> dict[str, float]:
    """Computes, for each layer and for nearness, the mean area under the ROC curve.

    The pairs are those of atoms of two molecules; positive are hydrogens and acceptors of hydrogen
    bonds. Dimers without hydrogen bonds are left out.
    """
    found: dict[str, list[float]] = {}
    for dimer in dimers:
        apart, bonded = contacts(dimer["positions"], dimer["atomic_numbers"])
        if not bonded.any():
            continue
        lengths = np.linalg.norm(dimer["positions"][:, None] - dimer["positions"], axis=2)
        sizes = {"nearness": -lengths}
        for name, coefficients in model.attention(dimer).items():
            sizes[name] = analysis.attention_sizes(coefficients)
        for name, size in sizes.items():
            found.setdefault(name, []).append(analysis.roc_auc(size[apart], bonded[apart]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def contacts(positions: Array, numbers: Array) -> tuple[Array, Array]:
    """Tells which pairs are of two molecules, and which are hydrogen bonds: two `(n, n)` bool."""
    count = len(numbers)
    covalent = np.zeros((count, count), np.bool_)
    first, second = observables.bonds(positions, numbers).T
    covalent[first, second] = covalent[second, first] = True
    reached = covalent | np.eye(count, dtype=np.bool_)
    for _ in range(int(np.ceil(np.log2(count)))):
        reached = reached @ reached
    lengths = np.linalg.norm(positions[:, None] - positions, axis=2)
    polar = np.isin(numbers, POLAR)
    bonded = np.zeros((count, count), np.bool_)
    for hydrogen in np.flatnonzero(numbers == 1):
        for donor in np.flatnonzero(covalent[hydrogen] & polar):
            near = polar & ~reached[hydrogen] & (lengths[hydrogen] < LONGEST)
            for acceptor in np.flatnonzero(near):
                angle = observables.angles(positions[None], [[donor, hydrogen, acceptor]])
                if angle[0, 0] > SMALLEST:
                    bonded[hydrogen, acceptor] = bonded[acceptor, hydrogen] = True
    return ~reached, bonded


def figure(model: models.ForceField, dimer: Graph) -> Any:
    """Draws sizes of coefficients between the two molecules; hydrogen bonds are circled."""
    positions, numbers = dimer["positions"], dimer["atomic_numbers"]
    apart, bonded = contacts(positions, numbers)
    # the other molecule's pairs alone: those within are a hundred times as large
    seen = {
        name: np.where(apart, analysis.attention_sizes(coefficients), np.nan)
        for name, coefficients in model.attention(dimer).items()
    }
    lengths = np.linalg.norm(positions[:, None] - positions, axis=2)
    marked = np.argwhere(np.triu(bonded))
    return plots.attention_figure(seen, lengths, marked, numbers.tolist(), "hydrogen bonds")


if __name__ == "__main__":
    cli.run(main)
