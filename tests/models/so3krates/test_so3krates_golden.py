"""So3krates must give the numbers of the authors' program, to rounding in float64."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff import models
from keras_mlff.graph import join, structure
from keras_mlff.heads import DipoleHead, EnergyHead, ScalarHead
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.loader import GraphLoader

GOLDEN = Path(__file__).parents[2] / "golden/so3krates"
CASES = ("local_l123", "local_l0123_parity_ln", "nonlocal_l1")
MOLECULES = ("water3", "ethanol9", "cumulene_C7H4_11")
# 1e-10 relative to the largest value of each array, most of which hold zeros by symmetry
RELATIVE = 1e-10


def reference(case):
    hyperparameters = json.loads((GOLDEN / f"{case}_hparams.json").read_text())
    with np.load(GOLDEN / f"{case}_weights.npz") as file:
        return hyperparameters, dict(file)


class Case:
    """One of the authors' networks, its molecules, and what ours says of all at once."""

    def __init__(self, name):
        self.hyperparameters, self.weights = reference(name)
        self.model = models.So3krates.from_port(self.hyperparameters, self.weights)
        self.model.run_eagerly = keras.backend.backend() != "jax"
        self.golden = []
        for molecule in MOLECULES:
            with np.load(GOLDEN / f"{name}_{molecule}.npz") as file:
                self.golden.append(dict(file))
        self.graphs = [
            add_edges(structure(item["pos"], item["z"]), self.model.cutoff) for item in self.golden
        ]
        # one batch: XLA compiles each shape anew
        self.predicted = self.model.predict(GraphLoader(self.graphs, batch_size=3))
        self.inside = self.model.inspect(join(self.graphs))
        self.bounds = np.cumsum([0] + [len(item["z"]) for item in self.golden])

    def compare(self, ours, theirs):
        """Compares values of atoms, all molecules after each other."""
        for item, first, last in zip(self.golden, self.bounds, self.bounds[1:], strict=False):
            assert_close(ours[first:last], item[theirs], theirs)

    def compare_pairs(self, ours, theirs):
        """Compares values of pairs, ours as matrices `(num_graphs, n, max_atoms, max_atoms)`."""
        for index, item in enumerate(self.golden):
            values = ours[index][:, item["idx_i"], item["idx_j"]].T
            assert_close(values, item[theirs], theirs)
            elsewhere = np.ones(ours[index].shape[1:], bool)
            elsewhere[item["idx_i"], item["idx_j"]] = False
            np.testing.assert_array_equal(ours[index][:, elsewhere], 0.0)


def assert_close(actual, expected, name):
    atol = RELATIVE * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=RELATIVE, atol=atol, err_msg=name)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return Case(request.param)


def test_energies_and_forces_equal_the_reference(case):
    expected = np.asarray([item["energy"] for item in case.golden])
    np.testing.assert_allclose(case.predicted["energy"], expected, rtol=RELATIVE)
    case.compare(case.predicted["atomic_energies"], "atom_energy")
    case.compare(case.predicted["forces"], "forces")


def test_features_and_coordinates_equal_the_reference(case):
    case.compare(case.inside["features"], "x_init")
    case.compare(case.inside["coordinates"], "chi_init")
    names = {
        "attended_features": "x_after_attention",
        "attended_coordinates": "chi_after_attention",
        "coupled_coordinates": "chi_coupled",
        "features": "x",
        "coordinates": "chi",
    }
    for layer in range(case.hyperparameters["n_layers"]):
        for ours, theirs in names.items():
            case.compare(case.inside[f"layer{layer}/{ours}"], f"{theirs}_{layer}")


def test_attention_equals_the_reference(case):
    names = {"features": "alpha_feature", "coordinates": "alpha_sphc_local"}
    if case.hyperparameters["nonlocal"]:
        names["nonlocals"] = "alpha_sphc_nonlocal"
    for layer in range(case.hyperparameters["n_layers"]):
        for ours, theirs in names.items():
            case.compare_pairs(case.inside[f"layer{layer}/{ours}/attention"], f"{theirs}_{layer}")


def test_float32_comes_close(case):
    model = models.So3krates.from_port(case.hyperparameters, case.weights, dtype="float32")
    model.run_eagerly = keras.backend.backend() != "jax"
    predicted = model.predict(GraphLoader(case.graphs, batch_size=3))
    expected = np.asarray([item["energy"] for item in case.golden])
    np.testing.assert_allclose(predicted["energy"], expected, rtol=1e-5)
    for item, first, last in zip(case.golden, case.bounds, case.bounds[1:], strict=False):
        atol = 1e-4 * np.abs(item["forces"]).max()
        np.testing.assert_allclose(predicted["forces"][first:last], item["forces"], atol=atol)


