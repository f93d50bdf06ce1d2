"""GeomAtt carried to another molecule by training the readout alone (table 2).

All but the readout is frozen, energies get the references of the new molecule, and the readout
learns for 1,000 epochs at a constant rate. The start is a preset of recipes/geomatt_md17.py. Its
attention to the new molecule, which the readout does not change, is drawn and compared with bonds.

Run: python recipes/studies/geomatt_transfer.py --preset=geomatt/md17_aspirin --molecule=benzene
From a file: add --data=md17_benzene.npz --training=cmret_train --test=cmret_test
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geomatt_md17
import keras
import md17

from keras_mlff import cli, models, saving
from keras_mlff.cli.analyze import draw_attention
from keras_mlff.experiments import experiment
from keras_mlff.experiments import training as trainings

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
    data: str = "",
    training: str = "train[:1000]",
    test: str = "train[1000:]",
    num_validation: int = 200,
    batch_size: int = 10,
    num_epochs: int = 1000,
    learning_rate: float = 1e-4,
    seed: int = 0,
    folder: str = "",
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains the readout and reports the errors of table 2.

    Args:
        preset: What was trained on the first molecule.
        molecule: The second one.
        data: File of it, in kcal/mol and Å, instead of the data set md17.
        training: Split to learn from, validation included.
        test: Split to be judged on.
        num_validation: So many of the training frames, drawn by seed, choose the best weights.
        batch_size: Frames per step.
        num_epochs: The paper has 1,000.
        learning_rate: Constant; the paper's.
        seed: Of the order.
        folder: Receives log, state, best weights and results; under runs/ where empty.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    parts = geomatt_md17.load(molecule, data, training, test, num_validation, seed)
    model = models.load_preset(preset)
    first = model.preset.name.removeprefix("md17_")
    model.preset = None
    model.fit_references(parts.training)  # the paper scales the energies of the target anew
    model.freeze(keep="readouts")
    folder = folder or f"runs/geomatt_transfer_{first}_{molecule}"
    num_atoms = len(parts.training[0]["atomic_numbers"])
    trainings.train(
        model,
        trainings.with_edges(parts.training, model),
        trainings.with_edges(parts.validation, model),
        folder,
        keras.optimizers.Adam(learning_rate),
        loss={"energy": "mse", "forces": "mse"},
        loss_weights={"energy": 0.01, "forces": 1.0 / num_atoms},
        metrics={"energy": "mae", "forces": "mae"},
        batch_size=batch_size,
        num_epochs=num_epochs,
        seed=seed,
        resume=resume,
        verbose=verbose,
    )
    published = {"GeomAtt, paper": PUBLISHED.get((first, molecule), {})}
    results = experiment.judge(model, parts.test, ("energy", "forces"), md17.DISPLAY, published)
    shown, results["bond_auc"] = draw_attention(model, parts.test[:50])
    shown.savefig(Path(folder, "attention.png"), dpi=100)
    saving.write_json(Path(folder, experiment.RESULTS), results)
    return results


if __name__ == "__main__":
    cli.run(main)
