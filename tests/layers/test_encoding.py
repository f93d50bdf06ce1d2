"""Learned tables: the reference's numbers, promised derivatives, ends, losses."""

from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff import analysis, backend
from keras_mlff.layers.encoding import (
    PerceptronEncoding,
    PositionalEncoding,
    make_encoding,
    smoothness_loss,
)

GOLDEN = Path(__file__).parents[1] / "golden/posenc"
pytestmark = pytest.mark.usefixtures("float64")
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "encoding_A.npz") as file:
        return dict(file)


def layer_of(golden, **kwargs):
    layer = PositionalEncoding(
        golden["h_knots"].shape[1],
        len(golden["h_knots"]),
        golden["x_min"],
        golden["x_max"],
        dtype="float64",
        **kwargs,
    )
    layer.build()
    layer.values.assign(golden["h_knots"])
    if layer.slopes is not None:
        layer.slopes.assign(golden["g_knots"])
    return layer


def evaluate(layer, x):
    x = keras.ops.convert_to_tensor(x, dtype="float64")
    return keras.ops.convert_to_numpy(layer(x))


def slopes_of(layer, x):
    """The derivative of every dimension."""
    columns = []
    for column in range(layer.num_features):

        def one(x, column=column):
            return layer(x)[..., column], ()

        x = keras.ops.convert_to_tensor(x, dtype="float64")
        _, (gradient,) = backend.value_and_gradient(one, [x], False)
        columns.append(keras.ops.convert_to_numpy(gradient))
    return np.stack(columns, axis=-1)


def test_values_equal_the_reference(golden):
    for name, kwargs in {
        "cubic": {},
        "linear": {"mode": "linear"},
        "cubic_scaled": {"scaled_slopes": True},
    }.items():
        layer = layer_of(golden, **kwargs)
        np.testing.assert_allclose(
            evaluate(layer, golden["x"]), golden[f"{name}/h"], **TOLERANCE, err_msg=name
        )
        np.testing.assert_allclose(layer.knots, golden["knots"], rtol=1e-14)


def test_slopes_equal_the_reference(golden):
    x = golden["x"]
    between = np.abs(x[:, None] - golden["knots"]).min(axis=1) > 1e-9
    cubic = slopes_of(layer_of(golden), x)
    np.testing.assert_allclose(cubic, golden["cubic/dh_dx"], **TOLERANCE)
    linear = slopes_of(layer_of(golden, mode="linear"), x[between])
    np.testing.assert_allclose(linear, golden["linear/dh_dx"][between], **TOLERANCE)


def test_second_derivatives_equal_the_reference(golden):
    x = golden["x"]
    x = x[np.abs(x[:, None] - golden["knots"]).min(axis=1) > 1e-3]
    layer, step = layer_of(golden), 1e-5
    second = (slopes_of(layer, x + step) - slopes_of(layer, x - step)) / (2.0 * step)
    expected = golden["cubic/d2h_dx2"][np.isin(golden["x"], x)]
    np.testing.assert_allclose(second, expected, rtol=1e-6, atol=1e-6)


def test_smoothness_equals_the_reference(golden):
    table = keras.ops.convert_to_tensor(golden["h_knots"], dtype="float64")
    loss, (gradient,) = backend.value_and_gradient(
        lambda h: (smoothness_loss(h), ()), [table], False
    )
    np.testing.assert_allclose(float(loss[0]), golden["smooth_loss"], rtol=1e-10)
    gradient = keras.ops.convert_to_numpy(gradient)
    np.testing.assert_allclose(gradient, golden["smooth_loss_grad_h"], **TOLERANCE)


@pytest.mark.parametrize(
    ("mode", "derivatives"), [("linear", 0), ("cubic", 1), ("quintic", 2), ("bspline", 2)]
)
@pytest.mark.parametrize("scaled", [False, True])
def test_derivatives_are_as_continuous_as_promised(mode, derivatives, scaled):
    """At every knot, both ends included, from both sides."""
    layer = PositionalEncoding(
        3, 7, 0.5, 4.0, mode, initial="normal_both", scaled_slopes=scaled, dtype="float64"
    )
    layer.build()
    step, gap = 1e-4, 1e-9
    left, right = layer.knots - gap, layer.knots + gap
    jumps = [evaluate(layer, right) - evaluate(layer, left)]
    jumps.append(slopes_of(layer, right) - slopes_of(layer, left))
    before = slopes_of(layer, left) - slopes_of(layer, left - step)
    after = slopes_of(layer, right + step) - slopes_of(layer, right)
    jumps.append((after - before) / step)
    limits = [1e-6, 1e-6, 0.5]  # the last is the step times the third derivative
    for order in range(derivatives + 1):
        assert np.abs(jumps[order]).max() < limits[order], order


