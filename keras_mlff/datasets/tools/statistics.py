"""Statistics of structures with labels, collected one by one in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_mlff import quantities
from keras_mlff.datasets.tools.checks import Sampler, neighbor_distances
from keras_mlff.graph import INPUT_LEVELS, MAX_ATOMIC_NUMBER, Array, Graph, is_known, level

NEIGHBOR_CUTOFF = 5.0  # Å
_BLOCK = 1024  # structures


class Statistics(NamedTuple):
    """What a network should not have to learn, and what batches must have room for.

    Attributes:
        num_structures: How many structures were measured.
        num_atoms: How many atoms there are of each element, by atomic number.
        mean_size: The mean number of atoms in a structure.
        largest_size: The number of atoms of the largest structure.
        mean_neighbors: The mean number of neighbors of an atom within 5 Å, in a sample.
        force_rms: The root mean square of a component of the forces, eV/Å.
        mean: The mean of each label of a structure that is one number, in its unit.
        std: The standard deviation of each of these.
        references: For each extensive label a value per element, by least squares.
        determined: Whether the compositions determine all of these values.
        std_after: The standard deviation that these values leave, by label.
    """

    num_structures: int
    num_atoms: dict[int, int]
    mean_size: float
    largest_size: int
    mean_neighbors: float
    force_rms: float | None
    mean: dict[str, float]
    std: dict[str, float]
    references: dict[str, dict[int, float]]
    determined: bool
    std_after: dict[str, float]

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
            unit = f" {quantities.unit(label)}" if quantities.unit(label) else ""
            lines.append(f"{label}: mean {mean:.8g}, std {self.std[label]:.6g}{unit}{after}")
        for label, references in self.references.items():
            values = ", ".join(f"{number}: {value:.6g}" for number, value in references.items())
            lines.append(f"references of {label}: {values}")
        if self.references and not self.determined:
            lines.append("The compositions do not determine these; they are of least norm.")
        return "\n".join(lines)


class Tally:
    """Collects statistics from structures one by one, in constant memory.

    Args:
        extensive: The labels that are fitted with a value for each element. A structure that lacks
            one of them does not count for it.
    """

    def __init__(self, extensive: Sequence[str] = ("energy",)) -> None:
        self._extensive = tuple(extensive)
        self._structures = self._largest = 0
        self._atoms = np.zeros(MAX_ATOMIC_NUMBER + 1, np.int64)  # by atomic number
        self._sampler = Sampler()
        self._neighbors = self._centers = 0
        self._force_squares, self._force_components = 0.0, 0
        self._moments: dict[str, tuple[int, float, float]] = {}  # count, mean, sum of squares
        self._fits = {label: _LeastSquares() for label in self._extensive}

    def add(self, graph: Graph) -> None:
        """Measures one structure."""
        numbers = graph["atomic_numbers"]
        counts = np.bincount(numbers, minlength=MAX_ATOMIC_NUMBER + 1)
        self._atoms += counts
        self._largest = max(self._largest, len(numbers))
        if self._sampler.takes(self._structures):
            try:
                self._neighbors += len(neighbor_distances(graph, NEIGHBOR_CUTOFF)[0])
                self._centers += len(numbers)
            except ValueError:  # atoms at one place, which the report tells of
                pass
        for label, value in graph.items():
            if label in INPUT_LEVELS or not (known := is_known(label, graph)).any():
                continue
            if label == "forces":
                self._force_squares += float(np.square(value[known]).sum())
                self._force_components += value[known].size
            if level(label) == "structure" and value.shape == (1,):
                self._moments[label] = _welford(self._moments.get(label), float(value[0]))
                if label in self._fits:
                    self._fits[label].add(counts, float(value[0]))
        self._structures += 1

    def statistics(self) -> Statistics:
        """Summarizes what was found so far."""
        numbers = (np.flatnonzero(self._atoms[1:]) + 1).tolist()
        references: dict[str, dict[int, float]] = {}
        after: dict[str, float] = {}
        determined = True
        for label, fit in self._fits.items():
            if fit.num_rows:
                references[label], after[label], unique = fit.solve()
                determined &= unique
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


class _LeastSquares:
    """Fits a value of each element to sums over atoms, from rows that arrive one by one."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._block: list[Array] = []
        self._triangle: Array = np.zeros((0, MAX_ATOMIC_NUMBER + 2))  # the last column: the sums

    def add(self, counts: Array, value: float) -> None:
        """Adds a structure: its number of atoms by atomic number, and the sum over them."""
        self.num_rows += 1
        self._block.append(np.append(counts, value))
        if len(self._block) == _BLOCK:
            self._shrink()

    def solve(self) -> tuple[dict[int, float], float, bool]:
        """Solves for the values.

        Returns:
            The value of each element, of least norm where there are several solutions; the root
            mean square of what is left; and whether there is one solution only.
        """
        self._shrink()
        numbers = np.flatnonzero(np.any(self._triangle[:, :-1] != 0.0, axis=0)).tolist()
        counts, values = self._triangle[:, numbers], self._triangle[:, -1]
        solution, _, rank, _ = np.linalg.lstsq(counts, values, rcond=None)
        rest = np.square(values - counts @ solution).sum()
        by_number = dict(zip(numbers, solution.tolist(), strict=True))
        return by_number, float(np.sqrt(rest / self.num_rows)), bool(rank == len(numbers))

    def _shrink(self) -> None:
        """Replaces rows by their triangular factor, which has the same least squares solution.

        The normal equations would square the condition number and lose the energies' digits.
        """
        if self._block:
            rows = np.concatenate([self._triangle, np.stack(self._block)])
            self._triangle = np.asarray(np.linalg.qr(rows, mode="r"))
            self._block = []


def _welford(moments: tuple[int, float, float] | None, value: float) -> tuple[int, float, float]:
    """Adds a value to a count, a mean and a sum of squared deviations, as Welford does."""
    count, mean, squares = moments or (0, 0.0, 0.0)
    change = value - mean
    mean += change / (count + 1)
    return count + 1, mean, squares + change * (value - mean)
