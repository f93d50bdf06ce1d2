"""Frozen parts stay as they are, and the others learn."""

import keras
import numpy as np
import pytest

from tests.core.pair_net import compiled, make_graphs

BACKEND = keras.backend.backend()


def test_frozen_parts_stay_as_they_are(pair_net):
    """Only what is kept changes in training."""
    model = compiled(pair_net, keras.optimizers.Adam(0.01))
    names = set(model.freeze())
    assert names == set()
    assert set(model.unfreeze()) == {"embedding", "dense", "readouts"}
    assert model.freeze(keep="readouts") == ["readouts"]
    model.compile("adam", loss={"energy": "mse"}, jit_compile=BACKEND == "jax")
    learned = {variable.path for variable in model.trainable_variables}
    before = {v.path: keras.ops.convert_to_numpy(v) for v in model.variables}
    model.fit(make_graphs(4), epochs=1, verbose=0)
    for variable in model.variables:
        value = keras.ops.convert_to_numpy(variable)
        if variable.path in learned:
            assert np.any(value != before[variable.path]), variable.path
        elif "optimizer" not in variable.path:
            np.testing.assert_array_equal(value, before[variable.path], err_msg=variable.path)


def test_freezing_an_unknown_part_lists_the_parts(pair_net):
    with pytest.raises(ValueError, match="readouts"):
        compiled(pair_net).freeze("head")
