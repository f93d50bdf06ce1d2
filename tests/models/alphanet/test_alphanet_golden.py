"""AlphaNet must give the numbers of the reference programs, to rounding in float64."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff.graph import structure
from keras_mlff.models.alphanet.model import AlphaNet
from keras_mlff.neighbors import add_edges

GOLDEN = Path(__file__).parents[2] / "golden/alphanet"
pytestmark = pytest.mark.usefixtures("float64")
SYSTEMS = ("water", "ethanol", "pyrrole", "nacl8", "bilayer_graphene16")
EDGES = {
    "edge_unit": "directions",
    "radial_basis": "radial_basis",
    "radial_mlp_raw": "radial_filters",
    "edge_weight_A": "edge_structure",
}
ATOMS = {
    "z_emb_ln": "elements",
    "s0": "features",
    "S_vec": "structure_vectors",
    "e_scalar": "readout/features",
    "e_phase": "readout/state",
} | {
    f"{theirs}_{layer}": f"layer{layer}/{ours}"
    for layer in range(2)
    for theirs, ours in {
        "s_after_mp": "message_features",
        "vec_after_mp": "message_vectors",
        "rope": "rotation",
        "s_after_fte": "features",
        "vec_after_fte": "vectors",
    }.items()
}


def read(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module", params=["p", "v1", "v2"])
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def model(variant):
    hyperparameters = json.loads((GOLDEN / f"{variant}_hparams.json").read_text())
    model = AlphaNet.from_port(hyperparameters, read(f"{variant}_weights"))
    # tracing costs more than it saves here, except on JAX, which compiles each operation
    model.run_eagerly = keras.backend.backend() != "jax"
    return model


@pytest.fixture(scope="module")
def goldens(variant):
    return {name: read(f"{variant}_{name}") for name in SYSTEMS}


def crystal(golden, **arrays):
    arrays = {key: golden[key] for key in ("pos", "z", "cell")} | arrays
    return structure(arrays["pos"], arrays["z"], cell=arrays["cell"], pbc=True)


def assert_close(actual, expected, label):
    """1e-10 of the largest number of the array: rounding is relative to what is added up."""
    atol = 1e-10 * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=atol, err_msg=label)


def test_predictions_equal_the_reference(model, variant, goldens):
    """All systems in one padded batch."""
    predicted = model.predict([crystal(golden) for golden in goldens.values()])
    first = 0
    for index, (name, golden) in enumerate(goldens.items()):
        atoms = slice(first, first + len(golden["z"]))
        first = atoms.stop
        assert_close(predicted["energy"][index], golden["energy"], f"{name} energy")
        assert_close(predicted["forces"][atoms], golden["forces"], f"{name} forces")
        atomic = predicted["atomic_energies"][atoms]
        assert_close(atomic, golden["atom_energy"], f"{name} atomic energies")
        stress = predicted["stress"][index]
        if variant == "p":  # that program returns -dE/d(strain)
            volume = abs(np.linalg.det(golden["cell"]))
            assert_close(-stress * volume, golden["minus_dE_dstrain"], f"{name} stress")
        else:
            assert_close(stress, golden["stress_dE_dstrain_over_V"], f"{name} stress")


@pytest.mark.once
def test_single_precision_gives_four_digits(variant, goldens):
    hyperparameters = json.loads((GOLDEN / f"{variant}_hparams.json").read_text())
    weights = read(f"{variant}_weights")
    model = AlphaNet.from_port(hyperparameters, weights, dtype="float32")
    model.run_eagerly = keras.backend.backend() != "jax"
    predicted = model.predict([crystal(golden) for golden in goldens.values()])
    assert predicted["forces"].dtype == np.float32
    for key, name in {"energy": "energy", "forces": "forces"}.items():
        expected = np.concatenate([np.atleast_1d(golden[name]) for golden in goldens.values()])
        atol = 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(predicted[key], expected, rtol=1e-4, atol=atol, err_msg=key)


# JAX compiles each operation for each size when it is asked for intermediates
QUICK = ("water", "nacl8")
LONG = pytest.mark.slow if keras.backend.backend() == "jax" else ()


@pytest.mark.parametrize(
    "system",
    [name if name in QUICK else pytest.param(name, marks=LONG) for name in SYSTEMS],
)
def test_intermediates_equal_the_reference(model, goldens, system):
    golden = goldens[system]
    graph = add_edges(crystal(golden), model.cutoff)
    inside = model.inspect(graph)
    theirs = order(golden["edge_dst_i"], golden["edge_src_j"], np.rint(golden["cell_offset_of_j"]))
    ours = order(graph["receivers"], graph["senders"], np.rint(graph["cell_shifts"]))
    number = len(theirs)
    assert len(ours) == number
    for key, name in EDGES.items():
        assert_close(inside[name][:number][ours], golden[key][theirs], key)
    number = len(golden["z"])
    for key, name in ATOMS.items():
        assert_close(inside[name][:number].reshape(golden[key].shape), golden[key], key)
    for layer in range(2):
        parts = [golden[f"phase_state_{layer}_{part}"] for part in ("re", "im")]
        state = inside[f"layer{layer}/state"][:number]
        assert_close(state, np.concatenate(parts, axis=1), f"phase state {layer}")


def order(receivers, senders, shifts):
    """Sorts edges by receiver, sender and image."""
    return np.lexsort((*np.asarray(shifts).T, senders, receivers))
