"""Errors of predictions against labels, in NumPy and float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_mlff.graph import (
    Array,
    Graph,
    count,
    inputs_and_labels,
    is_known,
    missing,
    with_equal_labels,
)


class Errors(NamedTuple):
    """How far predictions of one property are off, in the property's unit."""

    mae: float  # mean absolute error
    rmse: float  # root of the mean square
    largest: float
    num_values: int  # compared


def errors(structures: Sequence[Graph], predictions: Mapping[str, Array]) -> dict[str, Errors]:
    """Compares predictions with the labels that structures have.

    Only what is there counts: a label may be missing (NaN) in some structures or atoms, or absent
    from some graphs, and a stress counts where the cell has a volume.

    Args:
        structures: Structures with labels.
        predictions: What `model.predict(structures)` returns.

    Returns:
        Errors by property, those of `energy` also as `energy_per_atom`.

    Raises:
        ValueError: If no label is predicted, or if there are no structures.

    Example:
        >>> from keras_mlff.graph import structure
        >>> helium = structure([[0, 0, 0]], [2], energy=-79.0)
        >>> errors([helium], {"energy": np.array([-78.5])})["energy"].mae
        0.5
    """
    if len(structures) == 0:
        raise ValueError("Errors need structures to compare. Received: an empty list.")
    labels = set().union(*(inputs_and_labels(graph)[1] for graph in structures))
    found = {}
    for key in sorted(labels & predictions.keys()):
        known = np.concatenate([is_known(key, graph) for graph in structures])
        if not known.any():
            continue
        values = np.concatenate(
            [
                np.asarray(graph[key])
                if key in graph
                else missing(key, graph, np.asarray(predictions[key]))
                for graph in structures
            ]
        )
        difference = np.asarray(predictions[key], np.float64)[known] - values[known]
        found[key] = _errors(difference)
        if key == "energy":
            sizes = np.concatenate([_sizes(graph) for graph in structures])
            found["energy_per_atom"] = _errors(difference / sizes[known])
    if not found:
        raise ValueError(
            "There is nothing to compare: the structures and the model share no property. "
            f"Received: labels={sorted(labels)}, predictions={sorted(predictions)}."
        )
    return found


def _sizes(graph: Graph) -> Array:
    """Counts the real atoms of each structure of a graph."""
    ids = np.asarray(graph["graph_ids"])[np.asarray(graph["atom_mask"])]
    return np.bincount(ids, minlength=count(graph, "structure"))


class S2EF(NamedTuple):
    """The four numbers by which OC20 judges "structure to energy and forces"."""

    energy_mae: float  # eV
    force_mae: float  # eV/Å, per component, of free atoms
    force_cosine: float  # mean cosine of the angle between forces on free atoms
    efwt: float  # share of structures whose energy and forces are both within the thresholds


def s2ef(
    structures: Sequence[Graph],
    predictions: Mapping[str, Array],
    fixed: Sequence[Array] | None = None,
    energy_threshold: float = 0.02,
    force_threshold: float = 0.03,
) -> S2EF:
    """Computes the errors that OC20 reports.

    Energies and forces that are missing do not count; what both thresholds ask is asked of
    structures that have an energy and all forces on free atoms.

    Args:
        structures: Structures with `energy` and `forces`.
        predictions: What `model.predict(structures)` returns.
        fixed: For each structure the atoms that a relaxation held, `(num_atoms,)`, whose forces do
            not count; none where not given.
        energy_threshold: eV.
        force_threshold: eV/Å, of the largest component.

    Returns:
        Errors; a structure without free atoms is judged by its energy alone.

    Raises:
        ValueError: If there are no structures, if no structure has an energy, or if `fixed` does
            not have a value for each atom.

    Reference: Chanussot et al., 2021, https://doi.org/10.1021/acscatal.0c04525
    """
    if not structures:
        raise ValueError("There is nothing to compare. Received: no structures.")
    sizes = [count(graph, "atom") for graph in structures]
    labels = with_equal_labels(structures)
    has_energy, has_forces = (
        np.concatenate([is_known(key, graph) for graph in labels]) for key in ("energy", "forces")
    )
    if not has_energy.any():
        raise ValueError("OC20's errors need energies. Received: structures without any.")
    known = np.concatenate([graph["energy"] for graph in labels])
    energy_errors = np.abs(np.asarray(predictions["energy"], np.float64) - known)
    free = np.ones(sum(sizes), bool) if fixed is None else ~np.concatenate(fixed).astype(bool)
    if free.shape != (sum(sizes),):
        raise ValueError(
            f"`fixed` needs a value for each of the {sum(sizes)} atoms. Received: {free.shape}."
        )
    counted = free & has_forces
    zeros = np.zeros((sum(sizes), 3))
    given = [graph["forces"] for graph in labels] if has_forces.any() else [zeros]
    forces = np.where(counted[:, None], np.concatenate(given), 0.0)
    predicted = np.asarray(predictions["forces"], np.float64)
    differences = np.where(counted[:, None], np.abs(predicted - forces), 0.0)
    lengths = np.linalg.norm(forces, axis=1) * np.linalg.norm(predicted, axis=1)
    # a force of zero has no direction, and counts as a right angle
    cosines = np.sum(forces * predicted, axis=1) / np.maximum(lengths, 1e-8)
    starts = np.cumsum([0, *sizes[:-1]])
    largest = np.maximum.reduceat(differences.max(axis=1), starts)
    complete = has_energy & np.logical_and.reduceat(has_forces | ~free, starts)
    within = (energy_errors < energy_threshold) & (largest < force_threshold)
    return S2EF(
        float(energy_errors[has_energy].mean()),
        float(differences.sum() / max(3 * counted.sum(), 1)),
        float(cosines[counted].mean()) if counted.any() else float("nan"),
        float(within[complete].mean()) if complete.any() else float("nan"),
    )


def _errors(difference: Array) -> Errors:
    absolute = np.abs(difference)
    return Errors(
        float(np.mean(absolute)),
        float(np.sqrt(np.mean(np.square(difference)))),
        float(np.max(absolute)),
        difference.size,
    )
