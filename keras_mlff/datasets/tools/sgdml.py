"""The npz files of sGDML, in which MD17, MD22 and others are published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import units
from keras_mlff.datasets.tools.builder import AtomisticDatasetBuilder
from keras_mlff.datasets.tools.sources import load_npz
from keras_mlff.graph import Array

ARRAYS = {"positions": "R", "atomic_numbers": "z", "energy": "E", "forces": "F"}
LAYOUT = "npz with R (n, num_atoms, 3) in Å, z (num_atoms,), E (n, 1) in kcal/mol, F in kcal/mol/Å"


class TrajectoryBuilder(AtomisticDatasetBuilder):
    """Yields the frames of one molecule from such a file."""

    def frames(
        self, key: str, path: Path, shuffle: bool = True, rows: Array | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Converts frames; a trajectory is shuffled, so that its slices are samples.

        Args:
            key: The name in `SOURCES` of the file, or of the archive that it is part of.
            path: The npz file, in kcal/mol and Å.
            shuffle: Whether to shuffle the frames, with seed 0. A publication that drew its frames
                at random keeps its order.
            rows: The frames to read, in their order, where a publication names them.

        Yields:
            The number of a frame and the frame.
        """
        with self.readable(key):
            source = load_npz(path, ARRAYS)
            count = len(source["positions"])
            if (
                source["energy"].size != count
                or source["forces"].shape != source["positions"].shape
            ):
                raise OSError(f"arrays of different lengths: {[len(x) for x in source.values()]}")
            if rows is not None and rows.max() >= count:
                raise OSError(f"a split names frame {rows.max()}, but there are {count}")
        if rows is None:
            rows = np.random.default_rng(0).permutation(count) if shuffle else np.arange(count)
        energies = source["energy"].reshape(count)
        numbers = source["atomic_numbers"].reshape(-1).astype(np.int32)
        for row in rows.tolist():
            example = self.example(
                positions=source["positions"][row],  # Å
                atomic_numbers=numbers,
                energy=energies[row] * units.kcal_per_mol,
                forces=source["forces"][row] * units.kcal_per_mol_per_angstrom,
            )
            yield row, example
