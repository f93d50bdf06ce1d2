"""What is special about So3krates; what holds for all architectures is in test_contract."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_mlff import models
from keras_mlff.bench import systems
from keras_mlff.graph import structure
from keras_mlff.layers import radial
from keras_mlff.layers.charge_spin import ChargeSpinEmbedding
from keras_mlff.models.so3krates.pair_filters import ParallelPerceptrons
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.budget import Budget
from keras_mlff.packing.loader import GraphLoader
from tests.models.formulas import arguments_of, central_forces

SMALL = {"num_features": 12, "num_layers": 2, "num_heads": 2, "num_radial": 8, "cutoff": 4.0}
BUDGET = Budget(num_graphs=8, num_atoms=64, num_edges=320, num_triplets=0, max_atoms=9)
EXACT = {"rtol": 1e-11, "atol": 1e-13}


def build(**kwargs):
    """Makes a small model in float64, all weights moved off their start.

    Fields of the variant may stand among the arguments.
    """
    keras.utils.set_random_seed(1)
    arguments = {"radial_hidden": (16,), "spherical_hidden": (8,), "dtype": "float64"}
    model = models.So3krates(**arguments_of(models.So3krates, SMALL | arguments | kwargs))
    random = np.random.default_rng(2)
    model.assign_weights(
        [
            (v, keras.ops.convert_to_numpy(v) + random.normal(size=v.shape) * 0.15)
            for v in model.trainable_variables
        ]
    )
    model.run_eagerly = keras.backend.backend() != "jax"
    return model


def predict(model, structures):
    """Predicts in batches of one shape: energies, and the forces of each structure."""
    graphs = [add_edges(item, model.cutoff) for item in structures]
    predicted = model.predict(GraphLoader(graphs, budget=BUDGET))
    bounds = np.cumsum([len(graph["positions"]) for graph in graphs])[:-1]
    return predicted["energy"], np.split(predicted["forces"], bounds)


def water(**kwargs):
    return structure([[0, 0, 0.12], [0, 0.76, -0.48], [0.1, -0.76, -0.48]], [8, 1, 1], **kwargs)


def chiral():
    """Four different neighbors around an atom: the mirror image is another molecule."""
    positions = [[0, 0, 0], [1, 0.1, 0], [-0.4, 1.1, 0], [-0.3, -0.5, 1.2], [-0.2, -0.6, -1.0]]
    return structure(positions, [6, 1, 9, 8, 7])


def cumulene(angle, num_carbons=5):
    """A rotor: two CH2 groups at the ends of a chain, turned against each other."""
    ends = [0.0, 1.3 * (num_carbons - 1)]
    positions = [[0.0, 0.0, 1.3 * i] for i in range(num_carbons)]
    for end, sign, turn in ((ends[0], -1, 0.0), (ends[1], 1, angle)):
        for side in (1, -1):
            x, y = side * 0.93 * np.cos(turn), side * 0.93 * np.sin(turn)
            positions.append([x, y, end + sign * 0.56])
    return structure(positions, [6] * num_carbons + [1] * 4)


@pytest.fixture(scope="module")
def smooth():
    return build()


@pytest.fixture(scope="module")
def paper():
    return build(variant="paper")


@pytest.fixture(scope="module")
def nonlocal_model():
    return build(variant="paper", nonlocal_=True, cutoff=2.5)


# ----- size


@pytest.mark.parametrize(
    ("arguments", "per_layer"),
    [
        ({}, 114_091),
        ({"degrees": (0, 1, 2, 3)}, 111_964),
        ({"degrees": (1, 2)}, 119_144),
        ({"degrees": (1,)}, 135_829),
        ({"feature_layer_norm": True, "coordinate_layer_norm": True}, 114_625),
        ({"nonlocal_": True}, 114_091),
    ],
)
def test_the_network_has_as_many_weights_as_the_authors(arguments, per_layer):
    """715,435 with six layers, which the paper's table 1 calls 700k."""
    model = models.So3krates(**arguments_of(models.So3krates, {"num_layers": 1, **arguments}))
    assert model.count_params() == 30_889 + per_layer
    assert 30_889 + 6 * 114_091 == 715_435


# ----- symmetry, to rounding


