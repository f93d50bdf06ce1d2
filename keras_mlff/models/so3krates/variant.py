"""The versions of So3krates: ours, the paper's, and the authors' later network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.models.so3krates.harmonic_coordinates import INVARIANTS
from keras_mlff.models.variants import Switches, gather_switches


@dataclasses.dataclass(frozen=True)
class So3kratesVariant(Switches):
    """Switches between what this package computes, what was published, and what came later.

    The defaults are those of `"smooth"`: energies without jumps and forces without kinks or NaN,
    at any geometry whose atoms are apart.

    Args:
        start: Coordinates before the first layer: `"scaled_sum"` of harmonics times envelope over
            `neighbor_scale`; their `"mean"` (eq. 11), which jumps where the last neighbor leaves;
            or `"zeros"`.
        invariants: What is known of the length of a degree: `"squared"` length over sqrt(2 d + 1),
            or its `"norm"`, which has no derivative at sites of high symmetry.
        coupling: Whether degrees couple within an atom (eq. 16); without, the exchange of step 4
            has one map instead of two, and features are not scaled.
        parity: Whether couplings leave pseudotensors out; with them, mirror images differ in
            energy.
        direction: What unit vectors are: `"sender_minus_receiver"` (the paper's text) or
            `"receiver_minus_sender"` (the authors' program).
        cutoff_function: `"polynomial"` or `"polynomial3"` (second derivatives continuous),
            `"cosine"` (the paper's, first derivatives) or `"smooth"` (all).
        basis_envelope: Whether the radial basis ends at the cutoff; attention does anyway.
        attention_bias: Whether queries, keys and values have biases.
        attention_divisor: What products of queries and keys are divided by: the root of a head's
            `"width"`, or the constant of `neighbor_scale` (`"neighbors"`).
        feature_layer_norm: Whether features are normalized, twice in each layer.
        coordinate_layer_norm: Whether coordinates are; not smooth at sites of high symmetry.
        pre_layer_norm: Whether attention and exchange, and the readout, see normalized features,
            while those that are added to are left as they are.
        residual_mlp: Whether each addition to the features is followed by a `ResidualPerceptron`.
        post_layer_norm: Whether features are normalized after attention and, once more, after
            exchange, with a perceptron x + W2 act(W1 act(x)) of the normalized ones in between.
        layer_norm_epsilon: Added to the variance of features where they are normalized.
        reach_exponent: Exponent of the envelope of pairs that are near in coordinates (eq. 14).
        reach_in_float32: Whether 1/n is rounded to float32, as in the authors' program.
        num_embeddings: How many elements have an embedding of their own, padding (0) included;
            heavier ones share the last.
        element_embeddings: Whether the shares of charge and spin are weighed by tables of elements
            of their own, and all embeddings divided by sqrt(3), see `ElementChargeSpinEmbedding`.
        element_ratios: Whether Hirshfeld ratios are read with weights of each element, see
            `ElementReadout`.

    Raises:
        ValueError: If a word is not among the choices.
    """

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "start": ("scaled_sum", "mean", "zeros"),
        "invariants": INVARIANTS,
        "direction": ("sender_minus_receiver", "receiver_minus_sender"),
        "cutoff_function": tuple(cutoffs.CUTOFFS),
        "attention_divisor": ("width", "neighbors"),
    }

    start: str = "scaled_sum"
    invariants: str = "squared"
    coupling: bool = True
    parity: bool = True
    direction: str = "sender_minus_receiver"
    cutoff_function: str = "polynomial"
    basis_envelope: bool = True
    attention_bias: bool = True
    attention_divisor: str = "width"
    feature_layer_norm: bool = False
    coordinate_layer_norm: bool = False
    pre_layer_norm: bool = False
    residual_mlp: bool = False
    post_layer_norm: bool = False
    layer_norm_epsilon: float = 1e-6
    reach_exponent: int = 6
    reach_in_float32: bool = False
    num_embeddings: int = 100
    element_embeddings: bool = False
    element_ratios: bool = False

    @property
    def num_continuous_derivatives(self) -> int:
        """Counts those of the energy where a pair reaches the cutoff."""
        if self.start == "mean":
            return 0
        return cutoffs.NUM_CONTINUOUS_DERIVATIVES[self.cutoff_function]


# "smooth" is this package's, "paper" as published, "so3krates_v1" what the authors went on with,
# "so3lr" the network of their general force field
VARIANTS: dict[str, So3kratesVariant] = {
    "smooth": So3kratesVariant(),
    "paper": So3kratesVariant(
        start="mean",
        invariants="norm",
        parity=False,
        direction="receiver_minus_sender",
        cutoff_function="cosine",
    ),
    "so3krates_v1": So3kratesVariant(
        start="zeros",
        coupling=False,
        cutoff_function="cosine",
        basis_envelope=False,
        attention_bias=False,
    ),
    "so3lr": So3kratesVariant(
        start="zeros",
        coupling=False,
        cutoff_function="polynomial3",
        basis_envelope=False,
        attention_bias=False,
        attention_divisor="neighbors",
        post_layer_norm=True,
        num_embeddings=119,
        element_embeddings=True,
        element_ratios=True,
    ),
}


def upgrade_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Turns arguments of `So3krates` that were written at any time into those of today.

    Once each switch was an argument of its own, `None` standing for what the named variant says,
    and the limit of non-local neighbors (`chi_cut`) stood beside the flag that there are any.
    """
    config = dict(config)
    limit = config.pop("chi_cut", "1/n")
    if config.get("nonlocal_") is True and limit != "1/n":
        config["nonlocal_"] = float(limit)
    renamed = {"chi_cut_exponent": "reach_exponent", "chi_cut_float32": "reach_in_float32"}
    return gather_switches(config, VARIANTS, renamed, changes={})
