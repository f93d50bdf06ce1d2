"""GeomAtt must be what its formulas say, option by option."""

import numpy as np
import pytest

from keras_mlff.graph import structure
from keras_mlff.models import GeomAtt
from keras_mlff.neighbors import add_edges
from tests.models.formulas import central_forces, evaluate, inputs_of
from tests.models.geomatt import geomatt_formulas as formulas

pytestmark = pytest.mark.usefixtures("float64")
# 1e-10 relative, and what cancellation between terms of order one leaves of it at zero
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}

# atomic numbers, positions and cell in Å
MOLECULES = [
    ([8, 1, 1], [[0.0, 0.1, 0.1], [0.1, 0.8, -0.5], [-0.2, -0.7, -0.4]], None),
    ([6, 8, 8, 1], [[0.0, 0.0, 0.0], [0.3, 0.2, 1.1], [-0.4, 0.5, -1.2], [2.9, 0.4, 0.3]], None),
    ([6, 1], [[0.1, 0.2, -0.1], [0.3, -0.4, 0.8]], None),
    ([6], [[0.3, 0.2, 0.1]], None),
]
CRYSTAL = (
    [8, 6],
    [[0.1, 0.2, 0.3], [1.4, 1.1, 1.6]],
    [[2.7, 0.3, 0.0], [-0.2, 2.9, 0.4], [0.1, 0.5, 3.1]],
)
BASE = {
    "arch": "GeomAtt",
    "F_v": 6,
    "F_I": 16,
    "orders": [2, 3, 4],
    "n_layers": 1,
    "d_min": 0.0,
    "d_max": 4.0,
    "interval": 0.4,
    "n_points": 10,
    "gamma": 5.0,
    "shared": False,
    "bias": True,
    "stream_scaling": True,
    "linear": False,
    "subtract_far_value": False,
}
# To build few networks, options are tried together. The test of forces has
# streams that are not scaled, and order 5 with weights of its own for each overlap.
CASES = {
    "order 5 alone, shared, linear": {"orders": [5], "shared": True, "linear": True},
    "repeated orders, no bias": {"orders": [3, 2, 2], "bias": False},
    "odd widths, another grid": {
        **{"orders": [3], "F_v": 5, "F_I": 9},
        **{"d_min": 0.5, "d_max": 4.1, "interval": 0.3, "n_points": 12, "gamma": 3.0},
    },
    "two layers, points beyond d_max": {"n_layers": 2, "orders": [2], "d_max": 2.0, "n_points": 9},
}
FINE = {"d_max": 2.0, "interval": 0.25, "n_points": 8, "gamma": 9.0}


def random_weights(options):
    random, weights = np.random.default_rng(0), {}

    def draw(name, *shape):
        weights[name] = 0.4 * random.normal(size=shape)

    for number in (1, 6, 8):
        draw(f"embedding.{number}", options["F_v"])
    for stream, order in enumerate(options["orders"]):
        width = options["F_I"] // 2 ** (order - 2)
        for layer in range(options["n_layers"]):
            prefix = f"stream{stream}.layer{layer}"
            for step in range(1 if options["shared"] else order - 1):
                for kind in "qk":
                    draw(f"{prefix}.overlap{step}.W{kind}", options["n_points"], width)
                    if options["bias"]:
                        draw(f"{prefix}.overlap{step}.b{kind}", width)
            draw(f"{prefix}.W", options["F_v"], options["F_v"])
            draw(f"{prefix}.b", options["F_v"])
    joined = len(options["orders"]) * options["F_v"]
    draw("readout.W1", joined, joined // 2)
    draw("readout.b1", joined // 2)
    draw("readout.W2", joined // 2, 1)
    draw("readout.b2", 1)
    return weights


def batch(structures, cutoff):
    graphs = [structure(positions, numbers, cell) for numbers, positions, cell in structures]
    return inputs_of([add_edges(graph, cutoff) for graph in graphs])


def expected_energy(options, weights, item):
    numbers, positions, cell = item
    cell = None if cell is None else np.asarray(cell)
    return formulas.energy(options, weights, numbers, np.asarray(positions), cell)


def check_energies(options, structures, **kwargs):
    """Compares energies alone: forces would be compiled for every option."""
    weights = random_weights(options)
    model = GeomAtt.from_port(options, weights, **kwargs)
    (readout,), (head,) = model.readouts, model.heads
    got = evaluate(
        lambda graph: head(graph, readout(model.embed(graph)).scalars, None),
        batch(structures, model.cutoff),
    )
    expected = [expected_energy(options, weights, item) for item in structures]
    np.testing.assert_allclose(got["energy"], expected, **TOLERANCE)


@pytest.mark.parametrize("changed", CASES.values(), ids=CASES)
def test_energies_are_those_of_the_formulas(changed):
    check_energies({**BASE, **changed}, MOLECULES)


def test_energies_without_the_far_value_are_those_of_the_formulas():
    """Molecules and a crystal, whose Gaussians end within the cutoff."""
    options = {**BASE, **FINE, "orders": [3], "subtract_far_value": True}
    check_energies(options, [*MOLECULES, CRYSTAL], cutoff=4.0)


def test_forces_are_the_slopes_of_the_formulas():
    options = {**BASE, "orders": [5, 2], "stream_scaling": False}
    weights = random_weights(options)
    model = GeomAtt.from_port(options, weights)
    got = evaluate(model, batch(MOLECULES, model.cutoff))
    expected = [expected_energy(options, weights, item) for item in MOLECULES]
    np.testing.assert_allclose(got["energy"], expected, **TOLERANCE)

    numbers, positions, _ = MOLECULES[0]
    forces = central_forces(
        lambda moved: formulas.energy(options, weights, numbers, moved), positions
    )
    np.testing.assert_allclose(got["forces"][:3], forces, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    "name", ["stream0.layer0.overlap0.Wq", "stream1.layer0.overlap1.Wk", "readout.W1"]
)
def test_transposed_matrices_are_refused(name):
    options = {**BASE, "orders": [2, 3]}
    weights = random_weights(options)
    weights[name] = weights[name].T
    with pytest.raises(ValueError, match=f"weight '{name}' .* expects"):
        GeomAtt.from_port(options, weights)
