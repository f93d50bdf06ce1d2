"""Frames of a run: kept, written as they come, and shown in a line of progress."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import keras_mlff
from keras_mlff.graph import Array
from keras_mlff.md.dynamics import Trajectory
from keras_mlff.md.engine.driver import Driver
from keras_mlff.md.engine.systems import System

_PER_SYSTEM = ("positions", "velocities", "forces", "cells", "potential", "kinetic", "temperature")


@dataclasses.dataclass(frozen=True)
class SimulatedTrajectory(Trajectory):
    """What `simulate` recorded, frame by frame.

    Attributes:
        velocities: `(num_frames, num_atoms, 3)`, Å·sqrt(eV/amu), ASE's unit.
        cells: `(num_frames, 3, 3)`, Å, zero without a cell.
        final: ASE's atoms after the last step, with momenta, from which a run goes on.
    """

    velocities: Array
    cells: Array
    final: Atoms


class Frames:
    """Keeps frames of the systems of a batch, and writes them.

    Args:
        systems: The systems.
        outputs: A file for each system, or `None`.
        time_step: fs.
    """

    def __init__(
        self, systems: Sequence[System], outputs: Sequence[Path | None], time_step: float
    ) -> None:
        self.systems, self.outputs, self.time_step = systems, outputs, time_step
        self.steps: list[int] = []
        self.frames: list[list[dict[str, Array]]] = [[] for _ in systems]
        self._writers: list[Any] = [None] * len(systems)

    def record(self, step: int, driver: Driver) -> None:
        """Keeps the systems as they are after a step."""
        self.steps.append(step)
        energies, forces = driver.energies(), driver.read("forces")
        for index, (system, rows) in enumerate(zip(self.systems, driver.layout.rows, strict=True)):
            frame: dict[str, Any] = {
                "positions": system.graph["positions"],
                "velocities": system.velocities,
                "forces": forces[rows].astype(np.float64),
                "cells": system.graph["cell"][0] if system.is_periodic else np.zeros((3, 3)),
                "potential": energies[index],
                "kinetic": system.kinetic_energy,
                "temperature": driver.temperature(index),
            }
            frame = {key: np.asarray(value) for key, value in frame.items()}
            self.frames[index].append(frame)
            self._write(index, step, frame)

    def _write(self, index: int, step: int, frame: Mapping[str, Array]) -> None:
        path = self.outputs[index]
        if path is None:
            return
        if self._writers[index] is None:
            kind = H5MDFile if path.suffix in (".h5", ".h5md", ".hdf5") else XYZFile
            self._writers[index] = kind(path, self.systems[index])
        self._writers[index].append(step, step * self.time_step, frame)

    def arrays(self) -> dict[str, Array]:
        """Returns all frames as arrays, for a checkpoint."""
        found = {"steps": np.asarray(self.steps)}
        for index, frames in enumerate(self.frames):
            for key in _PER_SYSTEM:
                found[f"frames_{index}_{key}"] = np.stack([frame[key] for frame in frames])
        return found

    def restore(self, saved: Mapping[str, Array]) -> None:
        """Takes the frames of a checkpoint up, and writes them anew."""
        self.steps = saved["steps"].tolist()
        for index in range(len(self.systems)):
            columns = {key: saved[f"frames_{index}_{key}"] for key in _PER_SYSTEM}
            self.frames[index] = [
                {key: column[row] for key, column in columns.items()}
                for row in range(len(self.steps))
            ]
            for step, frame in zip(self.steps, self.frames[index], strict=True):
                self._write(index, step, frame)

    def trajectories(self) -> list[Trajectory]:
        """Returns what was recorded of each system."""
        found: list[Trajectory] = []
        for system, frames in zip(self.systems, self.frames, strict=True):
            columns = {key: np.stack([frame[key] for frame in frames]) for key in _PER_SYSTEM}
            found.append(
                SimulatedTrajectory(
                    np.asarray(self.steps) * self.time_step,
                    columns["positions"],
                    columns["potential"],
                    columns["kinetic"],
                    columns["temperature"],
                    system.atoms.get_atomic_numbers(),
                    np.abs(np.linalg.det(columns["cells"])),
                    columns["velocities"],
                    columns["cells"],
                    system.to_atoms(),
                )
            )
        return found


class XYZFile:
    """Appends frames to an extended XYZ file, which a first frame begins anew."""

    def __init__(self, path: Path, system: System) -> None:
        self.path, self.system, self.is_new = path, system, True

    def append(self, step: int, time_fs: float, frame: Mapping[str, Array]) -> None:
        """Writes a frame."""
        atoms = self.system.atoms.copy()
        atoms.set_constraint()
        if self.system.is_periodic:
            atoms.set_cell(frame["cells"])
        atoms.set_positions(frame["positions"])
        atoms.set_momenta(frame["velocities"] * self.system.masses[:, None])
        atoms.info |= {"step": step, "time": time_fs}
        atoms.calc = SinglePointCalculator(
            atoms, energy=float(frame["potential"]), forces=frame["forces"]
        )
        write(self.path, atoms, format="extxyz", append=not self.is_new)
        self.is_new = False


class H5MDFile:
    """Appends frames to an H5MD file, which MDAnalysis, VMD and others read.

    The file is closed after each frame, so that a kill leaves a file that can be read.

    Reference: de Buyl, Colberg and Höfling, 2014, https://doi.org/10.1016/j.cpc.2014.01.018
    """

    def __init__(self, path: Path, system: System) -> None:
        self.path = path
        with h5py.File(path, "w") as file:
            about = file.create_group("h5md")
            about.attrs["version"] = np.asarray([1, 1])
            about.create_group("author").attrs["name"] = "unknown"
            creator = about.create_group("creator")
            creator.attrs["name"] = "keras_mlff"
            creator.attrs["version"] = keras_mlff.__version__
            units_of = about.create_group("modules/units")
            units_of.attrs["version"] = np.asarray([1, 0])
            atoms = file.create_group("particles/all")
            atoms["species"] = system.atoms.get_atomic_numbers()
            atoms["mass"] = system.masses
            atoms["mass"].attrs["unit"] = "u"
            box = atoms.create_group("box")
            box.attrs["dimension"] = 3
            box.attrs["boundary"] = [
                "periodic" if periodic else "none" for periodic in system.atoms.pbc
            ]
            num_atoms = len(system.masses)
            self._series(file, "particles/all/position", (num_atoms, 3), "Angstrom")
            self._series(file, "particles/all/velocity", (num_atoms, 3), "Angstrom fs-1")
            self._series(file, "particles/all/force", (num_atoms, 3), "eV Angstrom-1")
            self._series(file, "particles/all/box/edges", (3, 3), "Angstrom")
            self._series(file, "observables/potential_energy", (), "eV")
            self._series(file, "observables/kinetic_energy", (), "eV")
            self._series(file, "observables/temperature", (), "K")

    @staticmethod
    def _series(file: Any, name: str, shape: tuple[int, ...], unit: str) -> None:
        group = file.create_group(name)
        group.create_dataset("step", (0,), "i8", maxshape=(None,))
        group.create_dataset("time", (0,), "f8", maxshape=(None,)).attrs["unit"] = "fs"
        values = group.create_dataset("value", (0, *shape), "f8", maxshape=(None, *shape))
        values.attrs["unit"] = unit

    def append(self, step: int, time_fs: float, frame: Mapping[str, Array]) -> None:
        """Writes a frame."""
        rows = {
            "particles/all/position": frame["positions"],
            "particles/all/velocity": frame["velocities"] * keras_mlff.units.femtosecond,
            "particles/all/force": frame["forces"],
            "particles/all/box/edges": frame["cells"],
            "observables/potential_energy": frame["potential"],
            "observables/kinetic_energy": frame["kinetic"],
            "observables/temperature": frame["temperature"],
        }
        with h5py.File(self.path, "a") as file:
            for name, value in rows.items():
                for part, row in (("step", step), ("time", time_fs), ("value", value)):
                    dataset = file[name][part]
                    dataset.resize(len(dataset) + 1, axis=0)
                    dataset[-1] = row


class Progress:
    """Shows a line about a run, at most once a second.

    Args:
        num_steps: Of the run.
        time_step: fs.
        verbose: 0 shows nothing.
    """

    def __init__(self, num_steps: int, time_step: float, verbose: int) -> None:
        self.num_steps, self.time_step, self.verbose = num_steps, time_step, verbose
        self._start: tuple[int, float] | None = None
        self._shown = 0.0

    def show(self, step: int, frames: Frames) -> None:
        """Shows steps, speed and the first system's temperature and energy."""
        now = time.monotonic()
        if self._start is None:  # the first frames were compiled for
            self._start = (step, now)
            return
        if not self.verbose or (now - self._shown < 1.0 and step < self.num_steps):
            return
        self._shown = now
        speed = (step - self._start[0]) / max(now - self._start[1], 1e-9)
        last = frames.frames[0][-1]
        per_day = speed * self.time_step * 86_400.0 * 1e-6
        sys.stderr.write(
            f"\rstep {step}/{self.num_steps}  {speed:.0f} steps/s  {per_day:.2f} ns/day  "
            f"{float(last['temperature']):.0f} K  "
            f"{float(last['potential'] + last['kinetic']):.4f} eV "
        )
        sys.stderr.flush()

    def close(self) -> None:
        """Ends the line."""
        if self.verbose and self._shown:
            sys.stderr.write("\n")
