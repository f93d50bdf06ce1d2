"""Figures 2 and 3 of the CMRET paper: the model and its ablations beyond their training data.

Trains the ablations of figure 2 (no attention; one output block; one output block without the
residual perceptron) and of figure 3 (attention by sqrt(d), swish) for equally many epochs, by the
variant `fast` of the recipe `cmret_ch2`, and draws all of them.

Run: python recipes/studies/cmret_ch2_figures.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_mlff import cli, datasets, models, plots
from keras_mlff.experiments.study import Study
from keras_mlff.graph import Array, Graph, structure
from keras_mlff.neighbors import add_edges

SPINS = ("singlet", "triplet")
ABLATIONS: dict[str, dict[str, Any]] = {
    "full model": {},
    "no attention": {"model.attention": "none"},
    "one output block": {"model.variant": {"num_output_blocks": 1}},
    "one block, no residual MLP": {
        "model.variant": {"num_output_blocks": 1, "residual_mlp": False}
    },
    "softmax, sqrt(d)": {"model.variant": {"temperature_coeff": 1.0}},
    "swish": {"model.variant": {"attention_activation": "swish", "temperature_coeff": 1.0}},
}


def main(
    num_epochs: int = 60,
    settings: tuple[str, ...] = (),
    folder: str = "runs/cmret_ch2_figures",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains what is missing, then draws.

    Args:
        num_epochs: Epochs of each training; the preset `cmret/ch2` has 400.
        settings: Settings of all trainings, such as `model.num_features=64`.
        folder: Receives a folder for each training, the figures and `results.json`.
        verbose: Progress, as in Keras.

    Returns:
        Errors by model and spin state, see `surface_errors`.
    """
    study = Study(folder, ("fast",), settings, verbose)
    results, trained = {}, {}
    for name, ablation in ABLATIONS.items():
        place = name.replace(" ", "_").replace(",", "")
        study.train(place, "cmret_ch2", {"training.num_epochs": num_epochs, **ablation})
        trained[name] = study.model(place)
        results[name] = surface_errors(trained[name])
    study.write(results)
    figures = {
        "figure2": draw_scans(trained),
        "figure3": draw_surfaces(trained),
        "attention": draw_attention(trained["full model"]),
    }
    for name, figure in figures.items():
        figure.savefig(study.folder / f"{name}.png", dpi=120)
    return results


def surface_errors(model: models.ForceField) -> dict[str, Any]:
    """Computes errors on the test points and over the surface of figure 3, in meV and meV/Å.

    The surface has both bonds at 0.9 to 1.4 Å and angles of 90 to 180 degrees, inside and outside
    of the training data (0.95 to 1.2 Å, 90 to 140 degrees). The paper's model has 0.1 meV inside
    and 21.4 meV outside for the singlet, 42.3 meV outside for the triplet after removal of an
    offset.
    """
    results: dict[str, Any] = {}
    for name in SPINS:
        points = datasets.load(f"ch2/{name}", split="test")
        predicted = model.predict(points, batch_size=50)
        energies, forces = labels_of(points, "energy", "forces")
        results[name] = {
            "energy_mae_meV": 1e3 * float(np.abs(predicted["energy"] - energies).mean()),
            "forces_mae_meV_per_A": 1e3 * float(np.abs(predicted["forces"] - forces).mean()),
        }
        surface = datasets.load(f"ch2/{name}", split="surface")
        energies, angles, lengths = labels_of(surface, "energy", "angle", "length")
        error = np.abs(model.predict(surface, batch_size=100)["energy"] - energies)
        inside = (angles <= 140.0) & (lengths >= 0.95) & (lengths <= 1.2)
        results[name] |= {
            "surface_inside_mae_meV": 1e3 * float(error[inside].mean()),
            "surface_outside_mae_meV": 1e3 * float(error[~inside].mean()),
        }
    return results


def labels_of(points: list[Graph], *names: str) -> list[Array]:
    """Joins labels of all points, one array for each name."""
    return [np.concatenate([point[name] for point in points]) for name in names]


def draw_scans(trained: dict[str, models.CMRET]) -> Any:
    """Draws energies against the angle, both bonds 1.1 Å, for both spin states."""
    figure, axes = plots.subplots(2, 3)
    panels = [["full model", "no attention"], ["full model", "one output block"]]
    panels.append(["full model", "one block, no residual MLP"])
    for row, spin in enumerate(SPINS):
        points = datasets.load(f"ch2/{spin}", split="scan")
        angles, reference = labels_of(points, "angle", "energy")
        for column, names in enumerate(panels):
            curves = {"B3LYP/cc-pVDZ": reference}
            for name in names:
                curves[name] = trained[name].predict(points, batch_size=len(points))["energy"]
            plots.scan(axes[row, column], angles, curves, "H-C-H angle / degrees", (90, 140))
            axes[row, column].set_title(spin)
    return figure


def draw_surfaces(trained: dict[str, models.CMRET]) -> Any:
    """Draws the error over bond length and angle; the training data lie inside the frame."""
    names = ["full model", "softmax, sqrt(d)", "swish"]
    figure, axes = plots.subplots(2, len(names))
    for row, spin in enumerate(SPINS):
        points = datasets.load(f"ch2/{spin}", split="surface")
        energies, angles, lengths = labels_of(points, "energy", "angle", "length")
        x, y = np.unique(lengths), np.unique(angles)
        order = np.lexsort((lengths, angles))
        for column, name in enumerate(names):
            error = np.abs(trained[name].predict(points, batch_size=100)["energy"] - energies)
            values = 1e3 * error[order].reshape(len(y), len(x))
            axis = axes[row, column]
            labels = ("C-H length / Å", "H-C-H angle / degrees")
            plots.surface(axis, x, y, values, labels, maximum=100.0)
            axis.plot([0.95, 1.2, 1.2, 0.95, 0.95], [90, 90, 140, 140, 90], color="white", lw=1)
            axis.set_title(f"{spin}, {name}\n|error| / meV")
    return figure


def draw_attention(model: models.CMRET) -> Any:
    """Draws the attention of each layer at 106 and 180 degrees, triplet."""
    figure, axes = plots.subplots(2, model.num_layers, width=3.0, height=2.6)
    for row, angle in enumerate((106.0, 180.0)):
        turned = np.deg2rad(angle)
        positions = [[0, 0, 0], [1.1, 0, 0], [1.1 * np.cos(turned), 1.1 * np.sin(turned), 0]]
        ch2 = structure(positions, [6, 1, 1], spin_multiplicity=3)
        inside = model.inspect(add_edges(ch2, model.cutoff))
        for layer in range(model.num_layers):
            matrix = inside[f"layer{layer}/attention"][0].mean(axis=0)
            plots.attention(axes[row, layer], matrix, [6, 1, 1])
            axes[row, layer].set_title(f"{angle:.0f} degrees, layer {layer + 1}")
    return figure


if __name__ == "__main__":
    cli.run(main)
