"""What structures and their labels look like, and whether their units can be right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from keras_mlff import units
from keras_mlff.graph import INPUT_LEVELS, MAX_ATOMIC_NUMBER, Array, Graph, is_known
from keras_mlff.neighbors import edge_vectors, neighbor_list

_LARGEST_MEAN_FORCE = 20.0  # eV/Å; molecules at 500 K have 2, the same in kcal/mol 47
_LARGEST_MEAN_STRESS = 0.5  # eV/Å³, 80 GPa; the same in GPa or kbar is 100 times as much and more
_SHORTEST_BOND = 0.3  # Å; half of what H2 reaches in hot dynamics
_LONGEST_HYDROGEN_BOND = 1.7  # Å; HI, the longest, has 1.61, and O-H in bohr 1.81
_NET_FORCE_SHARE = 0.1  # of what forces without any balance would add up to
_NUM_MEASURED = 100  # structures whose distances are looked at, and as many for each doubling
_NUM_FINGERPRINTS = 2**18  # structures that are remembered to find duplicates
_DECIMALS = 5  # of Å; positions that agree in these are the same


class Report(NamedTuple):
    """Facts about structures, and warnings where something looks wrong.

    Attributes:
        num_structures: How many structures were measured.
        num_atoms: How many atoms they have together.
        elements: Their atomic numbers, ascending.
        shortest_distance: The shortest distance in a sample of them, Å; infinite above 1.7 Å.
        mean_force: The mean length of an atom's force, eV/Å. This and the following three are over
            the structures that have forces, and `None` where none has.
        largest_force: The largest length of a force, eV/Å.
        net_force: The root mean square of what the forces of a structure add up to, eV/Å.
        largest_net_force: The largest of these sums, eV/Å.
        warnings: What looks wrong, in sentences.
        num_duplicates: How many structures have the same positions, elements, cell, charge and
            spin as one before.
        num_left_out: How many structures of the source are not usable.
        left_out: Why the first few of these are not.
        num_labeled: How many structures have each label, by its name.
        mean_stress: The mean of the largest component of a structure's stress, eV/Å³.
    """

    num_structures: int
    num_atoms: int
    elements: list[int]
    shortest_distance: float
    mean_force: float | None
    largest_force: float | None
    net_force: float | None
    largest_net_force: float | None
    warnings: tuple[str, ...]
    num_duplicates: int = 0
    num_left_out: int = 0
    left_out: tuple[str, ...] = ()
    num_labeled: Mapping[str, int] = MappingProxyType({})
    mean_stress: float | None = None

    def __str__(self) -> str:
        near = self.shortest_distance < np.inf
        lines = [
            f"{self.num_structures} structures, {self.num_atoms} atoms, elements {self.elements}",
            "shortest distance "
            + (f"{self.shortest_distance:.3f} Å" if near else f"above {_LONGEST_HYDROGEN_BOND} Å"),
        ]
        if self.mean_force is not None:
            lines += [
                f"force on an atom: mean {self.mean_force:.4g}, max {self.largest_force:.4g} eV/Å",
                f"net force: rms {self.net_force:.2g}, max {self.largest_net_force:.2g} eV/Å",
            ]
        if self.mean_stress is not None:
            lines.append(f"stress: mean of the largest component {self.mean_stress:.3g} eV/Å³")
        for label, number in self.num_labeled.items():
            if number < self.num_structures:
                lines.append(f"{label}: known of {number} of {self.num_structures} structures")
        if self.num_duplicates:
            lines.append(f"{self.num_duplicates} structures occurred before")
        lines += [f"warning: {warning}" for warning in self.warnings]
        if self.num_left_out:
            lines.append(f"{self.num_left_out} structures were left out, such as")
            lines += [f"- {reason}" for reason in self.left_out]
        return "\n".join(lines)


def report(structures: Sequence[Graph]) -> Report:
    """Measures structures: sizes, distances, forces and what the forces of each add up to.

    Args:
        structures: With or without labels.

    Returns:
        The facts, which print as some lines of text.

    Raises:
        ValueError: If there are no structures or two atoms are at the same place.
    """
    if len(structures) == 0:
        raise ValueError("A report needs structures. Received: an empty list.")
    check = Check()
    for graph in structures:
        check.add(graph)
    if check.coincident is not None:
        raise ValueError(check.coincident)
    return check.report()


class Check:
    """Collects a report from structures one by one, in constant memory.

    Args:
        fingerprints: What structures to compare with, where duplicates of several splits are to be
            found; none where `None`.

    Attributes:
        coincident: The first structure with two atoms at the same place, in a sentence.
    """

    def __init__(self, fingerprints: Fingerprints | None = None) -> None:
        self.coincident: str | None = None
        self._fingerprints = Fingerprints() if fingerprints is None else fingerprints
        self._duplicates = 0
        self._reasons: list[str] = []
        self._left_out = 0
        self._structures = 0
        self._atoms = np.zeros(MAX_ATOMIC_NUMBER + 1, np.int64)  # by atomic number
        self._sampler = Sampler()
        self._shortest, self._hydrogen_seen, self._hydrogen_bound = np.inf, False, False
        self._forces = _Forces()
        self._labeled: dict[str, int] = {}
        self._stresses, self._stressed = 0.0, 0

    def add(self, graph: Graph) -> None:
        """Measures one structure."""
        self._atoms += np.bincount(graph["atomic_numbers"], minlength=MAX_ATOMIC_NUMBER + 1)
        self._duplicates += self._fingerprints.seen(graph)
        if self._sampler.takes(self._structures):
            self._measure(graph)
        for label in graph.keys() - INPUT_LEVELS.keys():
            known = is_known(label, graph)
            self._labeled[label] = self._labeled.get(label, 0) + bool(known.any())
            if label == "forces" and known.all():
                self._forces.add(graph["forces"], self._structures)
            if label == "stress" and known.all():
                self._stresses += float(np.abs(graph["stress"]).max())
                self._stressed += 1
        self._structures += 1

    def leave_out(self, reason: str) -> None:
        """Counts a structure that is not usable and keeps the first reasons."""
        self._left_out += 1
        if len(self._reasons) < 5:
            self._reasons.append(reason)

    def report(self) -> Report:
        """Summarizes what was found so far."""
        warnings = [] if self.coincident is None else [self.coincident]
        if self._shortest < _SHORTEST_BOND:
            warnings.append(
                f"Two atoms are only {self._shortest:.3g} Å apart. Are the positions in another "
                "unit, such as nanometers? Give length_unit."
            )
        elif self._hydrogen_seen and not self._hydrogen_bound:
            warnings.append(
                f"No hydrogen atom has a neighbor within {_LONGEST_HYDROGEN_BOND} Å. Are the "
                "positions in bohr? Give length_unit."
            )
        measured = self._forces.structures > 0
        stress = self._stresses / self._stressed if self._stressed else None
        if stress is not None and stress > _LARGEST_MEAN_STRESS:
            warnings.append(
                f"The largest component of a stress is {stress:.3g} eV/Å³ in the mean, that is "
                f"{stress / units.gigapascal:.3g} GPa. Are they in another unit, such as kbar? "
                "Give stress_unit, and stress_sign=-1 if they are positive under pressure (VASP)."
            )
        return Report(
            num_structures=self._structures,
            num_atoms=int(self._atoms.sum()),
            elements=(np.flatnonzero(self._atoms[1:]) + 1).tolist(),
            shortest_distance=float(self._shortest),
            mean_force=self._forces.mean if measured else None,
            largest_force=self._forces.largest if measured else None,
            net_force=self._forces.net if measured else None,
            largest_net_force=self._forces.largest_net if measured else None,
            warnings=(*warnings, *(self._forces.warnings() if measured else ())),
            num_duplicates=self._duplicates,
            num_left_out=self._left_out,
            left_out=tuple(self._reasons),
            num_labeled=dict(sorted(self._labeled.items())),
            mean_stress=stress,
        )

    def _measure(self, graph: Graph) -> None:
        """Looks for the shortest distance and whether hydrogen is bound, if it occurs."""
        try:
            lengths, receivers = neighbor_distances(graph, _LONGEST_HYDROGEN_BOND)
        except ValueError as error:
            self.coincident = self.coincident or f"Structure {self._structures}: {error}"
            return
        self._shortest = min(self._shortest, lengths.min(initial=np.inf))
        hydrogen = graph["atomic_numbers"] == 1
        # metals dissolve hydrogen at larger distances
        alone = len(hydrogen) == 1 or "cell" in graph
        self._hydrogen_seen |= bool(hydrogen.any()) and not alone
        self._hydrogen_bound |= bool(hydrogen[receivers].any())


class Sampler:
    """Chooses structures of a stream of unknown length: the first 100, then ever fewer.

    Each time that 100 were chosen, the distance between two of them doubles.
    """

    def __init__(self) -> None:
        self._step, self._taken = 1, 0

    def takes(self, index: int) -> bool:
        """Tells whether the structure of this place in the stream belongs to the sample."""
        if index % self._step:
            return False
        self._taken += 1
        if self._taken == _NUM_MEASURED:
            self._taken, self._step = 0, 2 * self._step
        return True


class Fingerprints:
    """Finds structures that occur twice, in constant memory.

    Beyond 262,144 structures only a share of all possible fingerprints is looked at, so that the
    number of duplicates among them is an estimate.
    """

    def __init__(self) -> None:
        self._kept: set[int] = set()
        self._bound = 2**64
        self._weight = 1

    def seen(self, graph: Graph) -> int:
        """Counts a structure that occurred before.

        Returns:
            0 for a new one; 1 for a duplicate, and more where it represents others that were not
            looked at.
        """
        parts = [np.rint(graph["positions"] * 10.0**_DECIMALS).astype(np.int64)]
        parts += [graph["atomic_numbers"], graph["total_charge"], graph["spin_multiplicity"]]
        if "cell" in graph:
            parts.append(np.rint(graph["cell"] * 10.0**_DECIMALS).astype(np.int64))
        joined = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        fingerprint = int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "little")
        if fingerprint >= self._bound:
            return 0
        if fingerprint in self._kept:
            return self._weight
        self._kept.add(fingerprint)
        if len(self._kept) > _NUM_FINGERPRINTS:
            self._bound, self._weight = self._bound // 2, 2 * self._weight
            self._kept = {kept for kept in self._kept if kept < self._bound}
        return 0


def neighbor_distances(graph: Graph, cutoff: float) -> tuple[Array, Array]:
    """Measures the distances of all pairs of a structure that are closer than a cutoff.

    Args:
        graph: A structure, without edges.
        cutoff: The largest distance, Å.

    Returns:
        Lengths in Å and indices of the receiving atoms, both `(num_edges,)`; each pair occurs in
        both directions, and with periodic images.

    Raises:
        ValueError: If two atoms are at the same place.
    """
    periodic = "cell" in graph
    edges = neighbor_list(
        graph["positions"],
        cutoff,
        graph["cell"][0] if periodic else None,
        graph["pbc"][0] if periodic else None,
    )
    return np.linalg.norm(edge_vectors(graph, edges), axis=1), edges.receivers


class _Forces:
    """Sums over the forces of structures, in eV/Å: lengths, squares, and what they add up to."""

    def __init__(self) -> None:
        self.structures = self._atoms = self._most_atoms = self._worst = 0
        self._length = self._squares = self._net_squares = 0.0
        self.largest = self.largest_net = 0.0

    def add(self, forces: Array, index: int) -> None:
        lengths = np.linalg.norm(forces, axis=1)
        net = float(np.linalg.norm(forces.sum(axis=0)))
        self.structures += 1
        self._atoms += len(forces)
        self._most_atoms = max(self._most_atoms, len(forces))
        self._length += float(lengths.sum())
        self._squares += float(np.square(lengths).sum())
        self.largest = max(self.largest, float(lengths.max()))
        self._net_squares += net**2
        if net > self.largest_net:
            self.largest_net, self._worst = net, index

    @property
    def mean(self) -> float:
        return self._length / self._atoms

    @property
    def net(self) -> float:
        return float(np.sqrt(self._net_squares / self.structures))

    def warnings(self) -> list[str]:
        found = []
        if self.mean > _LARGEST_MEAN_FORCE:
            found.append(
                f"The mean force on an atom is {self.mean:.3g} eV/Å. Are the forces in another "
                "unit, such as kcal/mol/Å? Give energy_unit and length_unit."
            )
        unbalanced = np.sqrt(self._squares / self.structures)  # rms length times sqrt(mean size)
        if self.net > _NET_FORCE_SHARE * unbalanced and self._most_atoms > 1:
            found.append(
                "The forces of a structure do not add up to zero: the net force is "
                f"{self.net:.2g} eV/Å (root mean square), {self.largest_net:.2g} eV/Å in structure "
                f"{self._worst}. Forces that are minus the gradient of an energy do. Were some "
                "set to zero (constraints), or is an atom missing?"
            )
        return found
