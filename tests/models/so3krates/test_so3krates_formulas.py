"""So3krates must be what its formulas say, option by option."""

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff.graph import join, structure
from keras_mlff.heads import EnergyHead
from keras_mlff.models import So3krates
from keras_mlff.neighbors import add_edges
from tests.models.formulas import arguments_of, central_forces, central_stress, evaluate, inputs_of
from tests.models.so3krates.so3krates_formulas import BASE, HEAD, Network, coupling, harmonics

GOLDEN = Path(__file__).parents[2] / "golden/so3krates/sph_cg_l4.npz"
pytestmark = pytest.mark.usefixtures("float64")
# 1e-10 relative, and what cancellation between terms of order one leaves of it at zero
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}

# atomic numbers, positions and cell in Å, total charge, spin multiplicity
MOLECULES = [
    (  # four different neighbors: the mirror image is another molecule; one pair is far apart
        [6, 1, 9, 8, 7],
        [[0, 0, 0], [1, 0.1, 0], [-0.9, 1.6, 0.1], [-0.3, -0.5, 1.2], [0.2, -1.6, -1.3]],
        *(None, 1.0, 2),
    ),
    ([8, 1, 1], [[0.0, 0.1, 0.1], [0.1, 0.8, -0.5], [-0.2, -0.7, -0.4]], None, 0.0, 1),
    ([17, 6], [[0.1, 0.2, -0.1], [0.3, -0.4, 1.3]], None, -1.0, 2),
    ([6, 1], [[0.0, 0.0, 0.0], [0.0, 0.3, 3.5]], None, -1.0, 1),  # no neighbors
    ([6], [[0.3, 0.2, 0.1]], None, 0.0, 3),
]
CRYSTAL = (
    [8, 6],
    [[0.1, 0.2, 0.3], [1.4, 1.1, 1.6]],
    [[2.7, 0.3, 0.0], [-0.2, 2.9, 0.4], [0.1, 0.5, 3.1]],
    *(0.0, 1),
)
# To build few networks, options are tried together
CASES = {
    "smooth, degrees up to 4, Bernstein": {
        **{"degrees": (0, 1, 2, 3, 4), "num_features": 10, "neighbor_scale": 3.0},
        **{"radial_basis": "bernstein", "charge_spin": True},
    },
    "smooth, feature norm, no spherical filter": {
        **{"feature_layer_norm": True, "layer_norm_epsilon": 0.1, "spherical_hidden": None},
        **{"radial_basis": "fixed_gaussian", "activation": "softplus", "num_heads": 3},
    },
    "smooth, two layers, both norms, start of zeros, pseudotensors": {
        **{"feature_layer_norm": True, "coordinate_layer_norm": True, "start": "zeros"},
        **{"parity": False, "num_embeddings": 8, "num_layers": 2},
    },
    "paper, degrees that do not divide the features": {
        **{"variant": "paper", "degrees": (0, 1, 2), "num_features": 10, "num_heads": 5},
        **{"attention_bias": False, "radial_basis": "bessel"},
    },
    "paper, degree 0, learned basis": {
        **{"variant": "paper", "degrees": (0,), "radial_hidden": (), "radial_basis": "gaussian"},
        **{"cutoff_function": "smooth", "start": "scaled_sum"},
    },
    "paper, parity, other direction": {
        **{"variant": "paper", "degrees": (2, 4), "parity": True, "invariants": "squared"},
        **{"direction": "sender_minus_receiver", "radial_basis": "bessel_from_zero"},
        **{"radial_hidden": (5, 3), "spherical_hidden": (), "num_heads": 1},
    },
    "paper, two layers, other direction": {
        **{"variant": "paper", "direction": "sender_minus_receiver", "num_layers": 2},
    },
    "so3krates_v1, all of it, learned elements": {
        **{"variant": "so3krates_v1", "pre_layer_norm": True, "residual_mlp": True},
        **{"num_layers": 2, "element_affine": True},
    },
    "smooth, pre-norm and perceptrons beside couplings and norm": {
        **{"pre_layer_norm": True, "residual_mlp": True, "feature_layer_norm": True},
        **{"basis_envelope": False, "activation": "softplus"},
    },
    "non-local, paper, fixed reach, learned encoding": {
        **{"variant": "paper", "nonlocal_": 0.4, "distance_encoding": "mlp"},
    },
}


# The model and its weights


