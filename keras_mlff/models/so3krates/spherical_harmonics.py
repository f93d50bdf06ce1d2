"""Real spherical harmonics, and what products of them hold of each degree.

Harmonics are orthonormal on the sphere, without the Condon-Shortley sign. An array holds one degree
after the other, and within a degree d the orders m = -d, ..., d.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_mlff.graph import Array, Tensor

# Tables whose entries sum to zero: the sign that makes them those of the authors' program
_SIGNS = {(1, 2, 2): -1.0, (1, 3, 3): -1.0, (1, 4, 4): 1.0, (2, 3, 2): 1.0, (3, 4, 4): -1.0}


def width(degrees: Sequence[int]) -> int:
    """Counts the orders of all degrees: the sum of 2 d + 1, the width of an array of harmonics."""
    return sum(2 * degree + 1 for degree in degrees)


def spherical_harmonics(vectors: Tensor, degrees: Sequence[int]) -> Tensor:
    """Computes the harmonics Y of unit vectors.

    They are homogeneous polynomials, r^d Y(v / r): elsewhere than on the sphere they grow with r,
    and at the origin they are smooth and zero, except degree 0, which is constant.

    Args:
        vectors: `(n, 3)`.
        degrees: Which degrees to compute.

    Returns:
        `(n, width(degrees))`.
    """
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    squares = x * x + y * y + z * z
    # cosine and sine of m times the azimuth, times (distance from the z axis)^m
    angular: dict[int, Any] = {0: 1.0}
    cosine, sine = x, y
    for order in range(1, max(degrees) + 1):
        angular[order], angular[-order] = cosine, sine
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
    columns = []
    for degree in degrees:
        polar = [_polar(degree, order, z, squares) for order in range(degree + 1)]
        for order in range(-degree, degree + 1):
            column = _normalization(degree, abs(order)) * polar[abs(order)] * angular[order]
            columns.append(ops.zeros_like(x) + column)
    return ops.stack(columns, axis=-1)


def _polar(degree: int, order: int, z: Tensor, squares: Tensor) -> Tensor:
    """Computes the associated Legendre polynomial without its power of the sine, times r^(d-m).

    Args:
        degree: d.
        order: m, from 0 to d.
        z: `(n,)`, the third component of the vectors.
        squares: `(n,)`, r².

    Returns:
        `(n,)`, or a number where it is constant.
    """
    before: Any = 0.0
    current: Any = float(math.prod(range(1, 2 * order, 2)))  # (2m - 1)!!
    for step in range(order + 1, degree + 1):
        upper = ((2 * step - 1) / (step - order)) * (z * current)
        before, current = (
            current,
            upper - ((step + order - 1) / (step - order)) * (squares * before)
            if step > order + 1
            else upper,
        )
    return current


def _normalization(degree: int, order: int) -> float:
    """Computes the factor that makes the harmonics orthonormal on the sphere."""
    ratio = math.factorial(degree - order) / math.factorial(degree + order)
    return math.sqrt((1 if order == 0 else 2) * (2 * degree + 1) / (4.0 * math.pi) * ratio)


def degree_matrix(degrees: Sequence[int]) -> Array:
    """Tells which order belongs to which degree: `(width(degrees), len(degrees))`, 0 or 1."""
    widths = [2 * degree + 1 for degree in degrees]
    return np.repeat(np.eye(len(degrees)), widths, axis=0)


def sum_orders(values: Tensor, degrees: Sequence[int]) -> Tensor:
    """Sums over the orders of each degree: `(..., width(degrees))` -> `(..., len(degrees))`."""
    matrix = ops.convert_to_tensor(degree_matrix(degrees), dtype=values.dtype)
    return ops.matmul(values, matrix)


def spread_degrees(values: Tensor, degrees: Sequence[int]) -> Tensor:
    """Repeats what belongs to a degree for all of its orders; the reverse of `sum_orders`."""
    matrix = ops.convert_to_tensor(degree_matrix(degrees).T, dtype=values.dtype)
    return ops.matmul(values, matrix)


def coupled_degrees(degrees: Sequence[int], parity: bool) -> list[tuple[int, int, int]]:
    """Lists which products of two different degrees have a part of which degree.

    Args:
        degrees: Degrees of both factors and of the product, ascending.
        parity: Whether to leave out triples of odd sum, which give pseudotensors: under reflection
            they change sign where harmonics do not, and the other way round.

    Returns:
        Triples (first, second, out) with first < second.
    """
    return [
        (first, second, out)
        for first in degrees
        for second in degrees
        for out in degrees
        if first < second
        and second - first <= out <= first + second
        and not (parity and (first + second + out) % 2)
    ]


@functools.cache
def coupling_table(first: int, second: int, out: int) -> Array:
    """Tabulates the real 3j symbol of three degrees, whose squares sum to 1.

    With it, `einsum("oab,a,b->o", table, q_first, q_second)` turns as harmonics of degree `out`.
    The sign, which the definition leaves open, is that of the authors' program where
    first < second.

    Returns:
        `(2 out + 1, 2 first + 1, 2 second + 1)`.
    """
    complex_table = np.zeros((2 * out + 1, 2 * first + 1, 2 * second + 1))
    for m_first in range(-first, first + 1):
        for m_second in range(-second, second + 1):
            m_out = m_first + m_second
            if abs(m_out) <= out:
                complex_table[m_out + out, m_first + first, m_second + second] = _clebsch_gordan(
                    first, m_first, second, m_second, out, m_out
                )
    table = np.einsum(
        "oc,cab,ia,jb->oij",
        _complex_to_real(out),
        complex_table,
        _complex_to_real(first).conj(),
        _complex_to_real(second).conj(),
    )
    # one of the two parts is zero
    real = (table.imag if (first + second + out) % 2 else table.real) / math.sqrt(2 * out + 1)
    total = float(real.sum())
    if abs(total) > 1e-10:
        return np.asarray(real * np.sign(total))
    return np.asarray(real * _SIGNS.get((first, second, out), 1.0))


def _complex_to_real(degree: int) -> Array:
    """Builds the matrix that turns complex harmonics, Condon-Shortley, into real ones."""
    matrix = np.zeros((2 * degree + 1, 2 * degree + 1), np.complex128)
    matrix[degree, degree] = 1.0
    for m in range(1, degree + 1):
        sign = (-1.0) ** m
        matrix[degree + m, degree - m] = math.sqrt(0.5)
        matrix[degree + m, degree + m] = sign * math.sqrt(0.5)
        matrix[degree - m, degree - m] = 1j * math.sqrt(0.5)
        matrix[degree - m, degree + m] = -1j * sign * math.sqrt(0.5)
    return matrix


def _clebsch_gordan(j1: int, m1: int, j2: int, m2: int, j: int, m: int) -> float:
    """Computes <j1 m1 j2 m2 | j m> by Racah's formula, in whole numbers up to the root."""
    f = math.factorial
    if not abs(j1 - j2) <= j <= j1 + j2:
        return 0.0
    triangle = f(j1 + j2 - j) * f(j + j1 - j2) * f(j - j1 + j2) / f(j1 + j2 + j + 1)
    orders = f(j + m) * f(j - m) * f(j1 - m1) * f(j1 + m1) * f(j2 - m2) * f(j2 + m2)
    total = 0.0
    for k in range(j1 + j2 - j + 1):
        terms = [j1 + j2 - j - k, j1 - m1 - k, j2 + m2 - k, j - j2 + m1 + k, j - j1 - m2 + k]
        if min(terms) >= 0:
            total += (-1.0) ** k / (f(k) * math.prod(f(term) for term in terms))
    return math.sqrt((2 * j + 1) * triangle * orders) * total
