"""Short runs of molecular dynamics with ASE's integrators."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.constraints import FixCom
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet

from keras_mlff import units
from keras_mlff.graph import Array, Graph
from keras_mlff.md.calculator import name_atoms

_THERMAL = 10.0  # times the bath's temperature: what few atoms reach by chance


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """What a run of molecular dynamics recorded, frame by frame.

    Attributes:
        times: `(num_frames,)`, fs.
        positions: `(num_frames, num_atoms, 3)`, Å.
        potential_energies: `(num_frames,)`, eV.
        kinetic_energies: `(num_frames,)`, eV.
        temperatures: `(num_frames,)`, K.
        atomic_numbers: `(num_atoms,)`.
        volumes: `(num_frames,)`, Å³, zero without a cell.
    """

    times: Array
    positions: Array
    potential_energies: Array
    kinetic_energies: Array
    temperatures: Array
    atomic_numbers: Array
    volumes: Array

    @property
    def total_energies(self) -> Array:
        """Potential plus kinetic energies: `(num_frames,)`, eV; constant in NVE."""
        return self.potential_energies + self.kinetic_energies


def to_atoms(graph: Graph) -> Atoms:
    """Makes ASE's atoms from a single structure.

    Args:
        graph: One structure.

    Returns:
        ASE's atoms, with the cell where there is one. Total charge and spin multiplicity are in
        `info["charge"]` and `info["spin"]`, where the calculator looks for them.
    """
    periodic = {"cell": graph["cell"][0], "pbc": graph["pbc"][0]} if "cell" in graph else {}
    info = {
        "charge": float(graph["total_charge"][0]),
        "spin": int(graph["spin_multiplicity"][0]),
    }
    return Atoms(graph["atomic_numbers"], graph["positions"], info=info, **periodic)


def set_temperature(atoms: Atoms, temperature: float, seed: int = 0) -> None:
    """Draws velocities of exactly this temperature, without drift or, for molecules, rotation.

    Args:
        atoms: ASE's atoms, whose momenta are replaced.
        temperature: The temperature in K, which the velocities have exactly.
        seed: Fixes the velocities.

    Raises:
        ValueError: If the temperature is negative or not finite.
    """
    _check(temperature=temperature)
    normal = np.random.default_rng(seed).normal(size=(len(atoms), 3))
    atoms.set_momenta(normal * np.sqrt(atoms.get_masses()[:, None]))
    if len(atoms) > 1:
        Stationary(atoms, preserve_temperature=False)
        if len(atoms) > 2 and not np.any(atoms.pbc):  # two atoms would hardly keep anything
            ZeroRotation(atoms, preserve_temperature=False)
    drawn = atoms.get_temperature()
    scale = np.sqrt(temperature / drawn) if drawn > 0.0 else 0.0
    atoms.set_momenta(atoms.get_momenta() * scale)


def run_nve(
    atoms: Atoms,
    num_steps: int,
    time_step: float = 0.5,
    interval: int = 1,
    output: str | Path | None = None,
    max_temperature: float = 10_000.0,
) -> Trajectory:
    """Runs at constant energy (velocity Verlet) from the velocities that the atoms have.

    Args:
        atoms: ASE's atoms with a calculator. They are moved.
        num_steps: The number of steps.
        time_step: The length of a step in fs.
        interval: Steps from one recorded frame to the next.
        output: An extended XYZ file to write the frames to; `None` writes none.
        max_temperature: The temperature in K above which the run is stopped; see `Watch`.

    Returns:
        The recorded frames.

    Raises:
        ValueError: If a number makes no sense.
        CalculationFailed: If energy or temperature run away.
    """
    _check(num_steps=num_steps, interval=interval, time_step=time_step)
    dynamics = VelocityVerlet(atoms, timestep=time_step * units.femtosecond)
    return _run(dynamics, num_steps, time_step, interval, output, max_temperature)


def run_nvt(
    atoms: Atoms,
    temperature: float,
    num_steps: int,
    time_step: float = 0.5,
    friction: float = 0.01,
    seed: int = 0,
    interval: int = 1,
    output: str | Path | None = None,
    max_temperature: float = 10_000.0,
) -> Trajectory:
    """Runs at constant temperature (Langevin), with the center of mass held in place.

    Args:
        atoms: ASE's atoms with a calculator. They are moved.
        temperature: The temperature of the bath in K.
        num_steps: The number of steps.
        time_step: The length of a step in fs.
        friction: How strongly atoms are coupled to the bath, in 1/fs.
        seed: Fixes the random forces.
        interval: Steps from one recorded frame to the next.
        output: An extended XYZ file to write the frames to; `None` writes none.
        max_temperature: The temperature in K above which the run is stopped; see `Watch`.

    Returns:
        The recorded frames.

    Raises:
        ValueError: If a number makes no sense.
        CalculationFailed: If energy or temperature run away.
    """
    _check(num_steps=num_steps, interval=interval, time_step=time_step)
    _check(temperature=temperature, friction=friction)
    constraints = list(atoms.constraints)
    free = not constraints and len(atoms) > 1
    if free:
        atoms.set_constraint(FixCom())
    try:
        dynamics = Langevin(
            atoms,
            timestep=time_step * units.femtosecond,
            temperature_K=temperature,
            friction=friction / units.femtosecond,
            fixcm=False,
            rng=np.random.default_rng(seed),
        )
        limit = max(max_temperature, _THERMAL * temperature)
        return _run(dynamics, num_steps, time_step, interval, output, limit)
    finally:
        atoms.set_constraint(constraints)


def run_npt(
    atoms: Atoms,
    temperature: float,
    num_steps: int,
    pressure: float = 0.0,
    time_step: float = 1.0,
    thermostat_time: float = 100.0,
    barostat_time: float = 1000.0,
    interval: int = 1,
    output: str | Path | None = None,
    max_temperature: float = 10_000.0,
) -> Trajectory:
    """Runs a crystal at constant temperature and pressure, with a cell that keeps its shape.

    The thermostat is a Nosé-Hoover chain, the barostat that of Martyna, Tobias and Klein.

    Args:
        atoms: ASE's periodic atoms with a calculator that knows stress. They are moved.
        temperature: The temperature of the bath in K.
        num_steps: The number of steps.
        pressure: The pressure outside in GPa.
        time_step: The length of a step in fs.
        thermostat_time: The time in fs within which the thermostat answers.
        barostat_time: The time in fs within which the barostat answers.
        interval: Steps from one recorded frame to the next.
        output: An extended XYZ file to write the frames to; `None` writes none.
        max_temperature: The temperature in K above which the run is stopped; see `Watch`.

    Returns:
        The recorded frames.

    Raises:
        ValueError: If the atoms are not periodic in all directions, or a number makes no sense.
        CalculationFailed: If energy or temperature run away.

    Reference: Martyna, Tobias and Klein, 1994, https://doi.org/10.1063/1.467468
    """
    _check(num_steps=num_steps, interval=interval, time_step=time_step)
    _check(temperature=temperature, pressure=pressure)
    _check(thermostat_time=thermostat_time, barostat_time=barostat_time)
    if not np.all(atoms.pbc):
        raise ValueError(
            f"Pressure needs a cell that is periodic in all directions. Received: pbc={atoms.pbc}."
        )
    dynamics = IsotropicMTKNPT(
        atoms,
        timestep=time_step * units.femtosecond,
        temperature_K=temperature,
        pressure_au=pressure * units.gigapascal,
        tdamp=thermostat_time * units.femtosecond,
        pdamp=barostat_time * units.femtosecond,
    )
    limit = max(max_temperature, _THERMAL * temperature)
    return _run(dynamics, num_steps, time_step, interval, output, limit)


class Watch:
    """Stops dynamics that run away, as a model does where it has no data.

    It stops them above a temperature, and where the total energy changes from one step to the next
    by more than 1 eV, 0.1 eV per atom and ten times what a thermostat exchanges.

    Args:
        dynamics: What runs.
        max_temperature: K; infinite never stops, whatever the energy.

    Raises:
        CalculationFailed: When called after such a step, with the fastest atoms.
    """

    def __init__(self, dynamics: MolecularDynamics, max_temperature: float) -> None:
        self.dynamics, self.max_temperature = dynamics, max_temperature
        self._last: tuple[float, float] | None = None  # energy and what it may change by

    def __call__(self) -> None:
        atoms = self.dynamics.atoms
        temperature, kinetic = atoms.get_temperature(), atoms.get_kinetic_energy()
        energy = atoms.get_potential_energy() + kinetic
        before, allowed = self._last or (energy, 0.0)
        jumped = abs(energy - before) > allowed
        if np.isfinite(self.max_temperature) and (jumped or temperature > self.max_temperature):
            energies = 0.5 * np.sum(atoms.get_momenta() * atoms.get_velocities(), axis=1)
            fastest = np.argsort(-energies)[: max(1, int(np.sum(energies > 0.5 * energies.max())))]
            raise CalculationFailed(
                "The dynamics ran away: the model knows no such structure, or the time step is too "
                f"long. Received: step {self.dynamics.nsteps}, {temperature:.0f} K (at most "
                f"{self.max_temperature:.0f}), total energy {before:.3f} -> {energy:.3f} eV; the "
                f"fastest atoms are {name_atoms(atoms, fastest)}. Look at the last frames, take a "
                "shorter step or another model, or raise `max_temperature`."
            )
        thermal = 10 * units.kelvin * temperature * np.sqrt(3 * len(atoms))
        self._last = energy, max(1.0, 0.1 * len(atoms)) + thermal


def _check(**settings: float) -> None:
    """Refuses settings without sense; each is named as the argument that it is."""
    for name, value in settings.items():
        counts = name in ("num_steps", "interval")
        least = {"num_steps": 0, "interval": 1, "pressure": -np.inf}.get(name, 0)
        may_vanish = counts or name in ("temperature", "friction")
        if (
            not np.isfinite(value)
            or value < least
            or (value == least and not may_vanish)
            or (counts and value != int(value))
        ):
            kind = "a whole number" if counts else "a finite number"
            bound = f"of at least {least}" if may_vanish else f"above {least}"
            raise ValueError(f"`{name}` is {kind} {bound}. Received: {name}={value}.")


def _run(
    dynamics: MolecularDynamics,
    num_steps: int,
    time_step: float,
    interval: int,
    output: str | Path | None,
    max_temperature: float,
) -> Trajectory:
    atoms = dynamics.atoms
    frames: list[tuple[Any, ...]] = []

    def keep() -> None:
        frames.append(
            (
                dynamics.nsteps * time_step,
                atoms.get_positions(),
                atoms.get_potential_energy(),
                atoms.get_kinetic_energy(),
                atoms.get_temperature(),
                abs(np.linalg.det(atoms.cell.array)),
            )
        )
        if output is not None:
            # what was there stays until there is something to replace it
            write(output, atoms, format="extxyz", append=len(frames) > 1)

    dynamics.attach(keep, interval=interval)
    dynamics.attach(Watch(dynamics, max_temperature))
    dynamics.run(num_steps)
    columns = [np.asarray(column, np.float64) for column in zip(*frames, strict=True)]
    times, positions, potential, kinetic, temperatures, volumes = columns
    numbers = atoms.get_atomic_numbers()
    return Trajectory(times, positions, potential, kinetic, temperatures, numbers, volumes)
