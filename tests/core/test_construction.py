"""A model computes in its own precision and leaves that of everything else alone."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff import models
from tests.core.pair_net import make_graphs

BACKEND = keras.backend.backend()


def test_a_float64_model_changes_no_global_setting(pair_net):
    before = keras.config.floatx(), keras.config.dtype_policy().name
    model = pair_net(dtype="float64")
    predicted = model.predict(make_graphs(2))
    assert predicted["forces"].dtype == np.float64
    assert (keras.config.floatx(), keras.config.dtype_policy().name) == before
    assert "float32" in str(keras.ops.convert_to_tensor(np.ones(2, "float32")).dtype)


@pytest.mark.parametrize(
    "dtype", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "int32", "float", 3]
)
def test_precisions_that_cannot_hold_an_energy_are_refused(pair_net, dtype):
    with pytest.raises(ValueError, match=f"`dtype`: {dtype!r}. Pass dtype='float32'"):
        pair_net(dtype=dtype)


def test_a_global_half_precision_is_refused_unless_the_model_has_its_own(pair_net):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.raises(ValueError, match=r"global policy.*'mixed_bfloat16'"):
            pair_net()
        forces = pair_net(dtype="float32").predict(make_graphs(2))["forces"]
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
    assert forces.dtype == np.float32
    assert np.all(np.isfinite(forces))


def test_models_of_both_precisions_run_beside_each_other(pair_net):
    models = [pair_net(dtype=dtype) for dtype in ("float64", "float32", "float64")]
    # each its own weights, and 1 / 3 is another number in float32
    for model in models:
        model.assign_weights([(v, np.full(v.shape, 1.0 / 3.0)) for v in model.variables])
    graphs = make_graphs(3)
    expected = [model.predict(graphs) for model in models]

    def differences(number):
        results = [models[number].predict(graphs)["forces"] for _ in range(20)]
        return [np.max(np.abs(result - expected[number]["forces"])) for result in results]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(3) as pool:
            found = np.asarray(list(pool.map(differences, range(3))))
    finally:
        sys.setswitchinterval(interval)
    # sums of several threads differ in their last bits
    assert np.all(found[[0, 2]] < 1e-13)
    assert np.all(found[1] < 1e-5)


X64 = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.core.pair_net import PairNet
from keras_mlff.graph import structure
model = PairNet()
predicted = model.predict(structure([[0, 0, 0], [0, 0, 1.0]], [1, 8]))
assert str(predicted["forces"].dtype) == "float32", predicted["forces"].dtype
model.compile("adam", loss={"energy": "mse", "forces": "mse"})
graph = structure([[0, 0, 0], [0, 0, 1.0]], [1, 8], energy=1.0, forces=[[0, 0, 1], [0, 0, -1]])
model.fit([graph], epochs=2, verbose=0)
assert {str(v.value.dtype) for v in model.trainable_variables} == {"float32"}
"""


@pytest.mark.skipif(BACKEND != "jax", reason="a setting of JAX's")
def test_float32_stays_float32_where_jax_allows_float64():
    command = [sys.executable, "-c", X64, str(Path(__file__).parents[2])]
    environment = os.environ | {"JAX_ENABLE_X64": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("So3krates", {"degrees": [1, 3_000_000]}),
        ("DimeNetPP", {"num_spherical": 3_000_000}),
        ("EGNN", {"num_layers": 3_000_000}),
        ("CMRET", {"num_features": 3_000_000}),
    ],
)
def test_sizes_beyond_any_memory_are_refused(name, arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` is larger .*3000000"):
        models.ARCHITECTURES[name](**arguments)
