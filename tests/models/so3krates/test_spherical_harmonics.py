"""Harmonics and couplings against published tables, and against what defines them."""

from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff import backend
from keras_mlff.models.so3krates import spherical_harmonics as harmonics

GOLDEN = Path(__file__).parents[2] / "golden/so3krates/sph_cg_l4.npz"
pytestmark = pytest.mark.usefixtures("float64")


def evaluate(vectors, degrees):
    tensor = keras.ops.convert_to_tensor(np.asarray(vectors), dtype="float64")
    return keras.ops.convert_to_numpy(harmonics.spherical_harmonics(tensor, degrees))


def directions(number=60, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(number, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rotation(seed=1):
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * np.linalg.det(matrix)


def wigner(degree, matrix):
    """Finds the matrix that turns harmonics of one degree, from their values."""
    here = directions()
    solution, *_ = np.linalg.lstsq(
        evaluate(here, [degree]), evaluate(here @ matrix.T, [degree]), rcond=None
    )
    return solution.T


def test_harmonics_equal_the_table():
    with np.load(GOLDEN) as golden:
        values = evaluate(golden["directions"], range(5))
        np.testing.assert_allclose(values, golden["Y_l0_to_l4"], atol=1e-14)


def test_harmonics_equal_those_of_another_library():
    """Sphericart's conventions are ours: real, orthonormal on the sphere, m = -l..l, no (-1)^m.

    Its solid harmonics are r^l Y, as ours off the sphere.
    """
    sphericart = pytest.importorskip("sphericart", reason="needs the pip extra test")
    here = directions()
    expected = sphericart.SphericalHarmonics(8).compute(here)
    np.testing.assert_allclose(evaluate(here, range(9)), expected, atol=1e-12)
    stretched = here * np.linspace(0.1, 2.0, len(here))[:, None]
    expected = sphericart.SolidHarmonics(8).compute(stretched)
    np.testing.assert_allclose(evaluate(stretched, range(9)), expected, rtol=1e-10, atol=1e-12)
    signs = evaluate([[0.6, 0.48, 0.64]], [1])[0]  # y, z, x, all positive
    np.testing.assert_allclose(signs, (0.75 / np.pi) ** 0.5 * np.asarray([0.48, 0.64, 0.6]))


def test_couplings_equal_the_table():
    with np.load(GOLDEN) as golden:
        table = golden["cg_m3_m1_m2"]
    block = [slice(d**2, (d + 1) ** 2) for d in range(5)]
    for first, second, out in harmonics.coupled_degrees(range(5), parity=False):
        expected = table[block[out], block[first], block[second]]
        values = harmonics.coupling_table(first, second, out)
        np.testing.assert_allclose(values, expected, atol=1e-14, err_msg=f"{first} {second} {out}")


@pytest.mark.parametrize("degrees", [[0, 1, 2, 3, 4], [6], [2, 5]])
def test_harmonics_are_orthonormal(degrees):
    """Gauss-Legendre in z and equal angles around it integrate these polynomials exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    angles = np.arange(16) * np.pi / 8
    z, angle = (grid.reshape(-1) for grid in np.meshgrid(nodes, angles, indexing="ij"))
    radius = np.sqrt(1.0 - z**2)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
    values = evaluate(points, degrees)
    gram = np.einsum("p,pa,pb->ab", np.repeat(weights, 16) * np.pi / 8, values, values)
    np.testing.assert_allclose(gram, np.eye(harmonics.width(degrees)), atol=1e-13)


@pytest.mark.parametrize("degree", range(7))
def test_harmonics_turn_and_reflect(degree):
    matrix = wigner(degree, rotation())
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(2 * degree + 1), atol=1e-12)
    here = directions(seed=5)
    turned = evaluate(here @ rotation().T, [degree])
    np.testing.assert_allclose(turned, evaluate(here, [degree]) @ matrix.T, atol=1e-12)
    np.testing.assert_allclose(
        evaluate(-here, [degree]), (-1) ** degree * evaluate(here, [degree]), atol=1e-13
    )


@pytest.mark.parametrize("triple", harmonics.coupled_degrees(range(5), parity=False))
def test_couplings_turn(triple):
    """The product of two turned arrays is the turned product."""
    first, second, out = triple
    table = harmonics.coupling_table(first, second, out)
    d1, d2, d3 = (wigner(degree, rotation()) for degree in triple)
    turned = np.einsum("oab,ax,by->oxy", table, d1, d2)
    np.testing.assert_allclose(turned, np.einsum("op,pxy->oxy", d3, table), atol=1e-11)
    gram = np.einsum("oab,pab->op", table, table)
    np.testing.assert_allclose(gram, np.eye(2 * out + 1) / (2 * out + 1), atol=1e-14)


@pytest.mark.parametrize(
    ("degrees", "number", "even"),
    [([0, 1], 1, 1), ([1, 2], 2, 1), ([1, 2, 3], 8, 5), ([0, 1, 2], 4, 3), ([0, 1, 2, 3], 11, 8),
     ([1, 2, 3, 4], 19, 11), ([0, 1, 2, 3, 4], 23, 15), ([1], 0, 0)],
)  # fmt: skip
def test_triples_are_those_of_the_selection_rule(degrees, number, even):
    assert len(harmonics.coupled_degrees(degrees, parity=False)) == number
    assert len(harmonics.coupled_degrees(degrees, parity=True)) == even


def test_the_origin_is_a_point_like_any_other():
    """Values, first and second derivatives are finite where no direction exists."""

    def slope(vectors):
        def total(vectors):
            values = harmonics.spherical_harmonics(vectors, [1, 2, 3, 4])
            return keras.ops.sum(values * values, axis=1) + keras.ops.sum(values, axis=1), {}

        (_, _), gradients = backend.value_and_gradient(total, [vectors], training=True)
        return keras.ops.sum(gradients[0] * gradients[0], axis=1), {}

    origin = keras.ops.zeros((1, 3), dtype="float64")
    np.testing.assert_array_equal(evaluate(np.zeros((1, 3)), [1, 2, 3, 4]), 0.0)
    (values, _), gradients = backend.value_and_gradient(slope, [origin], training=False)
    values, gradients = (keras.ops.convert_to_numpy(item) for item in (values, gradients[0]))
    np.testing.assert_allclose(values, 9.0 / (4.0 * np.pi), rtol=1e-12)  # degree 1 alone
    assert np.all(np.isfinite(gradients))
    assert np.abs(gradients).max() > 0.1


def test_orders_sum_and_spread():
    values = keras.ops.convert_to_tensor(np.arange(8.0)[None], dtype="float64")
    sums = harmonics.sum_orders(values, [1, 2])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(sums), [[3.0, 25.0]])
    spread = keras.ops.convert_to_numpy(harmonics.spread_degrees(sums, [1, 2]))
    np.testing.assert_array_equal(spread, [[3.0] * 3 + [25.0] * 5])
