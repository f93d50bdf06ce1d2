"""A missing label has no weight, in losses, gradients, metrics and offsets, however it comes."""

import keras
import numpy as np
import pytest

from keras_mlff import fit, heads, models, pipeline
from keras_mlff.fit.objective import Objective
from keras_mlff.graph import join, pad, structure
from keras_mlff.neighbors import GraphSpec, add_edges
from keras_mlff.packing.budget import Budget
from keras_mlff.packing.loader import GraphLoader

LOSS = {"energy": "mse", "forces": "mae", "stress": "mse", "partial_charges": "mse"}
BUDGET = Budget(num_graphs=4, num_atoms=16, num_edges=300, num_triplets=1, max_atoms=5)


def invented(seed, periodic=False, **lacking):
    """Makes a molecule with partial charges, or a crystal with a stress."""
    random = np.random.default_rng(seed)
    num_atoms = 3 + seed % 2
    numbers = random.choice([1, 6, 8], num_atoms)
    labels = {
        "energy": -5.0 * num_atoms + random.normal(),
        "forces": random.normal(size=(num_atoms, 3)),
    }
    if periodic:
        labels["stress"] = random.normal(size=(3, 3))
    else:
        labels["partial_charges"] = random.normal(size=num_atoms)
    labels |= lacking
    return structure(
        random.normal(size=(num_atoms, 3)) * 1.2,
        numbers,
        cell=np.eye(3) * 4.0 if periodic else None,
        **labels,
    )


def mixed():
    """Makes molecules and crystals of different origin, which have different labels."""
    return [
        invented(0),
        invented(1, periodic=True),
        invented(2, forces=None),
        invented(3, periodic=True, energy=np.nan),
        invented(4, partial_charges=[0.1, np.nan, np.nan]),
        invented(5, periodic=True, stress=None),
    ]


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return models.EGNN(
        num_features=4,
        num_layers=1,
        cutoff=3.0,
        dtype="float64",
        heads=[heads.EnergyHead(), heads.AtomicHead("partial_charges")],
    )


def gradients(model, graphs, loss):
    """Takes one step of plain descent and returns what it changed."""
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0), loss, run_eagerly=keras.backend.backend() != "jax")
    model.fit(GraphLoader(graphs, budget=BUDGET), verbose=0)
    after = model.get_weights()
    model.set_weights(before)
    return [old - new for old, new in zip(before, after, strict=True)]


@pytest.mark.parametrize("periodic", [False, True])
def test_a_structure_without_labels_changes_no_gradient(model, periodic):
    """Everything is float64: what is left is the order of sums."""
    loss = {key: LOSS[key] for key in ("energy", "forces")}
    kept = [add_edges(invented(seed, periodic), 3.0) for seed in (0, 1)]
    unknown = add_edges(invented(2, periodic, energy=np.nan, forces=None), 3.0)
    alone = gradients(model, kept, loss)
    assert max(np.abs(value).max() for value in alone) > 1e-3
    for with_it, without in zip(gradients(model, [*kept, unknown], loss), alone, strict=True):
        np.testing.assert_allclose(with_it, without, rtol=1e-9, atol=1e-13)


def test_a_missing_label_leaves_the_others_their_weight(model):
    """The gradient of two losses is the sum of those of each, over the structures that have it."""
    graphs = [add_edges(invented(0), 3.0), add_edges(invented(1, energy=np.nan), 3.0)]
    both = gradients(model, graphs, {"energy": "mse", "forces": "mse"})
    energy = gradients(model, graphs[:1], {"energy": "mse"})
    forces = gradients(model, graphs, {"forces": "mse"})
    for found, first, second in zip(both, energy, forces, strict=True):
        np.testing.assert_allclose(found, first + second, rtol=1e-9, atol=1e-12)


def expected_errors(structures, predicted):
    """Collects the differences that count, one structure after the other."""
    differences = {key: [] for key in LOSS}
    atom = 0
    for index, graph in enumerate(structures):
        size = len(graph["positions"])
        for key in LOSS:
            if key not in graph:
                continue
            rows = slice(atom, atom + size) if key in ("forces", "partial_charges") else [index]
            difference = predicted[key][rows] - graph[key]
            differences[key] += list(difference[np.isfinite(difference)])
        atom += size
    return {key: np.asarray(values) for key, values in differences.items()}


def fed(way, structures, tmp_path):
    """Brings structures to a model in one of the ways that there are."""
    if way == "list":
        return structures
    if way == "loader":
        return GraphLoader(pipeline.with_edges(structures, GraphSpec(3.0)), 2)
    store = pipeline.with_edges(structures, GraphSpec(3.0), cache_dir=tmp_path)
    if way == "store":
        return store
    pytest.importorskip("tensorflow")
    return pipeline.from_graphs(store, 2, verbose=0)


