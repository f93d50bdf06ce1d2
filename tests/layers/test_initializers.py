"""Starting weights: those of Keras and of the papers, and the same on every backend."""

import keras
import numpy as np
import pytest

from keras_mlff.layers import initializers
from keras_mlff.models import EGNN, AlphaNet


def values(initializer, *shape):
    return keras.ops.convert_to_numpy(initializer(shape, dtype="float32"))


def test_a_seed_gives_the_same_weights_on_every_backend():
    keras.utils.set_random_seed(3)
    model = EGNN(num_features=8, num_layers=1)
    total = sum(np.abs(weight).sum(dtype=np.float64) for weight in model.get_weights())
    np.testing.assert_allclose(total, 579.634436, rtol=1e-6)  # written on one of them


def test_no_two_weights_start_from_the_same_numbers():
    model = AlphaNet(num_features=16, num_heads=2)
    drawn = [w for w in model.get_weights() if w.size > 1 and np.std(w) > 0.0]
    assert len({round(float(w.ravel()[0]), 6) for w in drawn}) == len(drawn)


@pytest.mark.parametrize(
    ("initializer", "deviation", "bound"),
    [
        (initializers.Uniform(-0.5, 0.5), 0.5 / 3**0.5, 0.5),
        (initializers.Normal(stddev=2.0), 2.0, np.inf),
        (initializers.glorot_uniform(), (2 / 300) ** 0.5, (6 / 300) ** 0.5),
        (initializers.lecun_normal(), 0.1, 0.2 / 0.8796),
        (initializers.fan_in_uniform(), 0.1 / 3**0.5, 0.1),
        (initializers.Scaled(4.0, "fan_out", "untruncated_normal"), (4 / 200) ** 0.5, np.inf),
    ],
)
@pytest.mark.parametrize("parts", [(), (3,)], ids=["kernel", "kernels"])
def test_deviations_and_bounds(initializer, deviation, bound, parts):
    """The number of kernels side by side changes nothing."""
    drawn = values(initializer, *parts, 100, 200)
    assert drawn.shape == (*parts, 100, 200)
    np.testing.assert_allclose(drawn.std(), deviation, rtol=0.02)
    np.testing.assert_allclose(drawn.mean(), 0.0, atol=0.03 * deviation)
    assert np.abs(drawn).max() <= bound * (1 + 1e-6)
    np.testing.assert_array_equal(values(initializer, *parts, 100, 200), drawn)


@pytest.mark.parametrize("shape", [(12, 7), (7, 12)])
def test_orthogonal_matrices_have_the_variance_of_glorot(shape):
    drawn = values(initializers.GlorotOrthogonal(), *shape).astype(float)
    np.testing.assert_allclose(drawn.var(), 2 / 19, rtol=1e-5)
    small = drawn if shape[0] < shape[1] else drawn.T
    product = small @ small.T
    np.testing.assert_allclose(product, product[0, 0] * np.eye(7), atol=1e-5)


@pytest.mark.parametrize(
    "initializer",
    [
        initializers.Uniform(-0.5, 0.5, seed=1),
        initializers.Normal(stddev=2.0, seed=1),
        initializers.Scaled(2.0, "fan_avg", "uniform", seed=1),
        initializers.GlorotOrthogonal(2, seed=1),
    ],
)
def test_an_initializer_comes_back_from_its_config(initializer):
    config = keras.initializers.serialize(initializer)
    again = keras.initializers.deserialize(config)
    np.testing.assert_array_equal(values(again, 4, 6), values(initializer, 4, 6))
