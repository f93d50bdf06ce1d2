"""CMRET must give the numbers of the reference program, to rounding in float64."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff import models
from keras_mlff.graph import structure
from keras_mlff.models.cmret.electron_configuration import SUBSHELLS, electron_configurations
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.loader import GraphLoader

GOLDEN = Path(__file__).parents[2] / "golden"
pytestmark = pytest.mark.usefixtures("float64")
# 1e-10 relative, and what cancellation between terms of order one leaves of it at zero
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "cmret/golden_A.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def from_golden(golden):
    made = {}

    def make(**kwargs):
        key = json.dumps(kwargs, sort_keys=True)
        if key not in made:
            weights = {k: v for k, v in golden.items() if k.startswith("w/")}
            made[key] = models.CMRET.from_port(
                json.loads(str(golden["hparams_json"])), weights, **kwargs
            )
        return made[key]

    return make


def graph_of(golden, index, **labels):
    spin = float(golden[f"m{index}/S"])
    return add_edges(
        structure(
            golden[f"m{index}/R"],
            golden[f"m{index}/Z"],
            total_charge=float(golden[f"m{index}/Q"]),
            spin_multiplicity=round(2 * spin + 1),
            **labels,
        ),
        cutoff=5.0,
    )


def test_electron_configurations_equal_the_table():
    with np.load(GOLDEN / "cmret/electron_table.npz") as file:
        np.testing.assert_array_equal(electron_configurations(), file["table"])
        assert list(SUBSHELLS) == [str(name) for name in file["orbitals"]]


def test_basis_and_cutoff_equal_the_probes(golden, from_golden):
    model = from_golden()
    lengths = keras.ops.convert_to_tensor(golden["probe/d"], dtype="float64")
    basis = keras.ops.convert_to_numpy(model.radial_basis(lengths))
    envelope = keras.ops.convert_to_numpy(model.envelope(lengths, model.cutoff))
    np.testing.assert_allclose(envelope, golden["probe/phi"], **TOLERANCE)
    np.testing.assert_allclose(
        basis, golden["probe/rbf"], rtol=1e-10, atol=1e-12, err_msg="radial basis"
    )


@pytest.mark.parametrize("index", range(4))
def test_predictions_equal_the_reference(golden, from_golden, index):
    predicted = from_golden().predict(graph_of(golden, index))
    expected = {
        "energy": "E",
        "forces": "F",
        "atomic_energies": "E_atom",
        "dipole": "dipole_vec",
        "dipole_norm": "dipole",
        "polarizability": "alpha_tensor",
        "polarizability_norm": "alpha",
        "spatial_extent": "r2",
    }
    for ours, theirs in expected.items():
        value = golden[f"m{index}/{theirs}"]
        np.testing.assert_allclose(
            predicted[ours].reshape(value.shape), value, **TOLERANCE, err_msg=ours
        )


@pytest.mark.parametrize("index", range(4))
def test_layer_features_equal_the_reference(golden, from_golden, index):
    inside = from_golden().inspect(graph_of(golden, index))
    for layer in range(2):
        for ours, theirs in (("scalars", "s"), ("outputs", "o"), ("vectors", "v")):
            np.testing.assert_allclose(
                inside[f"layer{layer}/{ours}"],
                golden[f"m{index}/layer{layer}/{theirs}"],
                **TOLERANCE,
                err_msg=f"layer {layer} {ours}",
            )
        attention = inside[f"layer{layer}/attention"][0].mean(axis=0)
        np.testing.assert_allclose(
            attention, golden[f"m{index}/layer{layer}/attn_mean"], **TOLERANCE
        )


@pytest.mark.parametrize("mode", ["invariant", "invariant_qs"])
def test_invariant_modes_equal_the_reference(golden, from_golden, mode):
    model = from_golden(charge_spin_channels=mode)
    predicted = model.predict([graph_of(golden, index) for index in range(4)])
    energies = [golden[f"m{index}/E_{mode}"] for index in range(4)]
    forces = np.concatenate([golden[f"m{index}/F_{mode}"] for index in range(4)])
    np.testing.assert_allclose(predicted["energy"], energies, rtol=1e-10)
    np.testing.assert_allclose(predicted["forces"], forces, **TOLERANCE)


def test_a_batch_equals_the_reference(golden, from_golden):
    predicted = from_golden().predict([graph_of(golden, index) for index in range(4)])
    np.testing.assert_allclose(predicted["energy"], golden["batch/E"], **TOLERANCE)
    np.testing.assert_allclose(predicted["forces"], golden["batch/F"], **TOLERANCE)


def test_loss_and_weight_gradients_equal_the_reference(golden, from_golden):
    """0.2 MSE(E) + 0.8 MSE(F): its gradient differentiates the network twice."""
    model = from_golden()
    graphs, first = [], 0
    for index in range(4):
        last = first + len(golden[f"m{index}/Z"])
        energy, forces = golden["loss/E_ref"][index], golden["loss/F_ref"][first:last]
        graphs.append(graph_of(golden, index, energy=energy, forces=forces))
        first = last
    model.compile(
        keras.optimizers.SGD(1.0),
        loss={"energy": "mse", "forces": "mse"},
        loss_weights={"energy": 0.2, "forces": 0.8},
    )
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    logs = model.fit(GraphLoader(graphs, batch_size=4), epochs=1, verbose=0).history
    after = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    # one step of size one: what was subtracted is the gradient
    np.testing.assert_allclose(logs["loss"][0], golden["loss/value"], rtol=1e-6)

    # the gradients take the weights' road through `from_port`
    gradients = {k.replace("grad/", "w/"): v for k, v in golden.items() if k.startswith("grad/")}
    zeros = {k: np.zeros_like(v) for k, v in golden.items() if k.startswith("w/")}
    carrier = models.CMRET.from_port(json.loads(str(golden["hparams_json"])), zeros | gradients)
    for variable, start, end in zip(carrier.trainable_variables, before, after, strict=True):
        expected = keras.ops.convert_to_numpy(variable)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            start - end, expected, rtol=1e-10, atol=1e-10 * scale + 1e-13, err_msg=variable.path
        )
    for variable, start in zip(model.trainable_variables, before, strict=True):
        variable.assign(start)
