"""The repulsion of near atoms is the published formula, in molecules and across cell walls."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff.graph import structure
from keras_mlff.layers.zbl import ZBLRepulsion
from keras_mlff.models import AlphaNet
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.budget import Budget
from keras_mlff.packing.loader import GraphLoader
from tests.models.weights import copy_weights

GOLDEN = Path(__file__).parents[1] / "golden/alphanet"
BUDGET = Budget(num_graphs=12, num_atoms=30, num_edges=400, num_triplets=0, max_atoms=4)
CELL = np.asarray([[4.2, 0.3, 0.0], [-0.2, 4.4, 0.1], [0.0, 0.5, 4.8]])


def formula(distances, first, second, reach=1.0):
    """Energy of a pair in eV, written out anew from the book, and the polynomial envelope."""
    distances = np.asarray(distances, np.float64)
    length = 0.8854 * 0.529177210903 / (first**0.23 + second**0.23)
    scaled = distances / length
    screened = (
        0.18175 * np.exp(-3.1998 * scaled)
        + 0.50986 * np.exp(-0.94229 * scaled)
        + 0.28022 * np.exp(-0.4029 * scaled)
        + 0.02817 * np.exp(-0.20162 * scaled)
    )
    x = distances / reach
    envelope = np.where(x < 1.0, 1 - 28 * x**6 + 48 * x**7 - 21 * x**8, 0.0)
    return 14.399645478425 * first * second / distances * screened * envelope


@pytest.fixture(scope="module")
def models(pair_net):
    """A model with repulsion and the same one without."""
    made = [pair_net(cutoff=4.0, dtype="float64", zbl=zbl) for zbl in (True, False)]
    made[0].set_weights(made[1].get_weights())
    for model in made:
        model.run_eagerly = keras.backend.backend() != "jax"
    return made


def repulsion(models, structures):
    """Predicts what repulsion adds, by structure: a dict of arrays."""
    predicted = []
    for model in models:
        loader = GraphLoader([add_edges(item, 4.0) for item in structures], budget=BUDGET)
        predicted.append(model.predict(loader))
    return {key: predicted[0][key] - predicted[1][key] for key in predicted[1]}


def pair(distance, numbers=(6, 8), **kwargs):
    return structure([[0.2, 0.1, 0.0], [0.2, 0.1 + distance, 0.0]], numbers, **kwargs)


def test_a_pair_has_the_energy_of_the_formula(models):
    distances = [0.05, 0.2, 0.5, 0.9, 0.999, 1.0, 1.3]
    elements = [(1, 1), (6, 8), (29, 6), (94, 1), (94, 94), (1, 8), (14, 14)]
    pairs = zip(distances, elements, strict=True)
    added = repulsion(models, [pair(*each) for each in pairs])
    expected = [formula(d, *each) for d, each in zip(distances, elements, strict=True)]
    np.testing.assert_allclose(added["energy"], expected, rtol=1e-9, atol=1e-9)
    halves = np.repeat(np.asarray(expected) / 2, 2)
    np.testing.assert_allclose(added["atomic_energies"], halves, rtol=1e-9, atol=1e-9)
    assert np.all(added["energy"][-2:] == 0.0)


def test_forces_drive_apart_and_are_the_slope(models):
    distances = np.asarray([0.3, 0.7, 0.95, 1.0 - 1e-9, 1.0 + 1e-9])
    forces = repulsion(models, [pair(d) for d in distances])["forces"].reshape(-1, 2, 3)
    step = 1e-6
    slopes = (formula(distances + step, 6, 8) - formula(distances - step, 6, 8)) / (2 * step)
    np.testing.assert_allclose(forces[:, 1, 1], -slopes, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(forces[:, 0], -forces[:, 1], atol=1e-9)
    assert np.all(forces[:3, 1, 1] > 0.0)


def test_pairs_across_a_cell_wall_repel(models):
    """The image is as good as the atom, and stress is the slope by strain."""
    inside = structure([[2.0, 2.0, 2.0], [2.0, 2.0, 2.6]], [14, 8], cell=CELL)
    across = structure([[2.0, 2.0, 2.0], [2.0, 2.0, 2.6] + CELL[0] - CELL[2]], [14, 8], cell=CELL)
    step = 1e-5
    strained = []
    for sign in (1, -1):
        matrix = np.eye(3) + sign * step * np.diag([0.0, 0.0, 1.0])
        positions = inside["positions"] @ matrix
        strained.append(structure(positions, [14, 8], cell=CELL @ matrix))
    added = repulsion(models, [inside, across, *strained])
    np.testing.assert_allclose(added["energy"][:2], formula(0.6, 14, 8), rtol=1e-9)
    np.testing.assert_allclose(added["forces"][2:4], added["forces"][:2], rtol=1e-9, atol=1e-9)
    slope = (added["energy"][2] - added["energy"][3]) / (2 * step) / np.linalg.det(CELL)
    np.testing.assert_allclose(added["stress"][0, 2, 2], slope, rtol=1e-6)
    assert slope < 0.0, "what repels presses outwards"


def test_an_atom_repels_its_own_image(models):
    chain = structure([[0.0, 0.0, 0.0]], [6], cell=np.diag([0.8, 9.0, 9.0]))
    # two neighbors, half of each pair's energy belongs to the cell
    added = repulsion(models, [chain])
    np.testing.assert_allclose(added["energy"], formula(0.8, 6, 6), rtol=1e-9)


def test_a_learned_screening_begins_at_the_fixed_one(pair_net):
    """What is learned stays positive, and bare nuclei stay bare."""
    made = [
        pair_net(cutoff=4.0, dtype="float64", zbl={"learned": learned, "cutoff": 1.5})
        for learned in (True, False)
    ]
    learned = made[0].repulsion
    copy_weights(made[1], made[0], learned.constants)
    for model in made:
        model.run_eagerly = keras.backend.backend() != "jax"
    pairs = [pair(0.3), pair(1.1, (1, 1)), pair(1.6, (29, 6))]
    first, second = ([model.predict(each) for each in pairs] for model in made)
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_allclose(ours["energy"], theirs["energy"], rtol=1e-4)
        np.testing.assert_allclose(ours["forces"], theirs["forces"], rtol=1e-3, atol=1e-9)

    random = np.random.default_rng(0)
    raw = [random.normal(size=weight.shape) for weight in learned.constants]
    made[0].assign_weights([*zip(learned.constants, raw, strict=True)])
    weights, rates, length, power = (np.log1p(np.exp(values)) for values in raw)
    scaled = 1.1 * (6**power + 8**power) / length
    screened = np.sum(weights / weights.sum() * np.exp(-rates * scaled))
    x = 1.1 / 1.5
    expected = 14.399645478425 * 48 / 1.1 * screened * (1 - 28 * x**6 + 48 * x**7 - 21 * x**8)
    added = made[0].predict(pair(1.1))["energy"] - made[1].predict(pair(1.1))["energy"]
    np.testing.assert_allclose(added, expected - formula(1.1, 6, 8, reach=1.5), rtol=1e-8)


def test_a_screening_is_learned(pair_net):
    model = pair_net(cutoff=4.0, zbl={"learned": True, "cutoff": 1.5})
    before = [keras.ops.convert_to_numpy(weight) for weight in model.repulsion.constants]
    labels = {"energy": np.asarray([9.0]), "forces": np.zeros((2, 3))}
    model.compile(keras.optimizers.SGD(1e-4), loss={"energy": "mse", "forces": "mse"})
    model.run_eagerly = keras.backend.backend() != "jax"
    model.fit([pair(0.8, **labels), pair(1.2, (1, 8), **labels)], verbose=0)
    after = [keras.ops.convert_to_numpy(weight) for weight in model.repulsion.constants]
    for old, new in zip(before, after, strict=True):
        assert np.all(np.isfinite(new))
        assert np.all(new != old)


def test_the_option_is_part_of_the_model(pair_net):
    model = pair_net(zbl={"cutoff": 0.7, "cutoff_function": "cosine"})
    again = pair_net.from_config(json.loads(json.dumps(model.get_config())))
    assert again.repulsion.cutoff == 0.7
    assert pair_net.from_config(pair_net().get_config()).repulsion is None
    with pytest.raises(ValueError, match="neighbors only"):
        pair_net(cutoff=4.0, zbl={"cutoff": 5.0})
    with pytest.raises(ValueError, match="screening"):
        ZBLRepulsion(screening="none")


def test_the_authors_alphanet_has_constants_of_its_own():
    hyperparameters = json.loads((GOLDEN / "v1_hparams.json").read_text())
    with np.load(GOLDEN / "v1_weights.npz") as file:
        weights = dict(file)
    made = [AlphaNet.from_port({**hyperparameters, "zbl": zbl}, weights) for zbl in (True, False)]
    for model in made:
        model.run_eagerly = keras.backend.backend() != "jax"
    first, second, d = 6, 8, 0.6
    length = 1.001 * 0.8854 * 0.529177210903 / (first**0.6032 + second**0.6032)
    weight = np.asarray([0.187, 0.3769, 0.189, 0.081, 0.003, 0.037, 0.0546, 0.0715])
    rates = np.asarray([3.20, 1.10, 0.102, 0.958, 1.28, 1.14, 1.69, 5.0])
    expected = 14.399645478425 * first * second / d * np.sum(weight * np.exp(-rates * d / length))
    expected *= (1.0 + np.cos(np.pi * d)) / 2.0
    energies = [model.predict(pair(d))["energy"][0] for model in made]
    np.testing.assert_allclose(energies[0] - energies[1], expected, rtol=1e-8)
