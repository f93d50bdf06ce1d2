"""What every architecture promises, checked by being listed in `models.ARCHITECTURES`.

Everything runs in float64, where a broken symmetry cannot hide behind rounding, and most of it in
batches of one shape, since compiling takes longer than computing.

Run as a program (`python tests/models/test_contract.py CMRET`) this file writes the weights and
predictions from which `test_stored_weights_give_the_same_numbers_on_every_backend` reads.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff import backend, models
from keras_mlff.graph import inputs_and_labels, join, pad, split, structure
from keras_mlff.layers.element_affine import ElementAffine
from keras_mlff.layers.zbl import ZBLRepulsion
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.budget import Budget, pack, sizes
from keras_mlff.packing.loader import GraphLoader
from tests.models.weights import copy_weights

GOLDEN = Path(__file__).parents[1] / "golden/contract"
SMALL = {"num_features": 16, "num_layers": 2, "cutoff": 4.0, "dtype": "float64"}
CUTOFF = SMALL["cutoff"]
BUDGET = Budget(num_graphs=32, num_atoms=224, num_edges=1800, num_triplets=12000, max_atoms=12)
WITHOUT_ATTENTION = ("AlphaNet", "DimeNetPP")
# float64: 1e-16 per operation, some hundred operations and cancellation between terms of order one
EXACT = {"rtol": 1e-10, "atol": 1e-11}


# ----- models and predictions


def build(name, **kwargs):
    keras.utils.set_random_seed(7)
    model = models.ARCHITECTURES[name](**SMALL | kwargs)
    waken(model)
    return model


def waken(model):
    """Moves all weights off their start, where zeros and ones can hide a mistake."""
    random = np.random.default_rng(5)
    values = []
    for variable in model.trainable_variables:
        start = keras.ops.convert_to_numpy(variable)
        spread = 0.1 * max(float(np.std(start)), 0.3)
        values.append((variable, start + random.normal(size=start.shape) * spread))
    model.assign_weights(values)
    # tracing costs more than it saves here, except on JAX, which compiles each operation
    model.run_eagerly = keras.backend.backend() != "jax"


@pytest.fixture(scope="module", params=sorted(models.ARCHITECTURES))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return build(name)


def edges(graph):
    return graph if "senders" in graph else add_edges(graph, CUTOFF, triplets=True)


def predict(model, structures, budget=BUDGET):
    """Predicts a list in batches of one shape: a dict of arrays per structure."""
    graphs = [edges(item) for item in structures]
    if not model.uses_triplets:
        graphs = [without_triplets(graph) for graph in graphs]
        budget = budget._replace(num_triplets=0)
    predicted = model.predict(GraphLoader(graphs, budget=budget))
    bounds = np.cumsum([len(graph["positions"]) for graph in graphs])[:-1]
    by_key = {
        key: np.split(value, bounds) if key in ("forces", "atomic_energies") else value
        for key, value in predicted.items()
    }
    return [{key: value[i] for key, value in by_key.items()} for i in range(len(graphs))]


def without_triplets(graph):
    return {key: value for key, value in graph.items() if not key.startswith("triplet_")}


def assert_same(actual, expected, **tolerance):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(actual[key], value, **EXACT | tolerance, err_msg=key)


# ----- structures


def molecule(num_atoms=7, seed=1, **kwargs):
    """Places atoms at random, none closer than 0.9 Å, some pairs beyond the cutoff."""
    random = np.random.default_rng(seed)
    positions = [np.zeros(3)]
    while len(positions) < num_atoms:
        place = positions[-1] + random.normal(size=3) * 1.1
        if min(np.linalg.norm(place - other) for other in positions) > 0.9:
            positions.append(place)
    numbers = random.choice([1, 6, 7, 8, 17], num_atoms)
    return structure(positions, numbers, **kwargs)


def crystal(pbc=True):
    positions = [[0.1, 0.2, 0.3], [2.1, 2.4, 2.2], [0.4, 2.5, 1.9], [2.6, 0.3, 4.1]]
    cell = [[4.6, 0.3, 0.0], [-0.4, 5.0, 0.5], [0.2, 0.6, 5.4]]
    return structure(positions, [11, 17, 8, 1], cell=cell, pbc=pbc)


def moved(graph, **arrays):
    """Copies a structure with other arrays and without edges."""
    kept = {k: v for k, v in graph.items() if not k.startswith(("send", "rec", "edge", "trip"))}
    return {**kept, **{key: np.asarray(value) for key, value in arrays.items()}}


def rotation(seed, sign):
    """Draws an orthogonal matrix: a rotation (+1) or a rotation with a mirror (-1)."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * sign * np.sign(np.linalg.det(matrix))


