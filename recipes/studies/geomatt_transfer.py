"""GeomAtt carried to another molecule by training the readout alone (table 2).

All but the readout is frozen, energies get the references of the new molecule, and the readout
learns for 1,000 epochs at a constant rate. The start is a preset of the recipe `geomatt_md17`. Its
attention to the new molecule, which the readout does not change, is drawn and compared with bonds.

Run: python recipes/studies/geomatt_transfer.py --preset=geomatt/md17_aspirin --molecule=benzene
From a file: add --variants file --settings file=md17_benzene.npz data.split.training=cmret_train
    data.split.test=cmret_test
"""

from __future__ import annotations

from typing import Any

from keras_mlff import cli, models, plots
from keras_mlff.experiments.data import load
from keras_mlff.experiments.study import Study

# MAE in kcal/mol and kcal/mol/Å, from one molecule to another
PUBLISHED = {
    ("aspirin", "benzene"): {"energy": 0.38, "forces": 1.45},
    ("aspirin", "toluene"): {"energy": 0.80, "forces": 2.36},
    ("benzene", "naphthalene"): {"energy": 1.16, "forces": 3.97},
    ("toluene", "benzene"): {"energy": 0.21, "forces": 0.83},
}


def main(
    preset: str = "geomatt/md17_aspirin",
    molecule: str = "benzene",
    num_epochs: int = 1000,
    variants: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    folder: str = "",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains the readout and reports the errors of table 2.

    Args:
        preset: What was trained on the first molecule.
        molecule: The second one.
        num_epochs: The paper has 1,000.
        variants: Variants of the recipe `geomatt_md17`, such as "file".
        settings: Settings of the training.
        folder: Receives the training, `results.json` and `attention.png`; under runs/ where empty.
        verbose: Progress, as in Keras.

    Returns:
        Test errors, and how well attention finds bonds, see `plots.draw_attention`.
    """
    card = models.load_preset(preset).preset
    assert card is not None
    first = card.name.removeprefix("md17_")
    study = Study(
        folder or f"runs/geomatt_transfer_{first}_{molecule}", variants, settings, verbose
    )
    num_atoms = count_atoms(study, molecule)
    changes = {
        "molecule": molecule,
        "model": {"preset": preset},
        "offsets.kind": "fit",  # the paper scales the energies of the target anew
        "training.keep": ["readouts"],
        "training.loss_weights": {"energy": 0.01, "forces": 1.0 / num_atoms},
        "training.num_epochs": num_epochs,
        "training.learning_rate": 1e-4,  # constant; the paper's
        "training.schedule": "constant",
        "training.optimizer": "Adam",
        "training.averages": False,
        "report.published_for": "",
        "report.published": {"GeomAtt, paper": PUBLISHED.get((first, molecule), {})},
    }
    results = study.train("training", "geomatt_md17", changes)
    test = load(study.settle("geomatt_md17", changes).data).parts.test
    figure, results["bond_auc"] = plots.draw_attention(study.model("training"), test[:50])
    figure.savefig(study.folder / "attention.png", dpi=100)
    study.write(results)
    return results


def count_atoms(study: Study, molecule: str) -> int:
    """Counts the atoms of a molecule, by whose number the authors' program divides force losses."""
    recipe = study.settle("geomatt_md17", {"molecule": molecule})
    return len(load(recipe.data).parts.training[0]["atomic_numbers"])


if __name__ == "__main__":
    cli.run(main)
