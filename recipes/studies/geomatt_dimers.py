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
from typing import Any

import numpy as np

from keras_mlff import analysis, cli, datasets, models, plots
from keras_mlff.datasets.tools import splits
from keras_mlff.experiments import Parts
from keras_mlff.experiments.study import Study
from keras_mlff.graph import Array, Graph
from keras_mlff.md import observables

RECIPE = "geomatt_md17"
# of energies of two molecules that add up, for structures of many sizes
CHANGES = {
    "model.subtract_far_value": True,
    "training.loss_weights": {"energy": 0.01, "forces": 0.99},
    "training.batch_size": 8,
    "training.num_epochs": 100,
    "report.published_for": "",
    "report.published": {},
}
FRAMES = 8  # of each dimer
EQUILIBRIUM = 2  # which of them is at the equilibrium distance
LONGEST, SMALLEST = 2.5, 120.0  # of a hydrogen bond H...A in Å, D-H...A in degrees
POLAR = (7, 8, 9)


def main(
    data: str = "s66x8.npz",
    num_validation: int = 6,
    num_test: int = 12,
    shown: int = 16,
    settings: tuple[str, ...] = (),
    folder: str = "runs/geomatt_dimers",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains on dimers and compares coefficients between molecules with hydrogen bonds.

    Args:
        data: File of the dimers.
        num_validation: Dimers that choose the best weights.
        num_test: Dimers to be judged on.
        shown: Which dimer is drawn; 16 is the Watson-Crick pair of uracil.
        settings: Settings of the training beside those of the recipe `geomatt_md17`, such as
            `model.orders=[2,3]`; `training.seed` decides which dimers are held out too.
        folder: Receives the training, `results.json` and `dimer.png`.
        verbose: Progress, as in Keras.

    Returns:
        Test errors, and the areas of all dimers and of those that were not trained on.
    """
    study = Study(folder, settings=settings, verbose=verbose, defaults=CHANGES)
    graphs = datasets.load(data)
    groups = np.arange(len(graphs)) // FRAMES
    sizes = {"training": -1, "validation": num_validation, "test": num_test}
    rows = splits.by_group(groups, sizes, study.settle(RECIPE).training.seed)
    parts = Parts(*([graphs[row] for row in rows[name]] for name in sizes))
    errors = study.train("training", RECIPE, parts=parts)
    model = study.model("training")
    unseen = sorted({int(row) // FRAMES for row in rows["test"]})
    dimers = graphs[EQUILIBRIUM::FRAMES]
    results = {
        "errors": errors,
        "auc_all": areas(model, dimers),
        "auc_unseen": areas(model, [dimers[index] for index in unseen]),
    }
    study.write(results)
    draw_dimer(model, dimers[shown % len(dimers)]).savefig(study.folder / "dimer.png", dpi=120)
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


def draw_dimer(model: models.ForceField, dimer: Graph) -> Any:
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
