"""Spherical Bessel functions keep their digits at every size of the argument."""

import math

import keras
import numpy as np
import pytest

from keras_mlff.models.dimenet_pp import spherical_bessel


def test_zeros_are_known():
    zeros = spherical_bessel.zeros(7, 6)
    assert zeros.shape == (7, 6)
    # Abramowitz and Stegun, table 10.6
    np.testing.assert_allclose(zeros[0], np.pi * np.arange(1, 7), rtol=1e-15)
    np.testing.assert_allclose(zeros[1, :2], [4.493409457909064, 7.725251836937707], rtol=1e-14)
    np.testing.assert_allclose(zeros[2, 0], 5.763459196894550, rtol=1e-14)


def test_normalizations_make_them_orthonormal():
    zeros, factors = (f(7, 6) for f in (spherical_bessel.zeros, spherical_bessel.normalizations))
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x, weights = 0.5 * (nodes + 1.0), 0.5 * weights
    for degree in range(7):
        arguments = x[:, None, None] * zeros[None, degree : degree + 1]
        rows = np.stack([exact(arguments[:, 0, n], degree) for n in range(6)], axis=1)
        rows = rows * factors[degree]
        products = np.einsum("i,ia,ib->ab", weights * x**2, rows, rows)
        np.testing.assert_allclose(products, np.eye(6), atol=1e-9)


def exact(x, degree):
    """The power series with as many terms as it takes, in extended precision."""
    x = np.asarray(x, np.longdouble)
    total, term = np.zeros_like(x), np.ones_like(x) / math.prod(range(1, 2 * degree + 2, 2))
    for k in range(1, 120):
        total, term = total + term, term * (-0.5 * x * x) / (k * (2 * degree + 2 * k + 1))
    return np.asarray(total * x**degree, np.float64)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-13)])
def test_values_are_exact_at_all_arguments(dtype, tolerance, float64):
    x = np.concatenate([np.geomspace(1e-3, 1.0, 20), np.linspace(1.1, 25.0, 60)])
    rows = np.repeat(x[:, None], 7, axis=1)[:, :, None]
    tensor = keras.ops.convert_to_tensor(rows, dtype=dtype)
    values = keras.ops.convert_to_numpy(spherical_bessel.spherical_bessel(tensor))[:, :, 0]
    expected = np.stack([exact(x, degree) for degree in range(7)], axis=1)
    np.testing.assert_allclose(values, expected, atol=tolerance)
    # small values too have all their digits
    small = x < 1.0
    np.testing.assert_allclose(values[small], expected[small], rtol=20 * tolerance)


def test_legendre_polynomials_are_known(float64):
    x = np.linspace(-1.0, 1.0, 9)
    tensor = keras.ops.convert_to_tensor(x, dtype="float64")
    values = keras.ops.convert_to_numpy(spherical_bessel.legendre(tensor, 7))
    expected = np.polynomial.legendre.legvander(x, 6)
    np.testing.assert_allclose(values, expected, atol=1e-14)
    assert spherical_bessel.legendre(tensor, 1).shape == (9, 1)
