"""CMRET's options do what the specification says; its numbers are checked in test_cmret_golden."""

import h5py
import keras
import numpy as np
import pytest

from keras_mlff import heads
from keras_mlff.graph import structure
from keras_mlff.models import CMRET
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.budget import Budget
from keras_mlff.packing.loader import GraphLoader

SMALL = {"num_features": 8, "num_layers": 2, "num_radial": 6, "num_heads": 2, "cutoff": 4.0}
JAX = keras.backend.backend() == "jax"
# others compile each variant for seconds, and the golden vectors have checked the default there
options = pytest.mark.once
BUDGET = Budget(num_graphs=6, num_atoms=40, num_edges=300, num_triplets=0, max_atoms=12)


def build(**kwargs):
    keras.utils.set_random_seed(3)
    model = CMRET(**SMALL | {"dtype": "float64"} | kwargs)
    model.run_eagerly = not JAX
    return model


def predict(model, structures):
    graphs = [add_edges(item, model.cutoff) for item in structures]
    return model.predict(GraphLoader(graphs, budget=BUDGET), domain="ignore")


def molecule(charge=0.0, multiplicity=1, num_atoms=5, seed=0, turn=None):
    random = np.random.default_rng(seed)
    positions = np.cumsum(random.normal(size=(num_atoms, 3)), axis=0)
    if turn is not None:
        positions = positions @ turn
    numbers = random.choice([1, 6, 8], num_atoms)
    return structure(positions, numbers, total_charge=charge, spin_multiplicity=multiplicity)


def benzene(charge=0.0, multiplicity=1):
    angles = np.arange(6) * np.pi / 3
    directions = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    return structure(
        np.concatenate([1.39 * directions, 2.48 * directions]),
        [6] * 6 + [1] * 6,
        total_charge=charge,
        spin_multiplicity=multiplicity,
    )


# ----- size and start


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 2_057_829),
        ({"variant": {"num_output_blocks": 4}}, 2_255_205),
        ({"num_layers": 5, "num_heads": 1, "num_radial": 20}, 1_709_865),
        ({"heads": [heads.DipoleHead()]}, 2_057_956),
        ({"heads": [heads.PolarizabilityHead()]}, 2_057_956),
        ({"heads": [heads.SpatialExtentHead()]}, 2_057_828),
    ],
    ids=["default", "four blocks", "CH2", "dipole", "polarizability", "extent"],
)
def test_parameters_are_as_many_as_the_papers(arguments, expected):
    assert CMRET(**arguments).count_params() == expected


@pytest.fixture(scope="module")
def full():
    keras.utils.set_random_seed(0)
    return CMRET(num_layers=1)


def values(variable):
    return keras.ops.convert_to_numpy(variable)


def assert_uniform(variable, bound):
    """The largest of n draws lies within some 10/n of the bound, the variance near bound²/3."""
    drawn = values(variable).ravel()
    assert np.abs(drawn).max() <= bound * (1 + 1e-6)
    assert np.abs(drawn).max() > bound * (1 - 12.0 / drawn.size)
    np.testing.assert_allclose(drawn.var(), bound**2 / 3, rtol=8 / drawn.size**0.5)


def test_filters_start_from_a_wide_uniform_distribution(full):
    assert_uniform(full.interactions[0].filters.kernel, (6 / 50) ** 0.5)
    assert_uniform(full.interactions[0].filters.bias, 50**-0.5)


@pytest.mark.parametrize("name", ["phi", "residual_1"])
def test_maps_before_an_activation_start_normal(full, name):
    drawn = values(getattr(full.interactions[0], name).kernel)
    np.testing.assert_allclose(drawn.std(), (3 / 256) ** 0.5, rtol=0.03)
    assert np.abs(drawn).max() > 3 * drawn.std(), "not truncated"
    assert_uniform(getattr(full.interactions[0], name).bias, 128**-0.5)


def test_all_other_maps_start_as_pytorchs_do(full):
    interaction, readout = full.interactions[0], full.readouts[0]
    layers = {
        22: [full.embedding.dense],
        128: [
            interaction.attention.query_key_value,
            interaction.update,
            interaction.vector_maps,
            interaction.residual_2,
            readout.blocks[0].vector_maps,
            readout.blocks[0].outputs,
            readout.output_scalars,
        ],
        256: [interaction.mix, readout.blocks[1].hidden],
    }
    for fan_in, same in layers.items():
        for layer in same:
            assert layer.kernel.shape[0] == fan_in
            assert_uniform(layer.kernel, fan_in**-0.5)
            if layer.use_bias and layer.units > 1:
                assert_uniform(layer.bias, fan_in**-0.5)


