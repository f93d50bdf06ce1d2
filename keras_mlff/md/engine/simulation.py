"""Molecular dynamics of one structure or many."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase.calculators.calculator import CalculationFailed

from keras_mlff import units
from keras_mlff.core.construction import precision
from keras_mlff.graph import Array
from keras_mlff.md.dynamics import Trajectory
from keras_mlff.md.engine import loop
from keras_mlff.md.engine.checkpoint import Checkpoint
from keras_mlff.md.engine.driver import Driver
from keras_mlff.md.engine.ensembles import CHAIN
from keras_mlff.md.engine.frames import Frames, Progress
from keras_mlff.md.engine.noise import Noise
from keras_mlff.md.engine.settings import Settings, check, check_cell, temperatures_of
from keras_mlff.md.engine.systems import System, collect, draw_velocities, remove_drift
from keras_mlff.models import ForceField

_MOST_DRAWN = 4_000_000  # random numbers that are held at once
_JUMP = 0.1  # eV per atom: a total energy that has changed by more was not conserved


def simulate(
    model: ForceField,
    systems: Any,
    ensemble: str = "nve",
    temperature: float | npt.ArrayLike = 300.0,
    num_steps: int = 1000,
    time_step: float = 0.5,
    seed: int = 0,
    *,
    interval: int = 10,
    pressure: float = 0.0,
    friction: float = 0.01,
    thermostat_time: float = 100.0,
    barostat_time: float = 1000.0,
    compressibility: float = 0.1,
    output: str | Path | None = None,
    checkpoint: str | Path | None = None,
    verbose: int = 0,
    skin: float = 0.5,
    max_edges: int = 200_000,
    max_temperature: float = 10_000.0,
) -> Any:
    """Runs molecular dynamics in a loop that is compiled with the model inside.

    Atoms that have momenta keep them; others get velocities of the (first) temperature, without
    drift or, for molecules, rotation. Structures are simulated together, many in a batch, and do
    not see each other. Positions and velocities are held in twice the precision of the model.

    Args:
        model: A model that predicts forces.
        systems: ASE's atoms, a graph of one structure, a SMILES (with RDKit), or a list of them.
            Atoms fixed by `ase.constraints.FixAtoms` stay where they are. What was given is not
            changed.
        ensemble: `"nve"` (velocity Verlet); constant temperature by `"langevin"` (BAOAB), `"svr"`
            (stochastic velocity rescaling) or `"nhc"` (a Nosé-Hoover chain); constant pressure too
            by `"npt"` (stochastic cell rescaling, the cell keeps its shape) or
            `"npt_anisotropic"`, both with velocity rescaling.
        temperature: K. Two temperatures are a ramp from the first to the second; `num_steps`
            temperatures are those of each step.
        num_steps: The number of steps.
        time_step: The length of a step in fs.
        seed: Fixes velocities and noise, the same on all backends.
        interval: Steps from one recorded frame to the next.
        pressure: The pressure outside in GPa.
        friction: Of the Langevin bath, in 1/fs.
        thermostat_time: The time in fs within which other thermostats answer.
        barostat_time: The time in fs within which the barostat answers.
        compressibility: About that of the material, 1/GPa: 0.46 for water, 0.01 for metals. It
            changes how fast the volume moves, not where.
        output: A file for frames: extended XYZ (`.xyz`, `.extxyz`) or H5MD (`.h5`, `.h5md`). Of
            several systems each gets a file of its own, `name_0.xyz`, ...
        checkpoint: A file from which a run that was stopped goes on, bit for bit; it is deleted
            when the run has ended.
        verbose: 1 shows steps per second, ns per day, temperature and energy.
        skin: Å, how much farther than the cutoff neighbors are searched. They are searched anew
            before an atom has moved by half of it.
        max_edges: Edges of a batch, more are simulated one batch after the other. It bounds the
            memory.
        max_temperature: K, above which a run is stopped.

    Returns:
        The recorded frames, a list of them where systems came in a list. `final` holds the atoms
        at the end, from which a run goes on.

    Raises:
        TypeError: If `model` or a system is something else.
        ValueError: If an argument makes no sense, or a preset has never seen an element.
        CalculationFailed: If energy and forces are not finite, the temperature runs away or energy
            is not conserved; the message names atoms.

    Example:
        ```python
        atoms = ase.build.molecule("CH3CH2OH")
        model = So3krates.from_preset("md17_ethanol")
        trajectory = simulate(model, atoms, "langevin", temperature=300.0, num_steps=10_000)
        going_on = simulate(model, trajectory.final, num_steps=10_000)
        ```

    Reference: Leimkuhler and Matthews, 2013, https://doi.org/10.1093/amrx/abs010; Bussi, Donadio
        and Parrinello, 2007, https://doi.org/10.1063/1.2408420; Bernetti and Bussi, 2020,
        https://doi.org/10.1063/5.0020514
    """
    steps = int(num_steps) if np.isfinite(num_steps) else 0
    settings = Settings(
        ensemble,
        time_step,
        num_steps,
        interval,
        temperatures_of(temperature, steps),
        pressure,
        friction,
        thermostat_time,
        barostat_time,
        compressibility,
        seed,
        skin,
        max_temperature,
    )
    check(settings)
    check_model(model)
    found, single = collect(systems)
    for system in found:
        model.check_domain(system.graph)
        if settings.kind.barostat is not None:
            check_cell(system)
    results: list[Trajectory] = []
    saves: list[Checkpoint] = []
    with precision(model.dtype_policy):
        for indices in batches(found, model, max_edges):
            some = [found[index] for index in indices]
            outputs = [_output(output, index, single) for index in indices]
            saved = Checkpoint(checkpoint, indices[0], len(indices) == len(found))
            saves.append(saved)
            results += _run(model, some, indices, settings, outputs, saved, verbose)
    for saved in saves:
        saved.remove()
    return results[0] if single else results


def _run(
    model: ForceField,
    systems: list[System],
    indices: list[int],
    settings: Settings,
    outputs: list[Path | None],
    checkpoint: Checkpoint,
    verbose: int,
) -> list[Trajectory]:
    """Simulates the systems of one batch."""
    kind = settings.kind
    noise = Noise(settings.seed, indices)
    saved = checkpoint.load(_fingerprint(settings, systems))
    if saved is None:
        for index, system in enumerate(systems):
            if not np.any(system.velocities):
                random = noise.generator("velocities", index)
                draw_velocities(system, settings.temperatures[0], random)
            elif kind.thermostat is not None:
                remove_drift(system, rotation=False)
    program = loop.program(model, kind, kind.step)
    budget, skin = None, settings.skin
    if saved is not None:
        budget, skin = checkpoint.restore_systems(saved, systems), float(saved["skin"])
        noise.restore(str(saved["noise"]))
    driver = Driver(model, systems, program, skin, kind.barostat is not None, budget)
    driver.skin = settings.skin  # the list of a checkpoint may be wider
    if kind.thermostat == "langevin":
        driver.count_rotation()
    if kind.thermostat == "nhc":
        driver.state |= driver.tensors({"chain": np.zeros((len(systems), CHAIN))})
    frames = Frames(systems, outputs, settings.time_step)
    if saved is not None:
        checkpoint.restore_state(saved, driver)
        frames.restore(saved)
    progress = Progress(settings.num_steps, settings.time_step, verbose)
    watch = Watch(settings, driver)
    if not frames.steps:
        frames.record(0, driver)
    step = int(driver.read("step"))
    most = max(1, _MOST_DRAWN // (3 * driver.layout.budget.num_atoms))
    heat = units.kelvin * settings.temperatures
    while step < settings.num_steps:
        # a chunk has one length, so that one program serves all
        length = min(settings.interval, most)
        end = min(settings.num_steps, (step // settings.interval + 1) * settings.interval)
        end = min(end, step + length)
        drawn = noise.draw(kind, end - step, driver.freedom, driver.layout)
        drawn["heat"] = np.repeat(heat[step:end, None], driver.layout.budget.num_graphs, axis=1)
        padded = {
            key: np.concatenate([value, np.zeros((length - len(value), *value.shape[1:]))])
            for key, value in drawn.items()
        }
        driver.run(padded | settings.numbers, step, end)
        step = end
        watch(step)
        if step % settings.interval == 0 or step == settings.num_steps:
            frames.record(step, driver)
            progress.show(step, frames)
            checkpoint.save(driver, noise, frames, _fingerprint(settings, systems))
    progress.close()
    return frames.trajectories()


class Watch:
    """Stops a run that runs away, and names the fastest atoms.

    Args:
        settings: Of the run.
        driver: Its driver.
    """

    def __init__(self, settings: Settings, driver: Driver) -> None:
        self.settings, self.driver = settings, driver
        self.conserves = settings.ensemble == "nve"
        self.start = self._totals()

    def _totals(self) -> Array:
        kinetic = [system.kinetic_energy for system in self.driver.systems]
        return np.asarray(self.driver.energies() + kinetic)

    def __call__(self, step: int) -> None:
        """Looks at the systems after a step.

        Raises:
            CalculationFailed: If one runs away.
        """
        totals = self._totals() if self.conserves else self.start
        for index, system in enumerate(self.driver.systems):
            temperature = self.driver.temperature(index)
            change = totals[index] - self.start[index]
            jumped = abs(change) > max(1.0, _JUMP * len(system.masses))
            if np.isfinite(temperature) and temperature <= self.limit and not jumped:
                continue
            energies = system.masses * np.sum(np.square(system.velocities), axis=1)
            fastest = np.argsort(-energies)[:3]
            raise CalculationFailed(
                "The dynamics ran away: the model knows no such structure, or the time step is too "
                f"long. Received: system {index}, step {step}, {temperature:.0f} K (at most "
                f"{self.limit:.0f}), total energy changed by {change:.3f} eV; the fastest atoms "
                f"are {system.name(fastest)}. Look at the last frames, take a shorter step or "
                "another model, or raise `max_temperature`."
            )

    @property
    def limit(self) -> float:
        """The temperature in K above which a run is stopped."""
        return max(self.settings.max_temperature, 10.0 * float(self.settings.temperatures.max()))


def check_model(model: Any) -> None:
    """Refuses what predicts no forces.

    Raises:
        TypeError: If it is no model.
        ValueError: If it has no energy, or terms of long range.
    """
    if not isinstance(model, ForceField):
        raise TypeError(
            "A model of this package is needed, such as CMRET.from_preset('ch2'). Received: "
            f"model={model!r}."
        )
    if "forces" not in model.property_names:
        raise ValueError(
            "Atoms are moved by forces, and this model predicts none. Received: a model of "
            f"{model.property_names}. Choose one with an EnergyHead."
        )
    if model.long_range_cutoff is not None:
        raise ValueError(
            "The loop on the device keeps no list of far pairs yet. Received: a model with "
            f"long_range_cutoff={model.long_range_cutoff}. Use MLFFCalculator with ASE's dynamics."
        )


def batches(systems: list[System], model: ForceField, max_edges: int) -> list[list[int]]:
    """Divides systems, in their order, into batches of a limited number of edges."""
    groups: list[list[int]] = [[]]
    total = 0
    for index, system in enumerate(systems):
        graph = model.graph_spec.add_edges(system.graph)
        num_edges = len(graph["senders"])
        if groups[-1] and total + num_edges > max_edges:
            groups.append([])
            total = 0
        groups[-1].append(index)
        total += num_edges
    return groups


def _output(output: str | Path | None, index: int, single: bool) -> Path | None:
    if output is None:
        return None
    path = Path(output)
    return path if single else path.with_name(f"{path.stem}_{index}{path.suffix}")


def _fingerprint(settings: Settings, systems: list[System]) -> str:
    """Says of which run a checkpoint is: the same settings, atoms and beginning."""
    found = hashlib.sha256(repr(dataclasses.replace(settings, temperatures=np.zeros(0))).encode())
    found.update(settings.temperatures.tobytes())
    for system in systems:
        for array in (system.atoms.numbers, system.atoms.positions, system.atoms.get_momenta()):
            found.update(np.ascontiguousarray(array).tobytes())
        found.update(system.atoms.cell.array.tobytes())
    return found.hexdigest()
