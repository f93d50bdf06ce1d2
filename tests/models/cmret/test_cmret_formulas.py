"""CMRET must be what its formulas say, option by option."""

import numpy as np
import pytest

from keras_mlff.graph import structure
from keras_mlff.models import CMRET
from keras_mlff.neighbors import add_edges
from tests.models.cmret import cmret_formulas as formulas
from tests.models.formulas import central_forces, evaluate, inputs_of

pytestmark = pytest.mark.usefixtures("float64")
RELATIVE = 1e-10

# atomic numbers, positions in Å, total charge, spin S; the last pair of chromium's molecule is
# beyond the cutoff, and uranium and gadolinium have f electrons
MOLECULES = [
    ([8, 1, 1], [[0.0, 0.1, 0.1], [0.1, 0.8, -0.5], [-0.2, -0.7, -0.4]], 0.0, 0.0),
    ([6, 24, 8], [[0.0, 1.8, 0.2], [0.0, 0.0, 0.0], [1.7, -0.9, 0.4]], 1.0, 2.5),
    ([92, 9], [[0.1, 0.2, -0.1], [1.1, -0.4, 1.3]], -1.0, 0.5),
    ([64], [[0.3, 0.2, 0.1]], 0.0, 4.0),
]
BASE = {
    "arch": "CMRET",
    "cutoff": 3.0,
    "n_kernel": 5,
    "n_atom_basis": 6,
    "n_interaction": 1,
    "n_output": 1,
    "rbf_type": "gaussian",
    "num_head": 3,
    "temperature_coeff": 1.5,
    "attention_activation": "softmax",
}
# To build few networks, options are tried together: every activation, every way
# in which charge and spin enter, different sets of heads. The test of forces has what is missing.
CASES = {
    "softmax, two layers, Bessel": (
        {"n_interaction": 2, "rbf_type": "bessel"},
        {"charge_spin": "vector", "norm_mode": "smooth"},
        ("scalar",),
    ),
    "softmax2d": (
        {"attention_activation": "softmax2d", "temperature_coeff": 0.7},
        {"charge_spin": "invariant_qs", "norm_mode": "smooth"},
        ("scalar", "r2"),
    ),
    "swish, one head, Bessel": (
        {"attention_activation": "swish", "num_head": 1, "rbf_type": "bessel"},
        {"charge_spin": "none", "norm_mode": "component_shift"},
        ("scalar",),
    ),
    "softplus, no energy": (
        {"attention_activation": "softplus", "temperature_coeff": 2.0},
        {"charge_spin": "invariant_qs", "norm_mode": "component_shift"},
        ("dipole", "alpha"),
    ),
    "mish, Bessel": (
        {"attention_activation": "mish", "rbf_type": "bessel"},
        {"charge_spin": "none", "norm_mode": "smooth"},
        ("alpha",),
    ),
    "relu, one head, three blocks": (
        {"attention_activation": "relu", "num_head": 1, "n_output": 3},
        {"charge_spin": "vector", "norm_mode": "component_shift"},
        ("r2",),
    ),
}