@pytest.mark.parametrize("name", ["smooth", "paper", "nonlocal_model"])
def test_the_frame_and_the_order_of_atoms_change_nothing(name, request):
    model = request.getfixturevalue(name)
    random = np.random.default_rng(0)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    order = random.permutation(5)
    start = chiral()
    positions, numbers = start["positions"], start["atomic_numbers"]
    same = [
        start,
        structure(positions @ turn, numbers),
        structure(positions + np.asarray([3.1, -2.7, 5.3]), numbers),
        structure(positions[order], numbers[order]),
    ]
    energies, forces = predict(model, same)
    back = [forces[1] @ turn.T, forces[2], forces[3][np.argsort(order)]]
    # forces of up to 10 eV/Å, which a step of 1e-15 Å changes by 1e-14
    np.testing.assert_allclose(energies, energies[0], rtol=0.0, atol=1e-12)
    np.testing.assert_allclose(back, [forces[0]] * 3, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", ["smooth", "paper", "nonlocal_model"])
def test_padding_changes_nothing(name, request):
    model = request.getfixturevalue(name)
    energies, forces = predict(model, [chiral()])
    alone = model.predict(chiral())
    assert len(alone["forces"]) == len(forces[0])
    np.testing.assert_allclose(alone["energy"], energies, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(alone["forces"], forces[0], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", ["smooth", "paper"])
def test_forces_are_minus_the_gradient(name, request):
    model = request.getfixturevalue(name)
    start = chiral()

    def energy(positions):
        return predict(model, [{**start, "positions": positions}])[0][0]

    _, forces = predict(model, [start])
    slopes = central_forces(energy, start["positions"])
    np.testing.assert_allclose(forces[0], slopes, rtol=0.0, atol=1e-8)


# ----- the smooth variant


def test_two_atoms_part_without_a_jump(smooth):
    steps = np.asarray([-1e-4, -1e-6, 0.0, 1e-6, 1e-4])
    energies, forces = predict(
        smooth, [structure([[0, 0, 0], [0, 0, 4.0 + step]], [6, 1]) for step in steps]
    )
    assert np.ptp(energies) < 1e-10
    assert np.abs(forces).max() < 1e-7


def test_forces_grow_from_zero_at_symmetric_sites(smooth):
    """The carbon of CO2 feels a spring, not a push that jumps through zero."""
    moves = np.asarray([1e-3, 1e-4, 1e-5, 0.0, -1e-4])
    _, forces = predict(
        smooth,
        [structure([[0, move, 0], [1.16, 0, 0], [-1.16, 0, 0]], [6, 8, 8]) for move in moves],
    )
    pull = np.asarray([force[0, 1] for force in forces])
    assert abs(pull[3]) < 1e-13
    np.testing.assert_allclose(pull[0] / 1e-3, pull[2] / 1e-5, rtol=1e-3)
    np.testing.assert_allclose(pull[1], -pull[4], rtol=1e-8)


# ----- the published variant


def test_published_forces_are_finite_everywhere(paper):
    """At the cutoff, at symmetric sites, and alone."""
    cases = [
        structure([[0, 0, 0]], [6]),
        structure([[0, 0, 0], [0, 0, 4.0]], [6, 1]),
        structure([[0, 0, 0], [0, 0, 4.0 - 1e-8]], [6, 1]),
        structure([[0, 0, 0], [1.16, 0, 0], [-1.16, 0, 0]], [6, 8, 8]),
    ]
    energies, forces = predict(paper, cases)
    assert np.all(np.isfinite(energies))
    assert all(np.all(np.isfinite(force)) for force in forces)


@pytest.mark.parametrize("options", [{}, {"coordinate_layer_norm": True}])
def test_rounding_is_no_direction_at_symmetric_sites(options):
    """Coordinates that vanish by symmetry are 1e-17; lengths divide and are differentiated."""
    model = build(variant="paper", degrees=(0, 1, 2, 3), **options)
    rod = np.asarray([[0, 0, 0], [1.16, 0, 0], [-1.16, 0, 0]])
    turns = [np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0] for seed in range(4)]
    turned = [structure(rod @ turn, [6, 8, 8]) for turn in turns]
    energies, forces = predict(model, turned)
    np.testing.assert_allclose(energies, energies[0], rtol=1e-12)
    assert max(np.abs(force[0]).max() for force in forces) < 1e-10  # of the carbon
    alone, _ = predict(model, turned[:1])
    np.testing.assert_allclose(alone[0], energies[0], rtol=1e-12)


def test_rounding_is_no_direction_between_atoms_in_a_row():
    """Between neighbors on both sides, atoms have no coordinates of degree 1, nor differences."""
    model = build(variant="paper", degrees=(1,), nonlocal_=True, cutoff=2.5)
    turns = [np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0] for seed in range(3)]
    row = np.arange(7.0)[:, None] * [1.279, 0.0, 0.0]
    _, forces = predict(model, [structure(row @ turn, [6] * 7) for turn in turns])
    for turn, force in zip(turns, forces, strict=True):
        sideways = force @ turn.T[:, 1:]
        assert np.abs(sideways).max() < 1e-10 < np.abs(force).max()


def test_the_published_start_is_a_mean_up_to_the_cutoff(paper):
    """A single neighbor counts in full, however near the cutoff it is (eq. 11)."""
    gaps = [1e-2, 1e-5, 1e-7]
    energies, _ = predict(
        paper, [structure([[0, 0, 0], [0, 0, 4.0 - gap]], [6, 1]) for gap in gaps]
    )
    np.testing.assert_allclose(energies, energies[0], rtol=1e-4)
    gone, _ = predict(paper, [structure([[0, 0, 0], [0, 0, 4.1]], [6, 1])])
    assert abs(gone[0] - energies[0]) > 1e-3


def test_only_the_published_couplings_tell_mirror_images_apart(smooth, paper):
    image = chiral()
    image["positions"] = image["positions"] * [1.0, 1.0, -1.0]
    energies, _ = predict(smooth, [chiral(), image])
    assert abs(energies[0] - energies[1]) < 1e-13
    energies, _ = predict(paper, [chiral(), image])
    assert abs(energies[0] - energies[1]) > 1e-9


def test_the_direction_is_a_sign_of_odd_couplings(paper):
    other = build(variant="paper", direction="sender_minus_receiver")
    other.set_weights(paper.get_weights())
    energies, _ = predict(paper, [chiral()])
    changed, _ = predict(other, [chiral()])
    assert abs(energies[0] - changed[0]) > 1e-9
    signs = np.ones((3, 3, 3))
    for out, first, second in np.ndindex(3, 3, 3):
        signs[out, first, second] = (-1.0) ** (out + first + second + 3)
    other.assign_weights(
        [
            (layer.coupling.kappa, keras.ops.convert_to_numpy(layer.coupling.kappa) * signs)
            for layer in other.interactions
        ]
    )
    mended, _ = predict(other, [chiral()])
    np.testing.assert_allclose(mended, energies, **EXACT)


# ----- non-local corrections


def test_only_the_nonlocal_model_sees_the_far_end_turn(nonlocal_model):
    """Neighbors pass on no directions, so the local model is blind, however many layers."""
    local = build(variant="paper", cutoff=2.5, num_layers=4)
    angles = [0.0, 0.4, 1.0, np.pi / 2]
    energies, _ = predict(local, [cumulene(angle) for angle in angles])
    assert np.ptp(energies) < 1e-12
    energies, _ = predict(nonlocal_model, [cumulene(angle) for angle in angles])
    assert np.ptp(energies) > 1e-3


@pytest.mark.parametrize("variant", ["smooth", "paper"])
@pytest.mark.parametrize("degrees", [(1,), (1, 2, 3)])
def test_fresh_nonlocal_models_reach_beyond_the_cutoff(variant, degrees):
    """Where no pair is reached, none has a gradient, and training would never find one."""
    model = build(variant=variant, degrees=degrees, nonlocal_=True, cutoff=2.5, neighbor_scale=0.5)
    matrix = model.inspect(cumulene(0.4))["layer0/nonlocals/attention"][0]
    reached = np.abs(matrix).max(axis=0) > 0.0
    assert 0.1 < reached.mean() < 0.9


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="quickest where nothing is compiled")
@pytest.mark.parametrize("degrees", [(1,), (1, 2, 3)])
def test_fresh_nonlocal_models_of_full_size_are_finite(degrees):
    """Coordinates that start too large grow from layer to layer until they overflow."""
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        model = models.So3krates(degrees=degrees, nonlocal_=True)
        model.run_eagerly = True
        predicted = model.predict(systems.make("ethanol", 1))
        assert np.abs(predicted["energy"]).max() < 10.0
        assert np.abs(predicted["forces"]).max() < 100.0


