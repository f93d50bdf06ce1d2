"""SO3LR's parameters give SO3LR's numbers: by its formulas, and by stored vectors where at hand."""

import functools
import os
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff import cli
from keras_mlff.graph import join, structure
from keras_mlff.models import So3krates
from keras_mlff.testing.structures import crystal, molecule
from tests.models.formulas import central_forces, central_stress
from tests.models.so3krates.so3lr_formulas import Network, random_weights

# the authors' parameters and vectors, which are not part of this package
GOLDEN = Path(os.environ.get("KERAS_MLFF_DATA", "."), "..", "golden", "so3lr")
FILES = sorted(path for path in GOLDEN.glob("*.npz") if path.stem != "so3lr_params")
TERMS = {
    "repulsion": "zbl_per_atom",
    "electrostatics": "electrostatic_per_atom",
    "dispersion": "dispersion_per_atom",
}


def eager(model):
    model.run_eagerly = keras.backend.backend() != "jax"
    return model


@pytest.fixture(scope="module")
def weights():
    return random_weights()


@pytest.fixture(scope="module")
def path(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("so3lr") / "params.npz"
    np.savez(path, **weights)
    return path


@pytest.fixture(scope="module")
def model(path):
    return eager(So3krates.from_so3lr(path, long_range_cutoff=7.0, dtype="float64"))


def test_random_parameters_give_the_numbers_of_the_formulas(model, weights):
    """Energies, terms, charges, ratios, features and coordinates of molecules and a crystal."""
    network = Network(weights, 7.0)
    cell = np.asarray([[4.1, 0.2, 0.0], [-0.3, 4.4, 0.3], [0.1, 0.4, 4.7]])
    structures = [
        structure(crystal()["positions"] * 0.8, [6, 8, 7, 1], cell=cell),
        molecule(6, seed=3, total_charge=-1.0, spin_multiplicity=2),
        molecule(5, total_charge=1.0),
        molecule(1, spin_multiplicity=4),
    ]
    graph = join([model.graph_spec.add_edges(item) for item in structures])
    predicted = model.predict(structures)
    predicted |= model.inspect(graph)
    expected = [
        network(
            *(item["atomic_numbers"], item["positions"], item.get("cell", [None])[0]),
            *(item["total_charge"][0], item["spin_multiplicity"][0]),
        )
        for item in structures
    ]
    for key in expected[0]:
        theirs = [np.atleast_1d(item[key]) for item in expected]
        np.testing.assert_allclose(
            predicted[key], np.concatenate(theirs), rtol=1e-10, atol=1e-11, err_msg=key
        )


@pytest.mark.once
def test_forces_and_stress_are_slopes_of_all_terms(model, weights):
    network = Network(weights, 7.0)
    numbers, positions = [8, 1, 6], np.asarray([[0.1, 0.2, 0], [0.9, 0.3, 0.4], [0, 1.4, 0.2]])
    cell = np.asarray([[3.9, 0.2, 0.0], [0.3, 4.2, 0.1], [0.0, -0.2, 4.5]])
    got = model.predict([structure(positions, numbers, cell=cell)])

    def energy(positions, cell=cell):
        return network(numbers, positions, cell)["energy"]

    np.testing.assert_allclose(got["forces"], central_forces(energy, positions), atol=1e-8)
    stress = central_stress(energy, positions, cell)
    np.testing.assert_allclose(got["stress"][0], stress, atol=1e-9)


@pytest.mark.once
def test_far_molecules_with_charges_of_their_own_add_up(model):
    """Without fragments charge and embedding are shared by all atoms, and energies do not."""
    water, ammonium = molecule(3, seed=4), molecule(5, seed=6, total_charge=1.0)
    apart = np.concatenate([water["positions"], ammonium["positions"] + 300.0])
    numbers = np.concatenate([water["atomic_numbers"], ammonium["atomic_numbers"]])
    known = {"fragments": [0] * 3 + [1] * 5, "fragment_charges": [0.0, 1.0]}
    both = structure(apart, numbers, total_charge=1.0, **known)
    alone = model.predict([water, ammonium])
    got = model.predict([both])
    np.testing.assert_allclose(got["energy"][0], alone["energy"].sum(), atol=1e-9)
    np.testing.assert_allclose(got["forces"], alone["forces"], atol=1e-9)
    shared = model.predict([structure(apart, numbers, total_charge=1.0)])
    assert abs(shared["energy"][0] - got["energy"][0]) > 1e-4


def test_pickles_are_read_without_running_anything(weights, model, tmp_path):
    nested = {}
    for name, value in weights.items():
        *folders, last = name.split("/")
        functools.reduce(lambda tree, key: tree.setdefault(key, {}), folders, nested)[last] = value
    path = tmp_path / "params.pkl"
    path.write_bytes(pickle.dumps({"params": nested}))
    again = So3krates.from_so3lr(path, 7.0, dtype="float64")
    for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    path.write_bytes(pickle.dumps({"params": Path}))
    with pytest.raises(ValueError, match=r"it holds pathlib.*Path, not arrays"):
        So3krates.from_so3lr(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("layers_1/attention_block/Wk2"), "'layers_1/attention_block/Wk2' is miss"),
        (lambda w: w.update(more=np.ones(3)), "no place in the network, such as .'more'"),
        (lambda w: w.update({"observables_0/atomic_scales": np.ones(7)}), "has shape"),
        (lambda w: w.update({"observables_0/atomic_scales": np.full(119, np.nan)}), "NaN in"),
        (lambda w: w.update({"observables_0/atomic_scales": np.ones(119, int)}), "floating-point"),
    ],
)
def test_other_parameters_are_refused(weights, tmp_path, change, message):
    changed = dict(weights)
    change(changed)
    np.savez(tmp_path / "params.npz", **changed)
    with pytest.raises(ValueError, match=message):
        So3krates.from_so3lr(tmp_path / "params.npz")


