"""Switches of CMRET for the ablations of its paper and for the authors' program."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from keras_mlff.layers.equivariant import NORM_MODES
from keras_mlff.models.cmret.attention import ACTIVATIONS
from keras_mlff.models.cmret.electron_configuration import CONFIGURATIONS
from keras_mlff.models.variants import Switches


@dataclasses.dataclass(frozen=True)
class CMRETVariant(Switches):
    """What of CMRET is there to repeat the paper's ablations or to match the authors' program.

    Args:
        temperature_coeff: kappa of the attention's temperature tau = sqrt(kappa * head width); the
            paper found 2 to be best outside of the range of the training data.
        attention_activation: What turns scores into weights of the attention (Tables 1 and 2 of
            the paper): `"softmax"`, `"softmax2d"`, `"swish"`, `"softplus"`, `"gelu"`, `"mish"` or
            `"relu"`. All but `"softmax"` grow with the number of atoms, so crystals are refused.
        num_output_blocks: Gated blocks before each head; the paper's ablation has 1.
        residual_mlp: Whether each layer feeds the output through a perceptron beside its scalars;
            the paper's ablation leaves it out.
        norm_mode: How vectors are measured in gated blocks, see
            `keras_mlff.layers.equivariant.GatedBlock`: `"smooth"`, or `"component_shift"` as in the
            program, which breaks rotation symmetry by about 1e-8.
        configuration: Table of electrons per subshell: `"aufbau"` fills in order for all elements,
            as the program does; `"ground_state"` has the exceptions of about 20 elements.
    """

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "attention_activation": ACTIVATIONS,
        "norm_mode": NORM_MODES,
        "configuration": CONFIGURATIONS,
    }

    temperature_coeff: float = 2.0
    attention_activation: str = "softmax"
    num_output_blocks: int = 2
    residual_mlp: bool = True
    norm_mode: str = "smooth"
    configuration: str = "aufbau"


VARIANTS: dict[str, CMRETVariant] = {
    "default": CMRETVariant(),
    "authors": CMRETVariant(norm_mode="component_shift"),
}
