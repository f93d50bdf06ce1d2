"""What a model has learned from, and the states that no atoms can have."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array


class Occurrence(NamedTuple):
    """How often the structures of a training have an element; `None` where that is unknown."""

    structures: int  # that have it
    atoms: int | None = None
    fewest: int | None = None  # in one structure, those without it included
    most: int | None = None


@dataclasses.dataclass(frozen=True)
class Domain:
    """What a model has learned from. What is empty or `None` is unknown, and not checked.

    Attributes:
        elements: By atomic number; `None` where it is not known how often they occurred.
        num_structures: How many structures there were.
        sizes: Least and largest number of atoms.
        states: Pairs of total charge and spin multiplicity.
        periodic: Numbers of periodic directions: 0 of molecules, 2 of slabs, 3 of crystals.
        largest: Largest size of a component of `"forces"`, eV/Å, and of `"energy"` per atom, eV,
            offsets left out.
    """

    elements: Mapping[int, Occurrence | None] = dataclasses.field(default_factory=dict)
    num_structures: int = 0
    sizes: tuple[int, int] | None = None
    states: tuple[tuple[float, int], ...] = ()
    periodic: tuple[int, ...] = ()
    largest: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, graphs: Iterable[Mapping[str, Any]]) -> Domain:
        """Collects the domain of structures, graphs or batches; their labels are not looked at."""
        parts = [Structures.of(graph) for graph in graphs]
        counts, charges, spins, periodic = (np.concatenate(part) for part in zip(*parts))  # noqa: B905
        present = counts > 0
        sizes = counts.sum(axis=1)
        if not len(counts):
            return cls()
        return cls(
            {
                int(z): Occurrence(
                    int(present[:, z].sum()),
                    int(counts[:, z].sum()),
                    int(counts[:, z].min()),
                    int(counts[:, z].max()),
                )
                for z in np.flatnonzero(present.any(axis=0))
            },
            len(counts),
            (int(sizes.min()), int(sizes.max())),
            tuple(sorted(set(zip(charges.tolist(), spins.tolist(), strict=True)))),
            tuple(np.unique(periodic).tolist()),
        )

    def joined(self, other: Domain, add: bool = False) -> Domain:
        """Joins what was learned from two sets of structures.

        Args:
            other: The domain of the other set.
            add: Whether no structure is in both, so that numbers add up. By default the larger
                number counts, since a model often sees one set twice.
        """
        if not (self.elements and other.elements):
            return self if self.elements else other
        count: Callable[[int, int], int] = operator.add if add else max

        def both(z: int) -> Occurrence | None:
            parts = [domain.elements.get(z, _ABSENT) for domain in (self, other)]
            a, b = parts
            if a is None or b is None:
                return None
            return Occurrence(
                count(a.structures, b.structures),
                _both(count, a.atoms, b.atoms),
                _both(min, a.fewest, b.fewest),
                _both(max, a.most, b.most),
            )

        ends = [size for domain in (self, other) for size in domain.sizes or ()]
        known = self.sizes is not None and other.sizes is not None
        return Domain(
            {z: both(z) for z in sorted({*self.elements, *other.elements})},
            count(self.num_structures, other.num_structures),
            (min(ends), max(ends)) if known else None,
            _union(self.states, other.states),
            _union(self.periodic, other.periodic),
            self.with_largest(other.largest).largest,
        )

    def with_largest(self, numbers: Mapping[str, float]) -> Domain:
        """Takes up numbers of labels, where they are larger than those known."""
        largest = dict(self.largest)
        for key, value in numbers.items():
            largest[key] = max(value, largest.get(key, 0.0))
        return dataclasses.replace(self, largest=largest)

    @property
    def rare(self) -> dict[int, int]:
        """Elements that less than a tenth and less than 100 structures have, and how many."""
        few = min(100.0, 0.1 * self.num_structures)
        known = {z: found.structures for z, found in self.elements.items() if found}
        return {z: structures for z, structures in known.items() if structures < few}

    # Files

    def to_config(self) -> dict[str, Any]:
        """Writes the domain as JSON knows it."""
        return {
            "elements": {str(z): found and found._asdict() for z, found in self.elements.items()},
            "num_structures": self.num_structures,
            "sizes": self.sizes and list(self.sizes),
            "states": [list(state) for state in self.states],
            "periodic": list(self.periodic),
            "largest": dict(self.largest),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Domain:
        """Reads what `to_config` wrote.

        Raises:
            ValueError: If it is something else.
        """
        try:
            return cls(
                {
                    int(z): None if found is None else Occurrence(**found)
                    for z, found in config.get("elements", {}).items()
                },
                int(config.get("num_structures", 0)),
                None if config.get("sizes") is None else (*map(int, config["sizes"]),),  # type: ignore[arg-type]
                tuple((float(charge), int(spin)) for charge, spin in config.get("states", ())),
                tuple(map(int, config.get("periodic", ()))),
                {str(key): float(value) for key, value in config.get("largest", {}).items()},
            )
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"Not a domain ({error}). Received: {config!r}.") from error


def check_states(inputs: Mapping[str, Any], first: int = 0) -> None:
    """Refuses total charges and spin multiplicities that no atoms of these elements can have.

    Charge 0 with multiplicity 1 is what nobody has stated, and passes with an odd number of
    electrons too: most data of radicals do not state their spin. Whatever else is given must leave
    an electron, have no more unpaired electrons than electrons, no more added electrons than the
    nuclei have charge, and an even number of paired electrons where the charge is a whole number.

    Args:
        inputs: A structure, a graph or a batch.
        first: Number of the first structure, for the message.

    Raises:
        ValueError: If a state is impossible.
    """
    check_batch(Structures.of(inputs), first)


def check_batch(batch: Structures, first: int) -> None:
    """Does what `check_states` does on what was counted before."""
    counts, charges, spins, _ = batch
    if not np.any(are_stated(charges, spins)):
        return
    nuclei = counts @ np.arange(counts.shape[1])
    electrons, unpaired = nuclei - charges, spins - 1
    odd = (charges == np.round(charges)) & ((electrons - unpaired) % 2 != 0)
    possible = (electrons > 0) & (electrons <= 2 * nuclei) & (unpaired >= 0)
    possible &= (unpaired <= electrons) & ~odd
    wrong = np.flatnonzero(are_stated(charges, spins) & ~possible)
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            "Impossible total charge and spin multiplicity: the number of unpaired electrons, "
            "2S, is no larger than that of the electrons, and even or odd as that is. Received: "
            f"total_charge={charges[row]:g}, spin_multiplicity={spins[row]} of structure "
            f"{first + row}, whose {counts[row].sum()} atoms have {electrons[row]:g} electrons "
            "then. Give both: `total_charge` and `spin_multiplicity` (`info['charge']` and "
            "`info['spin']` of ASE's atoms)."
        )


class Structures(NamedTuple):
    """The real structures of a batch, one row each."""

    counts: Array  # (n, 119) atoms of each element
    charges: Array  # (n,) float64
    spins: Array  # (n,) multiplicities
    periodic: Array  # (n,) numbers of periodic directions

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> Structures:
        real = np.asarray(inputs["graph_mask"], np.bool_)
        atoms = np.asarray(inputs["atom_mask"], np.bool_)
        width = MAX_ATOMIC_NUMBER + 1
        places = np.asarray(inputs["graph_ids"])[atoms] * width
        places = places + np.asarray(inputs["atomic_numbers"])[atoms]
        counts = np.bincount(places, minlength=len(real) * width).reshape(len(real), width)
        directions = np.zeros(len(real), np.int64)
        if "pbc" in inputs:
            directions = np.asarray(inputs["pbc"], np.bool_).sum(axis=1)
        # float32 would make of 0.1 another number
        charges = np.round(np.asarray(inputs["total_charge"], np.float64)[real], 6)
        spins = np.asarray(inputs["spin_multiplicity"])[real].astype(np.int64)
        return cls(counts[real], charges, spins, directions[real])


_ABSENT = Occurrence(0, 0, 0, 0)


def are_stated(charges: Array, spins: Array) -> Array:
    """Tells which states are others than charge 0 with multiplicity 1, `(n,)`."""
    return np.asarray((charges != 0.0) | (spins != 1))


def _both(join: Callable[[int, int], int], one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else join(one, other)


def _union(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(sorted({*one, *other})) if one and other else ()
