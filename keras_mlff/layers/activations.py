"""Activations that Keras does not have."""

from __future__ import annotations

import math

from keras import ops

from keras_mlff.graph import Tensor


def shifted_softplus(x: Tensor) -> Tensor:
    """Computes ln(1 + exp(x)) - ln 2, elementwise, which is zero at zero and smooth.

    Reference: Schütt et al., 2017 (SchNet), https://arxiv.org/abs/1706.08566
    """
    return ops.softplus(x) - math.log(2.0)


def gelu(x: Tensor) -> Tensor:
    """Computes x (1 + erf(x / sqrt(2))) / 2, elementwise.

    Keras's own function rounds a constant to float32 on TensorFlow, which float64 notices.

    Reference: Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415
    """
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))
