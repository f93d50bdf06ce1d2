"""Switches in which the authors' EGNN programs differ from this package's network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array
from keras_mlff.models.variants import Switches


@dataclasses.dataclass(frozen=True)
class EGNNVariant(Switches):
    """What of EGNN is there to compare with the authors' programs, of QM9 and of moving positions.

    Args:
        species: Elements whose one-hot code, times powers of the nuclear charge, is the input of
            the network, as in the program of QM9; other elements have no features then. `None`
            gives each element a learned embedding.
        charge_power: Highest power of the nuclear charge in that code.
        charge_scale: Number that the nuclear charge is divided by.
        node_attributes: Whether the input enters the update of the features in each layer.
        normalize: Whether the directions along which positions move have unit length. The program
            leaves the length out of the gradient, `"detached"`: forces are then not the derivative
            of the energy.
        tanh: Whether the size of a step is bounded by a hyperbolic tangent.
        coordinate_sum: Whether a position moves by the `"sum"` over neighbors or, as in the
            program, by their `"mean"`, which jumps where a neighbor passes a cutoff.
        num_inputs: Width of the embedding of elements, which a linear map takes to `num_features`;
            `None` embeds in `num_features` without a map. `species` has a width of its own.
        num_outputs: Width of the features that the equivariant network ends in; `num_features` for
            `None`.
    """

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {"coordinate_sum": ("sum", "mean")}

    species: tuple[int, ...] | None = None
    charge_power: int = 2
    charge_scale: float = 9.0
    node_attributes: bool = False
    normalize: bool | str = False
    tanh: bool = False
    coordinate_sum: str = "sum"
    num_inputs: int | None = None
    num_outputs: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normalize not in (False, True, "detached"):
            raise ValueError(
                f"`normalize` is False, True or 'detached'. Received: normalize={self.normalize!r}."
            )
        if self.species is not None:
            object.__setattr__(self, "species", tuple(int(number) for number in self.species))

    def as_dict(self) -> dict[str, Any]:
        """Lists all switches by name; elements are a list, as JSON gives them back."""
        switches = super().as_dict()
        return switches | {"species": None if self.species is None else list(self.species)}

    def input_table(self) -> Array | None:
        """Tabulates the code of `species`: one-hot times powers of the nuclear charge.

        Returns:
            `(119, len(species) * (charge_power + 1))` by atomic number, the powers of one element
            side by side and zeros for elements that are not listed; `None` without `species`.
        """
        if self.species is None:
            return None
        powers = self.charge_power + 1
        table = np.zeros((MAX_ATOMIC_NUMBER + 1, len(self.species) * powers))
        for place, number in enumerate(self.species):
            values = (number / self.charge_scale) ** np.arange(powers)
            table[number, place * powers : (place + 1) * powers] = values
        return table


VARIANTS: dict[str, EGNNVariant] = {
    "default": EGNNVariant(),
    "authors_qm9": EGNNVariant(species=(1, 6, 7, 8, 9)),
    "authors_equivariant": EGNNVariant(coordinate_sum="mean"),
}
