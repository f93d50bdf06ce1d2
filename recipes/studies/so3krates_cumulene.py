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
From a file: add --data=gnl_v0.2.npz, with their scans --scans=gnl_scans.npz
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mlff import analysis, cli, datasets, models, plots, saving
from keras_mlff.experiments import experiment
from keras_mlff.graph import Array, Graph, structure

COMPUTED = Path(__file__).parents[1] / "generate" / "cumulene_scans.npz"  # by generate_cumulene.py --num-angles=4
UNSEEN = {"11 and 12 carbons": (11, 12), "15 and 16 carbons": (15, 16)}
ANGLES = np.linspace(0.0, 180.0, 37)
DISPLAY = {"energy": ("meV", 1e-3), "forces": ("meV/Å", 1e-3)}
GNL = "GNL"  # where known energies are from, beside the computed ones
# the data set has a split for each part of the test, a file has the source's three
DATASET_SPLITS = ("train", "validation", "test+test_11_12+test_15_16")
FILE_SPLITS = ("train", "val", "test")
ENDS = {"start": "tab:red", "end": "tab:green"}


def main(
    data: str = "cumulene/gnl",
    scans: str = "",
    profile: str = "",
    reference: str = "",
    kinds: tuple[str, ...] = ("local", "nonlocal"),
    num_features: int = 132,
    num_layers: int = 4,
    max_degree: int = 1,
    cutoff: float = 2.5,
    variant: str = "smooth",
    neighbor_scale: float = 0.5,
    batch_size: int = 5,
    num_epochs: int = 500,
    learning_rate: float = 1e-3,
    loss: str = "mse",
    energy_weight: float = 0.01,
    profiles: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 9, 12),
    projected: int = 9,
    seed: int = 0,
    folder: str = "runs/so3krates_cumulene",
    preset: str = "",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains what is missing, judges it and draws.

    Args:
        data: The GNL cumulenes: the data set, or a file with the splits `train`, `val` and `test`.
        scans: Their scans, a file with the names of the source's files in `scan` and angles in
            `phi_deg`; may be left out.
        profile: A chain turned rigidly, `z`, `R`, `E` and `F`, such as C9H4 of
            https://github.com/thorben-frank/euclidean_fast_attention
            (datasets/cumulene_profile.npz); may be left out.
        reference: What recipes/generate/generate_cumulene.py writes; where empty, what it has
            written for seven angles of each chain.
        kinds: Models to train and draw: "local", "nonlocal", or with another number of layers,
            "local-8".
        num_features: Width.
        num_layers: Layers.
        max_degree: Of the coordinates, from 1 on.
        cutoff: Å.
        variant: "smooth", or "paper" as published.
        neighbor_scale: What the first coordinates of the non-local model are divided by.
        batch_size: Frames per step.
        num_epochs: Of the cosine decay.
        learning_rate: Its peak.
        loss: Of energies in eV and forces in eV/Å: "mse", as in the paper, or "mae".
        energy_weight: Of the energy's loss; forces have the rest of one.
        profiles: Numbers of carbons of the chains to turn.
        projected: Number of carbons of the chain whose coordinates are projected.
        seed: Of weights and order.
        folder: Receives a folder for each model, `results.json` and the figures.
        preset: Folder to write the non-local model into.
        verbose: As in Keras.

    Returns:
        Test errors by model and part of the test.
    """
    parts = experiment.load_parts(data, *(FILE_SPLITS if Path(data).suffix else DATASET_SPLITS))
    trained, results = {}, {}
    coordinates: dict[str, dict[str, Array]] = {}
    for kind in kinds:
        place = Path(folder, kind)
        model, fresh = (
            build(kind, num_features, num_layers, max_degree, cutoff, variant, neighbor_scale, seed)
            for _ in range(2)
        )
        experiment.run(
            model,
            parts,
            place,
            loss={"energy": loss, "forces": loss},
            loss_weights={"energy": energy_weight, "forces": 1.0 - energy_weight},
            batch_size=batch_size,
            num_epochs=num_epochs,
            learning_rate=learning_rate,
            seed=seed,
            resume=True,  # what is finished is judged again, and published where asked
            verbose=verbose,
            display=DISPLAY,
            preset=preset if kind == "nonlocal" else "",
            description="Cumulenes C3H4 to C14H4, turned and distorted; non-local corrections.",
            dataset="Guaranteed Non-Local cumulenes v0.2",
            level_of_theory="DFT in ORCA, not named in the data",
            recipe=cli.command(main, locals()),
            license="Apache-2.0",
            citation="Frank, Unke and Müller, 2022, https://arxiv.org/abs/2205.14276",
        )
        trained[kind] = model
        results[kind] = judge(model, parts.test)
        coordinates[kind] = {
            when: last_coordinates(each, projected)
            for when, each in {"before": fresh, "after": model}.items()
        }
        results[kind]["separation of the ends"] = {
            when: end_separation(values, projected) for when, values in coordinates[kind].items()
        }
    saving.write_json(Path(folder, experiment.RESULTS), results)
    figures = {
        "profiles": profile_figure(trained, profiles, scans, reference),
        "coordinates": coordinate_figure(coordinates, projected),
    }
    if profile:
        figures["rigid"] = rigid_figure(trained, profile)
    if scans:
        figures["lengths"] = length_figure(trained, scans)
    if len({model.num_layers for model in trained.values()}) > 1:
        figures["layers"] = layer_figure(trained, results, projected)
    if "nonlocal" in trained:
        figures["attention"] = attention_figure(trained["nonlocal"], projected)
    for name, figure in figures.items():
        figure.savefig(Path(folder, f"{name}.png"), dpi=120)
    return results


def build(
    kind: str,
    num_features: int,
    num_layers: int,
    max_degree: int,
    cutoff: float,
    variant: str,
    neighbor_scale: float,
    seed: int,
) -> models.So3krates:
    """Makes a model as it is before training."""
    keras.utils.set_random_seed(seed)
    reach, _, layers = kind.partition("-")
    return models.So3krates(
        num_features=num_features,
        num_layers=int(layers or num_layers),
        degrees=tuple(range(1, max_degree + 1)),
        cutoff=cutoff,
        variant=variant,
        nonlocal_={"local": False, "nonlocal": True}[reach],
        neighbor_scale=neighbor_scale if reach == "nonlocal" else None,
    )


def judge(model: models.So3krates, test: list[Graph]) -> dict[str, Any]:
    """Computes errors for chains as long as those of the training, and for others."""
    others = {number for numbers in UNSEEN.values() for number in numbers}
    groups = {"known lengths": [g for g in test if count_carbons(g) not in others]}
    for name, numbers in UNSEEN.items():
        groups[name] = [graph for graph in test if count_carbons(graph) in numbers]
    return {
        name: experiment.judge(model, graphs, ("energy", "forces"), DISPLAY)
        for name, graphs in groups.items()
        if graphs
    }


def count_carbons(graph: Graph) -> int:
    """Tells how long a chain is."""
    return int(np.sum(graph["atomic_numbers"] == 6))


def rotor(num_carbons: int, angles: Array) -> list[Graph]:
    """Makes a chain at several dihedral angles."""
    return [structure(*cumulene(num_carbons, angle)) for angle in angles]


def profile_figure(
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


def rigid_figure(trained: Mapping[str, models.So3krates], profile: str) -> Any:
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


def length_figure(trained: Mapping[str, models.So3krates], scans: str) -> Any:
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


def layer_figure(
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
    errors.set(ylabel=f"force MAE / {DISPLAY['forces'][0]}", title="known lengths")
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


def coordinate_figure(coordinates: Mapping[str, Mapping[str, Array]], carbons: int) -> Any:
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


def attention_figure(model: models.So3krates, carbons: int, angle: float = 45.0) -> Any:
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
