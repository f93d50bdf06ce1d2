"""Studies of GeomAtt and of CMRET on CH2 run at toy size."""

import cmret_ch2_figures
import geomatt_attention
import geomatt_dimers
import geomatt_transfer
import numpy as np
import pytest

from keras_mlff import experiments, models
from keras_mlff.experiments import recipes

TINY = (
    *("model.num_features=8", "model.num_layers=1", "training.num_epochs=1"),
    *("report.plots=false", "preset.num_nve_steps=20"),
)


def test_geomatt_on_a_molecule_and_another(trajectory, tmp_path):
    pytest.importorskip("matplotlib")
    data = (f"file={trajectory}", "data.split.training=learn", "data.split.test=judge")
    data = (*data, "data.sizes.validation=2")
    published = tmp_path / "md17_aspirin"
    chosen = recipes.parse_overrides((*data, *TINY))
    first = experiments.run_recipe(
        "geomatt_md17", ["file"], chosen, tmp_path / "run", preset=published, verbose=0
    )
    assert first.errors["forces"]["GeomAtt, paper"] == 2.03
    geomatt_attention.main(str(published), ("file",), data)
    card = (published / "README.md").read_text("utf-8")
    assert (published / "attention.png").stat().st_size > 0
    assert "(attention.png)" in card
    assert "bonds are circled" in card
    results = geomatt_transfer.main(
        preset=str(published),
        num_epochs=1,
        variants=("file",),
        settings=data,
        folder=str(tmp_path / "transfer"),
        verbose=0,
    )
    assert results["energy"]["GeomAtt, paper"] == 0.38
    layers = {f"stream{i}/layer0" for i in range(3)}
    assert set(results["bond_auc"]) == {*layers, "nearness"}
    before = models.load_preset(str(published))
    after = models.load_preset(str(tmp_path / "transfer/training/model"))
    changed = [
        old.path
        for old, new in zip(before.weights, after.weights, strict=True)
        if np.any(np.asarray(old.value.detach()) != np.asarray(new.value.detach()))
    ]
    assert changed
    assert set(changed) <= {weight.path for part in before.readouts for weight in part.weights}


def test_attention_is_compared_with_hydrogen_bonds(tmp_path):
    """Dimers of water: each has one bond, whatever the distance."""
    water = np.asarray([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    random = np.random.default_rng(0)
    stretched = [2.6, 2.7, 2.8, 2.9, 3.0, 3.1, 3.2, 3.3] * 3
    positions = np.asarray([np.vstack([water, np.add(water, (x, 0.0, 0.0))]) for x in stretched])
    apart, bonded = geomatt_dimers.contacts(positions[0], np.asarray([8, 1, 1, 8, 1, 1]))
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
    results = geomatt_dimers.main(
        data=str(file),
        num_validation=1,
        num_test=1,
        settings=TINY,
        folder=str(tmp_path / "run"),
        verbose=0,
    )
    assert set(results["auc_unseen"]) == {"nearness", *(f"stream{i}/layer0" for i in range(3))}
    assert all(0.0 <= value <= 1.0 for value in results["auc_all"].values())
    assert (tmp_path / "run" / "dimer.png").stat().st_size > 0


def test_ablations_on_ch2_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    results = cmret_ch2_figures.main(
        num_epochs=1,
        settings=(
            *TINY,
            "data.split.training=train[:40]",
            "data.split.test=test[:20]",
            "data.sizes.validation=20",
        ),
        folder=str(tmp_path),
        verbose=0,
    )
    assert list(results) == list(cmret_ch2_figures.ABLATIONS)
    for by_spin in results.values():
        assert set(by_spin) == {"singlet", "triplet"}
        assert all(value > 0.0 for errors in by_spin.values() for value in errors.values())
    drawn = {file.name for file in tmp_path.glob("*.png")}
    assert drawn == {"figure2.png", "figure3.png", "attention.png"}
