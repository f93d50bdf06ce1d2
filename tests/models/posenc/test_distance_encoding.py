"""Every architecture that takes `distance_encoding` keeps its promises with learned tables."""

import inspect

import keras
import numpy as np
import pytest

from keras_mlff import models
from keras_mlff.graph import structure
from keras_mlff.layers.encoding import PositionalEncoding

SMALL = {"num_features": 8, "num_layers": 1, "cutoff": 3.5, "dtype": "float64"}
MORE = {
    "AlphaNet": {"num_heads": 2, "chi_features": 4, "state_features": 4, "num_phases": 4},
    "So3krates": {"num_heads": 2, "degrees": (1, 2)},
    "CMRET": {"num_heads": 2},
}
TABLE = {"kind": "smooth", "num_knots": 9, "initial": "normal_both"}
ENCODED = sorted(
    name
    for name, kind in models.ARCHITECTURES.items()
    if "distance_encoding" in inspect.signature(kind.__init__).parameters
)


def make(name, **kwargs):
    model = models.ARCHITECTURES[name](**SMALL | MORE.get(name, {}) | kwargs)
    model.run_eagerly = keras.backend.backend() != "jax"
    return model


def tables(model):
    layers = model._flatten_layers(include_self=False)
    return [layer for layer in layers if isinstance(layer, PositionalEncoding)]


def added_loss(model):
    (loss,) = model.losses
    return float(keras.ops.convert_to_numpy(loss))


def chain(distance, **labels):
    """A bent chain whose last atom is `distance` from the second and farther from the first."""
    positions = [[0.0, 1.1, 0.0], [0.0, 0.0, 0.0], [distance, 0.0, 0.0]]
    return structure(positions, [1, 6, 8], **labels)


def test_all_architectures_with_a_radial_basis_take_it():
    assert {"AlphaNet", "CMRET", "DimeNetPP", "DistanceTransformer", "EGNN", "So3krates"} <= set(
        ENCODED
    )


@pytest.mark.once
@pytest.mark.parametrize("name", ENCODED)
def test_energies_end_smoothly_at_the_cutoff(name):
    """At the cutoff the force of the leaving atom is zero, and right inside it is nearly."""
    model = make(name, distance_encoding=TABLE)
    gap = 1e-3
    predicted = model.predict([chain(3.5 + shift) for shift in (-gap, gap, 3 * gap, -1.0)])
    if not model.supports_periodic:
        assert np.isfinite(predicted["forces"]).all()  # there is no cutoff
        return
    inside, outside, farther, bound = predicted["forces"].reshape(4, 3, 3)[:, 2]
    np.testing.assert_allclose(predicted["energy"][0], predicted["energy"][1], atol=1e-5)
    np.testing.assert_allclose(outside, 0.0, atol=1e-12)
    np.testing.assert_allclose(farther, 0.0, atol=1e-12)
    # with an envelope of the first order the force falls with the distance from the cutoff
    assert np.abs(inside).max() < 0.05 * np.abs(bound).max()


@pytest.mark.parametrize("name", ENCODED)
def test_ranges_come_from_the_data_and_are_saved(name):
    data = [chain(distance, energy=0.0, forces=np.ones((3, 3))) for distance in (1.2, 1.5)]
    largest = np.hypot(1.1, 1.5)
    model = make(name, distance_encoding=TABLE)
    assert {table.x_max for table in tables(model)} <= {3.5, np.pi}
    model.fit_offsets(data)
    of_distances = [table for table in tables(model) if table.x_max != np.pi]
    assert of_distances
    # those of DimeNet++ end at the cutoff
    expected = 3.5 if name == "DimeNetPP" else pytest.approx(largest)
    for table in of_distances:
        assert (table.x_min, table.x_max) == (0.0, expected)
    same = type(model).from_config(model.get_config())
    assert [t.x_max for t in tables(same)] == [t.x_max for t in tables(model)]
    assert [t.smoothness for t in tables(same)] == [t.smoothness for t in tables(model)]

    same.fit_offsets([chain(3.0, energy=0.0, forces=np.ones((3, 3)))])  # the range is given now
    assert [t.x_max for t in tables(same)] == [t.x_max for t in tables(model)]


def test_ranges_end_at_the_cutoff():
    """Where a model sees no further, knots beyond would learn nothing."""
    far = [chain(9.0, energy=0.0, forces=np.ones((3, 3)))]
    crystal = structure([[0, 0, 0], [0, 0, 1.0]], [6, 6], cell=3 * np.eye(3), energy=0.0)
    for name, options, expected in (
        ("EGNN", {}, 3.5),
        ("EGNN", {"all_pairs": True}, np.hypot(1.1, 9.0)),
        ("DistanceTransformer", {}, np.hypot(1.1, 9.0)),
        ("CMRET", {}, 3.5),
    ):
        model = make(name, distance_encoding="smooth", **options)
        model.fit_offsets(far)
        assert tables(model)[0].x_max == pytest.approx(expected), name
    model = make("CMRET", distance_encoding="smooth")
    for distance in (1.2, 2.0):  # a table that has shrunk may grow again
        model.fit_offsets([chain(distance, energy=0.0, forces=np.ones((3, 3)))])
        assert tables(model)[0].x_max == pytest.approx(np.hypot(1.1, distance))
    model = make("CMRET", distance_encoding="smooth")
    model.fit_offsets([crystal])
    assert tables(model)[0].x_max == 3.5


def test_the_width_is_that_of_the_basis():
    model = make("So3krates", num_radial=5, distance_encoding="mlp")
    assert model.radial_basis.num_features == 5
    with pytest.raises(ValueError, match="num_radial=5"):
        make("So3krates", num_radial=5, distance_encoding={"kind": "posenc", "num_features": 6})


@pytest.mark.once
@pytest.mark.parametrize("name", ["CMRET", "EGNN"])
def test_training_makes_tables_smoother(name):
    """The loss of the tables is part of `fit`'s, and its gradient reaches them."""
    data = [chain(d, energy=0.1 * d, forces=np.zeros((3, 3))) for d in (1.2, 1.4, 1.6, 1.8)]
    model = make(
        name, dtype="float32", distance_encoding={**TABLE, "smoothness": 1.0, "x_max": 3.5}
    )
    model.fit_offsets(data)
    before = added_loss(model)
    model.compile(
        keras.optimizers.Adam(0.05),
        loss={"energy": "mse", "forces": "mse"},
        loss_weights={"energy": 0.0, "forces": 0.0},  # what is left is the tables' own
    )
    history = model.fit(data, batch_size=4, epochs=5, verbose=0).history
    assert history["loss"][0] == pytest.approx(before, rel=1e-5)
    assert added_loss(model) < 0.95 * before
    assert model.evaluate(data, return_dict=True)["loss"] == pytest.approx(
        added_loss(model), rel=1e-5
    )
