"""Every variant of EGNN, DimeNet++ and the Transformer has forces that fit its energy."""

import json

import keras
import numpy as np
import pytest

from keras_mlff import heads
from keras_mlff.graph import structure
from keras_mlff.models.dimenet_pp.model import DimeNetPP
from keras_mlff.models.egnn.model import EGNN
from keras_mlff.models.transformer.model import DistanceTransformer
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.loader import GraphLoader

SMALL = {"num_features": 8, "num_layers": 2, "cutoff": 3.5, "dtype": "float64"}
TABLE = {"kind": "posenc", "num_features": 5, "num_knots": 8}
RELU = {"kind": "mlp", "num_features": 5, "activation": "relu"}
VARIANTS = [
    (EGNN, {"distance_encoding": "mlp", "attention": False}),
    (
        EGNN,
        {"distance_encoding": {**TABLE, "mode": "quintic"}, "variant": {"node_attributes": True}},
    ),
    (EGNN, {"equivariant": True}),
    (
        EGNN,
        {
            "equivariant": True,
            "variant": {"normalize": True, "tanh": True},
            "distance_encoding": TABLE,
        },
    ),
    (
        EGNN,
        {
            "equivariant": True,
            "all_pairs": True,
            "variant": {"coordinate_sum": "mean", "num_inputs": 3},
        },
    ),
    (EGNN, {"readout": "graph", "variant": {"species": [1, 6, 8]}, "distance_encoding": RELU}),
    (DimeNetPP, {"distance_encoding": "mlp"}),
    (
        DimeNetPP,
        {"distance_encoding": {**TABLE, "mode": "bspline"}, "variant": {"sbf_combine": "outer"}},
    ),
    (
        DimeNetPP,
        {"distance_encoding": TABLE, "variant": {"sbf_combine": "concat", "use_envelope": False}},
    ),
    (DimeNetPP, {"variant": "authors"}),
    (DistanceTransformer, {"distance_encoding": "mlp", "bias_per_layer": False, "num_heads": 2}),
    (DistanceTransformer, {"distance_encoding": {**TABLE, "initial": "gaussian_rbf"}}),
]


def molecule():
    positions = [[0.0, 0.1, 0.0], [1.1, 0.0, 0.2], [-0.3, 1.0, 0.1], [1.4, 1.2, 1.1]]
    return np.asarray(positions), [6, 1, 8, 1]


@pytest.mark.once
@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_forces_are_minus_the_gradient_and_turn(kind, options):
    model = kind(**SMALL | options)
    model.run_eagerly = keras.backend.backend() != "jax"
    positions, numbers = molecule()
    step, places = 1e-5, [(0, 0), (1, 2), (3, 1)]
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    moved = [positions, positions @ turn]
    for place in places:
        for sign in (1, -1):
            moved.append(positions.copy())
            moved[-1][place] += sign * step
    predicted = model.predict([structure(item, numbers) for item in moved])
    energy, forces = predicted["energy"], predicted["forces"].reshape(len(moved), -1, 3)
    assert np.all(np.isfinite(forces))
    np.testing.assert_allclose(energy[1], energy[0], rtol=1e-10)
    np.testing.assert_allclose(forces[1], forces[0] @ turn, rtol=1e-8, atol=1e-12)
    slopes = (energy[2::2] - energy[3::2]) / (2 * step)
    expected = -np.asarray([forces[0][place] for place in places])
    np.testing.assert_allclose(slopes, expected, rtol=1e-5, atol=2e-6)


def test_crystals_without_a_cutoff_are_refused():
    crystal = structure([[0.0, 0.0, 0.0]], [6], cell=np.eye(3) * 3.0)
    for model in (EGNN(**SMALL, all_pairs=True), DistanceTransformer(**SMALL)):
        model.run_eagerly = True
        with pytest.raises(ValueError, match="crystal"):
            model.predict(crystal)


@pytest.mark.once
def test_all_pairs_are_edges_however_far(tmp_path):
    """A batch holds the pairs of each molecule alone, not those of the largest one for each."""
    model = EGNN(**SMALL, all_pairs=True)
    model.run_eagerly = True
    pair = [structure([[0.0, 0.0, 0.0], [x, 0.0, 0.0]], [6, 8]) for x in (8.0, 9.0)]
    chain = structure(np.arange(15.0).reshape(5, 3), [6] * 5)
    loader = GraphLoader([add_edges(graph, model.cutoff) for graph in (*pair, chain)], 3)
    assert sum(inputs["edge_mask"].sum() for inputs, _ in loader) == 24  # 2 + 2 + 20
    energies = model.predict(loader)["energy"]
    np.testing.assert_allclose(energies, [model.predict(g)["energy"][0] for g in (*pair, chain)])
    assert abs(energies[0] - energies[1]) > 1e-6
    model.save_to_preset(str(tmp_path / "pairs"), elements=[6, 8])
    assert json.loads((tmp_path / "pairs/metadata.json").read_text())["cutoff"] is None
    again = EGNN.from_preset(str(tmp_path / "pairs"))
    np.testing.assert_allclose(again.predict(chain)["energy"], energies[2])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (EGNN, {"readout": "none"}),
        (EGNN, {"distance_encoding": "none"}),
        (DimeNetPP, {"variant": {"radial_factor": "ij"}}),
        (DimeNetPP, {"distance_encoding": "posenc", "variant": {"sbf_combine": "sum"}}),
        (DistanceTransformer, {"num_heads": 3}),
    ],
)
def test_wrong_options_are_refused(kind, options):
    with pytest.raises(ValueError, match="Received"):
        kind(**SMALL | options)


@pytest.mark.once
def test_smoothness_reaches_the_loss():
    for kind, number in ((EGNN, 2), (DimeNetPP, 3), (DistanceTransformer, 2)):
        model = kind(**SMALL, distance_encoding="smooth")
        assert len(model.losses) == number
        assert kind(**SMALL, distance_encoding="posenc").losses == []


def test_dimenet_holds_nothing_larger_than_its_triplets():
    """Every intermediate value has a row for each atom, edge or triplet; none is atoms cubed."""
    positions = 1.3 * np.arange(20.0)[:, None] * [[1.0, 0.2, 0.0]]
    chain = add_edges(structure(positions, [6] * 20), 3.0, triplets=True)
    model = DimeNetPP(**SMALL | {"cutoff": 3.0}, distance_encoding=TABLE)
    model.run_eagerly = True
    rows = {len(chain[key]) for key in ("atomic_numbers", "senders", "triplet_in")}
    assert max(rows) < 20 * 4 * 4
    recorded = model.inspect(chain)
    assert {len(value) for value in recorded.values()} <= rows
    assert len(recorded["triplet_basis"]) == len(chain["triplet_in"])


@pytest.mark.once
def test_only_sums_are_read_from_the_whole_graph():
    with pytest.raises(ValueError, match=r"heads=\['dipole'\]"):
        EGNN(num_features=4, num_layers=1, readout="graph", heads=[heads.DipoleHead()])
    mean = heads.ScalarHead("gap", pooling="mean")
    with pytest.raises(ValueError, match="pooling='sum'"):
        EGNN(num_features=4, num_layers=1, readout="graph", heads=[mean])
