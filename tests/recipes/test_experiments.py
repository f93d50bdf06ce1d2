"""Published experiments run from data to preset: tiny models on invented frames."""

import importlib
import json

import numpy as np
import pytest

from keras_mlff import models, publish
from keras_mlff.experiments import experiment
from keras_mlff.graph import structure
from keras_mlff.units import kcal_per_mol

SPLITS = {"training": "learn", "test": "judge"}
TINY = {"num_features": 8, "num_layers": 1, "num_epochs": 1, "verbose": 0}


def test_parts_have_nothing_in_common(trajectory):
    parts = experiment.load_parts(str(trajectory), "learn", "choose", "judge")
    assert [len(part) for part in parts] == [8, 4, 4]
    with pytest.raises(ValueError, match="share 2 structures"):
        experiment.load_parts(str(trajectory), "learn", "judge", "choose")
    with pytest.raises(ValueError, match=r"Nothing is left for \['validation'\]"):
        experiment.load_parts(str(trajectory), "learn", "learn", "judge")


def test_cells_and_states_tell_structures_apart():
    """One atom in cells of three sizes, on a surface, and with other charge or spin."""
    box = np.eye(3)
    atoms = [
        structure([[0.0, 0.0, 0.0]], [29], **state)
        for state in (
            {},
            {"cell": 2.0 * box},
            {"cell": 2.1 * box},
            {"cell": 2.1 * box, "pbc": [True, True, False]},
            {"total_charge": 1.0},
            {"spin_multiplicity": 2},
            {"total_charge": 1.0, "spin_multiplicity": 2},
        )
    ]
    assert len({experiment.identity(atom) for atom in atoms}) == len(atoms)
    assert experiment.identity(atoms[1]) == experiment.identity({**atoms[1], "energy": np.ones(1)})


def test_the_digest_of_molecules_is_that_of_published_splits():
    """Neutral singlets are named by positions and elements alone, as in presets' metadata."""
    water, hydrogen = (
        structure(np.eye(3)[: len(numbers)], numbers) for numbers in ([8, 1, 1], [1, 1])
    )
    assert experiment.Parts([water], [hydrogen], []).digest() == "a6b207b8529dff0a"
    charged = {**water, "total_charge": np.ones(1)}
    assert experiment.Parts([charged], [hydrogen], []).digest() != "a6b207b8529dff0a"


@pytest.mark.parametrize("missing", ["folder", "recipe"])
def test_what_stands_in_the_way_of_a_preset_is_said_before_the_training(
    tmp_path, monkeypatch, missing
):
    monkeypatch.setattr(experiment.training, "train", None)
    monkeypatch.setattr("keras_mlff.publish.publishing.nve_drift", None)
    (tmp_path / "notes.txt").write_text("three years")
    model = models.EGNN(num_features=4, num_layers=1)
    taken = {"folder": tmp_path, "recipe": tmp_path / "new"}[missing]
    about = {"recipe": "python recipes/x.py"} if missing == "folder" else {}
    message = {"folder": "not a preset", "recipe": r"needs \['recipe'\]"}[missing]
    parts = experiment.Parts([], [], [])
    with pytest.raises(ValueError, match=message):
        experiment.run(model, parts, tmp_path / "run", {"energy": "mse"}, preset=taken, **about)
    with pytest.raises(ValueError, match=message):
        publish.publish(model, taken, [], tmp_path / "log.csv", seed=0, metrics={}, **about)


def test_elements_that_were_not_learned_are_not_judged():
    water, hydrogen, fluoride = (
        structure(np.eye(3)[: len(numbers)], numbers) for numbers in ([8, 1, 1], [1, 1], [1, 9])
    )
    parts = experiment.Parts([water] * 20, [hydrogen, fluoride], [fluoride, water])
    known = experiment.with_known_elements(parts)
    assert known == experiment.Parts([water] * 20, [hydrogen], [water])
    assert experiment.rare_elements(parts.training) == []
    (note,) = experiment.rare_elements([*parts.training, fluoride])
    assert note.endswith("9 (in 1).")


def test_so3krates_on_a_molecule(trajectory, tmp_path):
    folder = tmp_path / "run"
    results = importlib.import_module("so3krates_md17").main(
        data=str(trajectory), validation="choose", folder=str(folder), **SPLITS, **TINY
    )
    assert results["energy"]["unit"] == "kcal/mol"
    assert results["forces"]["So3krates, paper"] == 0.096
    assert json.loads((folder / "results.json").read_text("utf-8")) == results
    # the log has eV, the results what the paper has
    log = np.genfromtxt(folder / "log.csv", delimiter=",", names=True)
    assert 0.1 < results["energy"]["test_mae"] * kcal_per_mol / log["val_energy_mae"] < 10.0


@pytest.mark.parametrize("paper", [False, True])
def test_cmret_on_a_molecule(trajectory, tmp_path, paper):
    results = importlib.import_module("cmret_md17").main(
        data=str(trajectory),
        validation="choose",
        folder=str(tmp_path / "run"),
        paper=paper,
        **SPLITS,
        **TINY,
    )
    assert results["forces"]["unit"] == "kcal/mol/Å"