def test_the_basis_starts_spread_over_the_distances(full):
    centers = np.linspace(np.exp(-5.0), 1.0, 50)
    np.testing.assert_allclose(values(full.radial_basis.centers), centers, rtol=1e-6)
    width = (50 / (2 * (1 - np.exp(-5.0)))) ** 2
    np.testing.assert_allclose(values(full.radial_basis.betas), width, rtol=1e-6)


# ----- options


VARIANTS = [
    {"radial_basis": "bessel"},
    {"cutoff_function": "polynomial"},
    {"cutoff_function": "smooth"},
    {"variant": {"temperature_coeff": 1.0}},
    {"variant": {"attention_activation": "softmax2d"}},
    {"variant": {"attention_activation": "swish"}},
    {"variant": {"attention_activation": "softplus"}},
    {"variant": {"attention_activation": "gelu"}},
    {"variant": {"attention_activation": "mish"}},
    {"variant": {"attention_activation": "relu"}},
    {"attention": "projected"},
    {"attention": "none"},
    {"variant": {"num_output_blocks": 1}},
    {"variant": {"residual_mlp": False}},
    {"charge_spin_channels": "invariant_qs"},
    {"charge_spin_channels": "vector"},
    {"charge_spin_channels": "none"},
    {"variant": {"norm_mode": "component_shift"}},
    {"variant": {"configuration": "ground_state"}},
    {"num_heads": 1},
]


@pytest.mark.parametrize("variant", [pytest.param(v, marks=options) for v in VARIANTS], ids=str)
def test_every_option_counts_and_keeps_graphs_apart(variant):
    """A further structure in the batch must not matter, whatever normalizes the attention."""
    # chromium has another configuration in its ground state
    chromium = structure([[0, 0, 0], [0, 0.2, 1.7], [1.5, 0, 0.3]], [24, 8, 8], None, None, 1.0, 2)
    company = [molecule(num_atoms=3, seed=5), molecule(1.0, 2, num_atoms=7, seed=6)]
    model = build(**variant)
    alone = predict(model, [chromium])
    together = predict(model, [company[0], chromium, company[1]])
    np.testing.assert_allclose(together["energy"][1], alone["energy"][0], rtol=1e-12)
    np.testing.assert_allclose(together["forces"][3:6], alone["forces"], atol=1e-13)
    assert np.all(np.isfinite(together["forces"]))
    default = build()
    if [v.shape for v in default.weights] == [v.shape for v in model.weights]:
        default.set_weights(model.get_weights())
    assert predict(default, [chromium])["energy"][0] != alone["energy"][0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"radial_basis": "fourier"},
        {"cutoff_function": "none"},
        {"variant": {"attention_activation": "sigmoid"}},
        {"attention": "dense"},
        {"charge_spin_channels": "both"},
        {"variant": {"norm_mode": "none"}},
        {"variant": {"configuration": "excited"}},
        {"variant": {"temperature": 1.0}},
        {"variant": "papers"},
        {"num_heads": 3},
        {"cutoff": 0.0},
    ],
    ids=str,
)
def test_unknown_options_are_refused(wrong):
    with pytest.raises(ValueError, match="Received"):
        build(**wrong)


@pytest.mark.parametrize("activation", ["softmax2d", "swish"])
def test_crystals_need_weights_that_add_up_to_one(activation):
    """With others the energy of two cells is not twice that of one."""
    model = build(variant={"attention_activation": activation})
    assert not model.supports_periodic
    with pytest.raises(ValueError, match="attention_activation"):
        model.predict(structure([[0, 0, 0]], [6], cell=3 * np.eye(3)))
    assert build(variant={"attention_activation": activation}, attention="none").supports_periodic


@pytest.mark.once
def test_a_smoother_cutoff_keeps_second_derivatives():
    """The curvature of a bond jumps at the cutoff with the paper's cosine, and else not."""
    step = 1e-4
    offsets = np.asarray([-2, -1, 1, 2]) * step
    scan = [
        structure([[0, 0, 0], [4.0 + offset, 0, 0], [-0.9, 0.4, 0]], [6, 8, 1])
        for offset in offsets
    ]
    jumps = {}
    for name in ("cosine", "polynomial", "smooth"):
        model = build(cutoff_function=name)
        force = predict(model, scan)["forces"].reshape(4, 3, 3)[:, 1, 0]
        jumps[name] = abs((force[1] - force[0]) - (force[3] - force[2])) / step
    assert jumps["polynomial"] < 1e-2 * jumps["cosine"]
    assert jumps["smooth"] < 1e-2 * jumps["cosine"]


# ----- charge and spin


