"""Which numbers of a network are results, and what it sees while it learns."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mlff.core.deviations import Policy
from keras_mlff.core.domain import Domain
from keras_mlff.graph import Array, Graph, level

_FAR = 1e4  # times the largest number learned from: nothing that a force field can mean
_ABSURD = 1e8  # eV per atom and eV/Å, whatever was learned from


def refuse_nonsense(
    predicted: Mapping[str, Array],
    inputs: Graph,
    domain: Domain,
    policy: Policy | None,
    first: int,
) -> None:
    """Refuses numbers of the network that are no results.

    Args:
        predicted: The network's numbers of a batch, by name.
        inputs: The batch.
        domain: What the model has learned from.
        policy: `"ignore"` lets through whatever is not absurd.
        first: Number of the first structure, for the message.

    Raises:
        FloatingPointError: If there are any.
    """
    masks = {"atom": inputs["atom_mask"], "structure": inputs["graph_mask"]}
    wrong = {
        key: masks[level(key)] & ~np.isfinite(value).reshape(len(value), -1).all(axis=1)
        for key, value in predicted.items()
    }
    reason = "NaN or infinite values"
    if not any(rows.any() for rows in wrong.values()):
        reason = "numbers far beyond anything that it has learned"
        for key, size in size_by_key(predicted, inputs).items():
            rows = np.zeros(len(masks[level(key)]), np.bool_)
            limit = _ABSURD
            if policy != "ignore" and key in domain.largest:
                limit = _FAR * max(domain.largest[key], 1.0)
            rows[masks[level(key)]] = size > limit
            wrong[key] = rows
    kinds = sorted(key for key, rows in wrong.items() if rows.any())
    if not kinds:
        return
    ids, numbers = inputs["graph_ids"], inputs["atomic_numbers"]
    atomwise = [key for key in kinds if level(key) == "atom"]
    structures = [
        ids[wrong[key]] if key in atomwise else np.flatnonzero(wrong[key]) for key in kinds
    ]
    graph = int(min(rows[0] for rows in structures))
    atoms = np.flatnonzero(masks["atom"] & (ids == graph))
    bad = [i for i, atom in enumerate(atoms) if any(wrong[key][atom] for key in atomwise)]
    shown = ", ".join(f"{i} (element {numbers[atoms[i]]})" for i in bad[:10]) or "all"
    shown += f" and {len(bad) - 10} more" if len(bad) > 10 else ""
    raise FloatingPointError(
        f"The model predicts {reason} of {kinds}. Received: structure {first + graph}, atoms "
        f"{shown} of {len(atoms)}. Look for atoms that are too close or far from the training "
        "data; in dynamics, take a shorter time step."
    )


def with_labels(domain: Domain, labels: Mapping[str, Any], inputs: Mapping[str, Any]) -> Domain:
    """Takes up the sizes of known labels of a batch, whose offsets were taken out.

    Args:
        domain: What is known so far.
        labels: By name; NaN where unknown.
        inputs: The batch.
    """
    sizes = size_by_key(labels, inputs)
    known = {key: value[np.isfinite(value)] for key, value in sizes.items()}
    return domain.with_largest({k: float(v.max()) for k, v in known.items() if v.size})


def size_by_key(values: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Computes sizes of energies per atom and of forces, `(n,)` of real structures and atoms."""
    found: dict[str, Array] = {}
    real, atoms = (np.asarray(inputs[key], np.bool_) for key in ("graph_mask", "atom_mask"))
    if "energy" in values:
        ids = np.asarray(inputs["graph_ids"])[atoms]
        sizes = np.maximum(np.bincount(ids, minlength=len(real)), 1)
        found["energy"] = np.abs(np.asarray(values["energy"], np.float64) / sizes)[real]
    if "forces" in values:
        found["forces"] = np.abs(np.asarray(values["forces"], np.float64)[atoms]).max(axis=1)
    return found


class Learner:
    """Collects the domain of the data that a `fit` sees, in its first epoch.

    Batches come from threads that prepare them, on TensorFlow from several.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._lock = model, threading.Lock()
        self._before, self._seen = model.domain, Domain()
        self._count, self.num_batches = 0, math.inf

    def __call__(self, inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> None:
        """Adds a batch, its labels without offsets."""
        with self._lock:
            if self._count >= self.num_batches:
                return
            self._count += 1
            seen = self._seen.joined(Domain.of([inputs]), add=True)
            self._seen = with_labels(seen, labels, inputs)
            self._model.learn_domain(self._before.joined(self._seen))
