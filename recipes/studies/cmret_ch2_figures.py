"""Figures 2 and 3 of the CMRET paper: the preset and its ablations beyond their training data.

Trains the ablations of figure 2 (no attention; one output block; one output block without the
residual perceptron) and of figure 3 (attention by sqrt(d), swish) for equally many epochs, unless
their folders hold them already, and draws all of them.

Run: python recipes/studies/cmret_ch2_figures.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cmret_ch2
import numpy as np

from keras_mlff import cli, datasets, models, plots, saving
from keras_mlff.experiments import training
from keras_mlff.graph import structure

ABLATIONS: dict[str, dict[str, Any]] = {
    "full model": {},
    "no attention": {"attention": "none"},
    "one output block": {"num_output_blocks": 1},
    "one block, no residual MLP": {"num_output_blocks": 1, "residual_mlp": False},
    "softmax, sqrt(d)": {"temperature_coeff": 1.0},
    "swish": {"attention_activation": "swish", "temperature_coeff": 1.0},
}


def main(num_epochs: int = 60, folder: str = "runs/cmret_ch2_ablation", seed: int = 0) -> Any:
    """Trains what is missing, then draws.

    Args:
        num_epochs: Of each ablation; the preset has 400.
        folder: Receives one folder per ablation, `figure2.png`, `figure3.png`, `errors.json`.
        seed: Of each training.
    """
    results, trained = {}, {}
    for name, arguments in ABLATIONS.items():
        run = Path(folder, name.replace(" ", "_").replace(",", ""))
        if not (run / "preset").exists():
            results[name] = cmret_ch2.main(
                fast=True,
                num_epochs=num_epochs,
                seed=seed,
                folder=str(run),
                preset=str(run / "preset"),
                resume=True,
                **arguments,
            )
        trained[name] = models.CMRET.from_preset(str(run / "preset"))
        results[name] = json.loads((run / "results.json").read_text(encoding="utf-8"))
    saving.write_json(Path(folder, "errors.json"), results)
    figure_2(trained).savefig(Path(folder, "figure2.png"), dpi=120)
    figure_3(trained).savefig(Path(folder, "figure3.png"), dpi=120)
    attention_figure(trained["full model"]).savefig(Path(folder, "attention.png"), dpi=120)
    return results


def figure_2(trained: dict[str, models.CMRET]) -> Any:
    """Draws energies against the angle, both bonds 1.1 Å, for both spin states."""
    figure, axes = plots.subplots(2, 3)
    panels = [["full model", "no attention"], ["full model", "one output block"]]
    panels.append(["full model", "one block, no residual MLP"])
    for row, spin in enumerate(cmret_ch2.SPINS):
        points = datasets.load(f"ch2/{spin}", split="scan")
        angles = np.concatenate([point["angle"] for point in points])
        reference = np.concatenate([point["energy"] for point in points])
        for column, names in enumerate(panels):
            curves = {"B3LYP/cc-pVDZ": reference}
            for name in names:
                curves[name] = trained[name].predict(points, batch_size=len(points))["energy"]
            plots.scan(axes[row, column], angles, curves, "H-C-H angle / degrees", (90, 140))
            axes[row, column].set_title(spin)
    return figure


def figure_3(trained: dict[str, models.CMRET]) -> Any:
    """Draws the error over bond length and angle; the training data lie inside the frame."""
    names = ["full model", "softmax, sqrt(d)", "swish"]
    figure, axes = plots.subplots(2, len(names))
    for row, spin in enumerate(cmret_ch2.SPINS):
        points = datasets.load(f"ch2/{spin}", split="surface")
        energies, angles, lengths = (
            np.concatenate([point[key] for point in points])
            for key in ("energy", "angle", "length")
        )
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


def attention_figure(model: models.CMRET) -> Any:
    """Draws the attention of each layer at 106 and 180 degrees, triplet."""
    figure, axes = plots.subplots(2, model.num_layers, width=3.0, height=2.6)
    for row, angle in enumerate((106.0, 180.0)):
        turned = np.deg2rad(angle)
        positions = [[0, 0, 0], [1.1, 0, 0], [1.1 * np.cos(turned), 1.1 * np.sin(turned), 0]]
        ch2 = training.with_edges([structure(positions, [6, 1, 1], spin_multiplicity=3)], model)
        inside = model.inspect(ch2[0])
        for layer in range(model.num_layers):
            matrix = inside[f"layer{layer}/attention"][0].mean(axis=0)
            plots.attention(axes[row, layer], matrix, [6, 1, 1])
            axes[row, layer].set_title(f"{angle:.0f} degrees, layer {layer + 1}")
    return figure


if __name__ == "__main__":
    cli.run(main)