def random_weights(options, heads):
    random, weights = np.random.default_rng(0), {}
    width, num_radial = options["n_atom_basis"], options["n_kernel"]

    def linear(name, rows, columns, bias=True, scale=1.0):
        weights[f"{name}.W"] = random.normal(size=(rows, columns)) * scale * rows**-0.5
        if bias:
            weights[f"{name}.b"] = random.normal(size=columns) * 0.3

    linear("embed", 22, width, scale=0.3)  # of up to 14 electrons each
    weights["norm.gamma"] = 1.0 + 0.2 * random.normal(size=width)
    weights["norm.beta"] = 0.2 * random.normal(size=width)
    if options["rbf_type"] == "gaussian":
        weights["rbf.centers"] = np.linspace(0.05, 1.0, num_radial)
        weights["rbf.betas"] = 10.0 + random.normal(size=num_radial)
    for layer in range(options["n_interaction"]):
        prefix = f"layer{layer}"
        linear(f"{prefix}.filter_self", num_radial, width)
        linear(f"{prefix}.filter_nbr", num_radial, width)
        linear(f"{prefix}.mix", 2 * width, 3 * width)
        linear(f"{prefix}.O", width, 3 * width)
        linear(f"{prefix}.U", width, 3 * width, bias=False)
        for name in ("phi", "q", "k", "v", "res1", "res2"):
            linear(f"{prefix}.{name}", width, width)
    for head in heads:
        prefix = f"head_{head}"
        for block in range(options["n_output"]):
            linear(f"{prefix}.block{block}.Vu", width, width, bias=False)
            linear(f"{prefix}.block{block}.Vv", width, width, bias=False)
            linear(f"{prefix}.block{block}.mlp1", 2 * width, width)
            linear(f"{prefix}.block{block}.mlp2", width, 2 * width)
        if head == "scalar":
            linear(f"{prefix}.out", width, 1)
        else:
            linear(f"{prefix}.out_s", width, 1, bias=False)
        if head in ("dipole", "alpha"):
            linear(f"{prefix}.out_v", width, 1, bias=False)
    return weights


def batch(molecules, cutoff):
    graphs = [
        structure(positions, numbers, total_charge=charge, spin_multiplicity=round(2 * spin + 1))
        for numbers, positions, charge, spin in molecules
    ]
    return inputs_of([add_edges(graph, cutoff) for graph in graphs])


def assert_close(actual, expected, name):
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    for ours, theirs in zip(actual, expected, strict=True):  # charges change sizes
        atol = RELATIVE * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=RELATIVE, atol=atol, err_msg=name)


@pytest.mark.parametrize(("changed", "modes", "heads"), CASES.values(), ids=CASES)
def test_properties_are_those_of_the_formulas(changed, modes, heads):
    """All properties but forces, which would be compiled for every option."""
    options = {**BASE, **changed}
    weights = random_weights(options, heads)
    model = CMRET.from_port(options | modes, weights)

    def properties(graph):
        features, found = model.embed(graph), {}
        for head, readout in zip(model.heads, model.readouts, strict=True):
            read = readout(features)
            found |= head(graph, read.scalars, read.vectors)
        return found

    got = evaluate(properties, batch(MOLECULES, model.cutoff))
    network = formulas.CMRET(options, weights, **modes)
    expected = [network(heads, n, np.asarray(r), q, s) for n, r, q, s in MOLECULES]
    for name in expected[0]:
        assert_close(got[name], [item[name] for item in expected], name)


def test_forces_are_the_slopes_of_the_formulas():
    options = {**BASE, "attention_activation": "gelu", "temperature_coeff": 1.0}
    modes = {"charge_spin": "invariant", "norm_mode": "smooth"}
    weights = random_weights(options, ["scalar"])
    model = CMRET.from_port(options | modes, weights)
    network = formulas.CMRET(options, weights, **modes)
    got = evaluate(model, batch(MOLECULES, model.cutoff))

    def energy(molecule, positions):
        numbers, _, charge, spin = molecule
        return network(["scalar"], numbers, np.asarray(positions), charge, spin)["energy"]

    expected = np.asarray([energy(molecule, molecule[1]) for molecule in MOLECULES])
    assert_close(got["energy"], expected, "energy")
    forces = central_forces(lambda positions: energy(MOLECULES[1], positions), MOLECULES[1][1])
    np.testing.assert_allclose(got["forces"][3:6], forces, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "embed",
        "layer0.filter_self",
        "layer0.filter_nbr",
        "layer0.mix",
        "layer0.O",
        "layer0.U",
        "head_r2.block0.mlp1",
        "head_r2.block0.mlp2",
    ],
)
def test_transposed_matrices_are_refused(name):
    weights = random_weights(BASE, ["r2"])
    weights[f"{name}.W"] = weights[f"{name}.W"].T
    with pytest.raises(ValueError, match=rf"(?s){name}\.W.*transposed"):
        CMRET.from_port(BASE, weights)
