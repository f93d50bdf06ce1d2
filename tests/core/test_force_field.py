"""Heads and further inputs of a model work together, or are refused."""

import keras
import numpy as np
import pytest

from keras_mlff import heads
from keras_mlff.graph import structure
from tests.core.pair_net import make_graphs, weights_of


def test_a_network_that_ignores_charge_and_spin_says_so(pair_net):
    with pytest.raises(ValueError, match="with_charge_spin"):
        pair_net(charge_spin=True)


def test_several_heads_learn_at_once(pair_net):
    model = pair_net(
        heads=[
            heads.EnergyHead(),
            heads.DipoleHead(),
            heads.PolarizabilityHead(),
            heads.SpatialExtentHead(),
            heads.ScalarHead("gap", pooling="mean"),
            heads.ScalarHead("capacity"),
        ]
    )
    graphs = make_graphs(5, gap=lambda random: random.normal())
    predicted = model.predict(graphs)
    assert predicted["dipole"].shape == (5, 3)
    assert predicted["polarizability"].shape == (5, 3, 3)
    assert model.property_names[:2] == ["energy", "forces"]
    assert set(predicted) == set(model.property_names)
    # heads without a label stay as they are, on every backend
    model.compile(keras.optimizers.SGD(0.1), loss={"energy": "mse", "gap": "mse"})
    before = weights_of(model)
    model.fit(graphs, epochs=1, verbose=0)
    changed = [
        not np.array_equal(old, new) for old, new in zip(before, weights_of(model), strict=True)
    ]
    assert any(changed)
    assert not all(changed)


def test_averages_do_not_grow_with_the_molecule(pair_net):
    model = pair_net(
        heads=[heads.ScalarHead("mean", pooling="mean"), heads.ScalarHead("total", pooling="sum")]
    )
    one = structure([[0.0, 0.0, 0.0]], [6])
    three = structure([[0.0, 0.0, 0.0], [90.0, 0.0, 0.0], [0.0, 90.0, 0.0]], [6, 6, 6])
    predicted = model.predict([one, three])
    np.testing.assert_allclose(predicted["mean"][1], predicted["mean"][0], rtol=1e-6)
    np.testing.assert_allclose(predicted["total"][1], 3 * predicted["total"][0], rtol=1e-6)


def test_a_model_without_energy_has_no_forces(pair_net):
    model = pair_net(heads=[heads.DipoleHead()])
    assert set(model.predict(make_graphs(2))) == {"dipole", "dipole_norm"}
    model.compile(keras.optimizers.Adam(0.01), loss={"dipole_norm": "mse"})
    graphs = make_graphs(4, dipole_norm=lambda random: abs(random.normal()))
    history = model.fit(graphs, epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ([], TypeError),
        (["energy"], TypeError),
        ([heads.EnergyHead(), heads.EnergyHead()], ValueError),
        ([heads.EnergyHead(name="atomization")], ValueError),
        ([heads.EnergyHead(), heads.ScalarHead("forces")], ValueError),
        ([heads.ScalarHead("positions")], ValueError),
    ],
)
def test_heads_that_cannot_work_are_refused(pair_net, given, error):
    with pytest.raises(error, match="Received"):
        pair_net(heads=given)


@pytest.mark.parametrize("given", ["invariant", 1, None, ["vector"]])
def test_charge_and_spin_are_a_matter_of_yes_and_no(pair_net, given):
    with pytest.raises(TypeError, match="charge_spin="):
        pair_net(charge_spin=given)
