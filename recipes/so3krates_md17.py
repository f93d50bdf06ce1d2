"""So3krates on one molecule of MD17 or rMD17, 1,000 frames (table 1 of the paper).

The paper's schedule is not published for this table; its programs halve the rate of 1e-3 every
10,000 to 50,000 steps, which `--halve` does, and learn squared errors. The defaults are the best of
short trainings (docs/models/so3krates.md): absolute errors, Adam with warm-up, cosine decay and
averaged weights.

Run: python recipes/so3krates_md17.py --molecule=ethanol --preset=zoo/so3krates/md17_ethanol
From a file: python recipes/so3krates_md17.py --data=md17_ethanol.npz --training=cmret_train
    --validation=rmd17_train_01 --test=cmret_test
Revised labels: --dataset=rmd17 --data=rmd17_aspirin.npz --training=train_01 --validation=train_02
    --test=test_01
Accuracy against the number of weights (figure 1c): --sweep 1 2 3 6
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import md17
import numpy as np

from keras_mlff import cli, models, plots, saving
from keras_mlff.experiments import experiment

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
# of that table: number of weights, and force errors of the molecules above in their order
WEIGHTS: dict[str, tuple[float, tuple[float, ...]]] = {
    "NequIP": (3.0e6, (0.19, 0.09, 0.13, 0.04, 0.09, 0.05, 0.08)),
    "SpookyNet": (3.0e6, (0.258, 0.094, 0.167, 0.089, 0.180, 0.087, 0.119)),
    "GemNetQ": (2.2e6, (0.217, 0.088, 0.159, 0.051, 0.124, 0.060, 0.104)),
    "DimeNet": (1.9e6, (0.499, 0.230, 0.383, 0.215, 0.374, 0.216, 0.301)),
    "PaiNN": (6.0e5, (0.371, 0.230, 0.319, 0.083, 0.209, 0.102, 0.140)),
    "NewtonNet": (5.0e5, (0.348, 0.211, 0.323, 0.084, 0.197, 0.088, 0.149)),
    "So3krates, paper": (7.0e5, tuple(item["forces"] for item in PUBLISHED.values())),
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
    neighbor_scale: float = 4.0,
    spherical_filter: bool = True,
    degrees: tuple[int, ...] = (1, 2, 3),
    batch_size: int = 5,
    num_epochs: int = 300,
    learning_rate: float = 2e-3,
    loss: str = "mae",
    energy_weight: float = 0.01,
    halve: int = 0,
    sweep: tuple[int, ...] = (),
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
        neighbor_scale: What the first coordinates are divided by; MD17's molecules are small.
        spherical_filter: Whether filters see distances between coordinates (ablation).
        degrees: Of the coordinates.
        batch_size: Frames per step.
        num_epochs: Of the cosine decay.
        learning_rate: Its peak.
        loss: Of energies in eV and forces in eV/Å: "mae", or "mse" as in the paper.
        energy_weight: Of the energy's loss; forces have the rest of one, as in the paper.
        halve: Instead of the decay and the averages: steps after which the rate is halved.
        sweep: Instead of one training: numbers of layers, for each of which what is missing is
            trained; draws errors against the number of weights.
        seed: Of weights and order.
        folder: Receives log, state, best weights and results; under runs/ where empty.
        preset: Folder to write a preset into.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    settings = locals()
    if sweep:
        return train_sizes(settings)
    keras.utils.set_random_seed(seed)
    model = build(settings)

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
        loss=loss,
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
        recipe=cli.command(main, settings),
        citation="Frank, Unke and Müller, 2022, https://arxiv.org/abs/2205.14276",
    )
    return results


def build(settings: Mapping[str, Any]) -> models.So3krates:
    """Makes the model of the arguments of `main`."""
    names = ("num_features", "num_layers", "variant", "neighbor_scale", "degrees")
    return models.So3krates(
        **{name: settings[name] for name in names},
        spherical_hidden=(32,) if settings["spherical_filter"] else None,
    )


def train_sizes(settings: dict[str, Any]) -> dict[str, Any]:
    """Trains a model of each number of layers; returns errors and weights by that number."""
    name = "so3krates_{dataset}_{molecule}_sizes".format(**settings)
    folder = Path(settings["folder"] or f"runs/{name}")
    results = {}
    for num_layers in settings["sweep"]:
        own = settings | {
            "num_layers": num_layers,
            "sweep": (),
            "folder": str(folder / f"{num_layers}_layers"),
            "preset": "",
            "resume": True,  # what is finished is only judged again
        }
        results[str(num_layers)] = main(**own) | {"num_weights": build(own).count_params()}
        saving.write_json(folder / experiment.RESULTS, results)
    figure = size_figure(results, settings["molecule"], settings["num_epochs"])
    figure.savefig(folder / "sizes.png", dpi=120)
    return results


def size_figure(results: Mapping[str, Any], molecule: str, num_epochs: int) -> Any:
    """Draws force errors against the number of weights, beside those of table 1 (figure 1c)."""
    from matplotlib import ticker

    figure, ((axes,),) = plots.subplots(1, 1, width=7.0)
    if molecule in PUBLISHED:
        column = list(PUBLISHED).index(molecule)
        for label, (weights, errors) in WEIGHTS.items():
            axes.plot(weights, errors[column], "o", markersize=5, label=label)
    ours = [(item["num_weights"], item["forces"]["test_mae"]) for item in results.values()]
    weights, errors = np.asarray(sorted(ours)).T
    label = (
        f"So3krates, {min(results, key=int)} to {max(results, key=int)} layers, {num_epochs} epochs"
    )
    unit = md17.DISPLAY["forces"][0]
    plots.error_curve(axes, {label: (weights, errors)}, ("weights", f"forces MAE / {unit}"))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ticker.EngFormatter())
    axes.tick_params(axis="x", which="minor", labelbottom=False)  # they overlap
    axes.set_title(molecule)
    return figure


if __name__ == "__main__":
    cli.run(main)
