"""What the variants of AlphaNet promise, and where those kept for comparison must fail."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_mlff.graph import inputs_and_labels, structure
from keras_mlff.models.alphanet import frames
from keras_mlff.models.alphanet.model import AlphaNet
from keras_mlff.models.alphanet.phase import TemporalConnection
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.budget import Budget, pack
from keras_mlff.packing.loader import GraphLoader

GOLDEN = Path(__file__).parents[2] / "golden/alphanet"
pytestmark = pytest.mark.usefixtures("float64")
SMALL = {
    "num_features": 16,
    "num_layers": 2,
    "cutoff": 4.0,
    "num_heads": 4,
    "chi_features": 24,
    "chi_outputs": 3,
    "num_phases": 5,
    "state_features": 6,
    "dtype": "float64",
}
# golden vectors hold the faithful variants on JAX too
VARIANTS = ["smooth", *(pytest.param(name, marks=pytest.mark.once) for name in ("v2", "v1", "p"))]
BUDGET = Budget(num_graphs=6, num_atoms=72, num_edges=1400, num_triplets=0, max_atoms=16)


def read(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def models():
    made = {"smooth": AlphaNet(**SMALL)}
    for variant in ("p", "v1", "v2"):
        hyperparameters = json.loads((GOLDEN / f"{variant}_hparams.json").read_text())
        made[variant] = AlphaNet.from_port(hyperparameters, read(f"{variant}_weights"))
    for model in made.values():
        model.run_eagerly = keras.backend.backend() != "jax"
    return made


def predict(model, structures):
    graphs = [add_edges(item, model.cutoff) for item in structures]
    return model.predict(GraphLoader(graphs, budget=BUDGET))


def graphene():
    golden = read("v2_bilayer_graphene16")
    return golden["pos"], golden["z"], golden["cell"]


def rotation():
    matrix, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_later_variants_are_blind_to_orientation_and_wrapping(models, variant):
    positions, numbers, cell = graphene()
    turned = positions @ rotation(), cell @ rotation()
    wrapped = positions + np.arange(16)[:, None] % 3 @ np.ones((1, 3)) @ cell
    energy = predict(
        models[variant],
        [
            structure(positions, numbers, cell=cell),
            structure(turned[0], numbers, cell=turned[1]),
            structure(wrapped, numbers, cell=cell),
        ],
    )["energy"]
    differences = np.abs(energy[1:] - energy[0])
    if variant in ("smooth", "v2"):
        assert np.all(differences < 1e-11)
    else:  # faithful to the authors' program, which sums absolute values of components
        assert differences[0] > 1e-2
        assert differences[1] > 1e-6


@pytest.mark.parametrize("variant", VARIANTS[:2])
def test_symmetries_hold_to_rounding(models, variant):
    """Twelve digits of what is added up, beyond the ten that the contract asks for."""
    start, cell = copper()["positions"], np.eye(3) * 3.61
    start = start + np.random.default_rng(4).normal(size=(4, 3)) * 0.1
    numbers, matrix, order = np.asarray([29, 8, 6, 1]), rotation(), np.asarray([2, 0, 3, 1])
    double = np.concatenate([start, start + cell[1]])
    shifted = start + np.asarray([[0], [1], [0], [0]]) * cell[2]
    predicted = predict(
        models[variant],
        [
            structure(start, numbers, cell=cell),
            structure(start @ matrix, numbers, cell=cell @ matrix),
            structure(-start, numbers, cell=-cell),
            structure(start[order], numbers[order], cell=cell),
            structure(shifted, numbers, cell=cell),
            structure(double, np.tile(numbers, 2), cell=cell * [[1], [2], [1]]),
        ],
    )
    energies = predicted["energy"] / [1, 1, 1, 1, 1, 2]
    scale = np.abs(predicted["atomic_energies"]).max()
    np.testing.assert_allclose(energies, energies[0], rtol=0, atol=1e-12 * scale)
    forces = np.split(predicted["forces"], [4, 8, 12, 16, 20])
    back = [forces[1] @ matrix.T, -forces[2], forces[3][np.argsort(order)], forces[4]]
    for got in (*back, forces[5][:4], forces[5][4:]):
        np.testing.assert_allclose(got, forces[0], rtol=0, atol=1e-12 * np.abs(forces[0]).max())


@pytest.mark.parametrize("variant", VARIANTS[:2])
def test_forces_and_stress_are_derivatives_to_eight_digits(models, variant):
    """Central differences of fourth order: their error is step⁴ times the fifth derivative."""
    positions, numbers, cell = graphene()
    random, step = np.random.default_rng(6), 1e-3
    direction, strain = random.normal(size=positions.shape), random.normal(size=(3, 3))
    strain = 0.1 * (strain + strain.T)
    scan = [structure(positions, numbers, cell=cell)]
    for factor in (-2, -1, 1, 2):
        scan.append(structure(positions + factor * step * direction, numbers, cell=cell))
    for factor in (-2, -1, 1, 2):
        change = np.eye(3) + factor * step * strain
        scan.append(structure(positions @ change, numbers, cell=cell @ change))
    predicted = [predict(models[variant], scan[first : first + 3]) for first in (0, 3, 6)]
    energies = np.concatenate([item["energy"] for item in predicted])
    weights = np.asarray([1, -8, 8, -1]) / (12 * step)
    force = -np.sum(predicted[0]["forces"][:16] * direction)
    stress = np.sum(predicted[0]["stress"][0] * strain) * abs(np.linalg.det(cell))
    np.testing.assert_allclose(weights @ energies[1:5], force, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(weights @ energies[5:], stress, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_the_smooth_variant_is_continuous_at_the_cutoff(models, variant):
    """The third of three atoms leaves the first; beyond the work of the forces is the jump."""
    cutoff, step = 4.0, 1e-4
    predicted = predict(
        models[variant],
        [
            structure([[0, 0, 0], [1.5, 0.4, 0], [cutoff + offset, 0.0, 0.0]], [8, 6, 1])
            for offset in (-step, step)
        ],
    )
    force = predicted["forces"].reshape(2, 3, 3)[:, 2, 0]
    jump = abs(np.diff(predicted["energy"])[0] + step * force.sum())
    if variant == "smooth":
        assert jump < 1e-10
    else:
        assert jump > 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_squares_let_planar_molecules_bend_smoothly(models, variant):
    """Without kinks, forces out of the plane are proportional to the displacement."""
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], axis=1)
    benzene = np.concatenate([1.39 * ring, 2.48 * ring])
    moved = []
    for step in (0.0, 1e-6, 1e-5):
        positions = benzene.copy()
        positions[0, 2] += step
        moved.append(structure(positions, [6] * 6 + [1] * 6))
    forces = predict(models[variant], moved)["forces"].reshape(3, 12, 3)[:, 0, 2]
    if variant in ("smooth", "v2"):
        assert abs(forces[0]) < 1e-12
        assert abs(forces[2]) > 1e-12
        np.testing.assert_allclose(forces[2], 10.0 * forces[1], rtol=1e-3)
    else:  # faithful: absolute values have a corner there
        assert abs(forces[1]) > 1e-4
        np.testing.assert_allclose(forces[2], forces[1], rtol=0.1)


def copper():
    places = np.asarray([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 1.805
    return structure(places, [29] * 4, cell=np.eye(3) * 3.61)


@pytest.mark.once
def test_what_cuts_has_no_continuous_derivatives(models):
    tiny = {**SMALL, "num_layers": 1}  # models take long to make
    smooth = AlphaNet(**tiny, variant={"cutoff_function": "smooth"})
    assert models["smooth"].num_continuous_derivatives == 2
    assert smooth.num_continuous_derivatives > 2
    assert models["v2"].num_continuous_derivatives == 0
    for sharp in ({"max_num_neighbors": 9}, {"normalized_frame": True}):
        assert AlphaNet(**tiny, variant=sharp).num_continuous_derivatives == 0


def test_a_perfect_crystal_has_no_forces(models):
    assert np.abs(predict(models["smooth"], [copper()])["forces"]).max() < 1e-10


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="quickest where nothing is compiled")
@pytest.mark.parametrize("cutoff", [3.61, 6.0])
def test_only_a_limit_of_neighbors_cuts_shells_in_two(cutoff):
    """fcc copper has 78 neighbors within 6 Å, of which two variants see 50; 3.61 Å is a shell."""
    for variant in ("smooth", "v2", "v1", "p"):
        model = AlphaNet(**{**SMALL, "cutoff": cutoff}, variant=variant)
        model.run_eagerly = True
        largest = np.abs(predict(model, [copper()])["forces"]).max()
        if variant in ("v1", "p") and cutoff == 6.0:
            assert largest > 1e-5
        else:
            assert largest < 1e-10


def test_the_nearest_edges_are_chosen():
    random = np.random.default_rng(0)
    positions = random.normal(size=(9, 3)) * 2.0
    graph = add_edges(structure(positions, [6] * 9), 4.0)
    receivers = graph["receivers"]
    lengths = np.linalg.norm(positions[graph["senders"]] - positions[receivers], axis=1)
    inputs = {key: ops.convert_to_tensor(value) for key, value in graph.items()}
    kept = frames.nearest(ops.convert_to_tensor(lengths), inputs, 3)
    expected = np.zeros(len(lengths), bool)
    for atom in range(9):
        edges = np.flatnonzero(receivers == atom)
        expected[edges[np.argsort(lengths[edges])[:3]]] = True
    np.testing.assert_array_equal(ops.convert_to_numpy(kept), expected)


def test_a_limit_of_neighbors_equals_a_graph_without_the_others(models):
    nearest = dataclasses.replace(AlphaNet.VARIANTS["v1"], max_num_neighbors=3)
    model = AlphaNet(**SMALL, variant=nearest)
    model.run_eagerly = keras.backend.backend() != "jax"
    every = AlphaNet(**SMALL, variant="v1")
    every.run_eagerly = model.run_eagerly
    every.set_weights(model.get_weights())
    positions = np.random.default_rng(1).normal(size=(8, 3)) * 2.0
    graph = add_edges(structure(positions, [6, 1, 8, 1, 7, 6, 1, 1]), 4.0)
    vectors = positions[graph["senders"]] - positions[graph["receivers"]]
    lengths = np.linalg.norm(vectors, axis=1)
    ranks = [
        np.sum(lengths[graph["receivers"] == receiver] < length)
        for receiver, length in zip(graph["receivers"], lengths, strict=True)
    ]
    kept = np.asarray(ranks) < 3
    few = {
        key: value[kept] if key in ("senders", "receivers", "edge_mask") else value
        for key, value in graph.items()
    }
    assert not kept.all()
    capped = model.predict(GraphLoader([graph], budget=BUDGET))
    expected = every.predict(GraphLoader([few], budget=BUDGET))
    np.testing.assert_allclose(capped["energy"], expected["energy"], rtol=1e-12)
    np.testing.assert_allclose(capped["forces"], expected["forces"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"variant": {"phase": "cos_sin"}},
        {"variant": {"reduce": "mean"}},
        {"variant": {"message_norm": "phases"}},
        {"variant": {"message_norm": "none"}},
        {"without": ["phase"]},
        {"without": ["rotation", "frame_transition"]},
        {"variant": {"normalized_frame": True}},
        {"variant": {"cutoff_function": "cosine", "max_num_neighbors": 4}},
        {"dropout": 0.5},
    ],
    ids=str,
)
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="would compile for minutes")
def test_options_give_finite_numbers_and_train(options):
    model = AlphaNet(**SMALL, **options)
    model.compile(keras.optimizers.Adam(1e-3), loss={"energy": "mse", "forces": "mse"})
    labels = {"energy": 1.0, "forces": np.zeros((3, 3))}
    water = structure([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], [8, 1, 1], **labels)
    collinear = structure([[0, 0, 0], [1.16, 0, 0], [-1.16, 0, 0]], [6, 8, 8], **labels)
    batch = pack([add_edges(item, 4.0) for item in (water, collinear)], Budget(3, 8, 20, 0, 3))
    logs = model.train_on_batch(*inputs_and_labels(batch), return_dict=True)
    assert np.isfinite(logs["loss"])
    for variable in model.trainable_variables:
        assert np.all(np.isfinite(ops.convert_to_numpy(variable))), variable.path
    predicted = model.predict([water, collinear])
    assert np.all(np.isfinite(predicted["energy"]))
    assert np.all(np.isfinite(predicted["forces"]))


def test_means_have_no_kink_where_one_neighbor_is_left():
    """At half the cutoff the cosines of two neighbors add up to one."""
    model = AlphaNet(**SMALL, variant={"reduce": "mean", "cutoff_function": "cosine"})
    model.run_eagerly = keras.backend.backend() != "jax"
    scan = [structure([[0, 0, 0], [d, 0, 0], [-d, 0, 0]], [8, 1, 1]) for d in (2 - 1e-7, 2 + 1e-7)]
    left, right = model.predict(scan)["forces"].reshape(2, 3, 3)
    np.testing.assert_allclose(left, right, atol=1e-5)


def test_the_state_takes_room_to_turn_around():
    # along a line through zero its numbers change sign, which must not happen at one point
    layer = TemporalConnection()
    random = np.random.default_rng(0)
    features, state = random.normal(size=(1, 6)), random.normal(size=(1, 8))
    layer.build(features.shape, state.shape)
    before, after = (
        ops.convert_to_numpy(
            layer(ops.convert_to_tensor(t * features), ops.convert_to_tensor(state))
        )
        for t in (-1e-3, 1e-3)
    )
    slopes = np.abs(after - before) / 2e-3
    assert 1.0 < slopes.max() < 50.0


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"variant": "p"}, 2_327_725),
        ({"variant": "p", "num_features": 196, "num_layers": 4, "cutoff": 6.0}, 6_278_312),
        ({"variant": "v1"}, 2_113_717),
        ({"variant": "v1", "num_features": 256}, 7_132_693),
        ({"variant": "v1", "num_features": 176, "num_layers": 4}, 4_836_615),
    ],
    ids=["p", "p OC2M", "v1", "v1 wide", "v1 MPtrj"],
)
def test_as_many_parameters_as_the_reference(options, expected):
    """But two tensors per layer that it never reads, and a, b by element, which heads have."""
    variant = dataclasses.replace(AlphaNet.VARIANTS[options["variant"]], num_embeddings=95)
    model = AlphaNet(**options | {"variant": variant})
    unread = model.num_layers * (24**2 + 24 * model.num_features + model.num_features)
    assert model.count_params() == expected - unread - 2 * 108


def test_what_is_not_offered_is_refused():
    hyperparameters = json.loads((GOLDEN / "v1_hparams.json").read_text())
    weights = {key.removeprefix("w:"): value for key, value in read("v1_weights").items()}
    for change in ({"use_sigmoid": True}, {"readout": "mean"}, {"surprise": 1}):
        with pytest.raises(ValueError, match="AlphaNet program"):
            AlphaNet.from_port(hyperparameters | change, weights)
    with pytest.raises(ValueError, match="no place in the network"):
        AlphaNet.from_port(hyperparameters, weights | {"surprise": np.zeros(3)})
    with pytest.raises(ValueError, match=r"without=\['phase'\]"):
        AlphaNet.from_port(hyperparameters, weights, without=["phase", "rotation"])
    # weights and hyper-parameters of different variants
    with pytest.raises(ValueError, match="no place in the network"):
        AlphaNet.from_port(hyperparameters, weights, variant="p")
    frequencies = weights.pop("radial_emb.bessel_weights")
    with pytest.raises(ValueError, match="is missing"):
        AlphaNet.from_port(hyperparameters | {"variant": "v1"}, weights)
    weights["radial_emb.bessel_weights"] = frequencies
    for variant in ("v3", {"frames": "edge_mean"}, {"frame": "mean"}):
        with pytest.raises(ValueError, match=r"Unknown .*(smooth.*v2|frame.*measure|edge_mean)"):
            AlphaNet(variant=variant)
    with pytest.raises(TypeError, match="A variant is a name"):
        AlphaNet(variant=2)
    for parts in ("phase", ["phases"]):
        with pytest.raises(ValueError, match=r"Choose from \['phase', 'rotation'"):
            AlphaNet(without=parts)
    with pytest.raises(ValueError, match="at least one"):
        AlphaNet(num_heads=0)
    for number in (0, "all"):
        with pytest.raises(ValueError, match="max_num_neighbors"):
            AlphaNet(variant={"max_num_neighbors": number})
    with pytest.raises(ValueError, match="even"):
        AlphaNet(num_features=17)
    with pytest.raises(ValueError, match="divisible"):
        AlphaNet(chi_features=50)


OLD = {
    **SMALL,
    **{"variant": "v1", "radial_basis": None, "frame": None, "measure": None, "phase": "sin"},
    **{"max_num_neighbors": "variant", "epsilon": 1e-8, "norm_epsilon": 1e-5, "use_phase": True},
    **{"use_rotation": False, "softening": 0.1, "num_embeddings": 95, "reduce": "sum"},
}


@pytest.mark.parametrize(
    ("changed", "limit"), [({}, 50), ({"max_num_neighbors": None}, None), ({"variant": "p"}, 50)]
)
def test_configs_of_earlier_versions_are_understood(changed, limit):
    """There each switch was an argument of its own, and `None` what the variant says."""
    old = OLD | changed
    named = AlphaNet.VARIANTS[old["variant"]]
    today = AlphaNet.upgrade_config(old)
    model = AlphaNet.from_config(old)
    assert model.without == ("rotation",)
    assert model.variant == dataclasses.replace(
        named,
        **{"phase": "sin", "max_num_neighbors": limit, "epsilon": 1e-8, "softening": 0.1},
        num_embeddings=95,
    )
    assert AlphaNet.upgrade_config(today) == today
    again = AlphaNet.from_config(json.loads(json.dumps(model.get_config())))
    assert again.get_config() == model.get_config()
