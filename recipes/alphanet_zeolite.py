"""AlphaNet on zeolites, errors for each topology (table 4) and against training size (figure 2).

The paper has 16 zeolites of Li, Al, Si and O at 2000 K, 48,000 frames of each to learn from, and
reports for example 71 meV and 54 meV/Å for ABW, 9.5 meV and 21 meV/Å for SOD. Whether these
energies are those of a cell or of an atom is said in both ways. Its frames are the data set
`zeolite`; a file with other zeolites and the array `topology` goes through the same experiment.

Run: python recipes/alphanet_zeolite.py --data=si_zeo22_4120.npz --preset=zoo/alphanet/zeolite
Figure 2: add --sizes 500 1000 2000 --folder=runs/alphanet_zeolite_sizes
Table 4, a model for each topology: add --separate; some of them: --topologies ABW SOD
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from alphanet_formate_cu import DISPLAY, build, train

from keras_mlff import cli, datasets, models, plots, saving
from keras_mlff.experiments import experiment
from keras_mlff.graph import count

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
    data: str = "",
    topologies: tuple[str, ...] = (),
    separate: bool = False,
    sizes: tuple[int, ...] = (),
    training_share: float = 0.6,
    validation_share: float = 0.2,
    num_features: int = 64,
    num_layers: int = 2,
    num_heads: int = 16,
    cutoff: float = 5.0,
    variant: str = "smooth",
    without: tuple[str, ...] = (),
    loss: str = "mae",
    per_atom: bool = False,
    energy_weight: float = 4.0,
    force_weight: float = 100.0,
    batch_size: int = 4,
    num_epochs: int = 100,
    learning_rate: float = 1e-3,
    seed: int = 0,
    folder: str = "runs/alphanet_zeolite",
    preset: str = "",
    figures: bool = True,
    resume: bool = False,
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains one model on all topologies, one on each, or one for each training size.

    Args:
        data: File with an array `topology` instead of the data set.
        topologies: Of the file; all where empty.
        separate: Whether each topology has a model of its own, as in table 4.
        sizes: Numbers of training structures, one model for each; nothing else is trained then.
        training_share: Of each topology's structures.
        validation_share: Of each topology's structures; the rest is the test.
        num_features: Width.
        num_layers: Layers.
        num_heads: Heads of the phase.
        cutoff: Å.
        variant: "smooth", or "p", "v1", "v2" of the authors.
        without: Ablations: "phase", "rotation", "frame_transition".
        loss: "mae", "mse", "huber", or "l2", the length of the error of a force.
        per_atom: Whether the energy is compared per atom.
        energy_weight: Of the energy's loss.
        force_weight: Of the forces' loss.
        batch_size: Structures per step.
        num_epochs: Of the cosine decay; smaller training sizes get as many steps.
        learning_rate: Its peak.
        seed: Of the split, weights and order.
        folder: Receives log, state, best weights, results and figures.
        preset: Folder to write a preset of the one model into.
        figures: Whether to draw.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    if not data and (topologies or separate):
        raise ValueError(
            "The data set does not say which topology a frame has; a file with an array `topology` "
            f"does. Received: data='', topologies={topologies}, separate={separate}."
        )
    by_topology = load(data, topologies, training_share, validation_share, seed)
    if preset and (separate or sizes):
        raise ValueError("A preset is one model. Received: preset with separate or sizes.")

    recipe = cli.command(main, locals())

    def one(parts: experiment.Parts, folder: Path, epochs: int, publish: str = "") -> Any:
        keras.utils.set_random_seed(seed)
        model = build(num_features, num_layers, num_heads, cutoff, variant, without)
        results = train(
            model,
            parts,
            folder,
            loss,
            {"energy": energy_weight, "forces": force_weight},
            per_atom,
            figures,
            batch_size=batch_size,
            num_epochs=epochs,
            learning_rate=learning_rate,
            seed=seed,
            resume=resume and folder.exists(),
            verbose=verbose,
            preset=publish,
            description=f"Zeolites, {len(by_topology)} topologies, in hot dynamics.",
            dataset=f"{Path(data).stem or 'zeolite'}: {training_share:.0%} of the structures of "
            f"each topology to learn from, {validation_share:.0%} to validate",
            level_of_theory="PBE-D3(BJ), VASP" if "zeo22" in data else "DFT with VASP",
            recipe=recipe,
        )
        return model, results

    root = Path(folder)
    if sizes:
        found = against_size(
            experiment.join_parts(by_topology.values()), sizes, num_epochs, root, one
        )
    elif separate:
        found = {
            name: one(parts, root / name, num_epochs)[1] for name, parts in by_topology.items()
        }
    else:
        model, found = one(experiment.join_parts(by_topology.values()), root, num_epochs, preset)
        found = {"all": found, **judge_each(model, by_topology)}
    for name, (energy, forces) in PUBLISHED.items():
        if name in found:
            found[name]["energy"][PAPER] = energy
            found[name]["forces"][PAPER] = forces
    saving.write_json(Path(root, "by_size.json" if sizes else "by_topology.json"), found)
    if figures and sizes:
        draw_sizes(found, root / "error_against_size.png")
    return found


def load(
    data: str, topologies: tuple[str, ...], training: float, validation: float, seed: int
) -> dict[str, experiment.Parts]:
    """Loads each topology and cuts it at random; the data set has a split of its own."""
    if not data:
        parts = [datasets.load("zeolite", split) for split in ("train", "validation", "test")]
        return {"zeolite": experiment.Parts(*parts)}
    if not topologies:
        with np.load(data) as file:
            topologies = tuple(file["topology_names"].astype(str).tolist())
    by_topology = {}
    for name in topologies:
        structures = datasets.load(data, f"topology_{name}")
        number = len(structures)
        num_training, num_validation = round(training * number), round(validation * number)
        num_test = number - num_training - num_validation
        by_topology[name] = experiment.random_parts(structures, num_validation, num_test, -1, seed)
    return by_topology


def judge_each(
    model: models.ForceField, by_topology: Mapping[str, experiment.Parts]
) -> dict[str, Any]:
    """Computes the test errors of each topology, all in batches of one size."""
    tests = {name: parts.test for name, parts in by_topology.items()}
    predicted = model.predict([frame for test in tests.values() for frame in test])
    num_frames = [len(test) for test in tests.values()]
    num_atoms = [sum(count(frame, "atom") for frame in test) for test in tests.values()]
    energies = np.split(predicted["energy"], np.cumsum(num_frames)[:-1])
    forces = np.split(predicted["forces"], np.cumsum(num_atoms)[:-1])
    return {
        name: experiment.judge(
            model,
            test,
            ("energy", "forces"),
            DISPLAY,
            predicted={"energy": energy, "forces": force},
        )
        for (name, test), energy, force in zip(tests.items(), energies, forces, strict=True)
    }


def against_size(
    parts: experiment.Parts, sizes: tuple[int, ...], num_epochs: int, root: Path, one: Any
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
        epochs = max(1, round(num_epochs * max(sizes) / size))
        found[str(size)] = one(parts._replace(training=learned), root / str(size), epochs)[1]
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