@pytest.fixture(scope="module", params=["vector", "invariant", "invariant_qs"])
def charged(request):
    return request.param, build(charge_spin_channels=request.param)


def test_only_the_difference_of_spin_and_charge_enters(charged):
    """Finding 2 of the specification; the mode with two components tells them apart."""
    mode, model = charged
    # (Q, 2S+1): S - Q is 0, 0, 1, 1; the number of electrons is odd without a charge
    states = [(0.0, 1), (1.0, 3), (1.0, 5), (-1.0, 1)]
    neutral, same, quintet, anion = predict(model, [molecule(*state) for state in states])["energy"]
    assert abs(quintet - neutral) > 1e-7
    if mode == "invariant_qs":
        assert abs(same - neutral) > 1e-8
        assert abs(anion - quintet) > 1e-8
    else:
        np.testing.assert_allclose(same, neutral, rtol=1e-14)
        np.testing.assert_allclose(anion, quintet, rtol=1e-14)


def test_cation_and_anion_differ_only_where_charge_has_its_component(charged):
    """Finding 3: the others are even in S - Q, so benzene's ions have one energy."""
    mode, model = charged
    neutral, cation, anion = predict(model, [benzene(charge) for charge in (0.0, 2.0, -2.0)])[
        "energy"
    ]
    difference = abs(cation - anion)
    if mode == "invariant_qs":
        assert difference > 1e-8
    else:
        assert difference < 1e-3 * abs(cation - neutral)


def test_only_the_papers_vector_depends_on_orientation(charged):
    """Finding 1: eq. 9 gives every atom a vector along (1, 1, 1)."""
    mode, model = charged
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    for state in ((0.0, 1), (1.0, 1)):
        before, after = predict(model, [molecule(*state), molecule(*state, turn=turn)])["energy"]
        if mode == "vector" and state != (0.0, 1):
            assert abs(after - before) > 1e-9
        else:
            np.testing.assert_allclose(after, before, rtol=1e-12)


@pytest.mark.once
def test_the_modes_agree_where_charge_and_spin_cancel():
    models = [build(charge_spin_channels=mode) for mode in ("invariant", "vector", "none")]
    for other in models[1:]:
        other.set_weights(models[0].get_weights())
    energies = [predict(model, [molecule(1.0, 3)])["energy"] for model in models]
    for energy in energies[1:]:
        np.testing.assert_allclose(energy, energies[0], rtol=1e-13)


# ----- names of weights: presets that are out there must keep loading


PATHS = [
    "embedding/dense/vars/0",
    "embedding/dense/vars/1",
    "interactions/cmret_interaction/attention/query_key_value/vars/0",
    "interactions/cmret_interaction/attention/query_key_value/vars/1",
    "interactions/cmret_interaction/filters/vars/0",
    "interactions/cmret_interaction/filters/vars/1",
    "interactions/cmret_interaction/mix/vars/0",
    "interactions/cmret_interaction/mix/vars/1",
    "interactions/cmret_interaction/phi/vars/0",
    "interactions/cmret_interaction/phi/vars/1",
    "interactions/cmret_interaction/residual_1/vars/0",
    "interactions/cmret_interaction/residual_1/vars/1",
    "interactions/cmret_interaction/residual_2/vars/0",
    "interactions/cmret_interaction/residual_2/vars/1",
    "interactions/cmret_interaction/update/vars/0",
    "interactions/cmret_interaction/update/vars/1",
    "interactions/cmret_interaction/vector_maps/vars/0",
    "layers/exponential_gaussian_basis/vars/0",
    "layers/exponential_gaussian_basis/vars/1",
    "layers/gated_readout/blocks/gated_block/hidden/vars/0",
    "layers/gated_readout/blocks/gated_block/hidden/vars/1",
    "layers/gated_readout/blocks/gated_block/outputs/vars/0",
    "layers/gated_readout/blocks/gated_block/outputs/vars/1",
    "layers/gated_readout/blocks/gated_block/vector_maps/vars/0",
    "layers/gated_readout/output_scalars/vars/0",
    "layers/gated_readout/output_scalars/vars/1",
    "layers/layer_normalization/vars/0",
    "layers/layer_normalization/vars/1",
    "vars/fitted_state",  # of the whole model
]


def test_weights_keep_their_names_in_files(tmp_path):
    """Keras names them after attributes and positions: renaming one makes files unreadable."""
    found = []
    build(num_layers=1, variant={"num_output_blocks": 1}).save_weights(
        tmp_path / "small.weights.h5"
    )
    with h5py.File(tmp_path / "small.weights.h5") as file:
        file.visititems(
            lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None
        )
    assert sorted(found) == PATHS
