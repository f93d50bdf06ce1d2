"""`predict` gives totals of what is real, in order; offsets are fitted and adapted to data."""

import numpy as np
import pytest

from keras_mlff import heads
from keras_mlff.graph import join, structure
from keras_mlff.packing.budget import choose_budget
from keras_mlff.packing.loader import GraphLoader
from tests.core.pair_net import REFERENCES, compiled, make_graphs


def test_predict_keeps_the_order_and_drops_the_padding(pair_net):
    model, graphs = compiled(pair_net), make_graphs(9)
    together = model.predict(graphs, batch_size=4)
    budget = choose_budget(graphs, 4)
    alone = [model.predict(GraphLoader([graph], budget=budget)) for graph in graphs]
    for key in ("energy", "forces", "atomic_energies"):
        np.testing.assert_allclose(
            together[key], np.concatenate([item[key] for item in alone]), rtol=1e-5, atol=1e-6
        )
    assert together["energy"].dtype == np.float64


def test_predict_takes_structures_graphs_and_joined_graphs(pair_net):
    model, graphs = compiled(pair_net), make_graphs(4)
    bare = [structure(graph["positions"], graph["atomic_numbers"], energy=0.0) for graph in graphs]
    first = model.predict(graphs)
    for other in (model.predict(bare), model.predict(join(graphs))):
        for key, value in first.items():
            np.testing.assert_allclose(other[key], value, rtol=1e-5, atol=1e-6, err_msg=key)


def test_predict_refuses_a_loader_that_shuffles(pair_net):
    with pytest.raises(ValueError, match="shuffle"):
        compiled(pair_net).predict(GraphLoader(make_graphs(4), 2, shuffle=True))


def test_large_references_cost_no_precision(pair_net):
    """float32 holds 2e5 eV to 16 meV only: labels lose their references in float64 before."""
    model, graphs = compiled(pair_net), make_graphs(5)
    before = model.evaluate(graphs, verbose=0, return_dict=True)
    model.heads[0].shift = 262144.0
    shifted = [{**graph, "energy": graph["energy"] + 262144.0} for graph in graphs]
    after = model.evaluate(shifted, verbose=0, return_dict=True)
    np.testing.assert_allclose(after["energy_mae"], before["energy_mae"], rtol=1e-6)


def test_references_are_fitted_and_scales_follow(pair_net):
    graphs = make_graphs(12, gap=lambda random: 7.0 + random.normal())
    model = pair_net(heads=[heads.EnergyHead(), heads.ScalarHead("gap", pooling="mean")])
    model.compile("sgd", loss={"energy": "mae"}, metrics={"energy": "mae"})
    before = model.evaluate(graphs, verbose=0, return_dict=True)["energy_mae"]
    model.fit_offsets(graphs)
    energy, gap = model.heads
    for element, value in REFERENCES.items():
        assert abs(energy.references[element] - value) < 2.0
    forces = np.concatenate([graph["forces"].ravel() for graph in graphs])
    np.testing.assert_allclose(energy.scale, np.sqrt(np.mean(forces**2)))
    assert gap.references == {}
    np.testing.assert_allclose(gap.shift, np.mean([graph["gap"] for graph in graphs]))
    after = model.evaluate(graphs, verbose=0, return_dict=True)["energy_mae"]
    assert after < 10.0 < before
    predicted = model.predict(graphs)
    errors = predicted["energy"] - np.concatenate([graph["energy"] for graph in graphs])
    np.testing.assert_allclose(np.mean(np.abs(errors)), after, rtol=1e-5)
    # a change of scale must reach code that was compiled before
    energy_before = predicted["energy"] - energy.offsets(join(graphs))
    energy.scale *= 2.0
    model.fit_offsets(graphs)
    again = pair_net.from_config(model.get_config())
    assert again.heads[0].references == energy.references
    assert np.all(np.isfinite(energy_before))


def test_references_adapt_to_another_level_of_theory(pair_net):
    """A constant per element and atom is taken up whole; the network's part stays."""
    model = compiled(pair_net)
    graphs = make_graphs(12)
    predicted = model.predict(graphs)["energy"]
    shifts = {1: 0.7, 6: -20.0, 8: 3.0}
    moved = [
        {**graph, "energy": energy[None] + sum(shifts[z] for z in graph["atomic_numbers"].tolist())}
        for graph, energy in zip(graphs, predicted, strict=True)
    ]
    model.adapt_offsets(moved)
    after = model.predict(graphs)["energy"]
    np.testing.assert_allclose(after, np.concatenate([g["energy"] for g in moved]), atol=1e-4)
    for number, shift in shifts.items():
        assert abs(model.heads[0].references[number] - REFERENCES[number] - shift) < 1e-4


def test_heads_without_labels_keep_their_references(pair_net):
    model = compiled(pair_net)
    before = dict(model.heads[0].references)
    model.adapt_offsets([{k: v for k, v in g.items() if k != "energy"} for g in make_graphs(2)])
    assert model.heads[0].references == before


@pytest.mark.parametrize(("verbose", "shown"), [(0, False), (1, True), ("auto", True)])
def test_predict_shows_its_progress_where_it_is_asked_to(pair_net, capsys, verbose, shown):
    compiled(pair_net).predict(make_graphs(4), batch_size=2, verbose=verbose)
    assert bool(capsys.readouterr().out) is shown
