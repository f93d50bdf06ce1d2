"""The check of stability runs some steps, is stopped and goes on, and is lengthened."""

import json
import shutil

import numpy as np
import pytest
import stability

from keras_mlff import models


@pytest.fixture
def model():
    """A gas of free atoms keeps its energy, and its bonds for a while."""
    model = models.EGNN(num_features=8, num_layers=1)
    for weight in model.readouts[0].trainable_variables:
        weight.assign(0.0 * weight)
    return model


@pytest.fixture
def settings(model, tmp_path):
    """Pieces of four steps, of which every second is recorded."""
    data = tmp_path / "start.npz"
    place = np.asarray([[[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]])
    place += np.random.default_rng(0).normal(scale=0.01, size=place.shape)
    np.savez(data, R=place, z=[8, 1, 1])
    save(model, tmp_path)
    return {
        "preset": str(tmp_path / "still"),
        "data": str(data),
        "temperature": 10.0,
        "piece_ps": 0.002,
        "interval": 2,
        "folder": str(tmp_path / "run"),
    }


def save(model, folder):
    model.save_to_preset(str(folder / "still"), elements=[1, 8], properties=["energy", "forces"])


def frames(folder):
    with np.load(folder / "frames.npz") as file:
        return {name: array for name, array in file.items() if name != "settings"}


def figures(folder):
    return {file.name for file in folder.glob("*.png")}


def test_goes_on_where_it_stopped(settings, model, tmp_path):
    stability.main(nvt_ps=0.004, nve_ps=0.0, **settings)
    results = stability.main(nvt_ps=0.004, nve_ps=0.004, **settings)
    assert results["nvt"]["length_ps"] == results["nve"]["length_ps"] == pytest.approx(0.004)
    assert results["nvt"]["first_broken_ps"] is None
    assert abs(results["nve"]["drift_meV_per_atom_ps"]) < 1e-6
    assert json.loads((tmp_path / "run/results.json").read_text("utf-8")) == results
    np.testing.assert_allclose(frames(tmp_path / "run")["nvt/times"], [0.0, 1.0, 2.0, 3.0, 4.0])
    assert figures(tmp_path / "run") == {"stability.png"}
    with pytest.raises(ValueError, match="other settings"):
        stability.main(nvt_ps=0.004, **settings | {"temperature": 20.0})
    # dynamics at constant energy alone
    results = stability.main(
        nvt_ps=0.0, nve_ps=0.002, **settings | {"folder": str(tmp_path / "nve")}
    )
    assert "nvt" not in results
    assert results["nve"]["length_ps"] == pytest.approx(0.002)
    assert figures(tmp_path / "nve") == {"stability.png"}
    # a preset of the same name that was trained anew
    digest = results["settings"]["weights_sha256"]
    model.elements.embeddings.assign(2.0 * model.elements.embeddings)
    shutil.rmtree(tmp_path / "still")
    save(model, tmp_path)
    with pytest.raises(ValueError, match=f"other weights.*{digest}"):
        stability.main(nvt_ps=0.004, **settings)


def test_a_finished_run_is_lengthened_as_if_it_had_been_longer(settings, tmp_path):
    """Constant energy begins where constant temperature ends, so that is done anew."""
    stability.main(nvt_ps=0.002, nve_ps=0.004, **settings)
    stability.main(nvt_ps=0.004, nve_ps=0.002, **settings)
    stability.main(nvt_ps=0.004, nve_ps=0.004, **settings)
    stability.main(nvt_ps=0.004, nve_ps=0.004, **settings | {"folder": str(tmp_path / "whole")})
    lengthened, whole = frames(tmp_path / "run"), frames(tmp_path / "whole")
    assert lengthened.keys() == whole.keys()
    for name, values in whole.items():
        np.testing.assert_allclose(lengthened[name], values, rtol=1e-6, err_msg=name)


# a piece is 0.002 ps, and every second step of 0.0005 ps is recorded
@pytest.mark.parametrize("length", [0.0005, 0.001, 0.0015, 0.0025, 0.0035])
def test_runs_are_as_long_as_asked(settings, tmp_path, length):
    results = stability.main(nvt_ps=length, nve_ps=length, **settings)
    for ensemble in ("nvt", "nve"):
        assert results[ensemble]["length_ps"] == pytest.approx(length)
        times = frames(tmp_path / "run")[f"{ensemble}/times"]
        assert np.all(np.diff(times) <= 1.0)
        assert np.all(np.diff(times) > 0.0)


@pytest.mark.parametrize("length", [0.0002, -1.0])
def test_lengths_below_a_step_are_refused(settings, length):
    with pytest.raises(ValueError, match=f"nve_ps={length} ps, time_step=0.5 fs. Pass 0.0005"):
        stability.main(nvt_ps=0.0, nve_ps=length, **settings)


def test_folders_of_the_earlier_version_are_refused(settings, tmp_path):
    file = tmp_path / "frames.npz"
    np.savez(file, settings=json.dumps(settings), positions=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="An earlier version"):
        stability.resume(file, settings)


def test_stops_at_a_broken_bond():
    stored = {"nvt/stretches": np.asarray([0.7, 1.2]), "nvt/times": np.asarray([0.0, 5.0])}
    stored["nvt/temperatures"] = np.asarray([500.0, 500.0])
    assert stability.is_broken(stored)
    assert stability.summarize(stored, 3)["nvt"]["first_broken_ps"] == pytest.approx(0.005)
    limits = stability.breaking_lengths(np.asarray([8, 1, 1]), np.asarray([[0, 1], [0, 2]]))
    assert np.all((limits > 1.3) & (limits < 1.6))
