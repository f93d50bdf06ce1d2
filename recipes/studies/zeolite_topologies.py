"""AlphaNet on zeolites: errors of each topology (table 4) and against training size (figure 2).

One model of all topologies of a file, or one for each, by the recipe `alphanet_zeolite`; or one for
each number of structures to learn from.

Run: python recipes/studies/zeolite_topologies.py --data=si_zeo22_4120.npz
Table 4, a model for each topology: add --separate; some of them: --topologies abw sod
Figure 2: add --sizes 500 1000 2000
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import cli, datasets, models, plots
from keras_mlff.experiments import Parts, ReportSettings, join_parts, measure_errors, random_parts
from keras_mlff.experiments.study import Study
from keras_mlff.graph import count

RECIPE = "alphanet_zeolite"
# AlphaNet's own errors in table 4 of its paper: meV, meV/Å
PAPER = "AlphaNet, paper, Li-Al-Si-O at 2000 K"
PUBLISHED = {
    "abw": (71, 54),
    "bct": (73, 55),
    "bph": (41, 90),
    "can": (62, 10),
    "edi": (5.4, 59),
    "fer": (100, 18),
    "gis": (56, 3.1),
    "jbw": (18, 50),
    "lta": (90, 60),
    "ltj": (1.2, 60),
    "nat": (47, 9.9),
    "par": (6.5, 3.5),
    "phi": (16, 50),
    "sod": (9.5, 21),
    "tho": (70, 47),
    "los": (130, 46),
}


def main(
    data: str,
    topologies: tuple[str, ...] = (),
    separate: bool = False,
    sizes: tuple[int, ...] = (),
    training_share: float = 0.6,
    validation_share: float = 0.2,
    settings: tuple[str, ...] = (),
    folder: str = "runs/zeolite_topologies",
    preset: str = "",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains one model on all topologies, one on each, or one for each training size.

    Args:
        data: File with an array `topology` of numbers and `topology_names`.
        topologies: Names of those to take; all where empty.
        separate: Whether each topology has a model of its own, as in table 4.
        sizes: Numbers of training structures, one model for each; nothing else is trained then.
        training_share: Share of each topology's structures to learn from.
        validation_share: Share that chooses the best weights; the rest is the test.
        settings: Settings of all trainings, such as `training.num_epochs=10`.
        folder: Receives the trainings, `results.json` and a figure of `sizes`.
        preset: Folder to write a preset of the one model into.
        verbose: Progress, as in Keras.

    Returns:
        Test errors by topology or by size.
    """
    if preset and (separate or sizes):
        raise ValueError("A preset is one model. Received: preset with separate or sizes.")
    study = Study(folder, settings=settings, verbose=verbose)
    recipe = study.settle(RECIPE)
    shares = (training_share, validation_share)
    by_topology = split_topologies(data, topologies, *shares, recipe.training.seed)
    whole = join_parts(by_topology.values())
    if sizes:
        found = train_sizes(study, whole, sizes, recipe.training.num_epochs)
        draw_sizes(found, study.folder / "error_against_size.png")
    elif separate:
        found = {name: study.train(name, RECIPE, parts=each) for name, each in by_topology.items()}
    else:
        card = {
            "preset.dataset": f"{Path(data).stem}: {training_share:.0%} of the structures of each "
            f"topology to learn from, {validation_share:.0%} to validate"
        }
        errors = study.train("all", RECIPE, card, parts=whole, preset=preset)
        model = study.model("all")
        found = {"all": errors, **errors_by_topology(model, by_topology, recipe.report)}
    for name in PUBLISHED.keys() & found.keys():
        for label, error in zip(("energy", "forces"), PUBLISHED[name], strict=True):
            found[name][label][PAPER] = error
    study.write(found)
    return found


def split_topologies(
    data: str, topologies: tuple[str, ...], training: float, validation: float, seed: int
) -> dict[str, Parts]:
    """Loads each topology and cuts it at random."""
    if not topologies:
        with np.load(data) as file:
            topologies = tuple(file["topology_names"].astype(str).tolist())
    by_topology = {}
    for name in topologies:
        structures = datasets.load(data, f"topology_{name}")
        number = len(structures)
        num_validation = round(validation * number)
        num_test = number - round(training * number) - num_validation
        by_topology[name] = random_parts(structures, num_validation, num_test, seed=seed)
    return by_topology


def errors_by_topology(
    model: models.ForceField, by_topology: Mapping[str, Parts], report: ReportSettings
) -> dict[str, Any]:
    """Computes the test errors of each topology, all in batches of one size."""
    tests = {name: parts.test for name, parts in by_topology.items()}
    predicted = model.predict([frame for test in tests.values() for frame in test])
    num_frames = [len(test) for test in tests.values()]
    num_atoms = [sum(count(frame, "atom") for frame in test) for test in tests.values()]
    energies = np.split(predicted["energy"], np.cumsum(num_frames)[:-1])
    forces = np.split(predicted["forces"], np.cumsum(num_atoms)[:-1])
    return {
        name: measure_errors(
            model,
            test,
            ("energy", "forces"),
            report,
            predicted={"energy": energy, "forces": force},
        )
        for (name, test), energy, force in zip(tests.items(), energies, forces, strict=True)
    }


def train_sizes(
    study: Study, parts: Parts, sizes: tuple[int, ...], num_epochs: int
) -> dict[str, Any]:
    """Trains on ever larger parts of one permutation, each for as many steps."""
    if max(sizes) > len(parts.training):
        raise ValueError(
            f"There are {len(parts.training)} structures to learn from. Received: sizes={sizes}."
        )
    order = np.random.default_rng(0).permutation(len(parts.training))
    found = {}
    for size in sizes:
        learned = [parts.training[row] for row in order[:size]]
        epochs = {"training.num_epochs": max(1, round(num_epochs * max(sizes) / size))}
        found[str(size)] = study.train(
            str(size), RECIPE, epochs, parts=parts._replace(training=learned)
        )
    return found


def draw_sizes(found: Mapping[str, Any], file: Path) -> None:
    """Draws test errors against the number of training structures."""
    figure, axes = plots.subplots(1, 2)
    for place, name in zip(axes[0], ("energy_per_atom", "forces"), strict=True):
        numbers = [int(size) for size in found]
        place.plot(numbers, [found[size][name]["test_mae"] for size in found], marker="o")
        unit = next(iter(found.values()))[name]["unit"]
        place.set(
            xlabel="training structures",
            ylabel=f"MAE of {name} / {unit}",
            xscale="log",
            yscale="log",
        )
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    cli.run(main)