@pytest.mark.parametrize("variant", ["smooth", "paper"])
def test_a_tiny_limit_overflows_nothing(variant):
    model = build(variant=variant, nonlocal_=1e-9, cutoff=2.5, dtype="float32")
    _, forces = predict(model, [cumulene(0.7)])
    assert np.all(np.isfinite(forces[0]))


def test_without_reach_the_nonlocal_model_is_local(nonlocal_model):
    """All pairs of a table give what edges give: every real pair lies above a tiny limit."""
    none = build(variant="paper", nonlocal_=1e-9, cutoff=2.5)
    local = build(variant="paper", cutoff=2.5)
    structures = [chiral(), water(), cumulene(0.7), structure([[0, 0, 0]], [8])]
    for model in (none, local):
        model.set_weights(nonlocal_model.get_weights())
    energies, forces = predict(local, structures)
    for model in (none, nonlocal_model):
        others, other_forces = predict(model, structures)
        assert others[3] == pytest.approx(energies[3], rel=1e-13)
        if model is none:
            np.testing.assert_allclose(others, energies, **EXACT)
            np.testing.assert_allclose(
                np.concatenate(other_forces), np.concatenate(forces), **EXACT
            )
        else:
            assert abs(others[2] - energies[2]) > 1e-6


def test_company_changes_nothing_in_the_nonlocal_model(nonlocal_model):
    structures = [cumulene(0.3), water(), structure([[0, 0, 0], [0, 0, 9.0]], [1, 8]), chiral()]
    together, forces = predict(nonlocal_model, structures)
    for index, alone in enumerate(structures):
        energy, force = predict(nonlocal_model, [alone])
        np.testing.assert_allclose(energy[0], together[index], **EXACT)
        np.testing.assert_allclose(force[0], forces[index], **EXACT)