@pytest.mark.parametrize("way", ["list", "loader", "store", "tf.data"])
def test_molecules_and_crystals_with_different_labels_train_together(model, way, tmp_path):
    structures = mixed()
    model.fit_offsets(structures)
    model.compile(
        keras.optimizers.Adam(1e-3),
        LOSS,
        metrics=dict.fromkeys(LOSS, "mae"),
        run_eagerly=keras.backend.backend() != "jax",
    )
    model.fit(fed(way, structures, tmp_path), batch_size=2, epochs=1, verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    data = fed(way, structures, tmp_path)
    logs = model.evaluate(data, batch_size=2, return_dict=True, verbose=0)
    expected = expected_errors(structures, model.predict(structures))
    found = fit.errors(structures, model.predict(structures))
    for key, difference in expected.items():
        assert len(difference) > 0
        np.testing.assert_allclose(logs[f"{key}_mae"], np.abs(difference).mean(), rtol=1e-5)
        np.testing.assert_allclose(found[key].mae, np.abs(difference).mean(), rtol=1e-10)
        assert found[key].num_values == len(difference)
        average = np.mean(difference**2) if LOSS[key] == "mse" else np.abs(difference).mean()
        np.testing.assert_allclose(logs[f"{key}_loss"], average, rtol=1e-5)


def test_a_padded_batch_of_numpy_arrays_has_missing_labels_too(model):
    loss = {"energy": "mse", "stress": "mse"}
    model.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=keras.backend.backend() != "jax")
    crystals = [invented(1, periodic=True), invented(3, periodic=True, energy=None)]
    batch = GraphLoader(pipeline.with_edges(crystals, GraphSpec(3.0)), 2)[0]
    fed_batch = model.train_on_batch(*batch, return_dict=True)
    logs = model.evaluate(crystals, return_dict=True, verbose=0)
    for key in ("energy_loss", "stress_loss"):
        np.testing.assert_allclose(fed_batch[key], logs[key], rtol=1e-6)


def test_a_stress_counts_where_there_is_a_volume(model):
    """Files of mixed data give molecules a stress of zeros."""
    molecule, crystal = invented(0, stress=np.zeros((3, 3))), invented(1, periodic=True)
    model.compile(loss={"stress": "mae"}, run_eagerly=keras.backend.backend() != "jax")
    logs = model.evaluate([molecule, crystal], return_dict=True, verbose=0)
    predicted = model.predict([molecule, crystal])["stress"]
    np.testing.assert_allclose(logs["loss"], np.abs(predicted[1] - crystal["stress"][0]).mean())
    assert fit.errors([molecule, crystal], {"stress": predicted})["stress"].num_values == 9


@pytest.mark.parametrize("way", ["list", "store", "tf.data"])
@pytest.mark.parametrize("watched", [False, True])
def test_a_label_missing_everywhere_is_an_error_that_names_it(model, way, watched, tmp_path):
    structures = [invented(seed, partial_charges=[np.nan] * (3 + seed % 2)) for seed in range(3)]
    loss = {"energy": "mse"} if watched else {"energy": "mse", "partial_charges": "mse"}
    metrics = {"partial_charges": "mae"} if watched else None
    model.compile("sgd", loss, metrics=metrics, run_eagerly=keras.backend.backend() != "jax")
    for run in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="no label 'partial_charges'"):
            run(fed(way, structures, tmp_path), verbose=0)


def test_a_batch_without_any_label_has_no_loss():
    graph = pad(join([add_edges(invented(0, energy=np.nan), 3.0)]), 2, 5, 20)
    tensors = {
        key: keras.ops.convert_to_tensor(
            value.astype("float32") if value.dtype.kind == "f" else value
        )
        for key, value in graph.items()
    }
    objective = Objective({"energy": "mse"}, None, None, ["energy"])
    predictions = {"energy": keras.ops.ones((2,))}
    assert float(objective.loss(tensors, tensors, predictions)) == 0.0
    with pytest.raises(ValueError, match="no label 'energy'"):
        objective.check_labels()


def test_offsets_adapt_to_what_is_known(model):
    structures = [invented(seed) for seed in range(6)]
    model.fit_offsets(structures)
    energies = model.predict(structures)["energy"]
    charges = model.predict(structures)["partial_charges"]
    moved = []
    for index, graph in enumerate(structures):
        first = sum(len(other["positions"]) for other in structures[:index])
        labels = {
            "energy": energies[index] + 2.0 * len(graph["positions"]),
            "partial_charges": charges[first : first + len(graph["positions"])] + 0.5,
        }
        if index % 2:
            labels["energy"] = np.nan
            labels["partial_charges"][0] = np.nan
        moved.append(structure(graph["positions"], graph["atomic_numbers"], **labels))
    before = {head.name: dict(head.references) for head in model.heads}
    model.adapt_offsets(moved)
    for head, shift in zip(model.heads, (2.0, 0.5), strict=True):
        for element, value in head.references.items():
            assert value == pytest.approx(before[head.name][element] + shift, abs=1e-9)