def need_crystals(model):
    if not model.supports_periodic:
        pytest.skip("its documentation says that it is for molecules")


def ring(radius, number, turn=0.0):
    angles = np.arange(6) * np.pi / 3 + turn
    return [[radius * np.cos(a), radius * np.sin(a), 0.0] for a in angles], [number] * 6


def symmetric_molecules():
    carbons, hydrogens = ring(1.39, 6), ring(2.48, 1)
    corner = 1.09 / 3**0.5
    return {
        "atom": structure([[0.3, 0.1, -0.2]], [6]),
        "N2": structure([[0, 0, 0], [0, 0, 1.1]], [7, 7]),
        "CO2": structure([[0, 0, 0], [1.16, 0, 0], [-1.16, 0, 0]], [6, 8, 8]),
        "methane": structure(
            np.asarray([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * corner,
            [6, 1, 1, 1, 1],
        ),
        "benzene": structure(carbons[0] + hydrogens[0], carbons[1] + hydrogens[1]),
        "two far atoms": structure([[0, 0, 0], [50.0, 0, 0]], [1, 8]),
    }


# ----- symmetries


@pytest.mark.parametrize("charge", [(0.0, 1), (1.0, 2), (-1.0, 3)])
def test_forces_turn_with_the_molecule(model, charge):
    """An orthogonal matrix on the positions gives the same matrix on the forces."""
    start = molecule(total_charge=charge[0], spin_multiplicity=charge[1])
    matrices = [rotation(seed, sign) for seed in range(3) for sign in (1, -1)]
    matrices.append(np.diag([1.0, 1.0, -1.0]))
    turned = [moved(start, positions=start["positions"] @ matrix) for matrix in matrices]
    before, *after = predict(model, [start, *turned])
    assert np.abs(before["forces"]).max() > 1e-5, "a model without forces proves nothing"
    for matrix, got in zip(matrices, after, strict=True):
        assert_same(got, before | {"forces": before["forces"] @ matrix})


def test_only_relative_positions_matter(model):
    start = molecule()
    shifted = moved(start, positions=start["positions"] + [12.0, -7.5, 3.25])
    assert_same(*predict(model, [shifted, start]))


def test_the_order_of_atoms_does_not_matter(model):
    start = molecule()
    order = np.random.default_rng(3).permutation(7)
    shuffled = moved(
        start,
        positions=start["positions"][order],
        atomic_numbers=start["atomic_numbers"][order],
    )
    before, after = predict(model, [start, shuffled])
    expected = {key: value[order] for key, value in before.items() if value.ndim > 0}
    assert_same(after, before | expected)


def test_crystals_turn_shift_and_wrap(model):
    need_crystals(model)
    start = crystal()
    matrix, cell = rotation(2, -1), start["cell"]
    wraps = np.asarray([[0, 0, 0], [1, -2, 0], [0, 0, 3], [-1, 0, 0]])
    turned = moved(start, positions=start["positions"] @ matrix, cell=cell @ matrix)
    shifted = moved(start, positions=start["positions"] + [1.7, -0.4, 2.2])
    wrapped = moved(start, positions=start["positions"] + wraps @ cell[0])
    # the same lattice, described by other vectors
    sheared = moved(start, cell=np.asarray([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ cell)
    before, after, *same = predict(model, [start, turned, shifted, wrapped, sheared])
    for got in same:
        assert_same(got, before)
    stress = matrix.T @ before["stress"] @ matrix
    assert_same(after, before | {"forces": before["forces"] @ matrix, "stress": stress})


def test_a_supercell_has_twice_the_energy(model):
    need_crystals(model)
    start = crystal()
    cell = start["cell"].copy()
    positions = np.concatenate([start["positions"], start["positions"] + cell[0, 2]])
    cell[:, 2] *= 2.0
    double = structure(positions, np.tile(start["atomic_numbers"], 2), cell=cell[0])
    one, two = predict(model, [start, double])
    np.testing.assert_allclose(two["energy"], 2.0 * one["energy"], **EXACT)
    np.testing.assert_allclose(two["forces"], np.tile(one["forces"], (2, 1)), **EXACT)
    np.testing.assert_allclose(two["stress"], one["stress"], **EXACT)


def test_cells_may_be_smaller_than_the_cutoff_and_wires_wrap(model):
    need_crystals(model)
    cell = np.asarray([[2.7, 0.0, 0.0], [0.6, 2.6, 0.0], [0.3, -0.5, 2.8]])
    one = structure([[0.1, 0.2, 0.3]], [13], cell=cell)
    two = structure(
        [[0.1, 0.2, 0.3], [2.8, 0.2, 0.3]], [13, 13], cell=cell * np.asarray([[2], [1], [1]])
    )
    wire = crystal([True, False, False])
    wraps = np.asarray([[0], [2], [-1], [1]]) * wire["cell"][0, 0]
    wrapped = moved(wire, positions=wire["positions"] + wraps)
    single, double, start, got = predict(model, [one, two, wire, wrapped])
    np.testing.assert_allclose(double["energy"], 2.0 * single["energy"], **EXACT)
    np.testing.assert_allclose(double["stress"], single["stress"], **EXACT)
    np.testing.assert_allclose(single["forces"], 0.0, atol=1e-11)
    assert_same(got, start)


# ----- batches


def test_company_changes_nothing(model):
    """A structure has the same numbers alone and among others, molecules and crystals alike."""
    alone = [molecule(n, seed=n) for n in (1, 2, 3, 7, 12)] + list(symmetric_molecules().values())
    together = predict(model, alone)
    for structure_, expected in zip(alone, together, strict=True):
        assert_same(predict(model, [structure_])[0], expected)


def test_molecules_are_the_same_among_crystals(model):
    need_crystals(model)
    molecules = [molecule(5, seed=2), molecule(1, seed=3)]
    mixed = predict(model, [molecules[0], crystal(), molecules[1], crystal([True, True, False])])
    for got, expected in zip(mixed[::2], predict(model, molecules), strict=True):
        np.testing.assert_array_equal(got.pop("stress"), np.zeros((3, 3)))
        assert_same(got, expected)


def full(graphs, **more):
    """Packs graphs into exactly their sizes, plus what is asked for."""
    total = sizes(graphs).sum(axis=0)
    largest = max(len(graph["positions"]) for graph in graphs)
    names = ("num_graphs", "num_atoms", "num_edges", "num_triplets")
    counts = {key: int(n) + more.get(key, 0) for key, n in zip(names, total, strict=True)}
    return pad(join(graphs), **counts, max_atoms=largest + more.get("max_atoms", 0))


@pytest.mark.parametrize(
    "more",
    [
        {},  # no padding at all
        # no spare graph: padding atoms belong to a real one
        {"num_atoms": 3, "num_edges": 5, "num_triplets": 4, "max_atoms": 2},
        # no spare atom: padding edges point at a real one
        {"num_graphs": 1, "num_edges": 5, "num_triplets": 4},
    ],
    ids=["none", "atoms and edges", "graphs and edges"],
)
def test_padding_changes_nothing(model, more):
    structures = [edges(molecule(n, seed=n)) for n in (2, 6, 4)]
    expected = predict(model, structures)
    if not model.uses_triplets:
        structures = [without_triplets(graph) for graph in structures]
    inputs, _ = inputs_and_labels(full(structures, **more))
    raw = {key: np.asarray(value) for key, value in model.predict_on_batch(inputs).items()}
    for key, value in raw.items():
        assert np.all(np.isfinite(value)), key
        one = np.concatenate([np.atleast_1d(item[key]) for item in expected])
        np.testing.assert_allclose(value[: len(one)], one, **EXACT, err_msg=key)
    np.testing.assert_array_equal(raw["forces"][12:], 0.0)


@pytest.mark.eager
def test_attention_follows_the_order_of_atoms_and_ignores_company(model):
    graph = edges(molecule(6))
    if type(model).__name__ in WITHOUT_ATTENTION:
        with pytest.raises(ValueError, match="has no attention"):
            model.attention(graph)
        return
    order = np.asarray([3, 0, 5, 1, 4, 2])
    shuffled = moved(graph, **{k: graph[k][order] for k in ("positions", "atomic_numbers")})
    both = split(join([edges(molecule(3, seed=6)), graph]))[1]
    expected, turned = model.attention(graph), model.attention(edges(shuffled))
    beside = model.attention(both)
    assert expected
    for name, coefficients in expected.items():
        assert coefficients.shape[-2:] == (6, 6)
        assert np.abs(coefficients).max() > 0.0
        permuted = coefficients[..., order, :][..., order]
        np.testing.assert_allclose(turned[name], permuted, **EXACT, err_msg=name)
        np.testing.assert_allclose(beside[name], coefficients, **EXACT, err_msg=name)


def test_an_atom_alone_in_its_batch_has_no_forces(model):
    """The batch has no edge at all."""
    predicted = model.predict(structure([[0.3, -0.1, 2.0]], [8]))
    np.testing.assert_array_equal(predicted["forces"], np.zeros((1, 3)))
    expected = predict(model, [structure([[0.0, 0.0, 0.0]], [8])])[0]
    np.testing.assert_allclose(predicted["energy"][0], expected["energy"], **EXACT)


def test_energies_of_far_copies_add_up(model):
    if not model.is_size_consistent:
        pytest.skip("its documentation says that they do not")
    one = molecule(5)
    positions = np.concatenate([one["positions"], one["positions"] + [100.0, 0.0, 0.0]])
    two = structure(positions, np.tile(one["atomic_numbers"], 2))
    first, both = predict(model, [one, two])
    np.testing.assert_allclose(both["energy"], 2.0 * first["energy"], **EXACT)
    np.testing.assert_allclose(both["forces"], np.tile(first["forces"], (2, 1)), **EXACT)


# ----- derivatives


@pytest.mark.parametrize("start", [molecule(5), crystal()], ids=["molecule", "crystal"])
def test_forces_are_minus_the_gradient(model, start):
    if "cell" in start:
        need_crystals(model)
    step = 1e-4  # error: step² times the third derivative, and 1e-16 / step
    base = start["positions"]
    displaced = []
    for place in np.ndindex(base.shape):
        for sign in (1, -1):
            positions = base.copy()
            positions[place] += sign * step
            displaced.append(moved(start, positions=positions))
    here, *there = predict(model, [start, *displaced])
    energies = np.asarray([item["energy"] for item in there]).reshape(*base.shape, 2)
    forces = -(energies[..., 0] - energies[..., 1]) / (2 * step)
    # a small component is the difference of large ones
    atol = 1e-7 + 1e-6 * np.abs(forces).max()
    np.testing.assert_allclose(here["forces"], forces, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("pbc", [True, [True, False, True]], ids=["crystal", "slab"])
def test_stress_is_the_gradient_by_strain(model, pbc):
    """Positive when stretched, and symmetric: both elements of a shear are strained at once."""
    need_crystals(model)
    start, step = crystal(pbc), 1e-5
    pairs = [(i, j) for i in range(3) for j in range(i + 1)]
    strained = []
    for i, j in pairs:
        for sign in (1, -1):
            matrix = np.eye(3)
            matrix[i, j] += sign * step / 2
            matrix[j, i] += sign * step / 2
            strained.append(
                moved(start, positions=start["positions"] @ matrix, cell=start["cell"] @ matrix)
            )
    here, *there = predict(model, [start, *strained])
    energies = np.asarray([item["energy"] for item in there]).reshape(-1, 2)
    slopes = (energies[:, 0] - energies[:, 1]) / (2 * step)
    volume = abs(np.linalg.det(start["cell"][0]))
    assert np.abs(here["stress"]).max() > 1e-6
    np.testing.assert_allclose(here["stress"], here["stress"].T, rtol=1e-12, atol=1e-15)
    for (i, j), slope in zip(pairs, slopes, strict=True):
        np.testing.assert_allclose(here["stress"][i, j], slope / volume, rtol=1e-5, atol=1e-9)


def test_nothing_jumps_at_the_cutoff(model):
    """An atom leaves the reach of the others; energy, forces, and more if promised, go on."""
    base = np.asarray([[0.0, 0.0, 0.0], [-0.9, 0.4, 0.1], [CUTOFF, 0.0, 0.0]])
    step = 1e-4
    # twice two points on each side, and a stretch that shows what a change looks like
    offsets = np.asarray([-2 * step, -1e-9, 1e-9, 2 * step, -1.2, -0.8, -0.4])
    scan = [
        structure(np.add(base, [[0, 0, 0], [0, 0, 0], [offset, 0, 0]]), [6, 1, 8])
        for offset in offsets
    ]
    predicted = predict(model, scan)
    energies = np.asarray([item["energy"] for item in predicted])
    forces = np.asarray([item["forces"] for item in predicted])
    assert np.ptp(energies) > 1e-5, "the scan must see an interaction"
    assert abs(energies[2] - energies[1]) < 1e-8 * np.ptp(energies) + 1e-12
    assert np.abs(forces[2] - forces[1]).max() < 1e-7 * np.abs(forces).max() + 1e-11
    if model.num_continuous_derivatives >= 2:
        left = (forces[1] - forces[0]) / (2 * step)
        right = (forces[3] - forces[2]) / (2 * step)
        slopes = np.abs(np.diff(forces[4:], axis=0)).max() / 0.4
        assert np.abs(left - right).max() < 0.05 * slopes + 1e-9


def test_symmetric_molecules_have_symmetric_forces(model):
    molecules = symmetric_molecules()
    results = predict(model, list(molecules.values()))
    predicted = dict(zip(molecules, results, strict=True))
    for label, item in predicted.items():
        assert all(np.all(np.isfinite(value)) for value in item.values()), label
        np.testing.assert_allclose(item["forces"].sum(axis=0), 0.0, atol=1e-10, err_msg=label)
    # by symmetry the carbons of CO2 and methane feel nothing, and linear molecules no bending
    np.testing.assert_allclose(predicted["CO2"]["forces"][0], 0.0, atol=1e-10)
    np.testing.assert_allclose(predicted["CO2"]["forces"][:, 1:], 0.0, atol=1e-10)
    np.testing.assert_allclose(predicted["N2"]["forces"][:, :2], 0.0, atol=1e-10)
    np.testing.assert_allclose(predicted["methane"]["forces"][0], 0.0, atol=1e-10)
    np.testing.assert_allclose(predicted["benzene"]["forces"][:, 2], 0.0, atol=1e-10)
    sizes_ = np.linalg.norm(predicted["benzene"]["forces"], axis=1).reshape(2, 6)
    np.testing.assert_allclose(sizes_, sizes_[:, :1] * np.ones(6), atol=1e-9)


# ----- training


@pytest.fixture(scope="module")
def trainee(name):
    """A model of its own, whose training step all tests share: it compiles for long."""
    model = build(name)
    model.compile(
        keras.optimizers.Adam(1e-2),
        loss={"energy": "mse", "forces": "mse"},
        jit_compile=keras.backend.backend() == "jax",
    )
    model.run_eagerly = False
    return model


def training_batch(model, structures):
    """Labels structures with what an unrelated function gives, in one shape."""
    graphs = []
    for item in structures:
        graph = item if model.uses_triplets else without_triplets(item)
        positions = item["positions"] - item["positions"].mean(axis=0)
        energy = 0.05 * np.sum(positions**2)
        graphs.append({**graph, "energy": np.asarray([energy]), "forces": -0.1 * positions})
    budget = Budget(6, 32, 200, 1600 if model.uses_triplets else 0, 12)
    return inputs_and_labels(pack(graphs, budget))


def test_training_on_symmetric_molecules_stays_finite(trainee):
    """The gradient of a force loss differentiates roots and angles twice, also where they are 0."""
    start = trainee.get_weights()
    structures = [edges(item) for item in symmetric_molecules().values()]
    inputs, labels = training_batch(trainee, structures)
    for _ in range(2):
        logs = trainee.train_on_batch(inputs, labels, return_dict=True)
        assert np.isfinite(logs["loss"])
    for variable in trainee.trainable_variables:
        assert np.all(np.isfinite(keras.ops.convert_to_numpy(variable))), variable.path
    trainee.set_weights(start)


@pytest.mark.eager
def test_weights_learn_from_stress_by_its_gradient(name):
    """What one step of size one subtracts is the slope of the loss, along a random direction."""
    model = build(name)
    need_crystals(model)
    graphs = [edges(crystal())]
    graphs = graphs if model.uses_triplets else [without_triplets(graph) for graph in graphs]
    target = np.diag([0.2, -0.1, 0.3]) + 0.05
    labeled = [{**graph, "stress": target[None]} for graph in graphs]
    model.compile(keras.optimizers.SGD(1.0), loss={"stress": "mse"}, jit_compile=False)
    model.run_eagerly = True
    start = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    random = np.random.default_rng(8)
    direction = [random.normal(size=array.shape) * 0.1 for array in start]

    def loss_at(step):
        moved_to = [array + step * change for array, change in zip(start, direction, strict=True)]
        model.assign_weights(list(zip(model.trainable_variables, moved_to, strict=True)))
        return np.mean((model.predict(graphs)["stress"][0] - target) ** 2)

    step = 1e-5
    slope = (loss_at(step) - loss_at(-step)) / (2 * step)
    loss_at(0.0)
    model.train_on_batch(*inputs_and_labels(pack(labeled, BUDGET)))
    after = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    gradient = sum(np.sum((a - b) * d) for a, b, d in zip(start, after, direction, strict=True))
    assert abs(slope) > 1e-8
    np.testing.assert_allclose(gradient, slope, rtol=1e-5)


@pytest.mark.eager
def test_repulsion_of_nuclei_is_added_to_any_architecture(name, model):
    pair = [structure([[0.0, 0.0, 0.0], [0.6, 0.2, 0.1]], [8, 6])]
    repelling = build(name, zbl=True)
    added = predict(repelling, pair)[0]["energy"] - predict(model, pair)[0]["energy"]
    expected = ZBLRepulsion(1.0)(inputs_and_labels(pack([edges(pair[0])], BUDGET))[0])
    total = np.sum(keras.ops.convert_to_numpy(expected))
    np.testing.assert_allclose(added, total, rtol=1e-6)  # this layer alone is in float32


@pytest.mark.eager
def test_elements_can_have_factors_and_terms_in_any_architecture(name, model):
    affine = build(name, element_affine=True)
    own = affine.element_affine
    copy_weights(model, affine, own.weights)
    water = [molecule(5, seed=6)]
    elements = water[0]["atomic_numbers"]
    plain = predict(model, water)[0]
    ones = np.ones(own.factors.shape)
    fresh = ElementAffine()
    fresh.build()
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(fresh.factors), ones)
    affine.assign_weights([(own.factors, ones), (own.terms, 0.0 * ones)])
    assert_same(predict(affine, water)[0], plain)
    random = np.random.default_rng(3)
    factors, terms = (random.normal(size=own.terms.shape) for _ in range(2))
    affine.assign_weights([(own.factors, factors), (own.terms, terms)])
    (head,) = affine.heads
    atomic = plain["atomic_energies"] * factors[elements] + head.scale * terms[elements]
    found = predict(affine, water)[0]
    np.testing.assert_allclose(found["atomic_energies"], atomic, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found["energy"], atomic.sum(), rtol=1e-10)
    again = type(affine).from_config(json.loads(json.dumps(affine.get_config())))
    assert [w.shape for w in again.weights] == [w.shape for w in affine.weights]


@pytest.mark.eager
def test_charge_and_spin_can_be_told_to_any_architecture(name, model):
    """Each state has its own energy and forces; a neutral singlet has those of the bare model."""
    own_mode = name == "CMRET"  # of its paper, not zero for neutral singlets
    informed = build(name, charge_spin="invariant_qs" if own_mode else True)
    if not own_mode:
        copy_weights(model, informed, informed.charge_spin.weights)
    start = molecule(5, seed=6)
    states = [
        start | {"total_charge": np.asarray([charge]), "spin_multiplicity": np.asarray([spin])}
        for charge, spin in [(0.0, 1), (1.0, 1), (-1.0, 1), (0.0, 3)]
    ]
    step = 1e-4
    line = np.random.default_rng(2).normal(size=start["positions"].shape)
    displaced = [
        moved(state, positions=start["positions"] + sign * step * line)
        for state in states
        for sign in (1, -1)
    ]
    together = predict(informed, states + displaced)
    here, there = together[: len(states)], together[len(states) :]
    if not own_mode:
        assert_same(here[0], predict(model, states[:1])[0])
    for index in range(len(states)):
        for other in here[:index]:
            assert abs(here[index]["energy"] - other["energy"]) > 1e-6
            assert np.abs(here[index]["forces"] - other["forces"]).max() > 1e-6
        slope = (there[2 * index]["energy"] - there[2 * index + 1]["energy"]) / (2 * step)
        along = -np.sum(here[index]["forces"] * line)
        np.testing.assert_allclose(along, slope, rtol=1e-5, atol=1e-6)
    assert_same(predict(informed, states[1:2])[0], here[1])
    assert not informed.is_size_consistent
    again = type(informed).from_config(json.loads(json.dumps(informed.get_config())))
    assert [w.shape for w in again.weights] == [w.shape for w in informed.weights]


def test_four_frames_can_be_learned_by_heart(trainee):
    frames = [molecule(5, seed=4)]
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(size=(5, 3)) * 0.1
        frames.append(moved(frames[0], positions=frames[0]["positions"] + noise))
    inputs, labels = training_batch(trainee, [edges(frame) for frame in frames])
    logs = []
    for _ in range(80):
        trainee.reset_metrics()
        logs.append(trainee.train_on_batch(inputs, labels, return_dict=True)["loss"])
    assert min(logs[-10:]) < 0.2 * logs[0]


# ----- precision, offsets, files


@pytest.mark.eager
def test_float32_agrees_with_float64(name, model):
    single = build(name, dtype="float32")
    single.set_weights(model.get_weights())
    structures = [molecule(n, seed=n) for n in (1, 5, 9)]
    for got, expected in zip(predict(single, structures), predict(model, structures), strict=True):
        assert got["forces"].dtype == np.float32
        assert got["energy"].dtype == np.float64
        # 1e-7 per operation, some hundred operations
        assert_same(got, expected, rtol=1e-4, atol=2e-5)


def test_references_of_elements_are_added_exactly(model):
    structures = [molecule(n, seed=n) for n in (1, 5, 9)]
    before = predict(model, structures)
    references = {1: -13.6, 6: -1036.25, 7: -1485.5, 8: -2041.75, 17: -12520.125}
    head = next(head for head in model.heads if head.name == "energy")
    head.references, head.shift = references, 0.5
    try:
        after = predict(model, structures)
    finally:
        head.references, head.shift = {}, 0.0
    for graph, old, new in zip(structures, before, after, strict=True):
        table = np.asarray([references[z] for z in graph["atomic_numbers"].tolist()])
        np.testing.assert_allclose(new["energy"], old["energy"] + table.sum() + 0.5, rtol=1e-14)
        atomic = old["atomic_energies"] + table
        np.testing.assert_allclose(new["atomic_energies"], atomic, rtol=1e-14)
        np.testing.assert_array_equal(new["forces"], old["forces"])


def test_every_element_has_an_energy(model):
    numbers = np.arange(1, 119)
    pairs = [structure([[0, 0, 0], [0, 0.3, 1.6]], [z, 6]) for z in numbers]
    predicted = predict(model, pairs)
    assert np.all(np.isfinite([item["energy"] for item in predicted]))
    assert np.all(np.isfinite([item["forces"] for item in predicted]))


def test_a_saved_model_comes_back(model, tmp_path):
    structures = [molecule(6, seed=6)]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (ours, theirs)), ours.path)
    loaded.run_eagerly = model.run_eagerly
    assert_same(*(predict(one, structures)[0] for one in (loaded, model)), rtol=1e-14)


def stored_structures():
    charged = molecule(6, seed=8, total_charge=1.0, spin_multiplicity=2)
    return [molecule(5, seed=4), charged, symmetric_molecules()["methane"]]


def test_stored_weights_give_the_same_numbers_on_every_backend(name):
    """The files were written on one backend; this test reads them on each."""
    if not (GOLDEN / f"{name}.weights.h5").exists():
        pytest.fail(f"Write the files: python {Path(__file__).name} {name}")
    model = build(name)
    model.load_weights(GOLDEN / f"{name}.weights.h5")
    stored = json.loads((GOLDEN / f"{name}.json").read_text())
    for got, expected in zip(predict(model, stored_structures()), stored, strict=True):
        np.testing.assert_allclose(got["energy"], expected["energy"], rtol=1e-10)
        np.testing.assert_allclose(got["forces"], expected["forces"], rtol=1e-10, atol=1e-12)


def write_stored(name):
    model = build(name)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    model.save_weights(GOLDEN / f"{name}.weights.h5")
    kept = [
        {key: item[key].tolist() for key in ("energy", "forces")}
        for item in predict(model, stored_structures())
    ]
    (GOLDEN / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    print(f"writing with {keras.backend.backend()}, COMPILES={backend.COMPILES}")
    for argument in sys.argv[1:]:
        write_stored(argument)