def test_names_of_weights_may_lack_their_prefix():
    hyperparameters, weights = reference("nonlocal_l1")
    stripped = {key.removeprefix("w:"): value for key, value in weights.items()}
    ours, theirs = (
        models.So3krates.from_port(hyperparameters, arrays) for arrays in (weights, stripped)
    )
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_mismatches_are_refused():
    hyperparameters, weights = reference("nonlocal_l1")
    build = models.So3krates.from_port
    with pytest.raises(ValueError, match=r"Unknown hyper-parameters.*\['n_layer'\]"):
        build({**hyperparameters, "n_layer": 2}, weights)
    with pytest.raises(ValueError, match=r"Not offered.*'tanh_cutoff_fn'"):
        build({**hyperparameters, "cutoff_fn": "tanh_cutoff_fn"}, weights)
    with pytest.raises(ValueError, match=r"weights have no place.*layers_2"):
        build({**hyperparameters, "n_layers": 2}, weights)
    with pytest.raises(ValueError, match=r"'layers_0/LayerNorm_0/scale' is missing"):
        build({**hyperparameters, "feature_layer_norm": True}, weights)
    with pytest.raises(ValueError, match="the network expects"):
        build({**hyperparameters, "n_rbf": 9}, weights)
    with pytest.raises(ValueError, match="rad_filter"):
        build({**hyperparameters, "rad_filter": [16, 8]}, weights)
    with pytest.raises(ValueError, match=r"Not offered.*'polynomial_cutoff_fn'"):
        build({**hyperparameters, "cutoff_fn": "polynomial_cutoff_fn"}, weights)
    for nothing in (None, []):
        with pytest.raises(ValueError, match=r"without filters of distances.*rad_filter"):
            build({**hyperparameters, "rad_filter": nothing}, weights)
    scaled = {**hyperparameters, "scale": 2.0}
    with pytest.raises(ValueError, match=r"`scale` and `shift` belong to the energy head"):
        build(scaled, weights, heads=[EnergyHead()])
    plain = {key: value for key, value in hyperparameters.items() if key not in ("scale", "shift")}
    with pytest.raises(ValueError, match=r"one readout.*with 2"):
        build(plain, weights, heads=[EnergyHead(), DipoleHead()])
    with pytest.raises(ValueError, match=r"those of an energy.*gap"):
        build(plain, weights, heads=[ScalarHead("gap")])
    with pytest.raises(ValueError, match="distance_encoding='posenc'"):
        build(hyperparameters, weights, distance_encoding="posenc")
    one, listed = build(scaled, weights), build({**hyperparameters, "scale": [2.0]}, weights)
    assert one.heads[0].element_scales == listed.heads[0].element_scales


def test_weights_without_filters_of_coordinates_are_the_ablation():
    """They give what filters whose last maps are zero give."""
    hyperparameters, weights = reference("local_l123")
    silenced = {
        key: array * 0.0 if "filter_fn/VmapMLP_1/layers_1" in key else array
        for key, array in weights.items()
    }
    kept = {key: array for key, array in weights.items() if "filter_fn/VmapMLP_1" not in key}
    assert len(kept) < len(weights)
    build = models.So3krates.from_port
    ablated = {**hyperparameters, "sph_filter": None}
    full, without = build(hyperparameters, silenced), build(ablated, kept)
    for model in (full, without):
        model.run_eagerly = keras.backend.backend() != "jax"
    with np.load(GOLDEN / "local_l123_ethanol9.npz") as golden:
        ethanol = structure(golden["pos"], golden["z"])
        expected, found = full.predict(ethanol), without.predict(ethanol)
        assert abs(expected["energy"][0] - golden["energy"]) > 1e-6
    np.testing.assert_allclose(found["energy"], expected["energy"], rtol=RELATIVE)
    np.testing.assert_allclose(found["forces"], expected["forces"], rtol=RELATIVE, atol=1e-12)
    with pytest.raises(ValueError, match=r"weights have no place.*VmapMLP_1"):
        build(ablated, weights)
    with pytest.raises(ValueError, match=r"no filters of coordinates.*sph_filter=None"):
        build(hyperparameters, kept)