def test_nonlocal_forces_are_minus_the_gradient(nonlocal_model):
    start, step = cumulene(0.5), 1e-5
    # off its axis, where norms have no derivative
    start["positions"] = start["positions"] + np.random.default_rng(0).normal(size=(9, 3)) * 0.1
    moves = []
    for atom, sign in ((6, 1), (6, -1), (8, 1), (8, -1)):
        positions = start["positions"].copy()
        positions[atom] += sign * step * np.asarray([0.6, -0.7, 0.2])
        moves.append({**start, "positions": positions})
    energies, forces = predict(nonlocal_model, [*moves, start])
    for place, atom in ((0, 6), (2, 8)):
        slope = (energies[place] - energies[place + 1]) / (2 * step)
        expected = -forces[4][atom] @ np.asarray([0.6, -0.7, 0.2])
        np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-9)


def test_nonlocal_models_refuse_crystals(nonlocal_model):
    assert not nonlocal_model.supports_periodic
    assert not nonlocal_model.is_size_consistent
    with pytest.raises(ValueError, match="a crystal has no end"):
        nonlocal_model.predict(structure([[0, 0, 0]], [6], cell=np.eye(3) * 3.0))
    for limit in ("1/m", 0, -0.1):
        with pytest.raises(ValueError, match="limit above 0"):
            build(nonlocal_=limit)


# ----- options


@pytest.mark.parametrize(
    "options",
    [
        {"spherical_hidden": None},
        {"start": "zeros", "attention_bias": False, "cutoff_function": "smooth"},
        {"degrees": (0,), "radial_hidden": (), "activation": "softplus"},
        {"degrees": (0, 1, 2, 3, 4), "num_features": 20, "radial_hidden": (16, 8)},
        {"nonlocal_": True, "feature_layer_norm": True, "num_features": 16, "num_heads": 4},
        {"variant": "so3krates_v1", "pre_layer_norm": True, "residual_mlp": True},
    ],
    ids=["no spherical filter", "zeros", "degree 0", "degree 4", "smooth non-local", "v1"],
)
def test_every_option_gives_a_force_field(options):
    model = build(**options)
    matrix, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = chiral()
    turned["positions"] = turned["positions"] @ matrix
    energies, forces = predict(model, [chiral(), turned, water()])
    assert np.all(np.isfinite(energies))
    assert np.abs(forces[0]).max() > 1e-4
    np.testing.assert_allclose(energies[1], energies[0], **EXACT)
    np.testing.assert_allclose(forces[1], forces[0] @ matrix, rtol=1e-9, atol=1e-11)
    again = type(model).from_config(json.loads(json.dumps(model.get_config())))
    assert again.get_config() == model.get_config()


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="divisible by num_heads"):
        build(num_heads=5)
    with pytest.raises(ValueError, match="ascending"):
        build(degrees=(2, 1))
    with pytest.raises(ValueError, match=r"Unknown variant.*smooth.*paper.*so3krates_v1"):
        models.So3krates(variant="golden")
    with pytest.raises(ValueError, match=r"`start`.*scaled_sum"):
        models.So3krates(variant={"start": "ones"})


