"""`predict` gives totals of what is real, in order; offsets are fitted and adapted to data."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from ase.build import bulk, molecule
from keras.ops import convert_to_numpy as as_numpy

from keras_mlff import heads, models, pipeline
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


@pytest.mark.once
@pytest.mark.parametrize("name", ["so3krates/md17_ethanol", "alphanet/mlearn_si"])
def test_results_of_presets_do_not_depend_on_where_a_structure_lies(name):
    """10,000 Å away and, in a crystal, with every second atom 10,000 cells away, in float32."""
    model = models.load_preset(name)
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    crystal = name.endswith("si")
    atoms = bulk("Si", cubic=True, a=5.4) if crystal else molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=1)
    moved = atoms.positions + 1e4 * np.asarray([1.0, -0.7, 0.4]) + 0.123
    moved[::2] += 1e4 * atoms.cell.array.sum(axis=0)
    cell = atoms.cell.array if crystal else None
    near, far = (structure(x, atoms.numbers, cell) for x in (atoms.positions, moved))
    expected, found = model.predict(near), model.predict(far)
    np.testing.assert_allclose(found["forces"], expected["forces"], atol=1e-5)
    if crystal:
        np.testing.assert_allclose(found["stress"], expected["stress"], atol=1e-6)


@pytest.mark.parametrize("as_dataset", [False, True])
def test_training_does_not_depend_on_where_a_structure_lies(pair_net, as_dataset):
    """A dataset of tf.data has a way of its own to the model, and labels count as they are."""
    model, losses = compiled(pair_net), []
    for shift in (0.0, 1e4):
        graphs = [graph | {"positions": graph["positions"] + shift} for graph in make_graphs(6)]
        data = pipeline.from_graphs(graphs, verbose=0) if as_dataset else graphs
        losses.append(model.evaluate(data, verbose=0, return_dict=True)["loss"])
        forces = as_numpy(model(graphs[0])["forces"])
        np.testing.assert_allclose(forces, model.predict(graphs[0])["forces"], atol=1e-6)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_dipoles_of_ions_and_of_molecules_in_a_box_do_not_depend_on_it_either():
    """Positions count from the center of nuclear charge, of the molecule in one piece."""
    model = models.EGNN(num_features=8, num_layers=1, cutoff=3.0, heads=[heads.DipoleHead()])
    positions = np.asarray([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    dipoles = []
    for shift, cell in ((0.0, None), (1e4, None), (0.0, np.eye(3) * 9), (1e4, np.eye(3) * 9)):
        ion = structure(positions + shift, [8, 1, 1], cell, total_charge=1.0, spin_multiplicity=2)
        dipoles.append(model.predict(ion, domain="ignore")["dipole"])
    assert np.abs(dipoles[0]).max() > 1e-4
    np.testing.assert_allclose(np.concatenate(dipoles[1:]), np.repeat(dipoles[0], 3, 0), atol=1e-5)


def test_there_is_no_stress_where_there_is_no_volume(pair_net):
    """The volume is nothing beside the vectors' lengths: flat, tiny or missing ones."""
    open_vectors = ([3.6, 0.1, 0.0], [0.0, 0.0, 1e-9], [0.0, 0.0, 0.0], [0.0, 0.0, 9.0])
    slabs = [
        structure([[0, 0, 0], [0, 0, 1.5]], [1, 8], [[3.6, 0.1, 0], [0.4, 3.4, 0.2], c], [1, 1, 0])
        for c in open_vectors
    ]
    water = structure([[0, 0, 0], [0, 0, 1.0]], [1, 8])
    stress = compiled(pair_net).predict([*slabs, water])["stress"]
    assert np.isnan(stress[[0, 1, 2, 4]]).all()
    assert np.isfinite(stress[3]).all()


def test_threads_predict_with_one_model(pair_net):
    """JAX must not give the weights away meanwhile, nor afterwards."""
    model, graphs = compiled(pair_net), make_graphs(4)
    values = [variable.value for variable in model.variables]
    expected = model.predict(graphs)["energy"]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: model.predict(graphs)["energy"], range(24)):
            np.testing.assert_array_equal(found, expected)
    assert all(np.isfinite(as_numpy(value)).all() for value in values)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch may be forked")
@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_forked_child_is_refused_instead_of_hanging(pair_net):
    model, graphs = compiled(pair_net), make_graphs(1)
    model.predict(graphs)
    context = multiprocessing.get_context("fork")
    errors = context.Queue()
    child = context.Process(target=_predict_in_child, args=(model, graphs, errors))
    child.start()
    assert "would hang" in errors.get(timeout=60)
    child.join(60)


def _predict_in_child(model, graphs, errors):
    try:
        model.predict(graphs)
    except RuntimeError as error:
        errors.put(str(error))
