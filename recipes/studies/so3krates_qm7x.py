"""So3krates on molecules of QM7-X: force errors against the degree of the coordinates (figure 4).

The paper takes 250 molecules with 80 training frames each, and 25 others that the models have never
seen. The sample at hand has ten frames of each of 250 molecules. So here a joint model learns from
seven frames of each of 225 molecules (1,575 instead of 20,000), is chosen by one and judged by two;
25 molecules are held out altogether, such whose list of atoms occurs once, and 24 of them judged:
only one molecule has chlorine. Individual models learn from seven frames of one molecule, a tenth
of the paper's, and only of a few molecules. The errors are no reproduction of the paper's; how they
fall with the degree may be compared.

The file has ten frames of each molecule, one after the other, with energies and forces in eV and
eV/Å. Ours holds those that came with an early state of the authors' program, as
mlff/examples/example_data/qm7x_250_small.npz at commit 99dbf76 of
https://github.com/thorben-frank/mlff: arrays `z` (2500, 23), zero where a molecule has fewer atoms,
`R` and `F` (2500, 23, 3), `E` (2500,). All of QM7-X, of which they are a sample, is at
https://doi.org/10.5281/zenodo.4288677 (Hoja et al., 2021,
https://doi.org/10.1038/s41597-021-00812-2). The named data set `qm7x` cannot take the file's place:
it does not say where a molecule ends.

Run: python recipes/studies/so3krates_qm7x.py --data=qm7x_2500.npz
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from keras_mlff import cli, datasets, plots
from keras_mlff.experiments import Parts, measure_errors
from keras_mlff.experiments.study import Study
from keras_mlff.graph import Graph, elements

RECIPE = "so3krates_qm7x"
FRAMES = 10  # of a molecule, one after the other
NUM_TRAINING, NUM_VALIDATION = 7, 1  # of them
Molecule = list[Graph]  # its frames


def main(
    data: str,
    kinds: tuple[str, ...] = ("joint", "individual"),
    max_degrees: tuple[int, ...] = (0, 1, 2, 3),
    num_unknown: int = 25,
    num_individual: int = 5,
    settings: tuple[str, ...] = (),
    folder: str = "runs/so3krates_qm7x",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains what is missing and draws `degrees.png`.

    Args:
        data: File with ten frames of each molecule, one after the other; see above.
        kinds: "joint", one model for all molecules; "individual", one for each.
        max_degrees: Coordinates have the degrees from 1 to this one, or 0 alone.
        num_unknown: Molecules held out, for the joint models.
        num_individual: Molecules with models of their own.
        settings: Settings of all trainings, such as `model.num_layers=3`; `training.seed` decides
            which molecules are held out too.
        folder: Receives a folder for each model, `results.json` and `degrees.png`.
        verbose: Progress, as in Keras.

    Returns:
        By kind and degree, errors for frames of known and of unknown molecules.
    """
    study = Study(folder, settings=settings, verbose=verbose)
    recipe = study.settle(RECIPE)
    molecules = split_molecules(datasets.load(data), recipe.training.seed)
    known, unknown = hold_out(molecules, num_unknown, recipe.training.seed)
    order = np.random.default_rng([recipe.training.seed, 1]).permutation(len(known))
    results: dict[str, Any] = {kind: {} for kind in kinds}
    for degree in max_degrees:
        chosen = {"model.degrees": list(range(1, degree + 1)) or [0]}
        if "joint" in kinds:
            name = f"joint_{degree}"
            errors = {"known": study.train(name, RECIPE, chosen, parts=split_frames(known))}
            if unknown:
                frames = [frame for molecule in unknown for frame in molecule]
                model = study.model(name)
                errors["unknown"] = measure_errors(model, frames, errors["known"], recipe.report)
            results["joint"][str(degree)] = errors
        if "individual" in kinds:
            single = [
                study.train(
                    f"individual_{degree}_{index}",
                    RECIPE,
                    chosen,
                    ["individual"],
                    split_frames([known[index]]),
                )
                for index in order[:num_individual]
            ]
            results["individual"][str(degree)] = {"known": average(single)}
        study.write(results)
    draw_degrees(results).savefig(study.folder / "degrees.png", dpi=120)
    return results


