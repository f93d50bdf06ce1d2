"""What recipes on molecules of MD17 and rMD17 share: units, loading, training, the card's words."""

from __future__ import annotations

from typing import Any

from keras_mlff import models, units
from keras_mlff.datasets.tools import splits as random_splits
from keras_mlff.experiments import experiment
from keras_mlff.graph import Graph

LEVELS_OF_THEORY = {"md17": "PBE+TS", "rmd17": "PBE/def2-SVP"}
# the units of most papers
DISPLAY = {
    "energy": ("kcal/mol", units.kcal_per_mol),
    "forces": ("kcal/mol/Å", units.kcal_per_mol_per_angstrom),
}


def source(dataset: str, molecule: str, data: str) -> tuple[str, dict[str, Any]]:
    """Names the data set, or the file that stands in for it, and how it is read."""
    return (data, {"energy_unit": "kcal/mol"}) if data else (f"{dataset}/{molecule}", {})


def describe(molecule: str, dataset: str, splits: dict[str, str]) -> dict[str, str]:
    """Writes what the card says of the data."""
    labels = "original labels of MD17" if dataset == "md17" else "revised labels"
    named = ", ".join(f"{part} {split}" for part, split in splits.items())
    return {
        "description": f"{molecule.capitalize()} in vacuum near 500 K, {labels}.",
        "dataset": f"{dataset}/{molecule}, splits: {named}",
        "level_of_theory": LEVELS_OF_THEORY[dataset],
        "license": "Apache-2.0",
    }


def train(
    model: models.ForceField,
    molecule: str,
    dataset: str,
    data: str,
    splits: tuple[str, str, str],
    num_validation: int,
    folder: str,
    energy_weight: float,
    num_training: int = -1,
    seed: int = 0,
    loss: str = "mse",
    **settings: Any,
) -> tuple[experiment.Parts, dict[str, Any]]:
    """Trains on energies and forces of one molecule; settings are those of `experiment.run`.

    `num_training` and `num_validation` frames of their splits are drawn by seed, since splits may
    be in order of time; smaller numbers are part of larger ones.
    """
    place, options = source(dataset, molecule, data)
    parts = experiment.load_parts(place, *splits, **options)
    sizes = {"validation": num_validation, "training": num_training}
    for name, number in sizes.items():
        frames: list[Graph] = getattr(parts, name)
        if 0 <= number < len(frames):
            rows = random_splits.by_seed(len(frames), {name: number}, seed)[name]
            parts = parts._replace(**{name: [frames[row] for row in rows]})
    results = experiment.run(
        model,
        parts,
        folder,
        loss={"energy": loss, "forces": loss},
        loss_weights={"energy": energy_weight, "forces": 1.0 - energy_weight},
        **describe(molecule, dataset, dict(zip(experiment.Parts._fields, splits, strict=True))),
        seed=seed,
        **settings,
    )
    return parts, results
