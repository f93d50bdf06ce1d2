"""A file from which a stopped run goes on, bit for bit."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff.graph import Array
from keras_mlff.md.engine.driver import Driver
from keras_mlff.md.engine.frames import Frames
from keras_mlff.md.engine.noise import Noise
from keras_mlff.md.engine.systems import System
from keras_mlff.packing.budget import Budget

_SECONDS = 60.0  # between two writings


class Checkpoint:
    """Holds the state of the loop, the list of neighbors it has, generators and frames.

    Args:
        path: The file; `None` keeps nothing.
        first: The number of the batch's first system.
        is_only: Whether there is no other batch, whose file needs another name.
    """

    def __init__(self, path: str | Path | None, first: int, is_only: bool) -> None:
        self.path = None if path is None else Path(path)
        if self.path is not None and not is_only:
            self.path = self.path.with_name(f"{self.path.stem}_{first}{self.path.suffix}")
        self._written = time.monotonic()

    def load(self, fingerprint: str) -> Mapping[str, Array] | None:
        """Reads the file, if there is one.

        Raises:
            ValueError: If it is of another run, or no checkpoint.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                saved = dict(file)
            of = str(saved["fingerprint"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ValueError(f"'{self.path}' is no checkpoint of a simulation.") from error
        if of != fingerprint:
            raise ValueError(
                "The checkpoint is of another run: settings, atoms or velocities at its beginning "
                f"differ. Received: checkpoint='{self.path}'. Delete it, or name another file."
            )
        return saved

    def save(self, driver: Driver, noise: Noise, frames: Frames, fingerprint: str) -> None:
        """Writes the file, if the last writing was some time ago or the run has ended."""
        if self.path is None or time.monotonic() - self._written < _SECONDS:
            return
        arrays: dict[str, Any] = {
            "fingerprint": fingerprint,
            "noise": noise.state(),
            "budget": np.asarray(driver.layout.budget),
            "skin": driver.listed_skin,
            "freedom": driver.freedom,
        }
        for index, (positions, cell) in enumerate(driver.listed):
            arrays[f"listed_{index}"] = positions
            if cell is not None:
                arrays[f"cell_{index}"] = cell
        arrays |= {f"state_{name}": driver.read(name) for name in driver.state}
        arrays |= frames.arrays()
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, self.path)  # a kill leaves the one before
        self._written = time.monotonic()

    def restore_systems(self, saved: Mapping[str, Array], systems: Sequence[System]) -> Budget:
        """Puts systems where they were when neighbors were searched; returns the batch's sizes."""
        for index, system in enumerate(systems):
            system.graph = {**system.graph, "positions": saved[f"listed_{index}"]}
            if f"cell_{index}" in saved:
                system.graph["cell"] = saved[f"cell_{index}"]
        return Budget(*(int(size) for size in saved["budget"]))

    def restore_state(self, saved: Mapping[str, Array], driver: Driver) -> None:
        """Puts the tensors of the loop back."""
        found = {name: saved[f"state_{name}"] for name in driver.state}
        driver.state = driver.tensors(found)
        freedom = driver.layout.per_graph(saved["freedom"], 0.0)
        driver.inputs |= driver.tensors({"freedom": freedom})
        driver.update()

    def remove(self) -> None:
        """Deletes the file of a run that has ended."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
