"""Envelopes that take an interaction to zero at the cutoff.

Each maps edge lengths `(num_edges,)` in Å and a cutoff r_c in Å to factors `(num_edges,)` from one,
where d = 0, to zero, from d = r_c on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from keras import ops

from keras_mlff.graph import Tensor


def cosine(edge_lengths: Tensor, cutoff: float) -> Tensor:
    """Computes (1 + cos(pi d / r_c)) / 2, once differentiable at the cutoff.

    Reference: Behler and Parrinello, 2007, https://doi.org/10.1103/PhysRevLett.98.146401
    """
    # as a square, in which nothing cancels near the cutoff
    envelope = ops.square(ops.cos(edge_lengths * (0.5 * math.pi / cutoff)))
    return ops.where(edge_lengths < cutoff, envelope, ops.zeros_like(envelope))


def polynomial(edge_lengths: Tensor, cutoff: float, exponent: int = 6) -> Tensor:
    """Computes a polynomial of x = d / r_c, twice differentiable at the cutoff.

    u = 1 - (p + 1)(p + 2) / 2 x^p + p (p + 2) x^(p + 1) - p (p + 1) / 2 x^(p + 2)

    Args:
        edge_lengths: d, of any shape.
        cutoff: r_c, in the same unit.
        exponent: p. The larger it is, the longer the envelope stays near one.

    Returns:
        u in the shape of `edge_lengths`, zero beyond the cutoff.

    Reference: Gasteiger et al., 2020, eq. 8, https://arxiv.org/abs/2003.03123
    """
    # powers of what lies far beyond overflow, also where they are not taken
    x = ops.minimum(edge_lengths / cutoff, 1.0)
    p = exponent
    envelope = (
        1.0
        - (p + 1) * (p + 2) / 2 * ops.power(x, p)
        + p * (p + 2) * ops.power(x, p + 1)
        - p * (p + 1) / 2 * ops.power(x, p + 2)
    )
    return ops.where(edge_lengths < cutoff, envelope, ops.zeros_like(envelope))


def smooth(edge_lengths: Tensor, cutoff: float) -> Tensor:
    """Computes exp(1 - 1 / (1 - (d / r_c)²)), all of whose derivatives are zero at the cutoff."""
    x = edge_lengths / cutoff
    inside = x < 1.0
    gap = ops.where(inside, 1.0 - ops.square(x), ops.ones_like(x))
    # exp(-1/gap) underflows long before 1/gap overflows
    gap = ops.maximum(gap, 1e-2)
    return ops.where(inside, ops.exp(1.0 - 1.0 / gap), ops.zeros_like(x))


def switch(lengths: Tensor, first: float, last: float) -> Tensor:
    """Goes from one, at and below `first`, to zero, at and beyond `last`, with all derivatives.

    With u = (d - first) / (last - first) and S(t) = exp(-1 / t) it is S(1 - u) / (S(1 - u) + S(u)).

    Args:
        lengths: d, of any shape.
        first: Where the decay begins, in the unit of the lengths.
        last: Where it ends, above `first`.
    """
    # beyond these limits it is one or zero to the last digit, and its derivatives are zero
    u = ops.clip((lengths - first) / (last - first), 1e-3, 1.0 - 1e-3)
    return ops.sigmoid(1.0 / u - 1.0 / (1.0 - u))


CUTOFFS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "cosine": cosine,
    "polynomial": polynomial,
    "polynomial3": functools.partial(polynomial, exponent=3),
    "smooth": smooth,
}

# how many derivatives of each are continuous; 100 stands for all
NUM_CONTINUOUS_DERIVATIVES = {"cosine": 1, "polynomial": 2, "polynomial3": 2, "smooth": 100}


def get(name: str) -> Callable[[Tensor, float], Tensor]:
    """Finds an envelope by name.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in CUTOFFS:
        raise ValueError(
            f"Unknown cutoff function. Received: '{name}'. Choose one of {sorted(CUTOFFS)}."
        )
    return CUTOFFS[name]
