"""The classifiers of the shapes experiment against the authors' numbers, and a tiny run of it."""

import json
from pathlib import Path

import geomatt_shapes
import keras
import numpy as np
import pytest

from keras_mlff.datasets import geometry_shapes
from keras_mlff.models.porting.weights import PortedWeights

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def golden():
    with np.load(ROOT / "tests/golden/geomatt/classifier_A.npz") as file:
        return dict(file)


def test_shapes_are_those_of_the_golden_file(golden):
    for pair, shapes in geometry_shapes.SHAPES.items():
        for index, steps in enumerate(shapes, start=1):
            expected = golden[f"shapes/{pair}{index}"]
            np.testing.assert_allclose(geometry_shapes.shape_points(steps), expected, atol=1e-15)


def test_shapes_of_pair_b_have_the_same_distances():
    def distances(steps):
        points = geometry_shapes.shape_points(steps)
        return np.sort(np.linalg.norm(points[:, None] - points, axis=-1).ravel())

    np.testing.assert_allclose(
        *(distances(steps) for steps in geometry_shapes.SHAPES["B"]), atol=1e-12
    )


@pytest.mark.parametrize("name", ["schnet", "geomatt2", "geomatt3"])
@pytest.mark.usefixtures("float64")
def test_logits_equal_the_reference(golden, name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        step = name == "schnet"
        model = (
            geomatt_shapes.StepClassifier()
            if step
            else geomatt_shapes.AttentionClassifier(int(name[-1]))
        )
        positions = keras.ops.convert_to_tensor(golden["R"], "float64")
        model(positions)
    finally:
        keras.config.set_dtype_policy(before)
    prefix = f"{name}/w/"
    weights = {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}
    reader = PortedWeights(weights)
    reader.assign(model.embedding, "embedding")
    reader.dense(model.readout, "readout")
    if step:
        reader.dense(model.filter, "filter")
        reader.dense(model.values, "node")
    else:
        reader.assign(model.values.kernel, "W")
        reader.assign(model.values.bias, "b")
        kinds = {"Wq": "query_kernel", "bq": "query_bias", "Wk": "key_kernel", "bk": "key_bias"}
        for kind, attribute in kinds.items():
            variable = getattr(model.attention, attribute)
            arrays = [reader.array(f"overlap{q}.{kind}") for q in range(variable.shape[0])]
            reader.values.append((variable, np.stack(arrays).reshape(variable.shape)))
    reader.check_all_used()
    for variable, value in reader.values:
        variable.assign(value)

    logits = keras.ops.convert_to_numpy(model(positions))[:, 0]
    np.testing.assert_allclose(logits, golden[f"{name}/logit"], rtol=1e-10)


def test_tiny_run_reports_every_network(tmp_path):
    results = geomatt_shapes.main(
        num_train=8, num_test=4, num_epochs=1, seeds=(0,), orders=(2,), folder=str(tmp_path)
    )
    assert list(results) == ["A", "B"]
    assert list(results["A"]) == ["SchNet step", "order 2"]
    assert json.loads((tmp_path / "results.json").read_text()) == results
