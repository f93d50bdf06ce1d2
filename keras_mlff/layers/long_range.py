"""Coulomb and dispersion interactions of pairs that no network sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_mlff import backend, units
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array, Graph, Tensor
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers.free_atoms import FREE_ATOMS

CHARGES, RATIOS = "partial_charges", "hirshfeld_ratios"


class FarPairs(NamedTuple):
    """Distances of pairs, each of which stands once, and what is known of both atoms."""

    lengths: Tensor  # (num_long_edges,), Å, finite and above zero for padding too
    near: Tensor  # (num_long_edges,) bool: real, and within the cutoff
    receivers: Sequence[Tensor]  # columns of what is known of atoms, each (num_long_edges,)
    senders: Sequence[Tensor]


class LongRange:
    """Adds Coulomb and dispersion energies of all pairs up to a long cutoff, periodic images too.

    Time and memory grow with the number of pairs: linearly with the atoms of a box, with their
    square where the cutoff holds a whole molecule.

    Args:
        cutoff: L, distance in Å where the terms end. Energies depend on it, so that one cutoff
            belongs to one model. Infinite for all pairs of a molecule.
        electrostatics: Whether charges interact, or the arguments of `DampedCoulomb`:
            `{"damping": 4.0}`.
        dispersion: Whether there is dispersion, or the arguments of `HirshfeldDispersion`.
        codata: Year of the constants of nature, 2018 or 2014.

    Raises:
        ValueError: If no term is asked for or the cutoff is not positive.
    """

    def __init__(
        self,
        cutoff: float,
        electrostatics: bool | Mapping[str, Any] = False,
        dispersion: bool | Mapping[str, Any] = False,
        codata: int = 2018,
    ) -> None:
        if not cutoff > 0.0 or (electrostatics is False and dispersion is False):
            raise ValueError(
                "Long-range terms end at a length above 0, and there is one at least: "
                "long_range={'cutoff': 12.0, 'electrostatics': True}. Received: "
                f"cutoff={cutoff}, electrostatics={electrostatics}, dispersion={dispersion}."
            )
        self.cutoff = float(cutoff)
        asked: dict[str, tuple[type, Any]] = {
            "electrostatics": (DampedCoulomb, electrostatics),
            "dispersion": (HirshfeldDispersion, dispersion),
        }
        self.terms: dict[str, Any] = {
            name: term(self.cutoff, codata=codata, **({} if arguments is True else arguments))
            for name, (term, arguments) in asked.items()
            if arguments is not False
        }

    @property
    def reads(self) -> list[str]:
        """Names of the predictions that the terms read."""
        return [term.reads for term in self.terms.values()]

    def check_elements(self, atomic_numbers: Any) -> None:
        """Refuses elements without a dispersion coefficient, where dispersion is asked for.

        Raises:
            ValueError: With the elements.
        """
        unknown = sorted({int(z) for z in np.unique(atomic_numbers)} - {0, *FREE_ATOMS})
        if "dispersion" in self.terms and unknown:
            raise ValueError(
                "Dispersion has coefficients of free atoms for 40 elements. Received: atomic "
                f"numbers {unknown}, of which none are known. Leave `dispersion` out of "
                "`long_range`, or these structures out."
            )

    def __call__(self, graph: Graph, values: Sequence[Tensor]) -> dict[str, Tensor]:
        """Computes the energies of the atoms.

        Args:
            graph: A batch with far pairs up to the cutoff.
            values: What `reads` names, of the same batch, `(num_atoms,)` each.

        Returns:
            `(num_atoms,)`, eV, of each term by its name; half a pair's energy at each end.
        """
        columns: list[Tensor] = []
        bounds = [0]
        for term, value in zip(self.terms.values(), values, strict=True):
            columns += term.columns(graph, value)
            bounds.append(len(columns))
        pairs = self._pairs(graph, columns)
        energies = {}
        for place, (name, term) in enumerate(self.terms.items()):
            mine = slice(bounds[place], bounds[place + 1])
            of_pairs = term.energies(
                pairs._replace(receivers=pairs.receivers[mine], senders=pairs.senders[mine])
            )
            halves = 0.5 * ops.where(pairs.near, of_pairs, ops.zeros_like(of_pairs))
            num_atoms = ops.shape(graph["atomic_numbers"])[0]
            energies[name] = backend.segment_sum(
                halves, graph["long_receivers"], num_atoms
            ) + backend.segment_sum(halves, graph["long_senders"], num_atoms, ascending=False)
        return energies

    def _pairs(self, graph: Graph, columns: Sequence[Tensor]) -> FarPairs:
        """Looks everything that is known of both atoms up at once, positions included."""
        positions = graph["positions"]
        table = ops.concatenate([positions, ops.stack(columns, axis=1)], axis=1)
        here = ops.take(table, graph["long_receivers"], axis=0)
        there = ops.take(table, graph["long_senders"], axis=0)
        vectors = there[:, :3] - here[:, :3]
        if "cell" in graph:
            ids = ops.take(graph["graph_ids"], graph["long_receivers"], axis=0)
            cells = ops.take(graph["cell"], ids, axis=0)
            shifts = ops.cast(graph["long_cell_shifts"], positions.dtype)
            vectors = vectors + ops.sum(shifts[:, :, None] * cells, axis=1)
        mask = graph["long_edge_mask"]
        squares = ops.sum(ops.square(vectors), axis=1)
        lengths = ops.sqrt(ops.where(mask, squares, ops.ones_like(squares)))
        near = ops.logical_and(mask, lengths < self.cutoff)
        ends = ([each[:, 3 + k] for k in range(len(columns))] for each in (here, there))
        return FarPairs(lengths, near, *ends)


class DampedCoulomb:
    """Computes the Coulomb energy of charges that are smeared out.

    With V(r) = erf(r / damping) / r, P = V(r) - V(L) and a switch f from one at `taper` L to zero
    at L, the energy of a pair is k q_i q_j [f P + (1 - f) (P - (r - L) V'(L))]: the potential is
    shifted to be zero at L, and its force besides where that is near. All pairs have it, bonded
    ones too, which the damping makes finite.

    Args:
        cutoff: L, Å.
        damping: Å, width of the charges.
        taper: Where the force begins to be shifted, in parts of the cutoff.
        codata: Year of the constants of nature.

    Reference: Kabylda et al., 2025 (SO3LR), https://doi.org/10.1021/jacs.5c09558
    """

    reads = CHARGES

    def __init__(
        self,
        cutoff: float,
        damping: float = 4.0,
        taper: float = 0.45,
        codata: int = 2018,
    ) -> None:
        self.cutoff, self.damping, self.taper = cutoff, damping, taper
        hartree, bohr, _ = units.CODATA[codata]
        self.constant = hartree * bohr

    def columns(self, graph: Graph, charges: Tensor) -> list[Tensor]:
        """Lists what a pair must know of each atom: its charge."""
        return [charges]

    def energies(self, pairs: FarPairs) -> Tensor:
        """Computes the energy of each pair, `(num_long_edges,)` eV."""
        r, last, width = pairs.lengths, self.cutoff, self.damping
        potential = ops.erf(r / width) / r
        if last < math.inf:
            end = math.erf(last / width)
            slope = 2.0 * math.exp(-((last / width) ** 2)) / (math.sqrt(math.pi) * width) / last
            slope -= end / last**2
            f = cutoffs.switch(r, self.taper * last, last)
            potential = potential - end / last - (1.0 - f) * (r - last) * slope
        return self.constant * pairs.receivers[0] * pairs.senders[0] * potential


class HirshfeldDispersion:
    """Computes the dispersion energy of coupled oscillators, pair by pair, from Hirshfeld ratios.

    Ratios scale polarizabilities and C6 of free atoms; C8 and C10 follow from the frequency that
    an oscillator has whose van der Waals radius belongs to its polarizability. The energy of a pair
    is the sum of -C_n / (r^n + p^n) for n = 6, 8, 10, times a switch to zero in the last
    `taper` Å. Elements that `FREE_ATOMS` does not list are refused.

    Args:
        cutoff: L, Å.
        taper: Å.
        codata: Year of the constants of nature.

    References:
        Kabylda et al., 2025 (SO3LR), https://doi.org/10.1021/jacs.5c09558
        Khabibrakhmanov et al., 2023, https://doi.org/10.1021/acs.jctc.3c00797
    """

    reads = RATIOS

    def __init__(self, cutoff: float, taper: float = 2.0, codata: int = 2018) -> None:
        self.cutoff, self.taper = cutoff, taper
        self.hartree, self.bohr, self.fine_structure = units.CODATA[codata]

    def columns(self, graph: Graph, ratios: Tensor) -> list[Tensor]:
        """Lists what a pair must know of each atom: polarizability and C6, atomic units."""
        table = ops.convert_to_tensor(_free_atoms(), ops.dtype(ratios))
        free = ops.take(table, graph["atomic_numbers"], axis=0)  # (num_atoms, 2)
        return [free[:, 0] * ratios, free[:, 1] * ops.square(ratios)]

    def energies(self, pairs: FarPairs) -> Tensor:
        """Computes the energy of each pair, `(num_long_edges,)` eV."""
        (a, own), (b, other) = pairs.receivers, pairs.senders
        known = ops.logical_and(a > 0.0, b > 0.0)
        a, b, own, other = (ops.where(known, x, ops.ones_like(x)) for x in (a, b, own, other))
        c6 = 2.0 * own * other * a * b / (a * a * other + b * b * own)
        root = ops.exp(ops.log(0.5 * (a + b)) / 7.0)  # a power would take 1/7 in float32
        radius = self.fine_structure ** (-4.0 / 21.0) * root
        sigma = 0.04125273 + radius * -0.00078893
        sigma = -0.00433008 + radius * (0.24428889 + radius * sigma)
        square = ops.square(sigma)
        c8, c10 = 10.0 * c6 * square, 122.5 * c6 * ops.square(square)
        # farther pairs have no energy that float32 could hold, and powers that it cannot
        r = ops.minimum(pairs.lengths / self.bohr, 3e3)
        r2, p2 = ops.square(r), ops.square(1.2 * 2.0 * 2.54 * root)
        r4, p4 = ops.square(r2), ops.square(p2)
        r6, p6 = r4 * r2, p4 * p2
        total = c6 / (r6 + p6) + c8 / (r4 * r4 + p4 * p4) + c10 / (r6 * r4 + p6 * p4)
        energies = -self.hartree * ops.where(known, total, ops.zeros_like(total))
        if self.cutoff == math.inf:
            return energies
        return energies * cutoffs.switch(
            pairs.lengths, max(self.cutoff - self.taper, 0.0), self.cutoff
        )


def _free_atoms() -> Array:
    table = np.zeros((MAX_ATOMIC_NUMBER + 1, 2))
    for number, values in FREE_ATOMS.items():
        table[number] = values
    return table