@pytest.mark.once
def test_a_preset_keeps_terms_and_numbers(model, tmp_path):
    model.save_to_preset(tmp_path / "so3krates" / "mine")
    loaded = eager(So3krates.from_preset(tmp_path / "so3krates" / "mine"))
    assert loaded.graph_spec == model.graph_spec
    before, after = (item.predict([molecule(5)]) for item in (model, loaded))
    for key, value in before.items():
        np.testing.assert_allclose(after[key], value, atol=1e-13, err_msg=key)


def expected_of(golden):
    """Lists what one file states, by our names."""
    expected = {ours: golden[theirs] for ours, theirs in TERMS.items()}
    expected |= {key: golden[key][None] for key in ("energy",)}
    expected |= {key: golden[key] for key in ("forces", "hirshfeld_ratios")}
    center = golden["z"] @ golden["R"] / golden["z"].sum()  # ours count from it
    dipole = golden["dipole"] - golden["total_charge"] * center
    return expected | {"partial_charges": golden["charges"], "dipole": dipole[None]}


@pytest.mark.skipif(not FILES, reason="KERAS_MLFF_DATA has no folder golden/so3lr beside it")
@pytest.mark.parametrize("cutoff", [1000.0, 12.0])
def test_published_parameters_give_the_published_numbers(cutoff):
    """All systems of a cutoff in one batch, which JAX compiles once."""
    files = [dict(np.load(path)) for path in FILES]
    files = [golden for golden in files if golden["lr_cutoff"] == cutoff]
    model = eager(So3krates.from_so3lr(GOLDEN / "so3lr_params.npz", cutoff, dtype="float64"))
    graphs = [
        model.graph_spec.add_edges(
            structure(
                golden["R"],
                golden["z"],
                cell=golden.get("cell"),
                total_charge=float(golden["total_charge"]),
                spin_multiplicity=int(golden["num_unpaired"]) + 1,
            )
        )
        for golden in files
    ]
    got = model.predict(graphs)
    got |= model.inspect(join(graphs))
    expected = [expected_of(golden) for golden in files]
    for key in expected[0]:
        theirs = np.concatenate([item[key] for item in expected])
        tolerance = 1e-10 * max(1.0, np.max(np.abs(theirs)))
        # the dipole of a cell depends on the cell that each atom is in
        rows = [key != "dipole" or "cell" not in golden for golden in files]
        rows = rows if len(theirs) == len(rows) else slice(None)
        np.testing.assert_allclose(got[key][rows], theirs[rows], atol=tolerance, err_msg=key)
    ends = np.cumsum([len(golden["z"]) for golden in files])
    for golden, end in zip(files, ends, strict=True):
        rows = slice(end - len(golden["z"]), end)
        for layer in range(3 if "h_0" in golden else 0):
            for ours, theirs in (("features", f"h_{layer}"), ("coordinates", f"q_{layer}")):
                values = got[f"layer{layer}/{ours}"][rows]
                tolerance = 1e-10 * np.max(np.abs(golden[theirs]))
                np.testing.assert_allclose(values, golden[theirs], atol=tolerance)


@pytest.mark.once
def test_parameters_are_imported_into_the_users_zoo(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_MLFF_ZOO", str(tmp_path / "zoo"))
    (tmp_path / "zoo").mkdir()
    arguments = ["zoo", "import", "so3lr", str(path), "--long-range-cutoff", "9"]
    assert cli.main(arguments) in (0, None)
    assert "written:" in capsys.readouterr().out
    model = eager(So3krates.from_preset("so3lr"))
    assert model.long_range_cutoff == 9.0
    card = (tmp_path / "zoo/so3krates/so3lr/README.md").read_text(encoding="utf-8")
    for fault in (
        "end at 9 Å",
        "under-bound",
        "size-consistent",
        "formulas",
        "depend on the cutoff",
    ):
        assert fault in card
    with pytest.raises(ValueError, match="elements"):
        model.predict([structure([[0.0, 0.0, 0.0]], [26])])
