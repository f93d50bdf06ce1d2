"""EGNN, DimeNet++ and the Transformer must give the numbers of the reference programs."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff.graph import inputs_and_labels, structure
from keras_mlff.models.dimenet_pp.model import DimeNetPP
from keras_mlff.models.egnn.model import EGNN
from keras_mlff.models.transformer.model import DistanceTransformer
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.loader import GraphLoader

GOLDEN = Path(__file__).parents[2] / "golden/posenc"
pytestmark = pytest.mark.usefixtures("float64")
# 1e-10 relative, and what cancellation between terms of order one leaves of it at zero
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}
MOLECULES = range(3)
MODELS = {
    "egnn": EGNN,
    "egnn_mlp": EGNN,
    "egnn_posenc": EGNN,
    "dimenetpp": DimeNetPP,
    "dimenetpp_posenc": DimeNetPP,
    "transformer": DistanceTransformer,
    "transformer_posenc": DistanceTransformer,
}
WITH_LOSS = [name for name in MODELS if name.endswith("posenc") and "dimenet" not in name]


def load(name):
    with np.load(GOLDEN / f"{name}_A.npz") as file:
        golden = dict(file)
    weights = {key: value for key, value in golden.items() if key.startswith("w/")}
    return golden, json.loads(str(golden["hparams_json"])), weights


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    golden, hyperparameters, weights = load(request.param)
    model = MODELS[request.param].from_port(hyperparameters, weights)
    model.run_eagerly = keras.backend.backend() != "jax"
    return golden, model


def graph_of(golden, index, **labels):
    return structure(golden[f"m{index}/R"], golden[f"m{index}/Z"], **labels)


def test_predictions_equal_the_reference(case):
    """All molecules in one padded batch, which must not mix."""
    golden, model = case
    predicted = model.predict([graph_of(golden, index) for index in MOLECULES])
    for ours, theirs in {"energy": "E", "forces": "F", "atomic_energies": "E_atom"}.items():
        if f"m0/{theirs}" in golden:
            expected = np.concatenate([np.atleast_1d(golden[f"m{i}/{theirs}"]) for i in MOLECULES])
            np.testing.assert_allclose(predicted[ours], expected, **TOLERANCE, err_msg=ours)


def test_features_equal_the_reference(case):
    golden, model = case
    for index in MOLECULES:
        inside = model.inspect(graph_of(golden, index))
        keys = [key for key in golden if key.startswith(f"m{index}/layer") and key.endswith("/h")]
        for key in keys:
            layer = key.split("/")[1]
            features = inside[f"{layer}/features"].reshape(golden[key].shape)
            np.testing.assert_allclose(features, golden[key], **TOLERANCE, err_msg=key)


@pytest.mark.parametrize("name", WITH_LOSS)
def test_loss_and_weight_gradients_equal_the_reference(name):
    """0.01 (E - E_ref)² + MSE(F) + lambda times the smoothness, averaged over tables."""
    golden, hyperparameters, weights = load(name)
    factor = float(golden["loss/lambda"])
    model = MODELS[name].from_port(hyperparameters, weights, smoothness=factor)
    graph = graph_of(
        golden,
        int(golden["loss/molecule"]),
        energy=golden["loss/E_ref"],
        forces=golden["loss/F_ref"],
    )
    np.testing.assert_allclose(
        sum(float(keras.ops.convert_to_numpy(loss)) for loss in model.losses),
        factor * golden["loss/smooth"],
        rtol=1e-10,
    )
    model.compile(
        keras.optimizers.SGD(1.0),
        loss={"energy": "mse", "forces": "mse"},
        loss_weights={"energy": 0.01, "forces": 1.0},
        jit_compile=keras.backend.backend() == "jax",
    )
    loader = GraphLoader([add_edges(graph, model.cutoff)], batch_size=1)
    inputs, labels = keras.tree.map_structure(keras.ops.convert_to_tensor, loader[0])
    # not the loss of the log, which Keras keeps in float32
    loss = model.compute_loss(inputs, labels, model(inputs, training=True))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loss), golden["loss/value"], rtol=1e-10)
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    model.fit(loader, epochs=1, verbose=0)
    after = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]

    # one step of size one: what was subtracted is the gradient, and the gradients of the reference
    # take the weights' road through `from_port`
    gradients = {k.replace("grad/", "w/"): v for k, v in golden.items() if k.startswith("grad/")}
    carrier = MODELS[name].from_port(hyperparameters, gradients)
    for variable, start, end in zip(carrier.trainable_variables, before, after, strict=True):
        expected = keras.ops.convert_to_numpy(variable)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            start - end,
            expected,
            rtol=1e-10,
            # the step is rounded to the size of the weights
            atol=1e-10 * scale + 1e-14,
            err_msg=variable.path,
        )


@pytest.mark.parametrize("name", ["egnn", "egnn_posenc"])
def test_wrong_hyperparameters_are_refused(name):
    _, hyperparameters, weights = load(name)
    with pytest.raises(ValueError, match="Unknown hyper-parameter"):
        MODELS[name].from_port({**hyperparameters, "colour": 3}, weights)
    with pytest.raises(ValueError, match="have no place"):
        MODELS[name].from_port(hyperparameters, {**weights, "w/more.W": np.ones(3)})


def test_equivariant_egnn_equals_the_reference():
    """The program takes any features of the atoms and moves the positions."""
    golden, hyperparameters, weights = load("egnn_equivariant")
    model = EGNN.from_port(hyperparameters, weights)
    for index in MOLECULES:
        positions = golden[f"m{index}/R"]
        graph = add_edges(structure(positions, [6] * len(positions)), model.cutoff)
        inputs, _ = inputs_and_labels(graph)
        inputs = {key: keras.ops.convert_to_tensor(value) for key, value in inputs.items()}
        features = keras.ops.convert_to_tensor(golden[f"m{index}/h_in"])
        outputs = map(keras.ops.convert_to_numpy, model.transform(features, inputs))
        for name, value in zip(("h_out", "x_out"), outputs, strict=True):
            np.testing.assert_allclose(value, golden[f"m{index}/{name}"], **TOLERANCE)
