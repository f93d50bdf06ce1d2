"""The host's side of a loop: it lays systems out, renews neighbors and names what has failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase.calculators.calculator import CalculationFailed
from keras import ops

from keras_mlff import units
from keras_mlff.core.inspection import as_tensors
from keras_mlff.graph import Array
from keras_mlff.md.engine import loop
from keras_mlff.md.engine.batch import Layout, layout
from keras_mlff.md.engine.systems import System, degrees_of_freedom
from keras_mlff.models import ForceField
from keras_mlff.packing.budget import Budget

_WIDEST = 8.0  # times the skin: a step that moves atoms farther has gone wrong


class Driver:
    """Moves the systems of one batch by a compiled loop.

    Args:
        model: The model.
        systems: The systems of the batch, which are moved.
        program: What `loop.program` returns.
        skin: Å, how much farther than the cutoff neighbors are searched.
        moves_cell: Whether the step changes the cell.
        budget: Sizes of the batch to begin with.

    Attributes:
        state: The tensors of the loop's state, by name.
        layout: Where the systems are in them.
        num_searches: How often neighbors were searched.
    """

    def __init__(
        self,
        model: ForceField,
        systems: Sequence[System],
        program: Any,
        skin: float,
        moves_cell: bool,
        budget: Budget | None = None,
    ) -> None:
        self.model, self.systems, self.program = model, list(systems), program
        self.skin, self.moves_cell = skin, moves_cell
        self.state: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}
        self.layout: Layout
        self.num_searches = 0
        self._lay(budget)
        self._evaluate()

    # Layout

    def _lay(self, budget: Budget | None, skin: float | None = None) -> None:
        """Searches neighbors and puts the systems, as they are, into the state."""
        width = self.skin if skin is None else skin
        made = layout(self.systems, self.model.graph_spec, width, budget)
        self.layout, self.num_searches = made, self.num_searches + 1
        self.listed_skin = width
        self.listed = [
            (system.graph["positions"], system.graph.get("cell")) for system in self.systems
        ]
        self.batch = self.tensors(made.graph)
        freedom = [degrees_of_freedom(system) for system in self.systems]
        masses = made.spread([system.masses for system in self.systems])
        free = made.spread([~system.fixed for system in self.systems], False)
        totals = [0.0 if s.is_held else 1.0 / s.masses.sum() for s in self.systems]
        inverse = np.divide(1.0, masses, out=np.zeros_like(masses), where=free)
        self.inputs |= self.tensors(
            {
                "listed": made.graph["positions"],
                "skins": made.skins,
                "masses": masses[:, None],
                "inverse_masses": inverse[:, None],
                "per_total_mass": made.per_graph(totals, 0.0),
                "watched": np.ones(made.budget.num_graphs, np.bool_),
            }
        )
        # how many motions there are is a matter of how the run began
        if "freedom" not in self.inputs:
            self.inputs |= self.tensors({"freedom": made.per_graph(freedom, 0.0)})
        velocities = made.spread([system.velocities for system in self.systems])
        placed = made.graph["positions"]
        parts = {}
        for name, values in (("positions", placed), ("velocities", velocities)):
            parts[name], parts[f"{name}_low"] = loop.halves(values, self.model.compute_dtype)
        if self.moves_cell:
            parts["cell"] = made.graph["cell"]
            eyes = np.tile(np.eye(3), (made.budget.num_graphs, 1, 1))
            parts["strain"] = parts["inverse_strain"] = eyes
        parts["status"] = np.asarray(loop.RUNNING, np.int32)
        parts["failed"] = np.zeros(made.budget.num_atoms, np.bool_)
        self.state |= self.tensors(parts)
        self.state.setdefault("step", self.tensors({"step": np.asarray(0, np.int32)})["step"])

    def _evaluate(self) -> None:
        self.state = loop.evaluation(self.model)(self.state, self.batch)
        forces = self.read("forces")
        if not np.all(np.isfinite(forces)):
            self._fail(np.any(~np.isfinite(forces), axis=1), "before the first step")

    def tensors(self, arrays: Mapping[str, Array]) -> dict[str, Any]:
        """Converts arrays to tensors, those of floating point to the model's precision."""
        return as_tensors(dict(arrays), self.model.compute_dtype)

    # Steps

    def run(self, inputs: Mapping[str, Array], first: int, end: int) -> None:
        """Makes the steps up to number `end`, and updates the systems.

        Args:
            inputs: What the steps read beside what the driver knows; what is different for each
                step has these on its first axis, from step `first`.
            first: The number of the step that the first row belongs to.
            end: The number of the step at which to end.

        Raises:
            CalculationFailed: If energy or forces are not finite, or atoms fly apart.
        """
        drawn = self.tensors(inputs)
        numbers = self.tensors(
            {"first": np.asarray(first, np.int32), "end": np.asarray(end, np.int32)}
        )
        skin, before = self.skin, -1
        while True:
            self.state = self.program(
                self.state, self.batch, self.inputs | drawn, numbers["first"], numbers["end"]
            )
            status, step = int(self.read("status")), int(self.read("step"))
            if status == loop.NOT_FINITE:
                self._fail(self.read("failed"), f"in step {step + 1}")
            self.update()
            if status == loop.RUNNING:
                return
            skin = 2.0 * skin if step == before else self.skin
            if skin > _WIDEST * max(self.skin, 0.1):
                moved = np.linalg.norm(self.read("velocities"), axis=1)
                fastest = np.zeros(len(moved), np.bool_)
                fastest[np.argmax(moved)] = True
                self._fail(fastest, f"in step {step + 1}: atoms move by more than {skin / 4:.2f} Å")
            before = step
            self._lay(self.layout.budget, skin)

    def update(self) -> None:
        """Reads positions, velocities and cells of the systems from the state."""
        positions, velocities = (
            self.read(name).astype(np.float64) + self.read(f"{name}_low")
            for name in ("positions", "velocities")
        )
        origins = self.layout.origins
        cells = None
        if self.moves_cell:
            cells = self.read("cell").astype(np.float64)
            strains = self.read("strain").astype(np.float64)
        for index, (system, rows) in enumerate(zip(self.systems, self.layout.rows, strict=True)):
            offset = origins[rows]
            if cells is not None:
                offset = offset @ strains[index]
                system.graph = {**system.graph, "cell": cells[index : index + 1]}
            system.graph = {**system.graph, "positions": positions[rows] + offset}
            system.velocities = velocities[rows]

    def read(self, name: str) -> Array:
        """Copies a part of the state to the host."""
        return np.asarray(ops.convert_to_numpy(self.state[name]))

    @property
    def freedom(self) -> Array:
        """The number of motions that share the kinetic energy of each system."""
        found = np.asarray(ops.convert_to_numpy(self.inputs["freedom"]))
        return found[: len(self.systems)].astype(np.int64)

    def count_rotation(self) -> None:
        """Lets molecules rotate that do not yet, as the noise of a bath makes them."""
        freedom = [
            3 * int(np.sum(~system.fixed)) - (0 if system.is_held else 3) for system in self.systems
        ]
        self.inputs |= self.tensors({"freedom": self.layout.per_graph(freedom, 0.0)})

    def temperature(self, index: int) -> float:
        """The temperature of a system in K."""
        motions = max(int(self.freedom[index]), 1)
        return 2.0 * self.systems[index].kinetic_energy / (motions * units.kelvin)

    def energies(self) -> Array:
        """Returns the potential energy of each system, offsets included: `(num_systems,)`, eV."""
        energies = self.model.add_offsets({"energy": self.read("energy")}, self.layout.graph)
        return np.asarray(energies["energy"], np.float64)[: len(self.systems)]

    def _fail(self, atoms: Array, when: str) -> None:
        named = []
        for index, (system, rows) in enumerate(zip(self.systems, self.layout.rows, strict=True)):
            found = np.flatnonzero(atoms[rows])
            if len(found):
                named.append(f"system {index}, atoms {system.name(found)}")
        raise CalculationFailed(
            "The model predicts no finite energy and forces here, or atoms fly apart. Received: "
            f"{'; '.join(named[:5])}, {when}. Look for atoms that are too close or far from the "
            "training data; take a shorter time step."
        )
