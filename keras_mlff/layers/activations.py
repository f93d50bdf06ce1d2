"""Activations that Keras does not have."""

from __future__ import annotations

import math

from keras import ops

from keras_mlff.graph import Tensor


def shifted_softplus(x: Tensor) -> Tensor:
    """Computes softplus(x) - ln 2, zero at zero. Reference: Schütt et al., arXiv 1706.08566."""
    return ops.softplus(x) - math.log(2.0)


def gelu(x: Tensor) -> Tensor:
    """Computes x times the normal distribution function, by the error function.

    Keras's own rounds a constant to float32 on TensorFlow. Reference: arXiv 1606.08415.
    """
    return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))
