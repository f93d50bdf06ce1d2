"""GeomAtt on one molecule of MD17, 1,000 frames (table 1), other stream orders (table 3).

The paper trains 2,000 epochs with Adam at 1e-4, times 0.96 every 1,000 epochs, which `--paper`
does; `--paper-loss` weighs forces as eq. 17 does instead of the authors' program. The default, a
higher rate with warm-up, cosine decay and averaged weights, needs fewer epochs. As in the paper,
200 of the 1,000 frames choose the best weights.

Run: python recipes/geomatt_md17.py --molecule=benzene --preset=zoo/geomatt/md17_benzene
From a file: python recipes/geomatt_md17.py --data=md17_benzene.npz --training=cmret_train
    --test=cmret_test
"""

from __future__ import annotations

from typing import Any

import keras
import md17

from keras_mlff import cli, datasets, models, publish
from keras_mlff.experiments import experiment
from keras_mlff.plots import draw_attention

MOLECULES = (
    *("aspirin", "benzene", "ethanol", "malonaldehyde"),
    *("naphthalene", "salicylic", "toluene", "uracil"),
)
# MAE in kcal/mol and kcal/mol/Å by the orders of the streams
PUBLISHED = {
    (2, 2, 2): (
        (1.10, 0.16, 0.37, 0.42, 0.46, 0.48, 0.34, 0.46),
        (2.19, 0.60, 1.06, 1.43, 1.24, 1.42, 1.05, 1.41),
    ),
    (2, 3, 3): (
        (1.04, 0.14, 0.39, 0.55, 0.36, 0.42, 0.25, 0.28),
        (2.30, 0.46, 1.05, 1.55, 0.89, 1.33, 0.91, 1.17),
    ),
    (2, 3, 4): (
        (0.89, 0.18, 0.25, 0.32, 0.32, 0.35, 0.24, 0.27),
        (2.03, 0.41, 0.98, 1.31, 0.81, 1.17, 0.80, 0.99),
    ),
}
REFERENCE = "Frank and Chmiela, 2021, https://arxiv.org/abs/2106.02549"


def main(
    molecule: str = "aspirin",
    data: str = "",
    training: str = "train[:1000]",
    test: str = "train[1000:]",
    num_validation: int = 200,
    orders: tuple[int, ...] = (2, 3, 4),
    num_features: int = 128,
    num_layers: int = 3,
    subtract_far_value: bool = False,
    d_max: float = 5.0,
    paper: bool = False,
    paper_loss: bool = False,
    batch_size: int = 10,
    num_epochs: int = 300,
    learning_rate: float = 1e-3,
    seed: int = 0,
    folder: str = "",
    preset: str = "",
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains GeomAtt and reports the errors of table 1.

    Args:
        molecule: Such as "aspirin".
        data: File of the molecule, in kcal/mol and Å, instead of the data set md17.
        training: Split to learn from, validation included.
        test: Split to be judged on.
        num_validation: So many of the training frames, drawn by seed, choose the best weights.
        orders: Of the streams (table 3).
        num_features: Width.
        num_layers: Of each stream.
        subtract_far_value: Whether energies of far fragments add up; the paper's do not.
        d_max: Å, end of the grid.
        paper: Adam at 1e-4, times 0.96 every 1,000 epochs, for 2,000 epochs.
        paper_loss: Whether forces weigh as in eq. 17, three times the number of atoms more.
        batch_size: Frames per step.
        num_epochs: Without `paper`.
        learning_rate: Peak, without `paper`.
        seed: Of weights and order.
        folder: Receives log, state, best weights and results; under runs/ where empty.
        preset: Folder to write a preset into.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    keras.utils.set_random_seed(seed)
    parts = load(molecule, data, training, test, num_validation, seed)
    model = models.GeomAtt(
        num_features=num_features,
        num_layers=num_layers,
        orders=orders,
        subtract_far_value=subtract_far_value,
        d_max=d_max,
        cutoff=1.0,  # of no meaning for a molecule, and few edges take little memory
    )
    num_epochs = 2000 if paper else num_epochs
    published = {}
    if tuple(orders) in PUBLISHED and molecule in MOLECULES:
        column = MOLECULES.index(molecule)
        energy, forces = (values[column] for values in PUBLISHED[tuple(orders)])
        published["GeomAtt, paper"] = {"energy": energy, "forces": forces}
    results = experiment.run(
        model,
        parts,
        folder or f"runs/geomatt_md17_{molecule}_{''.join(map(str, orders))}",
        loss={"energy": "mse", "forces": "mse"},
        loss_weights={
            "energy": 0.01,
            "forces": 3.0 if paper_loss else 1.0 / len(parts.training[0]["atomic_numbers"]),
        },
        batch_size=batch_size,
        num_epochs=num_epochs,
        learning_rate=learning_rate,
        optimizer=papers_adam if paper else None,
        seed=seed,
        resume=resume,
        verbose=verbose,
        display=md17.DISPLAY,
        published=published,
        preset=preset,
        **md17.describe(molecule, "md17", {"training": training, "test": test}),
        recipe=cli.command(main, locals()),
        citation=REFERENCE,
    )
    if preset:
        shown, areas = draw_attention(model, parts.test[:50])
        text = ", ".join(
            f"{name} {mean:.2f} ± {spread:.2f}" for name, (mean, spread) in areas.items()
        )
        publish.add_figure(
            preset,
            "attention.png",
            shown,
            "Sizes of the attention coefficients of a test frame beside its distances; bonds are "
            "circled. Area under the ROC curve of the sizes against bonds, mean and standard "
            f"deviation over 50 test frames: {text}. Nearness ranks pairs by distance alone.",
        )
    return results


def papers_adam(num_steps: int) -> keras.optimizers.Optimizer:
    """Makes the paper's Adam, whose rate falls after half of the steps, 1,000 epochs."""
    rate = keras.optimizers.schedules.ExponentialDecay(1e-4, num_steps // 2, 0.96, staircase=True)
    return keras.optimizers.Adam(rate, epsilon=1e-8)


def load(
    molecule: str, data: str, training: str, test: str, num_validation: int, seed: int
) -> experiment.Parts:
    """Loads frames; those for validation are drawn from the training frames, as in the paper."""
    source, options = md17.source("md17", molecule, data)
    learned, judged = (datasets.load(source, split, **options) for split in (training, test))
    # at random, since splits of files may be in order of time
    return experiment.random_parts(learned, num_validation, 0, seed=seed)._replace(test=judged)


if __name__ == "__main__":
    cli.run(main)
