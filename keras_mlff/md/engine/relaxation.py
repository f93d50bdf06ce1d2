"""Relaxation of one structure or many, each until its own forces have vanished."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from keras import ops

from keras_mlff import backend, units
from keras_mlff.core.construction import precision
from keras_mlff.graph import Array, Tensor
from keras_mlff.md.engine import loop
from keras_mlff.md.engine.driver import Driver
from keras_mlff.md.engine.ensembles import stretch
from keras_mlff.md.engine.loop import State, Step, add
from keras_mlff.md.engine.simulation import batches, check_model
from keras_mlff.md.engine.systems import System, collect
from keras_mlff.models import ForceField
from keras_mlff.ops import geometry

_LONGEST = 0.2  # Å: an atom moves by no more in a step
_FIRST, _LAST = 0.1, 1.0  # of ASE: how fast FIRE begins, and becomes
_ALPHA = 0.1
_CHUNK = 20  # steps between two looks at what has converged


@dataclasses.dataclass(frozen=True)
class Relaxed:
    """A relaxed structure.

    Attributes:
        atoms: ASE's atoms where they are now, with energy, forces and stress as results.
        converged: Whether forces, and the stress where the cell was relaxed, are below the limits.
        num_steps: The steps that it took.
        max_force: eV/Å, of the atoms that are not fixed.
        energy: eV.
    """

    atoms: Atoms
    converged: bool
    num_steps: int
    max_force: float
    energy: float


def relax(
    model: ForceField,
    systems: Any,
    fmax: float = 0.01,
    cell: bool = False,
    *,
    pressure: float = 0.0,
    max_stress: float = 0.05,
    max_steps: int = 1000,
    skin: float = 0.5,
    max_edges: int = 200_000,
) -> Any:
    """Moves atoms, and cells, downhill (FIRE) in a loop that is compiled with the model inside.

    Structures are relaxed together, many in a batch. One that has converged stops, and when half of
    a batch has, others take the places.

    A cell is stretched by the exponential of a symmetric strain, whose force is the virial, so that
    it can neither turn nor turn over.

    Args:
        model: A model that predicts forces.
        systems: ASE's atoms, a graph of one structure, a SMILES (with RDKit), or a list of them.
            Atoms fixed by `ase.constraints.FixAtoms` stay where they are. What was given is not
            changed.
        fmax: eV/Å; no force may be longer at the end.
        cell: Whether cells are relaxed too.
        pressure: The pressure outside in GPa, on cells that are relaxed.
        max_stress: GPa; how far any component of the stress may be from the pressure at the end.
        max_steps: The number of steps after which a structure is given back as it is.
        skin: Å, how much farther than the cutoff neighbors are searched.
        max_edges: Edges of a batch, which bound the memory.

    Returns:
        A `Relaxed`, a list of them where systems came in a list.

    Raises:
        TypeError: If `model` or a system is something else.
        ValueError: If an argument makes no sense, or a preset has never seen an element.
        CalculationFailed: If energy and forces are not finite; the message names atoms.

    Reference: Bitzek et al., 2006, https://doi.org/10.1103/PhysRevLett.97.170201
    """
    limits = {"fmax": fmax, "max_stress": max_stress, "max_steps": max_steps}
    for name, value in limits.items():
        if not (np.isfinite(value) and value > 0.0):
            raise ValueError(f"`{name}` is a finite number above 0. Received: {name}={value}.")
    if not np.isfinite(pressure):
        raise ValueError(f"`pressure` is finite, in GPa. Received: pressure={pressure}.")
    check_model(model)
    found, single = collect(systems)
    for system in found:
        model.check_domain(system.graph)
        if cell and (not np.all(system.atoms.pbc) or system.fixed.any()):
            raise ValueError(
                "A cell that is relaxed is periodic in all directions, and no atom is fixed. "
                f"Received: pbc={system.atoms.pbc.tolist()}, {int(system.fixed.sum())} fixed atoms."
            )
        system.velocities = np.zeros_like(system.velocities)
    results: list[Relaxed | None] = [None] * len(found)
    numbers = {
        "force_limit": fmax,
        "stress_limit": max_stress * units.gigapascal,
        "pressure": pressure * units.gigapascal,
    }
    with precision(model.dtype_policy):
        queue = batches(found, model, max_edges)
        size = max(map(len, queue))
        waiting = list(range(len(found)))
        _in_flight(model, found, waiting, size, numbers, cell, int(max_steps), skin, results)
    done = [result for result in results if result is not None]
    return done[0] if single else done


def _in_flight(
    model: ForceField,
    systems: Sequence[System],
    waiting: list[int],
    size: int,
    numbers: Mapping[str, float],
    cell: bool,
    max_steps: int,
    skin: float,
    results: list[Relaxed | None],
) -> None:
    """Relaxes what waits, with up to `size` structures in the batch."""
    program = loop.program(model, ("fire", cell), fire(cell))
    inputs = {key: np.asarray(value) for key, value in numbers.items()}
    active: dict[int, dict[str, Any]] = {}  # what is kept of each when batches change
    budget = None
    while waiting or active:
        while waiting and len(active) < size:
            active[waiting.pop(0)] = {"taken": 0}
        order = list(active)
        driver = Driver(model, [systems[i] for i in order], program, skin, cell, budget)
        budget = driver.layout.budget
        _restore(driver, [active[i] for i in order], cell)
        step = 0
        while True:
            driver.run(inputs, step, step + _CHUNK)
            step += _CHUNK
            pace = driver.read("pace")
            taken = driver.read("taken")
            finished = (pace == 0.0) | (taken >= max_steps)
            # half of the places are worth the new list and, perhaps, a compilation
            enough = finished.all() if not waiting else np.mean(finished) >= 0.5
            if enough:
                break
        for index, i in enumerate(order):
            if finished[index]:
                results[i] = _result(driver, index, bool(pace[index] == 0.0), int(taken[index]))
                del active[i]
            else:
                active[i] = {
                    key: driver.read(key)[index] for key in ("taken", "pace", "alpha", "downhill")
                } | ({"cell_velocity": driver.read("cell_velocity")[index]} if cell else {})


def _restore(driver: Driver, kept: Sequence[Mapping[str, Any]], cell: bool) -> None:
    """Gives each system the state of its relaxation, or that of a beginning."""
    begin: dict[str, Any] = {
        "taken": np.int32(0),
        "pace": _FIRST,
        "alpha": _ALPHA,
        "downhill": np.int32(0),
    }
    if cell:
        begin["cell_velocity"] = np.zeros((3, 3))
    arrays = {
        key: np.stack([k.get(key, value) for k in kept]).astype(np.asarray(value).dtype)
        for key, value in begin.items()
    }
    driver.state |= driver.tensors(arrays)


def fire(cell: bool) -> Step:
    """Makes a step of FIRE, in which each graph has its own pace; a pace of zero has converged."""

    def step(state: State, inputs: Mapping[str, Tensor], evaluate: Callable[[State], State]) -> Any:
        ids = inputs["graph_ids"]
        num_graphs = inputs["freedom"].shape[0]

        def total(values: Tensor) -> Tensor:
            return backend.segment_sum(ops.sum(values, axis=-1), ids, num_graphs)

        def spread(values: Tensor) -> Tensor:
            return ops.take(values, ids, axis=0)[:, None]

        free = ops.cast(inputs["inverse_masses"] > 0.0, state["forces"].dtype)
        forces = free * state["forces"]
        velocities = state["velocities"]
        zero = ops.zeros_like(state["pace"])
        longest = _largest(ops.sqrt(ops.sum(ops.square(forces), axis=-1)), ids, num_graphs)
        running = longest > inputs["force_limit"]
        power, speed, strength = (
            total(a * b)
            for a, b in ((forces, velocities), (velocities, velocities), (forces, forces))
        )
        if cell:
            virial, excess = _cell_force(state, inputs)
            running = ops.logical_or(
                running, ops.max(ops.abs(excess), axis=(1, 2)) > inputs["stress_limit"]
            )
            flow = state["cell_velocity"]
            power, speed, strength = (
                a + ops.sum(b * c, axis=(1, 2))
                for a, b, c in (
                    (power, virial, flow),
                    (speed, flow, flow),
                    (strength, virial, virial),
                )
            )
        running = ops.logical_and(running, state["pace"] > 0.0)
        downhill = power > 0.0
        alpha, pace = state["alpha"], state["pace"]
        mixed = alpha * ops.sqrt(speed / ops.maximum(strength, 1e-30))
        count = ops.where(downhill, state["downhill"] + 1, ops.zeros_like(state["downhill"]))
        old = count > 5
        kept = ops.where(downhill, 1.0 - alpha, zero)
        added = ops.where(downhill, mixed, zero)
        faster = ops.minimum(1.1 * pace, _LAST)
        pace = ops.where(downhill, ops.where(old, faster, pace), 0.5 * pace)
        pace = ops.where(state["downhill"] + state["taken"] > 0, pace, state["pace"])
        alpha = ops.where(downhill, ops.where(old, 0.99 * alpha, alpha), zero + _ALPHA)
        pace = ops.where(running, ops.maximum(pace, 1e-4), zero)
        velocities = spread(kept) * velocities + spread(added + pace) * forces
        moves = spread(pace) * velocities
        reach = _largest(ops.sqrt(ops.sum(ops.square(moves), axis=-1)), ids, num_graphs)
        if cell:
            flow = kept[:, None, None] * flow + (added + pace)[:, None, None] * virial
            strain = pace[:, None, None] * flow / _per_graph_atoms(inputs, num_graphs)
            # an edge of 5 Å stretches by no more than an atom moves
            reach = ops.maximum(reach, 5.0 * ops.max(ops.abs(strain), axis=(1, 2)))
        shorter = ops.minimum(_LONGEST / ops.maximum(reach, 1e-30), 1.0)
        high, low = add(state["positions"], state["positions_low"], moves * spread(shorter))
        new = {**state, "positions": high, "positions_low": low}
        if cell:
            new = {**stretch(new, strain * shorter[:, None, None], inputs), "cell_velocity": flow}
        new |= {
            "velocities": velocities * spread(ops.cast(running, velocities.dtype)),
            "pace": pace,
            "alpha": alpha,
            "downhill": count,
            "taken": state["taken"] + ops.cast(running, "int32"),
        }
        return evaluate(new)

    return step


def _cell_force(state: State, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the force on the strain per root of the atoms, eV, and the stress beyond pressure."""
    lattice = state["cell"]
    volumes = geometry.volumes(lattice)
    eye = ops.eye(3, dtype=lattice.dtype)
    excess = state["stress"] + inputs["pressure"] * eye
    scale = _per_graph_atoms(inputs, inputs["freedom"].shape[0])
    return -volumes[:, None, None] * excess / scale, excess