def build(changed):
    """Makes a model and fills its weights; those that start at one stay near it."""
    options = {**BASE, **changed}
    model = So3krates(
        **arguments_of(So3krates, options), heads=[EnergyHead(**HEAD)], dtype="float64"
    )
    random, values = np.random.default_rng(0), []
    for weight in model.weights:
        size = weight.shape[-2] ** -0.5 if weight.name == "kernel" else 0.5
        start = array(weight)
        start = start if np.ptp(start) == 0.0 else 0.0 * start  # drawn ones are drawn here
        values.append((weight, start + size * random.normal(size=weight.shape)))
    model.assign_weights(values)
    return model, Network(changed, weights_of(model))


def array(weight):
    return keras.ops.convert_to_numpy(weight)


def weights_of(model):
    """Reads weights by what they are in the specification; the model joins maps of one input."""
    weights = {
        "embedding": array(model.embedding.embeddings),
        "readout": [dense(model.readouts[0].hidden), dense(model.readouts[0].output_scalars)],
        "layers": [],
    }
    if model.charge_spin is not None:
        layer = model.charge_spin
        weights["charge and spin"] = {
            "query": dense(layer.query),
            "residual": [dense(layer.hidden), dense(layer.outputs)],
            "keys": array(layer.keys),
            "values": array(layer.values),
        }
    if model.get_config()["distance_encoding"] == "mlp":
        layer = model.radial_basis
        weights["encoding"] = [dense(layer.hidden), dense(layer.outputs)]
    elif model.radial_basis.weights:
        weights["centers"] = array(model.radial_basis.centers)
        weights["widths"] = array(model.radial_basis.betas)
    if model.last_norm is not None:
        weights["last norm"] = (array(model.last_norm.gamma), array(model.last_norm.beta))
    if model.element_affine is not None:
        layer = model.element_affine
        weights["elements"] = (array(layer.factors), array(layer.terms))
    for layer in model.interactions:
        attention, filters = layer.attention, layer.attention.filters
        heads = split_heads(attention.feature_maps, 3)
        weights["layers"].append(
            {
                "rad": split_perceptrons(filters.radial),
                "sph": split_perceptrons(filters.spherical) if filters.spherical else None,
                "QK": [(query, key) for query, key, _ in heads],
                "V": [value for _, _, value in heads],
                "degree QK": split_heads(attention.coordinate_maps, 2),
                "mix": dense(layer.mix),
                "norm": [(array(norm.gamma), array(norm.beta)) for norm in layer.feature_norms],
                "pre norm": [(array(norm.gamma), array(norm.beta)) for norm in layer.pre_norms],
                "residual": [[array(m.kernel) for m in part.maps] for part in layer.residuals],
                "degree norm": [array(norm.scale) for norm in layer.coordinate_norms],
            }
        )
        if layer.coupling is not None:
            weights["layers"][-1] |= {
                "kappa": array(layer.coupling.kappa),
                "mix t": dense(layer.mix_coupled),
            }
    return weights


def dense(layer):
    return array(layer.kernel), 0.0 if layer.bias is None else array(layer.bias)


def split_heads(layer, number):
    """Lists for each head its `number` maps, which share a kernel."""
    kernel, bias = dense(layer)
    bias = np.broadcast_to(bias, (len(kernel), kernel.shape[2]))
    return [
        list(zip(np.split(k, number, axis=1), np.split(b, number), strict=True))
        for k, b in zip(kernel, bias, strict=True)
    ]


def split_perceptrons(parallel):
    """Lists the maps of each perceptron; their first ones share a kernel."""
    kernel, bias = dense(parallel.first)
    ends = np.cumsum(parallel.first_widths)[:-1]
    firsts = zip(np.split(kernel, ends, axis=1), np.split(bias, ends), strict=True)
    return [
        [first, *(dense(layer) for layer in chain)]
        for first, chain in zip(firsts, parallel.chains, strict=True)
    ]


def graphs_of(structures, cutoff):
    return [
        add_edges(
            structure(positions, numbers, cell, total_charge=charge, spin_multiplicity=spin),
            cutoff,
        )
        for numbers, positions, cell, charge, spin in structures
    ]


def check_energies(got, expected):
    energies = [item["energy"] for item in expected]
    np.testing.assert_allclose(got["energy"], energies, **TOLERANCE)
    energies = np.concatenate([item["atomic_energies"] for item in expected])
    np.testing.assert_allclose(got["atomic_energies"], energies, **TOLERANCE)


# Tests