@pytest.mark.parametrize("mode", ["linear", "cubic", "quintic", "bspline"])
def test_the_ends_go_on_straight(mode):
    layer = PositionalEncoding(2, 6, 0.0, 1.0, mode, initial="normal_both", dtype="float64")
    layer.build()
    for side in (np.asarray([-0.1, -0.2, -0.3]), np.asarray([1.1, 1.2, 1.3])):
        values = evaluate(layer, side)
        np.testing.assert_allclose(np.diff(values, n=2, axis=0), 0.0, atol=1e-12)


def test_gaussians_start_smooth():
    for mode in ("cubic", "quintic", "bspline"):
        layer = PositionalEncoding(8, 40, 0.0, 4.0, mode, initial="gaussian_rbf", dtype="float64")
        x = np.linspace(0.2, 3.8, 50)
        centers = np.linspace(0.0, 4.0, 8)
        expected = np.exp(-0.5 * ((x[:, None] - centers) / centers[1]) ** 2)
        error = 1e-2 if mode == "bspline" else 2e-4
        np.testing.assert_allclose(evaluate(layer, x), expected, atol=error, err_msg=mode)


def test_no_gaussian_falls_between_knots():
    layer = PositionalEncoding(50, 11, 0.0, 4.0, initial="gaussian_rbf", dtype="float64")
    layer.build()
    table = keras.ops.convert_to_numpy(layer.values)
    assert table.max(axis=0).min() > np.exp(-0.5 * 0.5**2) - 1e-12  # half a spacing away at most


def test_losses_depend_on_weights_alone(golden):
    layer = layer_of(golden, smoothness=0.5, slope_smoothness=0.1)
    assert len(layer.losses) == 2
    np.testing.assert_allclose(
        float(keras.ops.convert_to_numpy(layer.losses[0])), 0.5 * golden["smooth_loss"], rtol=1e-10
    )
    slopes = golden["g_knots"][1:-1]
    central = 0.5 * (golden["h_knots"][2:] - golden["h_knots"][:-2])
    expected = 0.1 * np.mean((slopes - central) ** 2)
    np.testing.assert_allclose(
        float(keras.ops.convert_to_numpy(layer.losses[1])), expected, rtol=1e-10
    )
    assert layer_of(golden).losses == []


def test_encodings_by_name():
    assert make_encoding("original", 0.0, 4.0) is None
    table = make_encoding("smooth", 0.0, 4.0, num_tables=2)
    assert (table.x_max, table.smoothness) == (4.0, 0.005)
    table = make_encoding({"kind": "posenc", "x_max": 3.0, "num_knots": 5}, 0.0, 4.0)
    assert (table.x_max, table.num_knots, table.smoothness) == (3.0, 5, 0.0)
    assert table.initial == "normal"
    basis = make_encoding("smooth", 0.0, 4.0, num_features=50)
    assert (basis.num_features, basis.initial) == (50, "gaussian_rbf")
    random = {"kind": "posenc", "initial": "normal"}
    assert make_encoding(random, 0.0, 4.0, num_features=50).initial == "normal"
    assert make_encoding("mlp", 0.0, 4.0).num_features == 32
    with pytest.raises(ValueError, match=r"have slopes.*'linear'"):
        PositionalEncoding(mode="linear", slope_smoothness=0.1)
    with pytest.raises(ValueError, match="distance_encoding"):
        make_encoding("fourier", 0.0, 4.0)


def test_metrics_equal_the_reference():
    with np.load(GOLDEN / "metrics_A.npz") as file:
        golden = dict(file)
    x, a, b = golden["x"], golden["A"], golden["B"]
    for name, value in analysis.encoding_metrics(a, x).items():
        np.testing.assert_allclose(value, golden[f"A/{name}"], rtol=1e-10, err_msg=name)
    for names, tables in {"AB": (a, b), "AA": (a, a), "BB": (b, b)}.items():
        value = analysis.similarity(*tables)
        np.testing.assert_allclose(value, golden[f"similarity_{names}"], rtol=1e-10)
    value = analysis.similarity(a, b, normalized=True)
    np.testing.assert_allclose(value, golden["similarity_normalized_AB"], rtol=1e-10)
    np.testing.assert_allclose(analysis.normalized_slopes(golden["g_A"]), golden["ghat_A"])
    knots = golden["poly/x"]
    powers = np.stack([knots, knots**2, knots**3], axis=1)[None]
    for name, value in analysis.encoding_metrics(powers, knots).items():
        np.testing.assert_allclose(
            value, golden[f"poly/{name}"], rtol=1e-10, atol=1e-12, err_msg=name
        )


def test_a_fresh_perceptron_bends_where_distances_are():
    """With biases of zero, "relu" would give lines through the origin for positive distances."""
    layer = PerceptronEncoding(32, activation="relu")
    values = keras.ops.convert_to_numpy(layer(np.linspace(0.5, 5.0, 50).astype("float32")))
    sizes = np.linalg.svd(values - values.mean(axis=0), compute_uv=False)
    assert sizes[1] > 1e-2 * sizes[0]
