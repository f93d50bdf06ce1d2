"""Spherical Bessel functions j_l and Legendre polynomials P_l, for the basis of eq. 6 of DimeNet.

Reference: Gasteiger et al., 2020, https://arxiv.org/abs/2003.03123; series, recurrences and zeros:
Abramowitz and Stegun, 1964, chapter 10 and table 10.6
"""

from __future__ import annotations

import functools
import math

import numpy as np
from keras import ops

from keras_mlff.graph import Array, Tensor

_NUM_TERMS = 28  # of the series below l + 1, for float64 up to l = 12


@functools.cache
def zeros(num_degrees: int, num_zeros: int) -> Array:
    """Finds the first zeros of j_0, j_1, ... above 0 by bisection.

    Args:
        num_degrees: Number of degrees l, from 0 on.
        num_zeros: Number of zeros of each.

    Returns:
        z_ln, `(num_degrees, num_zeros)` float64.

    Example:
        >>> zeros(1, 2).round(4).tolist()
        [[3.1416, 6.2832]]
    """
    brackets = np.arange(1, num_degrees + num_zeros + 1) * math.pi
    rows = [brackets[:num_zeros]]
    for degree in range(1, num_degrees):
        # between two zeros of one degree lies one of the next
        low, high = brackets[:-1].copy(), brackets[1:].copy()
        sign = np.sign(_above(low, degree))
        for _ in range(60):
            middle = 0.5 * (low + high)
            left = np.sign(_above(middle, degree)) == sign
            low, high = np.where(left, middle, low), np.where(left, high, middle)
        brackets = 0.5 * (low + high)
        rows.append(brackets[:num_zeros])
    return np.stack(rows)


@functools.cache
def normalizations(num_degrees: int, num_zeros: int) -> Array:
    """Computes the factors N_ln that make j_l(z_ln x) orthonormal for x from 0 to 1, weight x².

    Args:
        num_degrees: Number of degrees l, from 0 on.
        num_zeros: Number of zeros of each.

    Returns:
        N_ln = sqrt(2) / |j_(l+1)(z_ln)|, `(num_degrees, num_zeros)` float64.
    """
    rows = zeros(num_degrees, num_zeros)
    values = [_above(row, degree + 1) for degree, row in enumerate(rows)]
    return np.asarray(math.sqrt(2.0) / np.abs(np.stack(values)))


def _above(x: Array, degree: int) -> Array:
    """Computes j_l in NumPy, exact above l."""
    before, current = np.cos(x) / x, np.sin(x) / x
    for step in range(degree):
        before, current = current, (2 * step + 1) / x * current - before
    return np.asarray(current)


def spherical_bessel(x: Tensor) -> Tensor:
    """Computes j_l(x) of row l.

    Below l + 1 the power series, above it the recurrence: each is exact where the other, in
    float32 above all, loses its digits.

    Args:
        x: Arguments above 0, `(n, num_degrees, m)`.

    Returns:
        j_l of each, of the same shape.
    """
    num_degrees = x.shape[1]
    bounds = ops.convert_to_tensor(np.arange(1.0, num_degrees + 1.0)[:, None], dtype=x.dtype)
    low = x < bounds
    inside = ops.where(low, x, ops.zeros_like(x))
    outside = ops.where(low, ops.ones_like(x) * bounds, x)
    return ops.where(low, _series(inside, num_degrees), _recurrence(outside, num_degrees))


def _series(x: Tensor, num_degrees: int) -> Tensor:
    """Sums x^l / (2l + 1)!! (1 - x²/2 / (1 (2l + 3)) + ...), exact for small arguments."""
    degrees = np.arange(num_degrees)[:, None]
    square = -0.5 * x * x
    total = ops.ones_like(x)
    for k in range(_NUM_TERMS, 0, -1):
        factor = ops.convert_to_tensor(1.0 / (k * (2.0 * degrees + 2 * k + 1)), dtype=x.dtype)
        total = 1.0 + square * factor * total
    rows, power = [], ops.ones_like(x)
    for degree in range(num_degrees):
        double_factorial = math.prod(range(1, 2 * degree + 2, 2))
        rows.append(power[:, degree] * (1.0 / double_factorial))
        power = power * x
    return total * ops.stack(rows, axis=1)


def _recurrence(x: Tensor, num_degrees: int) -> Tensor:
    """Computes j_(l+1) = (2l + 1) / x j_l - j_(l-1), exact for arguments above l."""
    inverse = 1.0 / x
    before, current = ops.cos(x) * inverse, ops.sin(x) * inverse
    rows = []
    for degree in range(num_degrees):
        rows.append(current[:, degree])
        before, current = current, (2 * degree + 1) * inverse * current - before
    return ops.stack(rows, axis=1)


def legendre(x: Tensor, num_degrees: int) -> Tensor:
    """Computes the Legendre polynomials P_0, P_1, ... by their recurrence.

    Args:
        x: Cosines, `(n,)`.
        num_degrees: Number of polynomials.

    Returns:
        `(n, num_degrees)`.
    """
    rows = [ops.ones_like(x), x]
    for degree in range(1, num_degrees - 1):
        following = (2 * degree + 1) * x * rows[-1] - degree * rows[-2]
        rows.append(following * (1.0 / (degree + 1)))
    return ops.stack(rows[:num_degrees], axis=-1)