@pytest.mark.parametrize(("limit", "nonlocal_"), [("1/n", True), (0.4, 0.4)])
def test_configs_of_earlier_versions_are_understood(limit, nonlocal_):
    """There each switch was an argument of its own, and `None` what the variant says."""
    old = SMALL | {
        **{"variant": "paper", "start": None, "parity": True, "coupling": None},
        **{"nonlocal_": True, "chi_cut": limit, "chi_cut_exponent": 4, "chi_cut_float32": True},
        **{"feature_layer_norm": True, "num_embeddings": 60, "layer_norm_epsilon": 1e-5},
    }
    model = models.So3krates.from_config(old)
    assert model.variant == dataclasses.replace(
        models.So3krates.VARIANTS["paper"],
        **{"parity": True, "reach_exponent": 4, "reach_in_float32": True, "num_embeddings": 60},
        **{"feature_layer_norm": True, "layer_norm_epsilon": 1e-5},
    )
    assert model.get_config()["nonlocal_"] == nonlocal_
    today = models.So3krates.upgrade_config(old)
    assert models.So3krates.upgrade_config(today) == today
    again = models.So3krates.from_config(json.loads(json.dumps(model.get_config())))
    assert again.get_config() == model.get_config()


@pytest.mark.usefixtures("float64")
def test_radial_bases_are_those_of_their_formulas():
    lengths = np.asarray([0.3, 1.1, 2.7, 4.9])
    tensor = keras.ops.convert_to_tensor(lengths, dtype="float64")
    x = np.exp(-0.9448630629 * lengths)[:, None]
    k = np.arange(6)
    centers = np.exp(-5.0) + k / 5 * (1.0 - np.exp(-5.0))
    beta = (2.0 / 6 * (1.0 - np.exp(-5.0))) ** -2
    expected = {
        "fixed_exponential": np.exp(-beta * (np.exp(-lengths)[:, None] - centers) ** 2),
        "fixed_gaussian": np.exp(-10.0 * (lengths[:, None] - k) ** 2),
        "bessel_from_zero": np.sin(np.pi * k * lengths[:, None] / 5.0) / lengths[:, None],
        "bernstein": np.asarray([1, 5, 10, 10, 5, 1]) * x**k * (1.0 - x) ** (5 - k),
    }
    for name, values in expected.items():
        basis = radial.BASES[name](6, 5.0, dtype="float64")
        ours = keras.ops.convert_to_numpy(basis(tensor))
        np.testing.assert_allclose(ours, values, rtol=1e-12, atol=1e-15, err_msg=name)


def test_parallel_perceptrons_are_perceptrons():
    keras.utils.set_random_seed(0)
    parallel = ParallelPerceptrons((5, 4), (3, 2))
    inputs = np.random.default_rng(0).normal(size=(7, 6)).astype("float32")
    outputs = [keras.ops.convert_to_numpy(item) for item in parallel(inputs)]
    kernel = keras.ops.convert_to_numpy(parallel.first.kernel)
    for index, chain in enumerate(parallel.chains):
        values = inputs @ kernel[:, 5 * index : 5 * index + 5]
        for layer in chain:
            values = values / (1.0 + np.exp(-values))
            values = values @ keras.ops.convert_to_numpy(layer.kernel)
        np.testing.assert_allclose(outputs[index], values, rtol=1e-4, atol=1e-6)


# ----- charge and spin


def test_charge_and_spin_change_energies_where_asked_for():
    model = build(charge_spin=True)
    states = [(0.0, 1), (1.0, 2), (-1.0, 2), (0.0, 3)]
    waters = [water(total_charge=q, spin_multiplicity=s) for q, s in states]
    energies, forces = predict(model, waters)
    assert np.min(np.abs(np.subtract.outer(energies, energies)[np.triu_indices(4, 1)])) > 1e-6
    for index, alone in enumerate(waters):
        energy, force = predict(model, [alone])
        np.testing.assert_allclose(energy[0], energies[index], **EXACT)
        np.testing.assert_allclose(force[0], forces[index], **EXACT)
    assert not model.is_size_consistent


def test_neutral_singlets_do_not_feel_the_embedding():
    layer = ChargeSpinEmbedding()
    graph = water()
    features = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(features, graph)), 0.0)
    cation = keras.ops.convert_to_numpy(layer(features, water(total_charge=1.0)))
    anion = keras.ops.convert_to_numpy(layer(features, water(total_charge=-1.0)))
    assert np.abs(cation - anion).max() > 1e-3
