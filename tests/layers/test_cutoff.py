"""Envelopes fall from one to zero as their formulas say."""

import keras
import numpy as np
import pytest

from keras_mlff.layers import cutoff

FORMULAS = {  # of x = d / r_c
    "cosine": lambda x: 0.5 * (np.cos(np.pi * x) + 1.0),
    "polynomial": lambda x: 1.0 - 28.0 * x**6 + 48.0 * x**7 - 21.0 * x**8,
    "polynomial3": lambda x: 1.0 - 10.0 * x**3 + 15.0 * x**4 - 6.0 * x**5,
    "smooth": lambda x: np.exp(1.0 - 1.0 / (1.0 - x**2)),
}


@pytest.mark.parametrize("name", sorted(cutoff.CUTOFFS))
def test_an_envelope_is_its_formula_and_zero_beyond_the_cutoff(name):
    lengths = np.linspace(0.0, 6.0, 61).astype("float32")
    found = keras.ops.convert_to_numpy(cutoff.get(name)(keras.ops.convert_to_tensor(lengths), 4.0))
    inside = lengths < 3.95  # float32 cancels in polynomials near the cutoff
    np.testing.assert_allclose(found[inside], FORMULAS[name](lengths[inside] / 4.0), atol=2e-5)
    assert np.all(found[lengths >= 4.0] == 0.0)
    assert np.all(np.diff(found) <= 1e-5)
