"""EGNN with and without learned tables of distances on MD17 forces (table 1 of the paper).

The paper leaves sizes of the tables, loss, optimizer, batch size and epochs open: those here are
ours. `--paper` takes the authors' network, in which all atoms exchange messages and the energy is
read from their sum; the default has a cutoff and energies of atoms.

Run: python recipes/egnn_md17.py --molecule=ethanol --preset=zoo/egnn/md17_ethanol
From a file: python recipes/egnn_md17.py --data=md17_ethanol.npz --training=rmd17_train_01
    --validation=rmd17_train_02 --test=rmd17_test_01
The rows of the table: --distance-encoding=original, mlp, posenc, smooth; --seed=0, 1, 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import keras
import md17

from keras_mlff import cli, models, units
from keras_mlff.graph import elements

MOLECULES = (
    "aspirin",
    "benzene",
    "ethanol",
    "malonaldehyde",
    "naphthalene",
    "salicylic",
    "toluene",
    "uracil",
)
# force MAE in meV/Å, 1,000 training frames; NaN where the paper's text could not be read
NAN = float("nan")
PUBLISHED = {
    "DimeNet": (21.6, NAN, 10.0, 16.6, 9.3, 16.2, 9.4, 13.1),
    "NequIP": (15.1, 2.3, 9.0, 14.6, 4.2, 10.3, 4.4, 7.5),
    "PaiNN": (14.7, NAN, 9.7, 14.9, 3.3, 8.5, 4.1, 6.0),
    "Transformer original": (49.7, 36.8, 51.0, 53.0, 50.4, 53.2, 47.6, 54.5),
    "Transformer posenc": (24.6, 3.3, 13.8, 24.2, 11.6, 22.5, 15.2, 17.7),
    "Transformer smooth": (12.3, 1.9, 6.2, 13.8, 5.4, 8.3, 5.7, 10.1),
    "EGNN original": (51.9, 36.9, 50.1, 53.5, 50.5, 53.3, 47.6, 54.6),
    "EGNN posenc": (9.3, 1.5, 4.9, 8.8, 4.9, 7.8, 7.7, 7.4),
    "EGNN smooth": (6.7, 1.3, 3.5, 7.0, NAN, NAN, 4.1, 6.2),
}
DISPLAY = {"energy": ("meV", units.meV), "forces": ("meV/Å", units.meV)}
Encoding = Literal["original", "mlp", "posenc", "smooth"]
Start = Literal["normal", "gaussian_rbf"]


def main(
    molecule: str = "ethanol",
    dataset: str = "md17",
    data: str = "",
    training: str = "train[:1000]",
    validation: str = "train[1000:1200]",
    test: str = "train[1200:2200]",
    num_validation: int = 200,
    distance_encoding: Encoding = "smooth",
    num_knots: int = 36,
    encoding_size: int = 32,
    smoothness: float = 0.01,
    initial: Start = "normal",
    equivariant: bool = False,
    paper: bool = False,
    num_features: int = 128,
    num_layers: int = 7,
    batch_size: int = 5,
    num_epochs: int = 500,
    learning_rate: float = 1e-3,
    energy_weight: float = 0.01,
    seed: int = 0,
    folder: str = "",
    preset: str = "",
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains EGNN on one molecule and reports the test errors beside those of table 1.

    Args:
        molecule: Such as "ethanol" or "aspirin".
        dataset: "md17" (original labels) or "rmd17" (revised).
        data: File of the molecule, in kcal/mol and Å, instead of the data set.
        training: Split to learn from.
        validation: Split that chooses the best weights; frames of the other two are left out.
        test: Split to be judged on.
        num_validation: How many of the validation frames.
        distance_encoding: What stands for a distance: its square, a perceptron, a learned table, or
            that with the smoothness loss.
        num_knots: Of the tables.
        encoding_size: Numbers that a distance becomes.
        smoothness: Factor of the smoothness loss.
        initial: What tables start from: random numbers, or Gaussians of the distance.
        equivariant: Whether positions move from layer to layer.
        paper: The authors' network: all atoms exchange messages, the energy is read from their sum,
            elements are coded, and perceptrons of distances have a ReLU, whose forces jump.
        num_features: Width.
        num_layers: Layers.
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
    model = models.EGNN(
        num_features=num_features,
        num_layers=num_layers,
        distance_encoding=encoding(
            distance_encoding, num_knots, encoding_size, smoothness, initial, paper
        ),
        equivariant=equivariant,
        all_pairs=paper,
        readout="graph" if paper else "atom",
        variant="authors_qm9" if paper else "default",
    )
    flags = {"equivariant": equivariant, "paper": paper}
    kind = [distance_encoding, *(name for name, on in flags.items() if on)]
    return train(
        model,
        molecule,
        dataset,
        data,
        (training, validation, test),
        num_validation,
        distance_encoding,
        folder or "_".join(["runs/egnn", dataset, molecule, *kind, f"seed{seed}"]),
        energy_weight,
        preset,
        recipe=cli.command(main, locals()),
        citation="Satorras et al., 2021, https://arxiv.org/abs/2102.09844; "
        "distance encodings: https://arxiv.org/abs/2211.12773",
        batch_size=batch_size,
        num_epochs=num_epochs,
        learning_rate=learning_rate,
        seed=seed,
        resume=resume,
        verbose=verbose,
    )


def encoding(
    kind: str,
    num_knots: int,
    size: int,
    smoothness: float = 0.01,
    initial: str = "normal",
    paper: bool = False,
) -> Any:
    """Writes the four variants of the paper as what models take."""
    if kind == "original":
        return None
    if kind == "mlp":
        return {"kind": "mlp", "num_features": size, "activation": "relu" if paper else "silu"}
    table = {"kind": "posenc", "num_knots": num_knots, "num_features": size, "initial": initial}
    return {**table, "smoothness": smoothness} if kind == "smooth" else table


def train(
    model: models.ForceField,
    molecule: str,
    dataset: str,
    data: str,
    splits: tuple[str, str, str],
    num_validation: int,
    variant: str,
    folder: str,
    energy_weight: float,
    preset: str = "",
    **settings: Any,
) -> dict[str, Any]:
    """Trains any architecture on forces as table 1 has it; other recipes call it."""
    parts, results = md17.train(
        model,
        molecule,
        dataset,
        data,
        splits,
        num_validation,
        folder,
        energy_weight,
        display=DISPLAY,
        published=published(type(model).__name__, molecule, variant) if dataset == "md17" else None,
        preset=preset,
        **settings,
    )
    model.save_to_preset(  # what figures are drawn from
        str(Path(folder, "model")),
        elements=elements(parts.training),
        properties=["energy", "forces"],
        metrics=results,
        seed=settings["seed"],
    )
    return results


def published(architecture: str, molecule: str, variant: str) -> dict[str, dict[str, float]]:
    """Picks the paper's errors of this variant, and those of other work, where there are any."""
    if molecule not in MOLECULES:
        return {}
    place = MOLECULES.index(molecule)
    names = {"EGNN": "EGNN", "DistanceTransformer": "Transformer"}
    row = f"{names.get(architecture, architecture)} {variant}"
    chosen = {f"{row}, paper": row, "NequIP": "NequIP", "PaiNN": "PaiNN"}
    values = {label: PUBLISHED[name][place] for label, name in chosen.items() if name in PUBLISHED}
    return {label: {"forces": value} for label, value in values.items() if value == value}


if __name__ == "__main__":
    cli.run(main)
