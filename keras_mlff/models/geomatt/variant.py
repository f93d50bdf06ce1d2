"""Switches in which GeomAtt's paper and the authors' program differ, and options of the program."""

from __future__ import annotations

import dataclasses

from keras_mlff.models.variants import Switches


@dataclasses.dataclass(frozen=True)
class GeomAttVariant(Switches):
    """What of GeomAtt is there to compare with its paper and the authors' program.

    Args:
        d_min: First point of the grid of Gaussians in Å.
        shared: Whether all overlaps of a layer have the same weights, an option of the program.
        bias: Whether overlaps have biases, as in eq. 16 of the paper and in the program; eqs. 6
            and 8 have none.
        stream_scaling: Whether attention coefficients are divided by the number of streams. The
            program does so, the paper's equations do not.
        linear: Whether the readout has no activation, an option of the program.
    """

    d_min: float = 0.0
    shared: bool = False
    bias: bool = True
    stream_scaling: bool = True
    linear: bool = False


VARIANTS: dict[str, GeomAttVariant] = {
    "default": GeomAttVariant(),
    "paper": GeomAttVariant(stream_scaling=False),
}