def test_geomatt_on_a_molecule_and_another(trajectory, tmp_path):
    common = {"data": str(trajectory), "num_validation": 2, **SPLITS}
    published = tmp_path / "published"
    first = importlib.import_module("geomatt_md17").main(
        molecule="aspirin",
        folder=str(tmp_path / "run"),
        preset=str(published),
        **common,
        **TINY,
    )
    assert first["forces"]["GeomAtt, paper"] == 2.03
    assert (published / "attention.png").stat().st_size > 0
    card = (published / "README.md").read_text("utf-8")
    assert "(attention.png)" in card
    assert "bonds are circled" in card
    first = tmp_path / "md17_aspirin"
    before = models.GeomAtt(num_features=8, num_layers=1)
    before.save_to_preset(str(first), elements=[1, 6, 8])
    results = importlib.import_module("geomatt_transfer").main(
        preset=str(first),
        molecule="benzene",
        num_epochs=1,
        verbose=0,
        folder=str(tmp_path / "transfer"),
        **common,
    )
    assert results["energy"]["GeomAtt, paper"] == 0.38
    layers = {f"stream{i}/layer0" for i in range(3)}
    assert set(results["bond_auc"]) == {*layers, "nearness"}
    carried = models.load_preset(str(first))
    carried.load_weights(tmp_path / "transfer/best.weights.h5")
    changed = [
        old.path
        for old, new in zip(before.weights, carried.weights, strict=True)
        if np.any(np.asarray(old.value.detach()) != np.asarray(new.value.detach()))
    ]
    readouts = {weight.path for readout in before.readouts for weight in readout.weights}
    assert changed
    assert set(changed) <= readouts


def test_attention_is_compared_with_hydrogen_bonds(tmp_path):
    """Dimers of water: each has one bond, whatever the distance."""
    recipe = importlib.import_module("geomatt_dimers")
    water = np.asarray([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    random = np.random.default_rng(0)
    stretched = [2.6, 2.7, 2.8, 2.9, 3.0, 3.1, 3.2, 3.3] * 3
    positions = np.asarray([np.vstack([water, np.add(water, (x, 0.0, 0.0))]) for x in stretched])
    apart, bonded = recipe.contacts(positions[0], np.asarray([8, 1, 1, 8, 1, 1]))
    assert np.argwhere(bonded).tolist() == [[1, 3], [3, 1]]
    assert apart.sum() == 18
    file = tmp_path / "dimers.npz"
    forces = random.normal(size=positions.shape)
    np.savez(
        file,
        z=[8, 1, 1, 8, 1, 1],
        R=positions + random.normal(scale=0.01, size=positions.shape),
        E=random.normal(size=24),
        F=forces - forces.mean(axis=1, keepdims=True),
    )
    results = recipe.main(
        data=str(file), num_validation=1, num_test=1, folder=str(tmp_path / "run"), **TINY
    )
    assert set(results["auc_unseen"]) == {"nearness", *(f"stream{i}/layer0" for i in range(3))}
    assert all(0.0 <= value <= 1.0 for value in results["auc_all"].values())
    assert (tmp_path / "run" / "dimer.png").stat().st_size > 0


def test_cmret_on_ch2(tmp_path):
    recipe = importlib.import_module("cmret_ch2")
    arguments = {"num_features": 8, "num_layers": 1, "num_epochs": 1, "batch_size": 200}
    results = recipe.main(
        folder=str(tmp_path / "run"), preset=str(tmp_path / "small"), verbose=0, **arguments
    )
    assert set(results) == {"singlet", "triplet"}
    assert all(value > 0.0 for errors in results.values() for value in errors.values())
    card = (tmp_path / "small" / "README.md").read_text("utf-8")
    command = "python recipes/cmret_ch2.py --num-epochs=1 --batch-size=200 --num-features=8"
    assert command in card


def test_cmret_on_qm9(tmp_path):
    recipe = importlib.import_module("cmret_qm9")
    random = np.random.default_rng(0)
    sizes = random.integers(3, 6, 20)
    labels = {name: np.abs(random.normal(size=20)) + 1.0 for name in recipe.TARGETS}
    file = tmp_path / "molecules.npz"
    np.savez(
        file,
        positions=random.normal(size=(sizes.sum(), 3)) * 1.5,
        atomic_numbers=random.choice([1, 6, 7, 8], sizes.sum()),
        n_atoms=sizes,
        **labels,
    )
    results = recipe.main(
        data=str(file),
        num_validation=4,
        num_test=4,
        folder=str(tmp_path / "run"),
        preset=str(tmp_path / "qm9"),
        **TINY,
    )
    assert list(results) == list(recipe.TARGETS)
    model = models.CMRET.from_preset(str(tmp_path / "qm9"))
    predicted = model.predict(recipe.split_molecules(str(file), 4, 4, 0, 0)[2])
    assert predicted.keys() >= set(recipe.TARGETS)
    assert set(model.preset.properties) == set(recipe.TARGETS)
    assert model.preset.metadata["units"]["alpha"] == "Å³"
