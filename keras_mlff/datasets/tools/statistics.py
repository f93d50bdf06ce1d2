"""Statistics of structures with labels, collected one by one in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_mlff.datasets.tools.checks import Sampler, distances
from keras_mlff.graph import INPUT_LEVELS, MAX_ATOMIC_NUMBER, Array, Graph, level

NEIGHBOR_CUTOFF = 5.0  # Å
_BLOCK = 1024  # structures


class Statistics(NamedTuple):
    """What a network should not have to learn, and what batches must have room for."""

    num_structures: int
    num_atoms: dict[int, int]  # of each element
    mean_size: float  # atoms in a structure
    largest_size: int
    mean_neighbors: float  # of an atom within 5 Å, in a sample of structures
    force_rms: float | None  # eV/Å, of a component
    mean: dict[str, float]  # of each label of a structure that is one number
    std: dict[str, float]
    references: dict[str, dict[int, float]]  # of extensive labels: a value per element
    determined: bool  # whether the compositions determine every one of them
    std_after: dict[str, float]  # what the references leave

    def __str__(self) -> str:
        lines = [
            f"{self.num_structures} structures of {self.mean_size:.4g} atoms, at most "
            f"{self.largest_size}; {self.mean_neighbors:.3g} neighbors within "
            f"{NEIGHBOR_CUTOFF:.3g} Å",
            f"atoms of each element: {self.num_atoms}",
        ]
        if self.force_rms is not None:
            lines.append(f"force component: rms {self.force_rms:.4g} eV/Å")
        for label, mean in self.mean.items():
            after = ""
            if label in self.std_after:
                after = f"; {self.std_after[label]:.6g} after references per element"
            lines.append(f"{label}: mean {mean:.8g}, std {self.std[label]:.6g}{after}")
        for label, references in self.references.items():
            values = ", ".join(f"{number}: {value:.6g}" for number, value in references.items())
            lines.append(f"references of {label}: {values}")
        if self.references and not self.determined:
            lines.append("The compositions do not determine these; they are of least norm.")
        return "\n".join(lines)


class Tally:
    """Collects statistics from structures one by one."""

    def __init__(self, extensive: Sequence[str] = ("energy",)) -> None:
        self._extensive = tuple(extensive)
        self._structures = self._largest = 0
        self._atoms = np.zeros(MAX_ATOMIC_NUMBER + 1, np.int64)  # by atomic number
        self._sampler = Sampler()
        self._neighbors = self._centers = 0
        self._force_squares, self._force_components = 0.0, 0
        self._moments: dict[str, tuple[int, float, float]] = {}  # count, mean, sum of squares
        self._block: list[Array] = []
        self._triangle: Array = np.zeros((0, MAX_ATOMIC_NUMBER + 1 + len(self._extensive)))
        self._fitted = True

    def add(self, graph: Graph) -> None:
        """Measures one structure."""
        numbers = graph["atomic_numbers"]
        counts = np.bincount(numbers, minlength=MAX_ATOMIC_NUMBER + 1)
        self._atoms += counts
        self._largest = max(self._largest, len(numbers))
        if self._sampler.takes(self._structures):
            try:
                self._neighbors += len(distances(graph, NEIGHBOR_CUTOFF)[0])
                self._centers += len(numbers)
            except ValueError:  # atoms at one place, which the report tells of
                pass
        if "forces" in graph:
            self._force_squares += float(np.square(graph["forces"]).sum())
            self._force_components += graph["forces"].size
        for label, value in graph.items():
            one_number = level(label) == "structure" and value.shape == (1,)
            if label not in INPUT_LEVELS and one_number:
                self._moments[label] = _welford(self._moments.get(label), float(value[0]))
        self._fit(graph, counts)
        self._structures += 1

    def statistics(self) -> Statistics:
        """Tells what was found so far."""
        self._shrink()
        numbers = (np.flatnonzero(self._atoms[1:]) + 1).tolist()
        references: dict[str, dict[int, float]] = {}
        after: dict[str, float] = {}
        determined = True
        if self._fitted and self._structures:
            counts = self._triangle[:, numbers]
            for column, label in enumerate(self._extensive, MAX_ATOMIC_NUMBER + 1):
                values = self._triangle[:, column]
                solution, _, rank, _ = np.linalg.lstsq(counts, values, rcond=None)
                references[label] = dict(zip(numbers, solution.tolist(), strict=True))
                rest = np.square(values - counts @ solution).sum()
                after[label] = float(np.sqrt(rest / self._structures))
                determined = bool(rank == len(numbers))
        return Statistics(
            num_structures=self._structures,
            num_atoms={number: int(self._atoms[number]) for number in numbers},
            mean_size=float(self._atoms.sum()) / max(self._structures, 1),
            largest_size=self._largest,
            mean_neighbors=self._neighbors / max(self._centers, 1),
            force_rms=float(np.sqrt(self._force_squares / self._force_components))
            if self._force_components
            else None,
            mean={label: mean for label, (_, mean, _) in self._moments.items()},
            std={
                label: float(np.sqrt(squares / count))
                for label, (count, _, squares) in self._moments.items()
            },
            references=references,
            determined=determined,
            std_after=after,
        )

    def _fit(self, graph: Graph, counts: Array) -> None:
        """Adds a row to the least squares problem of the references."""
        values = graph
        if not all(label in values and values[label].shape == (1,) for label in self._extensive):
            self._fitted = False
            return
        labels = [values[label][0] for label in self._extensive]
        self._block.append(np.concatenate([counts, labels]))
        if len(self._block) == _BLOCK:
            self._shrink()

    def _shrink(self) -> None:
        """Replaces rows by their triangular factor, which has the same least squares solution.

        The normal equations would square the condition number and lose the energies' digits.
        """
        if self._block:
            rows = np.concatenate([self._triangle, np.stack(self._block)])
            self._triangle = np.asarray(np.linalg.qr(rows, mode="r"))
            self._block = []


def _welford(moments: tuple[int, float, float] | None, value: float) -> tuple[int, float, float]:
    count, mean, squares = moments or (0, 0.0, 0.0)
    change = value - mean
    mean += change / (count + 1)
    return count + 1, mean, squares + change * (value - mean)
