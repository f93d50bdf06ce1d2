"""Heads turn per-atom numbers into properties that turn with the molecule and ignore padding."""

import keras
import numpy as np
import pytest

from keras_mlff import heads
from keras_mlff.core.inspection import as_tensors
from keras_mlff.graph import structure
from keras_mlff.models import CMRET
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.budget import Budget
from keras_mlff.packing.loader import GraphLoader

ALL = [
    heads.EnergyHead,
    heads.DipoleHead,
    heads.PolarizabilityHead,
    heads.SpatialExtentHead,
    lambda: heads.SpatialExtentHead("extent_as_printed", squared=False),
    lambda: heads.ScalarHead("gap", pooling="mean"),
    lambda: heads.ScalarHead("capacity"),
]
# the last graph is real, yet padding atoms belong to it
FULL = Budget(num_graphs=2, num_atoms=14, num_edges=60, num_triplets=0, max_atoms=7)
SPARE = Budget(num_graphs=5, num_atoms=14, num_edges=60, num_triplets=0, max_atoms=7)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = CMRET(
        num_features=8,
        num_layers=2,
        num_radial=4,
        num_heads=2,
        dtype="float64",
        heads=[make() for make in ALL],
    )
    model.run_eagerly = keras.backend.backend() != "jax"
    return model


def molecules(turn=None, shift=0.0):
    random = np.random.default_rng(1)
    made = []
    for num_atoms in (3, 5):
        positions = random.normal(size=(num_atoms, 3)) * 1.5
        numbers = random.choice([1, 6, 8], num_atoms)
        positions = positions if turn is None else positions @ turn
        made.append(add_edges(structure(positions + shift, numbers), 5.0))
    return made


def predict(model, graphs, budget=SPARE):
    return model.predict(GraphLoader(graphs, budget=budget))


@pytest.fixture
def shared():
    keras.utils.set_random_seed(0)
    made = [heads.ScalarHead(name, readout="numbers", scale=2.0) for name in ("homo", "lumo")]
    model = CMRET(
        num_features=8,
        num_layers=1,
        num_radial=4,
        num_heads=2,
        dtype="float64",
        heads=[made[0], heads.DipoleHead(norm_name="mu"), made[1]],
    )
    model.run_eagerly = keras.backend.backend() != "jax"
    return model


def test_heads_of_one_readout_share_its_layers(shared):
    """The last layer alone tells them apart."""
    assert len(shared.readouts) == 2
    numbers = shared.readouts[0]
    before = predict(shared, molecules())
    kernel = keras.ops.convert_to_numpy(numbers.output_scalars.kernel)
    assert kernel.shape == (8, 2)
    shared.assign_weights([(numbers.output_scalars.kernel, kernel * [1.0, 0.0])])
    after = predict(shared, molecules())
    np.testing.assert_allclose(after["homo"], before["homo"], rtol=1e-12)
    np.testing.assert_allclose(after["mu"], before["mu"], rtol=1e-12)
    assert np.abs(after["lumo"] - before["lumo"]).max() > 1e-6


def test_models_do_not_share_heads():
    given = [heads.EnergyHead(references={1: -13.6})]
    sizes = {"num_features": 8, "num_layers": 1, "num_radial": 4, "num_heads": 2}
    first, second = CMRET(heads=given, **sizes), CMRET(heads=given, **sizes)
    second.heads[0].references[1] = -10.0
    assert first.heads[0].references == given[0].references == {1: -13.6}


def test_a_shared_readout_survives_its_config(shared):
    copy = CMRET.from_config(shared.get_config())
    copy.set_weights(shared.get_weights())
    copy.run_eagerly = shared.run_eagerly
    for key, values in predict(shared, molecules()).items():
        np.testing.assert_array_equal(predict(copy, molecules())[key], values)


@pytest.mark.parametrize(
    ("head", "label", "sizes"),
    [
        (heads.DipoleHead(norm_name="mu"), "mu", [1.0, 1.0]),
        (heads.PolarizabilityHead(isotropic_name="alpha"), "alpha", [3.0, 5.0]),
    ],
)
def test_a_size_alone_sets_the_scale(head, label, sizes):
    """Scale times one per atom gives the label's size, so the network's numbers are near one."""
    graphs = [{**graph, label: np.asarray([2.0])} for graph in molecules()]
    head.fit_offsets(graphs)
    np.testing.assert_allclose(head.scale, 2.0 / np.sqrt(np.mean(np.square(sizes))))


@pytest.fixture(scope="module")
def predicted(model):
    return predict(model, molecules())


def test_padding_adds_nothing_to_any_property(model, predicted):
    for key, value in predict(model, molecules(), FULL).items():
        np.testing.assert_allclose(value, predicted[key], rtol=1e-11, atol=1e-13, err_msg=key)


def test_vectors_and_tensors_turn_and_scalars_do_not(model, predicted):
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    after = predict(model, molecules(turn, shift=[3.0, -1.0, 20.0]))
    expected = predicted | {
        "forces": predicted["forces"] @ turn,
        "dipole": predicted["dipole"] @ turn,
        "polarizability": turn.T @ predicted["polarizability"] @ turn,
    }
    assert np.abs(predicted["dipole"]).min() > 1e-6
    assert after.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(after[key], value, rtol=1e-9, atol=1e-11, err_msg=key)


def test_norms_and_traces_belong_to_their_tensors(predicted):
    tensor = predicted["polarizability"]
    np.testing.assert_allclose(tensor, np.swapaxes(tensor, 1, 2), rtol=1e-12)
    np.testing.assert_allclose(
        predicted["polarizability_norm"], np.linalg.norm(tensor, axis=(1, 2)), rtol=1e-12
    )
    np.testing.assert_allclose(
        predicted["polarizability_isotropic"], np.trace(tensor, axis1=1, axis2=2) / 3, rtol=1e-10
    )
    np.testing.assert_allclose(
        predicted["dipole_norm"], np.linalg.norm(predicted["dipole"], axis=1), rtol=1e-12
    )


def test_atomic_energies_add_up(predicted):
    sums = np.add.reduceat(predicted["atomic_energies"], [0, 3])
    np.testing.assert_allclose(sums, predicted["energy"], rtol=1e-12)


@pytest.mark.parametrize("make", ALL)
def test_heads_survive_being_saved(make):
    head = make()
    head.scale = 2.5
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert type(again) is type(head)
    assert again.get_config() == head.get_config()
    assert again.scale == 2.5


def test_references_are_read_back_as_numbers():
    head = heads.EnergyHead(references={"8": -2041.75, 1: -13.6})
    assert head.references == {8: -2041.75, 1: -13.6}
    assert head.has_offset
    assert head.reference_table()[8] == -2041.75


def test_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="'max'"):
        heads.ScalarHead("gap", pooling="max")


@pytest.mark.usefixtures("float64")
def test_dipoles_count_from_the_center_of_nuclear_charge():
    """Of the head itself: predictions center a structure before it sees it."""
    positions = np.asarray([[5.0, 1.0, 0.0], [6.0, 1.0, 0.5], [5.0, 2.0, -0.5]])
    numbers, charges = np.asarray([8, 1, 1]), np.asarray([0.3, 0.2, -0.1])
    graph = as_tensors(structure(positions, numbers), "float64")
    scalars = keras.ops.convert_to_tensor(charges[:, None], "float64")
    found = keras.ops.convert_to_numpy(heads.DipoleHead(scale=2.0)(graph, scalars, None)["dipole"])
    expected = 2.0 * charges @ (positions - numbers @ positions / numbers.sum())
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
