"""So3krates on cumulenes with and without non-local corrections (figures 2, 3 and 8 of the paper).

Turning one end of the chain changes the energy, and no atom sees both ends: within 2.5 Å and four
layers, coordinates of degree 1 carry no orientation from one end to the other, so the local model
is flat. The non-local one is not bound to be.

The paper's data are not public. Trained here on the GNL cumulenes v0.2 (200 frames of C3H4 to
C10H4, C13H4 and C14H4; 11, 12, 15 and 16 carbons are for testing alone; Batatia et al., 2023,
https://arxiv.org/abs/2310.10434, from
https://github.com/LarsSchaaf/Guaranteed-Non-Local-Molecular-Dataset), and drawn beside their scans
and those of recipes/generate/generate_cumulene.py, which are of another level of theory.

More layers reach further, but pass on no orientation: `--kinds local local-2 local-8 nonlocal`
trains the local model with 2 and 8 layers too and draws what that changes (ablation A.11, of whose
figures nothing is known here).

Run: python recipes/studies/so3krates_cumulene.py --preset=zoo/so3krates/cumulene
From a file: add --variants file --settings file=gnl_v0.2.npz, with their scans
    --scans=gnl_scans.npz
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import analysis, cli, datasets, models, plots
from keras_mlff.bench.systems import cumulene
from keras_mlff.experiments import Recipe, measure_errors
from keras_mlff.experiments.data import load
from keras_mlff.experiments.study import Study
from keras_mlff.graph import Array, Graph, structure

RECIPE = "so3krates_cumulene"
# by generate_cumulene.py --num-angles=4
COMPUTED = Path(__file__).parents[1] / "generate" / "cumulene_scans.npz"
UNSEEN = {"11 and 12 carbons": (11, 12), "15 and 16 carbons": (15, 16)}
ANGLES = np.linspace(0.0, 180.0, 37)
GNL = "GNL"  # where known energies are from, beside the computed ones
ENDS = {"start": "tab:red", "end": "tab:green"}


def main(
    scans: str = "",
    profile: str = "",
    reference: str = "",
    kinds: tuple[str, ...] = ("local", "nonlocal"),
    profiles: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 9, 12),
    projected: int = 9,
    variants: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    folder: str = "runs/so3krates_cumulene",
    preset: str = "",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains what is missing by the recipe `so3krates_cumulene`, measures errors and draws.

    Args:
        scans: Scans of the GNL cumulenes, a file with the names of the source's files in `scan` and
            angles in `phi_deg`; may be left out.
        profile: A chain turned rigidly, `z`, `R`, `E` and `F`, such as C9H4 of
            https://github.com/thorben-frank/euclidean_fast_attention
            (datasets/cumulene_profile.npz); may be left out.
        reference: What recipes/generate/generate_cumulene.py writes; where empty, what it has
            written for seven angles of each chain.
        kinds: Models to train and draw: "local", "nonlocal", or with another number of layers,
            "local-8".
        profiles: Numbers of carbons of the chains to turn.
        projected: Number of carbons of the chain whose coordinates are projected.
        variants: Variants of the recipe for all trainings, such as "file".
        settings: Settings of all trainings, such as `training.num_epochs=100`.
        folder: Receives a folder for each model, `results.json` and the figures.
        preset: Folder to write a preset of the non-local model into.
        verbose: Progress, as in Keras.

    Returns:
        Test errors by model and part of the test.
    """
    study = Study(folder, variants, settings, verbose)
    trained, results = {}, {}
    coordinates: dict[str, dict[str, Array]] = {}
    for kind in kinds:
        reach, _, layers = kind.partition("-")
        chosen = {"model.num_layers": int(layers)} if layers else {}
        changes = {"local": ["local"], "nonlocal": []}[reach]
        published = preset if kind == "nonlocal" else ""
        study.train(kind, RECIPE, chosen, changes, preset=published)
        fresh = study.untrained(RECIPE, chosen, changes)
        coordinates[kind] = {"before": last_coordinates(fresh, projected)}
    recipe = study.settle(RECIPE)
    test = load(recipe.data, ("energy", "forces"), recipe.training.seed).parts.test
    for kind in kinds:
        trained[kind] = study.model(kind)
        results[kind] = errors_by_length(trained[kind], test, recipe)
        coordinates[kind]["after"] = last_coordinates(trained[kind], projected)
        results[kind]["separation of the ends"] = {
            when: end_separation(values, projected) for when, values in coordinates[kind].items()
        }
    study.write(results)
    figures = {
        "profiles": draw_profiles(trained, profiles, scans, reference),
        "coordinates": draw_coordinates(coordinates, projected),
    }
    if profile:
        figures["rigid"] = draw_rigid(trained, profile)
    if scans:
        figures["lengths"] = draw_lengths(trained, scans)
    if len({model.num_layers for model in trained.values()}) > 1:
        figures["layers"] = draw_layers(trained, results, projected)
    if "nonlocal" in trained:
        figures["attention"] = draw_attention(trained["nonlocal"], projected)
    for name, figure in figures.items():
        figure.savefig(study.folder / f"{name}.png", dpi=120)
    return results