def test_tables_are_the_golden_ones():
    block = [slice(d**2, (d + 1) ** 2) for d in range(5)]
    with np.load(GOLDEN) as golden:
        directions, values = golden["directions"], golden["Y_l0_to_l4"]
        table = golden["cg_m3_m1_m2"]
    ours = [np.concatenate([harmonics(d, u) for d in range(5)]) for u in directions]
    np.testing.assert_allclose(ours, values, atol=1e-14)
    for d1, d2, d3 in itertools.product(range(5), repeat=3):
        if d1 < d2 and d2 - d1 <= d3 <= d1 + d2:
            expected = table[block[d3], block[d1], block[d2]]
            np.testing.assert_allclose(coupling(d1, d2, d3), expected, atol=1e-14)


@pytest.mark.parametrize("changed", CASES.values(), ids=CASES)
def test_energies_are_those_of_the_formulas(changed):
    """Energies alone: forces would be compiled for every option."""
    model, network = build(changed)
    structures = MOLECULES if model.nonlocal_ else [*MOLECULES, CRYSTAL]
    inputs = inputs_of(graphs_of(structures, model.cutoff))
    got = evaluate(lambda graph: model._properties(graph, training=False), inputs)
    got = model.add_offsets(got, inputs)
    check_energies(got, [network(*item) for item in structures])


@pytest.mark.parametrize(
    "changed",
    [
        {"coordinate_layer_norm": True, "feature_layer_norm": True, "charge_spin": True},
        {"variant": "so3krates_v1", "pre_layer_norm": True, "residual_mlp": True},
        {"variant": "paper", "nonlocal_": True, "reach_in_float32": True, "cutoff": 2.0},
    ],
    ids=["smooth, both norms", "so3krates_v1", "non-local, paper, 1/n in float32"],
)
def test_coefficients_and_coordinates_are_those_of_the_formulas(changed):
    model, network = build(changed)
    structures = MOLECULES if model.nonlocal_ else [*MOLECULES, CRYSTAL]
    recorded = model.inspect(join(graphs_of(structures, model.cutoff)))
    first = 0
    for index, item in enumerate(structures):
        expected = network(*item)
        number = len(expected.pop("atomic_energies"))
        del expected["energy"]
        if model.nonlocal_ and index == 0:  # or no pair reached would pass for agreement
            assert 0 < np.count_nonzero(expected["layer0/nonlocals/attention"][0]) < 20
        for name, theirs in expected.items():
            if name.endswith("/attention"):
                ours = recorded[name][index]
                theirs = np.pad(theirs, ((0, 0), *[(0, ours.shape[1] - number)] * 2))
            else:
                ours = recorded[name][first : first + number]
                theirs = np.concatenate(theirs, axis=1) if isinstance(theirs, list) else theirs
            np.testing.assert_allclose(ours, theirs, **TOLERANCE, err_msg=name)
        first += number


@pytest.mark.parametrize(
    "changed",
    [
        {"degrees": (1, 2), "charge_spin": True},
        {"variant": "paper", "feature_layer_norm": True, "coordinate_layer_norm": True},
        {
            **{"nonlocal_": True, "reach_exponent": 4, "cutoff": 4.0},
            **{"degrees": (1, 2), "num_layers": 2},
        },
    ],
    ids=["smooth", "paper, both norms", "non-local, smooth, two layers"],
)
def test_forces_and_stress_are_the_slopes_of_the_formulas(changed):
    model, network = build(changed)
    structures = MOLECULES if model.nonlocal_ else [*MOLECULES, CRYSTAL]
    inputs = inputs_of(graphs_of(structures, model.cutoff))
    got = model.add_offsets(evaluate(model, inputs), inputs)
    check_energies(got, [network(*item) for item in structures])

    numbers, positions, *others = MOLECULES[0]
    forces = central_forces(lambda moved: network(numbers, moved, *others)["energy"], positions)
    np.testing.assert_allclose(got["forces"][: len(numbers)], forces, rtol=1e-7, atol=1e-9)
    if model.nonlocal_:
        return
    numbers, positions, cell, *others = CRYSTAL
    forces = central_forces(
        lambda moved: network(numbers, moved, cell, *others)["energy"], positions
    )
    np.testing.assert_allclose(got["forces"][-len(numbers) :], forces, rtol=1e-7, atol=1e-9)

    stress = central_stress(
        lambda moved, changed: network(numbers, moved, changed, *others)["energy"],
        np.asarray(positions),
        np.asarray(cell),
    )
    np.testing.assert_allclose(got["stress"][-1], stress, rtol=1e-7, atol=1e-9)
