"""AlphaNet on relaxations of OC20, judged as the benchmark does (table 2 of the AlphaNet paper).

Of a file of frames, whole relaxations are held out, and only those whose elements others have too,
as in the benchmark's split with known catalysts. Reported are energy MAE, force MAE, force cosine
and EFwT; where the file says which atoms the relaxation held (`fixed`), of free atoms alone. The
training is that of the recipe `alphanet_oc20`.

Run: python recipes/studies/oc20_relaxations.py --data=oc20_relax_30.npz
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mlff import cli, datasets
from keras_mlff.experiments import Parts
from keras_mlff.experiments.study import Study
from keras_mlff.fit import metrics
from keras_mlff.graph import Array, Graph, count


def main(
    data: str,
    num_validation: int = 3,
    num_test: int = 6,
    settings: tuple[str, ...] = (),
    folder: str = "runs/oc20_relaxations",
    verbose: int = 2,
) -> dict[str, Any]:
    """Trains AlphaNet and reports the benchmark's four numbers.

    Args:
        data: File with frames and an array `system` that names the relaxation of each.
        num_validation: Relaxations whose frames choose the best weights.
        num_test: Relaxations to be judged on.
        settings: Settings of the training, such as `training.num_epochs=10`; `training.seed`
            decides which relaxations are held out too.
        folder: Receives the training and `results.json`.
        verbose: Progress, as in Keras.

    Returns:
        Test errors, `s2ef`, and `energy_within_relaxation_mae`.
    """
    study = Study(folder, settings=settings, verbose=verbose)
    seed = study.settle("alphanet_oc20").training.seed
    parts, fixed, relaxations = split_relaxations(data, num_validation, num_test, seed)
    results = study.train("training", "alphanet_oc20", parts=parts)
    predicted = study.model("training").predict(parts.test)
    errors = predicted["energy"] - np.ravel([frame["energy"] for frame in parts.test])
    results |= {
        "s2ef": metrics.s2ef(parts.test, predicted, fixed)._asdict(),
        "energy_within_relaxation_mae": error_within(errors, relaxations),
    }
    study.write(results)
    return results


def split_relaxations(
    data: str, num_validation: int, num_test: int, seed: int
) -> tuple[Parts, list[Array] | None, Array]:
    """Draws whole relaxations; also returns the test's fixed atoms, if known, and relaxations."""
    frames = datasets.load(data)
    with np.load(data) as file:
        arrays = {name: file[name] for name in ("system", "fixed") if name in file.files}
    systems = arrays["system"]
    held_out = draw_known(frames, systems, num_test + num_validation, seed)
    of_part = dict.fromkeys(systems.tolist(), "training")
    of_part |= dict.fromkeys(held_out[:num_test], "test")
    of_part |= dict.fromkeys(held_out[num_test:], "validation")
    rows = {
        part: [row for row, name in enumerate(systems.tolist()) if of_part[name] == part]
        for part in Parts._fields
    }
    parts = Parts(**{name: [frames[row] for row in rows[name]] for name in rows})
    fixed = None
    if "fixed" in arrays:
        ends = np.cumsum([count(frame, "atom") for frame in frames])
        of_all = np.split(arrays["fixed"], ends[:-1])
        fixed = [of_all[row] for row in rows["test"]]
    return parts, fixed, systems[rows["test"]]


def error_within(errors: Array, relaxations: Array) -> float:
    """Averages errors (eV) of energies after taking away the mean of each relaxation.

    Few relaxations do not tell what each of many elements adds to an energy, which shifts all
    frames of an unseen one alike; what is left is what a relaxation follows.
    """
    _, places = np.unique(relaxations, return_inverse=True)
    means = np.bincount(places, errors) / np.bincount(places)
    return float(np.abs(errors - means[places]).mean())


def draw_known(frames: Sequence[Graph], systems: Array, number: int, seed: int) -> list[str]:
    """Draws relaxations to hold out, each only if those that stay have all of its elements.

    Raises:
        ValueError: If there are not so many.
    """
    elements: dict[str, set[int]] = {}
    for frame, name in zip(frames, systems.tolist(), strict=True):
        elements.setdefault(name, set()).update(frame["atomic_numbers"].tolist())
    left = Counter(element for found in elements.values() for element in found)
    held_out: list[str] = []
    for name in np.random.default_rng(seed).permutation(sorted(elements)).tolist():
        if len(held_out) < number and all(left[element] > 1 for element in elements[name]):
            held_out.append(name)
            left.subtract(elements[name])
    if len(held_out) < number:
        raise ValueError(
            f"Only {len(held_out)} of {len(elements)} relaxations can be held out such that others "
            f"have their elements. Received: {number} for validation and test together."
        )
    return held_out


if __name__ == "__main__":
    cli.run(main)
