"""Switches in which the authors' DimeNet++ program differs from this package's network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from keras_mlff.models.variants import Switches


@dataclasses.dataclass(frozen=True)
class DimeNetPPVariant(Switches):
    """What of DimeNet++ is there to compare with the authors' program, or for experiments.

    Args:
        envelope_exponent: p - 1 of the polynomial envelope u(d) (eq. 8 of DimeNet, where p = 6).
        num_before_skip: Residual layers of an interaction block before its skip connection.
        num_after_skip: Residual layers of an interaction block after it.
        num_dense_output: Dense layers of each output block.
        sbf_over_distance: Whether the basis of distance and angle has a further 1/d, which the
            program's envelope brings in.
        radial_factor: `"ji"` scales what an edge receives by its own distance, as in the paper,
            `"kj"` what it is sent by the other edge's distance, as in the program.
        rbf_embedding: `"linear"` maps the radial basis into the embedding block, as the authors
            meant it; `"activated"` adds the bias and activation that their program has there.
        output_init: Start of the last maps: `"orthogonal"`, or `"zeros"`, which the authors take
            for mu, HOMO, LUMO and ZPVE of QM9.
        use_envelope: Whether learned encodings vanish at the cutoff; without it energies jump
            there.
        sbf_combine: How learned encodings of distance and angle combine: `"product"` feature by
            feature, `"outer"` in all pairs of features, or `"concat"` side by side.
    """

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "radial_factor": ("ji", "kj"),
        "rbf_embedding": ("linear", "activated"),
        "output_init": ("orthogonal", "zeros"),
        "sbf_combine": ("product", "outer", "concat"),
    }

    envelope_exponent: int = 5
    num_before_skip: int = 1
    num_after_skip: int = 2
    num_dense_output: int = 3
    sbf_over_distance: bool = False
    radial_factor: str = "ji"
    rbf_embedding: str = "linear"
    output_init: str = "orthogonal"
    use_envelope: bool = True
    sbf_combine: str = "product"


_AUTHORS = DimeNetPPVariant(sbf_over_distance=True, radial_factor="kj", rbf_embedding="activated")
VARIANTS: dict[str, DimeNetPPVariant] = {
    "default": DimeNetPPVariant(),
    "authors": _AUTHORS,
    "authors_zero_start": dataclasses.replace(_AUTHORS, output_init="zeros"),
}
