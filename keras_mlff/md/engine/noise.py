"""Random numbers of a run, drawn on the host: the same on every backend."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mlff.graph import Array
from keras_mlff.md.engine.batch import Layout
from keras_mlff.md.engine.ensembles import Ensemble

_KINDS = ("velocities", "normal", "chi", "strain")


class Noise:
    """Draws for each system from a generator of its own, whatever else is in its batch.

    Args:
        seed: Of the run.
        indices: The number of each system of the batch.
    """

    def __init__(self, seed: int, indices: Sequence[int]) -> None:
        self._generators = {
            kind: [np.random.default_rng((seed, index, number)) for index in indices]
            for number, kind in enumerate(_KINDS)
        }

    def generator(self, kind: str, system: int) -> np.random.Generator:
        """Returns the generator of a kind of numbers, of a system of the batch."""
        return self._generators[kind][system]

    def draw(self, ensemble: Ensemble, num_steps: int, freedom: Array, layout: Layout) -> Any:
        """Draws what steps of an ensemble read, each array with the steps on its first axis."""
        drawn: dict[str, Array] = {}
        room = layout.budget
        if ensemble.thermostat == "langevin":
            drawn["normal"] = np.zeros((num_steps, room.num_atoms, 3), np.float32)
            for rows, random in zip(layout.rows, self._generators["normal"], strict=True):
                shape = (num_steps, rows.stop - rows.start, 3)
                drawn["normal"][:, rows] = random.standard_normal(shape, np.float32)
        if ensemble.thermostat == "svr":
            drawn["normal"] = np.zeros((num_steps, room.num_graphs))
            drawn["chi"] = np.zeros((num_steps, room.num_graphs))
            for index, (normal, chi) in enumerate(
                zip(self._generators["normal"], self._generators["chi"], strict=True)
            ):
                drawn["normal"][:, index] = normal.standard_normal(num_steps)
                if freedom[index] > 1:
                    drawn["chi"][:, index] = chi.chisquare(freedom[index] - 1, num_steps)
        if ensemble.barostat is not None:
            drawn["strain"] = np.zeros((num_steps, room.num_graphs, 3, 3))
            for index, random in enumerate(self._generators["strain"]):
                drawn["strain"][:, index] = random.standard_normal((num_steps, 3, 3))
        return drawn

    def state(self) -> str:
        """Writes down where the generators are."""
        states = {
            kind: [random.bit_generator.state for random in generators]
            for kind, generators in self._generators.items()
        }
        return json.dumps(states)

    def restore(self, state: str) -> None:
        """Goes on from where `state` was written."""
        for kind, states in json.loads(state).items():
            for random, found in zip(self._generators[kind], states, strict=True):
                random.bit_generator.state = found
