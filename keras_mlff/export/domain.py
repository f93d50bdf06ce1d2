"""What a SavedModel refuses, as the model that it was made from does: `keras_mlff.core.domain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mlff.export.search import require
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Tensor
from keras_mlff.models import ForceField


class DomainChecks(tf.Module):
    """Refuses elements, charges and spin multiplicities that were not learned or cannot be.

    Sizes, compositions and periodic directions, of which a model in Python warns, pass.

    Args:
        model: The model that is exported.
    """

    def __init__(self, model: ForceField) -> None:
        super().__init__()
        known = list(model.domain.elements)
        table = np.zeros(MAX_ATOMIC_NUMBER + 1, np.bool_)
        table[[0, *known] if known else slice(None)] = True
        self._known = table
        self._states = np.asarray(model.domain.states if model.sees_states else ()).reshape(-1, 2)

    def __call__(self, graph: Mapping[str, Tensor]) -> list[Any]:
        """Makes the assertions for what a client gives."""
        numbers, charges = graph["atomic_numbers"], tf.cast(graph["total_charge"], tf.float64)
        spins = tf.cast(graph["spin_multiplicity"], tf.float64)
        inside = (numbers >= 0) & (numbers <= MAX_ATOMIC_NUMBER)
        clipped = tf.clip_by_value(numbers, 0, MAX_ATOMIC_NUMBER)
        checks = [
            require(
                tf.reduce_all(tf.gather(self._known, clipped) & inside),
                "The model was not trained on an element that it was given. It knows the atomic "
                f"numbers {np.flatnonzero(self._known)[1:].tolist()}.",
            )
        ]
        nuclei = tf.math.unsorted_segment_sum(
            tf.cast(clipped, tf.float64), graph["graph_ids"], tf.shape(charges)[0]
        )
        electrons, unpaired = nuclei - charges, spins - 1.0
        is_default = (charges == 0.0) & (unpaired == 0.0)
        is_whole = charges == tf.round(charges)
        is_even = tf.math.floormod(electrons - unpaired, 2.0) == 0.0
        possible = (electrons > 0.0) & (electrons <= 2.0 * nuclei) & (is_even | ~is_whole)
        possible &= (unpaired >= 0.0) & (unpaired <= electrons)
        checks.append(
            require(
                tf.reduce_all(is_default | possible),
                "Impossible total charge and spin multiplicity: the number of unpaired electrons, "
                "2S, is no larger than that of the electrons, and even or odd as that is.",
            )
        )
        if len(self._states):
            given = tf.stack([charges, spins], axis=1)[:, None]  # (num_graphs, 1, 2)
            same = tf.reduce_all(tf.abs(given - self._states) < 1e-6, axis=2)
            is_padding = nuclei == 0.0
            checks.append(
                require(
                    tf.reduce_all(tf.reduce_any(same, axis=1) | is_padding),
                    "The model was not trained on a total charge and spin multiplicity that it was "
                    f"given. It knows {self._states.tolist()}.",
                )
            )
        return checks


def learned_numbers(model: ForceField, size: int) -> tuple[Any, float, int]:
    """Finds atoms and a state that the exported model does not refuse, to try it on.

    Args:
        model: The model.
        size: Number of atoms.

    Returns:
        Atomic numbers `(size,)`, total charge and spin multiplicity.
    """
    known = list(model.domain.elements) or [z for head in model.heads for z in head.references]
    known = sorted(set(known)) or [6, 1, 8]
    states = model.domain.states if model.sees_states else ()
    for charge, spin in states or ((0.0, 1),):
        for first in range(len(known)):
            numbers = np.resize(np.roll(known, -first), size).astype(np.int32)
            electrons = int(numbers.sum()) - charge
            if (charge, spin) == (0.0, 1) or (
                spin - 1 <= electrons and (electrons - spin + 1) % 2 == 0
            ):
                return numbers, charge, spin
    return np.resize(np.asarray(known, np.int32), size), 0.0, 1