def _per_graph_atoms(inputs: Mapping[str, Tensor], num_graphs: int) -> Tensor:
    """The number of atoms, by which ASE too makes a strain a length: `(num_graphs, 1, 1)`."""
    real = ops.cast(inputs["masses"] > 0.0, inputs["masses"].dtype)
    counts = backend.segment_sum(real, inputs["graph_ids"], num_graphs)
    return ops.maximum(counts, 1.0)[:, :, None]


def _largest(values: Tensor, ids: Tensor, num_graphs: int) -> Tensor:
    return ops.maximum(ops.segment_max(values, ids, num_graphs), 0.0)


def _result(driver: Driver, index: int, converged: bool, num_steps: int) -> Relaxed:
    system, rows = driver.systems[index], driver.layout.rows[index]
    forces = driver.read("forces")[rows].astype(np.float64)
    free: Array = np.where(system.fixed[:, None], 0.0, forces)
    longest = float(np.max(np.linalg.norm(free, axis=1)))
    energy = float(driver.energies()[index])
    results: dict[str, Any] = {"energy": energy, "forces": forces}
    if system.is_periodic and "stress" in driver.state and np.all(system.atoms.pbc):
        stress = driver.read("stress")[index].astype(np.float64)
        results["stress"] = full_3x3_to_voigt_6_stress(stress)
    atoms = system.to_atoms()
    atoms.set_momenta(np.zeros((len(atoms), 3)))
    atoms.calc = SinglePointCalculator(atoms, **results)
    return Relaxed(atoms, converged, num_steps, longest, energy)
