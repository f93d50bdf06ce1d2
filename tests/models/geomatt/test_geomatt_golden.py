"""GeomAtt must give the numbers of the reference program, to rounding in float64."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff import models
from keras_mlff.graph import structure
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.loader import GraphLoader

GOLDEN = Path(__file__).parents[2] / "golden/geomatt/golden_A.npz"
pytestmark = pytest.mark.usefixtures("float64")
# 1e-10 relative, and what cancellation between terms of order one leaves of it at zero
TOLERANCE = {"rtol": 1e-10, "atol": 1e-13}
MOLECULES = range(3)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def hyperparameters(golden):
    return json.loads(str(golden["hparams_json"]))


@pytest.fixture(scope="module")
def weights(golden):
    return {key: value for key, value in golden.items() if key.startswith("w/")}


@pytest.fixture(scope="module")
def model(hyperparameters, weights):
    return models.GeomAtt.from_port(hyperparameters, weights)


def graph_of(golden, index, **labels):
    return structure(golden[f"m{index}/R"], golden[f"m{index}/Z"], **labels)


def test_predictions_equal_the_reference(golden, model):
    """All molecules in one padded batch, whose sums over atoms must not mix."""
    predicted = model.predict([graph_of(golden, index) for index in MOLECULES])
    for ours, theirs in {"energy": "E", "forces": "F", "atomic_energies": "E_atom"}.items():
        expected = np.concatenate([np.atleast_1d(golden[f"m{i}/{theirs}"]) for i in MOLECULES])
        np.testing.assert_allclose(predicted[ours], expected, **TOLERANCE, err_msg=ours)


@pytest.mark.parametrize("index", MOLECULES)
def test_coefficients_and_features_equal_the_reference(golden, model, index):
    graph = graph_of(golden, index)
    attention, inside = model.attention(graph), model.inspect(graph)
    assert len(attention) == 6
    for name, coefficients in attention.items():
        expected = golden[f"m{index}/{name}/alpha"]
        np.testing.assert_allclose(coefficients, expected, **TOLERANCE, err_msg=name)
        features = inside[f"{name}/features"][0]
        np.testing.assert_allclose(features, golden[f"m{index}/{name}/v"], **TOLERANCE)


def test_loss_and_weight_gradients_equal_the_reference(golden, hyperparameters, weights):
    """rho MSE(E) + MSE(F) / N, the authors' program's weights of the two terms."""
    model = models.GeomAtt.from_port(hyperparameters, weights)
    graph = graph_of(
        golden,
        int(golden["loss/molecule"]),
        energy=golden["loss/E_ref"],
        forces=golden["loss/F_ref"],
    )
    model.compile(
        keras.optimizers.SGD(1.0),
        loss={"energy": "mse", "forces": "mse"},
        loss_weights={
            "energy": float(golden["loss/rho"]),
            "forces": 1.0 / len(graph["positions"]),
        },
        jit_compile=keras.backend.backend() == "jax",
    )
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    loader = GraphLoader([add_edges(graph, model.cutoff)], batch_size=1)
    logs = model.fit(loader, epochs=1, verbose=0).history
    after = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    # one step of size one: what was subtracted is the gradient
    np.testing.assert_allclose(logs["loss"][0], golden["loss/value"], rtol=1e-6)  # float32 logs

    predicted = models.GeomAtt.from_port(hyperparameters, weights).predict(graph)
    loss = float(golden["loss/rho"]) * np.mean((predicted["energy"] - graph["energy"]) ** 2)
    loss += np.mean((predicted["forces"] - graph["forces"]) ** 2) / len(graph["positions"])
    np.testing.assert_allclose(loss, golden["loss/value"], rtol=1e-10)

    # the gradients take the weights' road through `from_port`
    gradients = {k.replace("grad/", "w/"): v for k, v in golden.items() if k.startswith("grad/")}
    carrier = models.GeomAtt.from_port(hyperparameters, gradients)
    for variable, start, end in zip(carrier.trainable_variables, before, after, strict=True):
        expected = keras.ops.convert_to_numpy(variable)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            start - end,
            expected,
            rtol=1e-10,
            atol=1e-10 * scale + 1e-15,
            err_msg=variable.path,
        )
