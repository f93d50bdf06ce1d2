"""What structures and their labels look like, and whether their units can be right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_mlff.graph import Array, Graph, elements
from keras_mlff.neighbors import neighbor_list

_LARGEST_MEAN_FORCE = 20.0  # eV/Å; molecules at 500 K have 2, the same in kcal/mol 47
_SHORTEST_BOND = 0.3  # Å; half of what H2 reaches in hot dynamics
_LONGEST_HYDROGEN_BOND = 1.7  # Å; HI, the longest, has 1.61, and O-H in bohr 1.81
_NET_FORCE_SHARE = 0.1  # of what forces without any balance would add up to
_NUM_MEASURED = 100  # structures whose distances are looked at

_Forces = tuple[float, float, float, float]  # mean, largest, net, largest net


class Report(NamedTuple):
    """Facts about structures, and warnings where something looks wrong."""

    num_structures: int
    num_atoms: int
    elements: list[int]
    shortest_distance: float  # Å, in a sample of structures; infinite above 1.7 Å
    mean_force: float | None  # eV/Å, mean length of an atom's force
    largest_force: float | None  # eV/Å
    net_force: float | None  # eV/Å, root mean square over the structures
    largest_net_force: float | None  # eV/Å
    warnings: tuple[str, ...]

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
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])


def report(structures: Sequence[Graph]) -> Report:
    """Measures structures: sizes, distances, forces and what the forces of each add up to.

    Raises:
        ValueError: If there are no structures or two atoms are at the same place.
    """
    if len(structures) == 0:
        raise ValueError("A report needs structures. Received: an empty list.")
    shortest, has_hydrogen_bond = _distances(structures)
    warnings = []
    if shortest < _SHORTEST_BOND:
        warnings.append(
            f"Two atoms are only {shortest:.3g} Å apart. Are the positions in another unit, such "
            "as nanometers? Give length_unit."
        )
    elif not has_hydrogen_bond:
        warnings.append(
            f"No hydrogen atom has a neighbor within {_LONGEST_HYDROGEN_BOND} Å. Are the positions "
            "in bohr? Give length_unit."
        )
    forces: _Forces | tuple[None, None, None, None] = (None, None, None, None)
    if all("forces" in structure for structure in structures):
        forces, doubts = _forces(structures)
        warnings += doubts
    mean, largest, net, largest_net = forces
    return Report(
        num_structures=len(structures),
        num_atoms=sum(len(structure["atomic_numbers"]) for structure in structures),
        elements=elements(structures),
        shortest_distance=shortest,
        mean_force=mean,
        largest_force=largest,
        net_force=net,
        largest_net_force=largest_net,
        warnings=tuple(warnings),
    )


def _distances(structures: Sequence[Graph]) -> tuple[float, bool]:
    """Returns the shortest distance in a sample and whether hydrogen is bound, if it occurs."""
    shortest, hydrogen_seen, hydrogen_bound = np.inf, False, False
    step = -(-len(structures) // _NUM_MEASURED)
    for index in range(0, len(structures), step):
        graph = structures[index]
        periodic = "cell" in graph
        try:
            edges = neighbor_list(
                graph["positions"],
                _LONGEST_HYDROGEN_BOND,
                graph["cell"][0] if periodic else None,
                graph["pbc"][0] if periodic else None,
            )
        except ValueError as error:
            raise ValueError(f"Structure {index}: {error}") from error
        vectors = graph["positions"][edges.senders] - graph["positions"][edges.receivers]
        if periodic:
            vectors = vectors + edges.cell_shifts @ graph["cell"][0]
        shortest = min(shortest, np.linalg.norm(vectors, axis=1).min(initial=np.inf))
        hydrogen = graph["atomic_numbers"] == 1
        # metals dissolve hydrogen at larger distances
        hydrogen_seen |= bool(hydrogen.any()) and len(hydrogen) > 1 and not periodic
        hydrogen_bound |= bool(hydrogen[edges.receivers].any())
    return float(shortest), hydrogen_bound or not hydrogen_seen


def _forces(structures: Sequence[Graph]) -> tuple[_Forces, list[str]]:
    sizes = np.asarray([len(structure["forces"]) for structure in structures])
    forces = np.concatenate([structure["forces"] for structure in structures])
    lengths = np.linalg.norm(forces, axis=1)
    net = np.linalg.norm(np.add.reduceat(forces, np.cumsum(sizes) - sizes), axis=1)
    warnings = []
    if lengths.mean() > _LARGEST_MEAN_FORCE:
        warnings.append(
            f"The mean force on an atom is {lengths.mean():.3g} eV/Å. Are the forces in another "
            "unit, such as kcal/mol/Å? Give energy_unit and length_unit."
        )
    unbalanced = _root_mean_square(lengths) * np.sqrt(sizes.mean())
    if _root_mean_square(net) > _NET_FORCE_SHARE * unbalanced and sizes.max() > 1:
        warnings.append(
            "The forces of a structure do not add up to zero: the net force is "
            f"{_root_mean_square(net):.2g} eV/Å (root mean square), "
            f"{net.max():.2g} eV/Å in structure {net.argmax()}. Forces that are minus the gradient "
            "of an energy do. Were some set to zero (constraints), or is an atom missing?"
        )
    return (
        float(lengths.mean()),
        float(lengths.max()),
        _root_mean_square(net),
        net.max(),
    ), warnings


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