def errors_by_length(model: models.So3krates, test: list[Graph], recipe: Recipe) -> dict[str, Any]:
    """Computes errors for chains as long as those of the training, and for others."""
    others = {number for numbers in UNSEEN.values() for number in numbers}
    groups = {"known lengths": [g for g in test if count_carbons(g) not in others]}
    for name, numbers in UNSEEN.items():
        groups[name] = [graph for graph in test if count_carbons(graph) in numbers]
    return {
        name: measure_errors(model, graphs, ("energy", "forces"), recipe.report)
        for name, graphs in groups.items()
        if graphs
    }


def count_carbons(graph: Graph) -> int:
    """Tells how long a chain is."""
    return int(np.sum(graph["atomic_numbers"] == 6))


def rotor(num_carbons: int, angles: Array) -> list[Graph]:
    """Makes a chain at several dihedral angles."""
    return [structure(*cumulene(num_carbons, angle)) for angle in angles]


def draw_profiles(
    trained: Mapping[str, models.So3krates], profiles: tuple[int, ...], scans: str, reference: str
) -> Any:
    """Draws energies against the dihedral angle, each relative to its own minimum (figure 2a)."""
    columns = min(4, len(profiles))
    figure, grid = plots.subplots(-(-len(profiles) // columns), columns, width=3.2, height=2.8)
    panels, handles = grid.ravel(), {}
    for panel, carbons in zip(panels, profiles, strict=False):
        found = references(carbons, scans, reference)
        for label, (angles, energies) in found.items():
            color = "0.55" if label == GNL else "black"
            style = {"color": color, "markersize": 3, "label": label}
            panel.plot(angles, energies - energies.min(), "o", **style)
        for kind, model in trained.items():
            energies = model.predict(rotor(carbons, ANGLES), batch_size=len(ANGLES))["energy"]
            panel.plot(ANGLES, energies - energies.min(), linewidth=1.3, label=kind)
        panel.set(title=f"C{carbons}H4", xlabel="dihedral / degrees", ylabel="energy / eV")
        handles |= {line.get_label(): line for line in panel.lines}
    # the curves need the room
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, frameon=False)
    for panel in panels[len(profiles) :]:
        panel.set_axis_off()
    return figure


def references(carbons: int, scans: str, reference: str) -> dict[str, tuple[Array, Array]]:
    """Finds what is known of a chain: angles and energies by where they are from."""
    found = {}
    with np.load(reference or COMPUTED) as file:
        if f"split_C{carbons}H4" in file:
            rows = file[f"split_C{carbons}H4"]
            theory = json.loads(str(file["metadata"]))["theory"]
            label = f"{theory['functional']}/{theory['basis']}, unrestricted"
            found[label] = (file["dihedral"][rows], file["energy"][rows])
    if scans:
        with np.load(scans) as file:
            rows = np.flatnonzero(file["scan"] == f"cumulene-angle-scan-n{carbons}")
            if len(rows):
                found[GNL] = (file["phi_deg"][rows], file["E"][rows])
    return found


def draw_rigid(trained: Mapping[str, models.So3krates], profile: str) -> Any:
    """Draws energies of the structures of a real scan, relative to the lowest (figure 2a)."""
    structures = datasets.load(profile)
    known = np.asarray([float(graph["energy"][0]) for graph in structures])
    angles = np.asarray([dihedral(graph) for graph in structures])
    figure, ((axes,),) = plots.subplots(1, 1, width=5.0)
    axes.plot(angles, known - known.min(), "k.", markersize=3, label="data")
    for kind, model in trained.items():
        energies = model.predict(structures)["energy"]
        axes.plot(angles, energies - energies.min(), linewidth=1.3, label=kind)
    carbons = count_carbons(structures[0])
    axes.set(xlabel="dihedral / degrees", ylabel="energy / eV", title=f"C{carbons}H4")
    axes.legend(frameon=False)
    return figure


def dihedral(graph: Graph) -> float:
    """Measures the angle between the planes of the two ends of a chain, 0 to 90 degrees."""
    carbons = graph["positions"][graph["atomic_numbers"] == 6]
    hydrogens = graph["positions"][graph["atomic_numbers"] == 1]
    spread = np.linalg.norm(carbons[:, None] - carbons, axis=2)
    ends = np.unravel_index(np.argmax(spread), spread.shape)
    axis = carbons[ends[1]] - carbons[ends[0]]
    axis = axis / np.linalg.norm(axis)
    lines = []
    for end in ends:
        near = np.argsort(np.linalg.norm(hydrogens - carbons[end], axis=1))[:2]
        line = hydrogens[near[1]] - hydrogens[near[0]]
        line = line - (line @ axis) * axis
        lines.append(line / np.linalg.norm(line))
    return float(np.degrees(np.arccos(np.clip(abs(lines[0] @ lines[1]), 0.0, 1.0))))


def draw_lengths(trained: Mapping[str, models.So3krates], scans: str) -> Any:
    """Draws what turning from 5 to 85 degrees costs, against the length of the chain."""
    structures = datasets.load(scans)
    with np.load(scans) as file:
        names = file["scan"]
    low, high = (
        [structures[row] for row in np.flatnonzero(names == f"cumulene-length-scan-{angle}deg-30")]
        for angle in (5, 85)
    )
    lengths = [count_carbons(graph) for graph in low]
    figure, ((axes,),) = plots.subplots(1, 1, width=5.0)
    differences = [float(b["energy"][0] - a["energy"][0]) for a, b in zip(low, high, strict=True)]
    axes.plot(lengths, differences, "ko", markersize=3, label="GNL")
    for kind, model in trained.items():
        energies = [model.predict(part, batch_size=10)["energy"] for part in (low, high)]
        axes.plot(lengths, energies[1] - energies[0], linewidth=1.3, label=kind)
    axes.set(xlabel="number of carbons", ylabel="E(85°) - E(5°) / eV")
    axes.legend(frameon=False)
    return figure


def draw_layers(
    trained: Mapping[str, models.So3krates], results: Mapping[str, Any], carbons: int
) -> Any:
    """Draws errors, and what turning a chain costs, against layers times cutoff (A.11)."""
    figure, ((errors, turns),) = plots.subplots(1, 2)
    (molecule,) = rotor(carbons, ANGLES[:1])
    length = float(np.ptp(molecule["positions"][:, 2]))
    for reach in ("local", "nonlocal"):
        kinds = [kind for kind in trained if kind.partition("-")[0] == reach]
        kinds.sort(key=lambda kind: trained[kind].num_layers)
        reached = [trained[kind].num_layers * trained[kind].cutoff for kind in kinds]
        costs = []
        for kind in kinds:
            turned = rotor(carbons, ANGLES)
            energies = trained[kind].predict(turned, batch_size=len(ANGLES))["energy"]
            costs.append(np.ptp(energies))
        known = [results[kind]["known lengths"]["forces"]["test_mae"] for kind in kinds]
        errors.plot(reached, known, marker="o", markersize=4, label=reach)
        turns.plot(reached, costs, marker="o", markersize=4, label=reach)
    errors.set(ylabel="force MAE / meV/Å", title="known lengths")
    turns.set(ylabel="energy of turning / eV", title=f"C{carbons}H4")
    for axes in (errors, turns):
        axes.axvline(length, color="0.7", linewidth=1.0, label=f"length of C{carbons}H4")
        axes.set(xlabel="layers × cutoff / Å")
        axes.legend(frameon=False)
    return figure


def last_coordinates(model: models.So3krates, carbons: int, angle: float = 45.0) -> Array:
    """Finds the coordinates of all atoms after the last layer."""
    (molecule,) = rotor(carbons, np.asarray([angle]))
    return model.inspect(molecule)[f"layer{model.num_layers - 1}/coordinates"]


def draw_coordinates(coordinates: Mapping[str, Mapping[str, Array]], carbons: int) -> Any:
    """Projects the last coordinates of all atoms, before and after training (figure 3)."""
    groups = {
        "carbon": (range(carbons), "0.6"),
        **{
            f"hydrogen, {end}": (range(carbons + 2 * i, carbons + 2 * i + 2), color)
            for i, (end, color) in enumerate(ENDS.items())
        },
    }
    figure, grid = plots.subplots(len(coordinates), 2)
    for row, (kind, stages) in zip(grid, coordinates.items(), strict=True):
        for axes, (when, values) in zip(row, stages.items(), strict=True):
            plots.projected_atoms(axes, analysis.principal_components(values), groups)
            axes.set_title(f"{kind}, {when} training")
    grid[0, -1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def end_separation(coordinates: Array, carbons: int) -> float:
    """Measures how near hydrogens of opposite ends come in coordinates, over those of one end."""
    ends = coordinates[carbons:]
    distances = np.linalg.norm(ends[:, None] - ends, axis=-1)  # (4, 4)
    return float(distances[:2, 2:].min() / max(distances[0, 1], distances[2, 3]))


def draw_attention(model: models.So3krates, carbons: int, angle: float = 45.0) -> Any:
    """Draws the size of the non-local attention of each layer, degrees averaged (figure 8)."""
    (molecule,) = rotor(carbons, np.asarray([angle]))
    inside = model.inspect(molecule)
    figure, grid = plots.subplots(1, model.num_layers, width=3.6, height=3.0)
    for layer, axes in enumerate(grid[0]):
        matrix = np.abs(inside[f"layer{layer}/nonlocals/attention"][0]).mean(axis=0)
        plots.attention(axes, matrix, molecule["atomic_numbers"].tolist())
        axes.set_title(f"layer {layer + 1}")
    return figure


if __name__ == "__main__":
    cli.run(main)
