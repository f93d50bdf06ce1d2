"""Published experiments run from data to preset: tiny models on invented frames."""

import importlib
import json

import numpy as np
import pytest

from keras_mlff import experiment, models
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


def test_geomatt_on_a_molecule_and_another(trajectory, tmp_path):
    common = {"data": str(trajectory), "num_validation": 2, **SPLITS}
    first = importlib.import_module("geomatt_md17").main(
        molecule="aspirin", folder=str(tmp_path / "run"), **common, **TINY
    )
    assert first["forces"]["GeomAtt, paper"] == 2.03
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
