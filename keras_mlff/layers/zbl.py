"""Repulsion of nuclei that come closer than any data shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_mlff import units
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Graph, Tensor
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.layers.initializers import constants
from keras_mlff.ops import geometry, segment


class Screening(NamedTuple):
    """How electrons screen two nuclei: phi(d) = sum of weight * exp(-rate * d / length).

    Its fields are numbers, or tensors where they are learned.
    """

    weights: Any
    rates: Any
    length: Any  # Å, of two atoms: length / (Z_i^power + Z_j^power)
    power: Any


SCREENINGS = {
    "universal": Screening(
        (0.18175, 0.50986, 0.28022, 0.02817),
        (3.1998, 0.94229, 0.4029, 0.20162),
        0.8854 * units.bohr,
        0.23,
    ),
    "alphanet": Screening(
        (0.187, 0.3769, 0.189, 0.081, 0.003, 0.037, 0.0546, 0.0715),
        (3.20, 1.10, 0.102, 0.958, 1.28, 1.14, 1.69, 5.0),
        1.001 * 0.8854 * units.bohr,
        0.6032,
    ),
}


@keras.saving.register_keras_serializable("keras_mlff")
class ZBLRepulsion(keras.layers.Layer):
    """Computes the screened Coulomb repulsion of nuclei that are closer than any bond.

    E = Z_i Z_j e² / (4 pi eps0 d) phi(d) w(d) for each pair, half of it at each end, with the
    screening phi of `Screening` and the envelope w. Bonds longer than `cutoff` are left as they
    are.

    Args:
        cutoff: Distance in Å where the repulsion ends.
        screening: `"universal"`, the constants of Ziegler, Biersack and Littmark, or `"alphanet"`,
            those of the AlphaNet authors' program.
        cutoff_function: Name of the envelope w, see `keras_mlff.layers.cutoff`.
        learned: Whether the constants of the screening are where learning begins; they stay
            positive, and the weights of its terms keep the sum of one.
        switch: Distance in Å, up to `cutoff`, where a smooth switch from one at zero distance ends,
            by which the repulsion is multiplied besides; `None` for none.
        codata: Year of the constants of nature, 2018 or 2014.

    Raises:
        ValueError: If the cutoff is not positive or a name is unknown.

    Reference: Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Solids, 1985
    """

    def __init__(
        self,
        cutoff: float = 1.0,
        screening: str = "universal",
        cutoff_function: str = "polynomial",
        learned: bool = False,
        switch: float | None = None,
        codata: int = 2018,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if screening not in SCREENINGS:
            raise ValueError(
                f"Unknown screening. Received: '{screening}'. Choose one of {sorted(SCREENINGS)}."
            )
        if cutoff <= 0.0:
            raise ValueError(f"The repulsion ends at a length above 0. Received: {cutoff} Å.")
        self.cutoff, self.screening = float(cutoff), SCREENINGS[screening]
        self.switch = float(cutoff) if switch is None else float(switch)
        if not 0.0 < self.switch <= self.cutoff:
            raise ValueError(
                f"The switch ends between 0 and the cutoff, {cutoff} Å. Received: {switch} Å."
            )
        self.has_switch = switch is not None
        hartree, bohr, _ = units.CODATA[codata]
        self.coulomb_constant = hartree * bohr
        self.envelope = cutoffs.get(cutoff_function)
        self.learned = learned

    def build(self, *shapes: Any) -> None:
        """Creates what is learned: the inverse softplus of each constant."""
        if not self.learned:
            return
        self.constants = []
        for name, values in self.screening._asdict().items():
            start = np.log(np.expm1(np.atleast_1d(values)))
            self.constants.append(self.add_weight(start.shape, constants(start), name=name))

    def _screening(self) -> Screening:
        """Gives the constants in use: the fixed ones, or those that are learned."""
        if not self.learned:
            return self.screening
        weights, rates, length, power = (ops.softplus(weight) for weight in self.constants)
        return Screening(weights / ops.sum(weights), rates, length[0], power[0])

    def call(self, graph: Graph) -> Tensor:
        """Computes the repulsion of each atom.

        Call arguments:
            graph: A batch with edges at least up to the cutoff.

        Returns:
            `(num_atoms,)`, eV.
        """
        edge_vectors = geometry.edge_vectors(graph, 2.0 * self.cutoff)
        lengths = geometry.edge_lengths(edge_vectors)
        # beyond its reach the repulsion must be finite, or its gradient would not be zero
        near = ops.logical_and(lengths < self.switch, graph["edge_mask"])
        lengths = ops.where(near, lengths, ops.zeros_like(lengths) + self.switch)
        screening = self._screening()
        charges = ops.convert_to_tensor(np.arange(MAX_ATOMIC_NUMBER + 1.0), lengths.dtype)
        # padding has charge zero, whose power has no derivative
        power = ops.convert_to_tensor(screening.power, lengths.dtype)  # a number would be float32
        powers = ops.power(ops.maximum(charges, ops.ones_like(charges)), power)
        table = ops.stack([charges, powers], axis=1)
        atoms = ops.take(table, graph["atomic_numbers"], axis=0)  # (num_atoms, 2)
        senders = ops.take(atoms, graph["senders"], axis=0)
        receivers = ops.take(atoms, graph["receivers"], axis=0)
        scaled = lengths * (senders[:, 1] + receivers[:, 1]) / screening.length
        screened = sum(
            screening.weights[term] * ops.exp(-screening.rates[term] * scaled)
            for term in range(len(self.screening.weights))
        )
        energies = self.coulomb_constant * senders[:, 0] * receivers[:, 0] * screened / lengths
        envelope = self.envelope(lengths, self.cutoff)
        if self.has_switch:
            envelope = envelope * cutoffs.switch(lengths, 0.0, self.switch)
        energies = segment.mask(energies * envelope, near)
        return 0.5 * segment.sum_over_edges(energies, graph)


def get(zbl: bool | Mapping[str, Any], cutoff: float) -> ZBLRepulsion | None:
    """Makes the repulsion that a model asks for.

    Args:
        zbl: Whether there is one, or the arguments of `ZBLRepulsion`.
        cutoff: Cutoff of the model in Å, whose edges the repulsion shares.

    Returns:
        The layer, or `None` for a model without repulsion.

    Raises:
        ValueError: If the repulsion reaches beyond the model's edges.
    """
    if zbl is False or zbl is None:
        return None
    made = ZBLRepulsion(**({} if zbl is True else dict(zbl)))
    if made.cutoff > cutoff:
        raise ValueError(
            "The repulsion sees the model's neighbors only, so it cannot reach beyond them. "
            f"Received: zbl cutoff {made.cutoff} Å, model cutoff {cutoff} Å."
        )
    return made
