"""The versions of AlphaNet: ours, and those of the authors' program at three times."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from keras_mlff.graph import MAX_ATOMIC_NUMBER
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.models.alphanet.frame_layers import MEASURES
from keras_mlff.models.alphanet.frames import FRAMES
from keras_mlff.models.alphanet.phase import MODULI, PHASES
from keras_mlff.models.variants import Switches, gather_switches


@dataclasses.dataclass(frozen=True)
class AlphaNetVariant(Switches):
    """Switches between what this package computes and what the authors' program did.

    The defaults are those of `"smooth"`, whose energies have no jumps and no preferred orientation.

    Args:
        radial_basis: `"damped_bessel"`: learned Bessel functions times the envelope; `"bessel"`:
            the same without it, which is not zero at the cutoff; `"damped_gaussian"`: Gaussians of
            exp(-d) times the envelope, not trained.
        frame: What spans the plane of an edge's frame: `"weighted_mean"` or `"edge_mean"` of the
            edge vectors, or `"raw_mean"` of positions, see
            `keras_mlff.models.alphanet.frames.edge_frames`.
        normalized_frame: Whether frames have unit vectors, as in the paper. They are not defined
            where neighbors lie on one line or around a center of symmetry, so forces jump there.
        measure: How signs are taken away: `"square"`, or `"absolute"`, which has kinks and makes
            the lengths of vectors depend on orientation.
        cutoff_function: `"polynomial"` (second derivatives continuous), `"cosine"` (the authors',
            first derivatives) or `"smooth"` (all).
        message_envelope: Whether messages end at the cutoff.
        phase: `"sin"`, `"cos_sin"` or `"atan2"` of the phase of each message, see `PhaseMessage`.
        modulus: What the complex state is divided by: `"smooth"`, `"shifted"` or `"plain"`, see
            `TemporalConnection`.
        softening: Added under the root of the `"smooth"` modulus. The smaller it is, the steeper
            are energies where a number of the state is near zero.
        message_norm: Which sums of messages are normalized: `"all"`, `"phases"` or `"none"`.
        reduce: Whether messages are added (`"sum"`) or averaged (`"mean"`).
        smooth_mean: Whether the number of neighbors that `"mean"` divides by has no kink where
            it falls below one.
        max_num_neighbors: How many neighbors of an atom count, the nearest first; `None` for all.
            With a limit, the energy jumps where neighbors swap ranks.
        min_distance: Å; edges up to this length are left out.
        message_epsilon: Added to the variance of sums of messages. The smaller it is, the steeper
            is the energy of an atom whose only neighbor leaves.
        norm_epsilon: Added to all other variances.
        epsilon: Added to lengths, and to the `"shifted"` modulus, before they divide.
        num_embeddings: How many elements have an embedding of their own, padding (0) included;
            heavier ones share the last.

    Raises:
        ValueError: If a word is not among the choices or a number is out of range.
    """

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "radial_basis": ("damped_bessel", "bessel", "damped_gaussian"),
        "frame": FRAMES,
        "measure": MEASURES,
        "cutoff_function": tuple(cutoffs.CUTOFFS),
        "phase": PHASES,
        "modulus": MODULI,
        "message_norm": ("all", "phases", "none"),
        "reduce": ("sum", "mean"),
    }

    radial_basis: str = "damped_bessel"
    frame: str = "weighted_mean"
    normalized_frame: bool = False
    measure: str = "square"
    cutoff_function: str = "polynomial"
    message_envelope: bool = True
    phase: str = "sin"
    modulus: str = "smooth"
    softening: float = 0.01
    message_norm: str = "all"
    reduce: str = "sum"
    smooth_mean: bool = True
    max_num_neighbors: int | None = None
    min_distance: float = 0.0
    message_epsilon: float = 1e-2
    norm_epsilon: float = 1e-5
    epsilon: float = 1e-10
    num_embeddings: int = MAX_ATOMIC_NUMBER + 1

    def __post_init__(self) -> None:
        super().__post_init__()
        limit = self.max_num_neighbors
        if limit is not None and (isinstance(limit, str) or limit < 1):
            raise ValueError(
                "`max_num_neighbors` is a number from 1 on, or None for all neighbors. "
                f"Received: max_num_neighbors={limit!r}."
            )

    @property
    def num_continuous_derivatives(self) -> int:
        """Counts those of the energy where an edge reaches the cutoff."""
        sharp = self.normalized_frame or self.max_num_neighbors is not None
        if sharp or not self.message_envelope or self.frame != "weighted_mean":
            return 0
        return cutoffs.NUM_CONTINUOUS_DERIVATIVES[self.cutoff_function]


_V1 = AlphaNetVariant(
    radial_basis="bessel",
    frame="raw_mean",
    measure="absolute",
    cutoff_function="cosine",
    message_envelope=False,
    phase="atan2",
    modulus="plain",
    smooth_mean=False,
    max_num_neighbors=50,
    min_distance=1e-2,
    message_epsilon=1e-5,
)
# "smooth" is this package's; the others are the authors' program of late 2025, of August 2025,
# and of January 2025, when the paper appeared
VARIANTS: dict[str, AlphaNetVariant] = {
    "smooth": AlphaNetVariant(),
    "v2": dataclasses.replace(
        _V1,
        frame="edge_mean",
        measure="square",
        modulus="shifted",
        max_num_neighbors=None,
        epsilon=1e-9,
    ),
    "v1": _V1,
    "p": dataclasses.replace(_V1, radial_basis="damped_gaussian"),
}
PARTS = ("phase", "rotation", "frame_transition")


def upgrade_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Turns arguments of `AlphaNet` that were written at any time into those of today.

    Once each switch was an argument of its own, `None` standing for what the named variant says,
    and each part that can be left out had a flag (`use_phase`).
    """
    config = dict(config)
    left_out = [part for part in PARTS if config.pop(f"use_{part}", True) is False]
    if left_out:
        config["without"] = [*config.get("without", ()), *left_out]
    limit = config.pop("max_num_neighbors", "variant")  # None was a value: all neighbors
    changes = {} if limit == "variant" else {"max_num_neighbors": limit}
    return gather_switches(config, VARIANTS, renamed={}, changes=changes)