def split_molecules(graphs: list[Graph], seed: int = 0) -> list[Molecule]:
    """Gathers the frames of each molecule, in random order: files may sort them by energy.

    Raises:
        ValueError: If there are not ten frames of each.
    """
    molecules = []
    for first in range(0, len(graphs), FRAMES):
        frames = graphs[first : first + FRAMES]
        kinds = {graph["atomic_numbers"].tobytes() for graph in frames}
        if len(frames) < FRAMES or len(kinds) > 1:
            raise ValueError(
                f"Each molecule needs {FRAMES} frames, one after the other. Received: "
                f"{len(frames)} frames of {len(kinds)} lists of atoms from number {first} on, of "
                f"{len(graphs)}. The first lines of this program say which file it needs."
            )
        order = np.random.default_rng((seed, 2, first // FRAMES)).permutation(FRAMES)
        molecules.append([frames[place] for place in order])
    return molecules


def hold_out(
    molecules: list[Molecule], number: int, seed: int
) -> tuple[list[Molecule], list[Molecule]]:
    """Splits molecules into known and unknown ones; none lists the same atoms as an unknown one.

    Held out too, but of neither kind, are molecules with an element that no known one has: their
    energies would be off by that of an atom.

    Raises:
        ValueError: If there are not as many such molecules.
    """
    kinds = [molecule[0]["atomic_numbers"].tobytes() for molecule in molecules]
    single = [place for place, kind in enumerate(kinds) if kinds.count(kind) == 1]
    if len(single) < number:
        raise ValueError(
            f"Only {len(single)} molecules have a list of atoms of their own. "
            f"Received: num_unknown={number}."
        )
    held = set(np.random.default_rng(seed).permutation(single)[:number].tolist())
    known = [molecule for place, molecule in enumerate(molecules) if place not in held]
    learned = set(elements(graph for molecule in known for graph in molecule))
    unknown = [molecules[place] for place in sorted(held)]
    return known, [molecule for molecule in unknown if learned.issuperset(elements(molecule))]


def split_frames(molecules: list[Molecule]) -> Parts:
    """Takes from each molecule frames to learn from, to choose by and to judge by."""
    bounds = [0, NUM_TRAINING, NUM_TRAINING + NUM_VALIDATION, FRAMES]
    return Parts(
        *(
            [graph for molecule in molecules for graph in molecule[first:last]]
            for first, last in itertools.pairwise(bounds)
        )
    )


def average(errors: list[dict[str, Any]]) -> dict[str, Any]:
    """Averages errors over models."""
    return {
        name: {
            "unit": errors[0][name]["unit"],
            **{
                key: float(np.mean([item[name][key] for item in errors]))
                for key in ("test_mae", "test_rmse")
            },
        }
        for name in errors[0]
    }


def draw_degrees(results: dict[str, Any]) -> Any:
    """Draws force errors against the degree, of known and of unknown molecules."""
    made, axes = plots.subplots(1, 2)
    for panel, where in zip(axes[0], ("known", "unknown"), strict=True):
        for kind, by_degree in results.items():
            points = [
                (int(degree), errors[where]["forces"]["test_mae"])
                for degree, errors in by_degree.items()
                if where in errors
            ]
            if points:
                panel.plot(*np.asarray(points).T, marker="o", label=kind)
        panel.set(title=f"{where} molecules", xlabel="highest degree")
        panel.set(ylabel="force MAE / kcal/mol/Å", xticks=range(4))
        if panel.lines:
            panel.set_ylim(bottom=0.0)
            panel.legend(frameon=False)
    return made


if __name__ == "__main__":
    cli.run(main)
