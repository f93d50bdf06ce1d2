"""Activations that Keras does not have."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

Tensor = Any


def shifted_softplus(x: Tensor) -> Tensor:
    """Computes softplus(x) - ln 2, zero at zero. Reference: Schütt et al., arXiv 1706.08566."""
    return ops.softplus(x) - math.log(2.0)
