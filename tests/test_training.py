"""Training that is interrupted must end where an uninterrupted one ends, to the last bit."""

import csv
import json

import keras
import numpy as np
import pytest

from keras_mlff import callbacks, models, schedules, training
from keras_mlff.graph import structure

NUM_EPOCHS = 4


@pytest.fixture(scope="module")
def graphs():
    random = np.random.default_rng(0)
    base = np.asarray([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [-0.3, 1.0, 0.0]])
    return [
        structure(
            base + random.normal(scale=0.05, size=(3, 3)),
            [6, 1, 1],
            energy=float(random.normal()),
            forces=random.normal(size=(3, 3)),
        )
        for _ in range(8)
    ]


def make(graphs):
    keras.utils.set_random_seed(0)
    model = models.CMRET(num_features=8, num_layers=1, num_heads=1, num_radial=4)
    return model, training.with_edges(graphs, model)


def run(graphs, folder, kill_after=None, **kwargs):
    """Trains; `kill_after` epochs it stops like a process that is gone: nothing is cleaned up."""
    model, edges = make(graphs)
    optimizer = keras.optimizers.Adam(
        schedules.warmup_cosine(1e-2, 3 * NUM_EPOCHS), use_ema=True, ema_momentum=0.9
    )
    if kill_after is not None:
        kwargs["resume"] = False
        original = callbacks.TrainingState.on_epoch_begin

        def on_epoch_begin(self, epoch, logs=None):
            original(self, epoch, logs)
            if epoch == kill_after:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(callbacks.TrainingState, "on_epoch_begin", on_epoch_begin)
            with pytest.raises(KeyboardInterrupt):
                train(model, edges, folder, optimizer, **kwargs)
        return model
    train(model, edges, folder, optimizer, **kwargs)
    return model


def train(model, edges, folder, optimizer, **kwargs):
    training.train(
        model,
        edges[:6],
        edges[6:],
        folder,
        optimizer,
        loss={"energy": "mse", "forces": "mse"},
        batch_size=2,
        num_epochs=NUM_EPOCHS,
        verbose=0,
        **kwargs,
    )


# the killed process leaves its log open, as a killed process does
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_training_resumes_to_the_last_bit(graphs, tmp_path, monkeypatch):
    """Data order, optimizer, averages, best weights and log go on as if nothing had happened."""
    monkeypatch.setattr(callbacks.TrainingState.__init__, "__defaults__", (None, 0.0))
    whole = run(graphs, tmp_path / "whole", patience=10)
    run(graphs, tmp_path / "parts", kill_after=2, patience=10)
    parts = run(graphs, tmp_path / "parts", resume=True, patience=10)

    for expected, found in zip(whole.weights, parts.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(expected), keras.ops.convert_to_numpy(found)
        )
    with (
        np.load(tmp_path / "whole/state.npz") as expected,
        np.load(tmp_path / "parts/state.npz") as found,
    ):
        assert expected.files == found.files
        about = [json.loads(str(file["about"])) for file in (expected, found)]
        assert all(entry.pop("cpu_seconds") > 0.0 for entry in about)
        assert about[0] == about[1]
        for name in set(expected.files) - {"about"}:
            np.testing.assert_array_equal(expected[name], found[name])
    rows = [read_log(tmp_path / name) for name in ("whole", "parts")]
    assert rows[0] == rows[1]
    assert [int(row["epoch"]) for row in rows[0]] == list(range(NUM_EPOCHS))


def read_log(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_training_is_not_overwritten_by_accident(graphs, tmp_path):
    run(graphs, tmp_path)
    with pytest.raises(ValueError, match="resume=True"):
        run(graphs, tmp_path)


def test_a_finished_training_stays_finished(graphs, tmp_path):
    """Resuming it, twice even, trains no further epoch and loses no line of the log."""
    first = run(graphs, tmp_path)
    log = read_log(tmp_path)
    for _ in range(2):
        again = run(graphs, tmp_path, resume=True)
    assert read_log(tmp_path) == log
    for expected, found in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_another_models_state_is_refused(graphs, tmp_path):
    run(graphs, tmp_path)
    model, edges = make(graphs)
    with pytest.raises(ValueError, match="another model or optimizer"):
        train(model, edges, tmp_path, keras.optimizers.SGD(1e-3), resume=True)


def test_early_stopping_leaves_the_best_averaged_weights(graphs, tmp_path):
    model = run(graphs, tmp_path, patience=1)
    best = min(float(row["val_loss"]) for row in read_log(tmp_path))
    _, edges = make(graphs)
    found = model.evaluate(edges[6:], verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(found, best, rtol=1e-5)


def test_triangular_cycles_follow_the_paper():
    """Two triangles; with half the steps below 200,000 a rise takes 20 % of a half."""
    schedule = schedules.TriangularCycles(total_steps=1000)
    steps = [0, 100, 500, 600, 999]
    rates = [float(keras.ops.convert_to_numpy(schedule(step))) for step in steps]
    np.testing.assert_allclose(rates[:4], [1e-6, 1e-4, 1e-8, 1e-6], rtol=1e-4)
    assert rates[4] < 2e-8
    long = schedules.TriangularCycles(total_steps=1_000_000)
    np.testing.assert_allclose(float(keras.ops.convert_to_numpy(long(100_000))), 1e-4, rtol=1e-5)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert float(keras.ops.convert_to_numpy(again(100))) == rates[1]
