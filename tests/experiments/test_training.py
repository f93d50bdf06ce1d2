"""Training that is interrupted must end where an uninterrupted one ends, to the last bit."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff import fit, models
from keras_mlff.experiments import Parts, Settings, training
from keras_mlff.fit import schedules
from keras_mlff.fit.logs import trim_log
from keras_mlff.graph import structure
from keras_mlff.packing.loader import GraphLoader

NUM_EPOCHS = 4


@pytest.fixture(scope="module")
def graphs():
    return make_structures()


def make_structures():
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
    model = models.EGNN(num_features=4, num_layers=1)  # the one that compiles soonest
    return model, training.with_edges(graphs, model)


def run(graphs, folder, kill_after=None, kill_amid=None, **kwargs):
    """Trains; `kill_after` epochs it stops like a process that is gone: nothing is cleaned up.

    With `kill_amid` it does so before that step of the next epoch.
    """
    model, edges = make(graphs)
    optimizer = keras.optimizers.Adam(
        schedules.warmup_cosine(1e-2, 3 * NUM_EPOCHS), use_ema=True, ema_momentum=0.9
    )
    if kill_after is not None:
        kwargs["resume"] = False
        name = "on_epoch_begin" if kill_amid is None else "on_train_batch_begin"
        original = getattr(fit.TrainingState, name)

        def interrupted(self, index, logs=None):
            original(self, index, logs)
            if (self._next_epoch - 1, index) == (kill_after, kill_amid or kill_after):
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fit.TrainingState, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                train(model, edges, folder, optimizer, **kwargs)
        return model
    train(model, edges, folder, optimizer, **kwargs)
    return model


def train(model, edges, folder, optimizer, resume=False, **kwargs):
    loss = kwargs.pop("loss", {"energy": "mse", "forces": "mse"})
    settings = Settings(
        optimizer=optimizer, loss=loss, batch_size=2, **{"num_epochs": NUM_EPOCHS} | kwargs
    )
    parts = Parts(edges[:6], edges[6:], [])
    training.fit_model(model, parts, folder, settings, tuple(loss), resume=resume, verbose=0)


@pytest.fixture(scope="module")
def whole_run(graphs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return run(graphs, folder, patience=10), folder


@pytest.mark.parametrize(
    ("kill_after", "kill_amid"),
    [
        (2, 1),
        pytest.param(2, None, marks=pytest.mark.once),
        pytest.param(NUM_EPOCHS - 1, 1, marks=pytest.mark.once),
    ],
)
def test_a_killed_training_resumes_to_the_last_bit(
    graphs, whole_run, tmp_path, monkeypatch, kill_after, kill_amid
):
    """Data order, optimizer, averages, best weights and log go on as if nothing had happened."""
    monkeypatch.setattr(fit.TrainingState.__init__, "__defaults__", (None, 0.0, 0))
    whole, folder = whole_run
    run(graphs, tmp_path, kill_after=kill_after, kill_amid=kill_amid, patience=10)
    with np.load(tmp_path / "state.npz") as state:
        about = json.loads(str(state["about"]))
    assert (about["epoch"], about["position"]) == (kill_after, kill_amid or 0)
    parts = run(graphs, tmp_path, resume=True, patience=10)

    for expected, found in zip(whole.weights, parts.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(expected), keras.ops.convert_to_numpy(found)
        )
    assert_same_state(folder, tmp_path)
    rows = [read_log(folder), read_log(tmp_path)]
    assert rows[0] == rows[1]
    assert [int(row["epoch"]) for row in rows[0]] == list(range(NUM_EPOCHS))


def assert_same_state(one, other):
    with np.load(one / "state.npz") as expected, np.load(other / "state.npz") as found:
        assert expected.files == found.files
        about = [json.loads(str(file["about"])) for file in (expected, found)]
        assert all(entry.pop("cpu_seconds") > 0.0 for entry in about)
        assert about[0] == about[1]
        for name in set(expected.files) - {"about"}:
            np.testing.assert_array_equal(expected[name], found[name], err_msg=name)


def test_a_training_that_is_extended_ends_where_a_long_one_does(graphs, whole_run, tmp_path):
    """Averages that stand in the model at the end are not what the training goes on with."""
    whole, folder = whole_run
    run(graphs, tmp_path, num_epochs=2, patience=10)
    run(graphs, tmp_path, num_epochs=2, patience=10, resume=True)  # no epoch is left
    extended = run(graphs, tmp_path, resume=True, patience=10)
    for expected, found in zip(whole.get_weights(), extended.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, found)
    assert_same_state(folder, tmp_path)
    assert read_log(folder) == read_log(tmp_path)


def test_a_training_does_not_go_on_with_other_settings(graphs, whole_run, tmp_path):
    _, folder = whole_run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    model, edges = make(graphs)
    with pytest.raises(ValueError, match=r"Changed: ..optimizer'."):
        train(model, edges, tmp_path, keras.optimizers.Adam(1e-3, use_ema=True), resume=True)
    other = [{**graph, "energy": graph["energy"] + 1.0} for graph in graphs]
    with pytest.raises(ValueError, match=r"Changed: ..data'."):
        run(other, tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"Changed: ..data'."):
        run(graphs, tmp_path, resume=True, seed=17)


@pytest.mark.once
def test_references_fitted_anew_may_differ_by_rounding(graphs, tmp_path):
    """Another processor's linear algebra gives other last digits; the training keeps its own."""

    def start(factor, **kwargs):
        model, edges = make(graphs)
        model.heads[0].references = {1: -10.0 * factor, 6: 3.0}
        train(model, edges, tmp_path, keras.optimizers.SGD(1e-3), **kwargs)
        return model

    start(1.0, num_epochs=1)
    assert start(1.0 + 1e-9, num_epochs=1, resume=True).heads[0].references == {1: -10.0, 6: 3.0}
    with pytest.raises(ValueError, match=r"Changed: ..references of the model"):
        start(1.1, resume=True)


@pytest.mark.once
def test_epochs_without_validation_are_not_the_best(graphs, tmp_path):
    model, _ = make(graphs)
    best = fit.BestWeights(tmp_path / "best.keras")
    best.set_model(model)
    best.on_epoch_end(0, {"loss": 0.1})
    assert not (tmp_path / "best.keras").exists()
    best.on_epoch_end(1, {"val_loss": 2.0})
    written = (tmp_path / "best.keras").stat().st_mtime_ns
    best.on_epoch_end(2, {"loss": 0.1})
    best.on_epoch_end(3, {"val_loss": 3.0})
    best.on_epoch_end(4, {"val_loss": float("nan")})
    assert (tmp_path / "best.keras").stat().st_mtime_ns == written
    assert best.best == 2.0
    with pytest.raises(ValueError, match="monitor='val_los'"):
        fit.BestWeights(tmp_path / "x.keras", "val_los").on_epoch_end(0, {"val_loss": 1})


@pytest.mark.once
def test_a_training_that_diverges_stops_and_keeps_its_last_good_state(graphs, tmp_path):
    model, edges = make(graphs)
    optimizer = keras.optimizers.SGD(float("inf"))
    with pytest.raises(FloatingPointError, match="diverged"):
        train(model, edges, tmp_path, optimizer)
    assert not (tmp_path / "state.npz").exists()


@pytest.mark.slow
def test_a_process_killed_amid_an_epoch_goes_on_as_if_it_had_not_been(tmp_path):
    program = (
        "import os, signal, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import keras\n"
        "import test_training as t\n"
        "class Kill(keras.callbacks.Callback):\n"
        "    def on_train_batch_begin(self, batch, logs=None):\n"
        "        if self.model.optimizer.iterations == int(sys.argv[3]):\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "original = keras.Model.fit\n"
        "def fit(self, *args, callbacks, **kwargs):\n"
        "    return original(self, *args, callbacks=[*callbacks, Kill()], **kwargs)\n"
        "keras.Model.fit = fit\n"
        "t.run(t.make_structures(), sys.argv[2], resume=True, save_steps=1)\n"
    )
    for folder, kills in [("whole", [-1]), ("parts", [5, 7, -1])]:
        for kill in kills:
            command = [sys.executable, "-c", program, str(Path(__file__).parent)]
            command += [str(tmp_path / folder), str(kill)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            assert done.returncode == (0 if kill < 0 else -signal.SIGKILL), done.stderr
    states = [np.load(tmp_path / folder / "state.npz") for folder in ("whole", "parts")]
    assert states[0].files == states[1].files
    for name in set(states[0].files) - {"about"}:
        np.testing.assert_array_equal(states[0][name], states[1][name], err_msg=name)
    assert read_log(tmp_path / "whole") == read_log(tmp_path / "parts")


def test_the_share_of_time_spent_waiting_is_reported(graphs):
    """Data that take four times as long as a step are waited for, data that are there are not."""

    class Slow(GraphLoader):
        seconds = 0.0

        def __getitem__(self, index):
            time.sleep(self.seconds)
            return super().__getitem__(index)

    model, edges = make(graphs)
    model.compile(keras.optimizers.SGD(1e-4), loss={"energy": "mse", "forces": "mse"})
    loader = Slow(edges, 1)  # many batches: of the first, a part comes before the epoch
    model.fit(loader, epochs=1, verbose=0)  # compiles
    start = time.perf_counter()
    history = model.fit(loader, epochs=5, verbose=0, callbacks=[fit.InputWait()]).history
    # another program's load makes waits longer, never shorter
    share = min(history["input_wait"])
    loader.seconds = 16.0 * (time.perf_counter() - start) / (5 * len(loader))
    history = model.fit(loader, epochs=1, verbose=0, callbacks=[fit.InputWait()]).history
    assert 0.0 < share < 0.5 < history["input_wait"][0] < 1.0


def read_log(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.once
def test_a_training_is_not_overwritten_by_accident(graphs, tmp_path):
    run(graphs, tmp_path)
    with pytest.raises(ValueError, match="resume=True"):
        run(graphs, tmp_path)


def test_rows_that_are_written_again_are_trimmed(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,loss\n0,0.5\n1,0.4\n2,0.3\n")
    trim_log(tmp_path / "log.csv", 1)
    assert [row["epoch"] for row in read_log(tmp_path)] == ["0"]


@pytest.mark.once
def test_a_folder_has_one_training_at_a_time(graphs, tmp_path):
    """The one that comes second writes nothing, even if it may resume; no one trains for nobody."""
    refused = []

    def start_another():
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        for resume in (False, True):
            with pytest.raises(ValueError, match=r"Another training writes.*process \d+ on"):
                run(graphs, tmp_path, resume=resume)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        refused.append(True)

    def at_the_end_of_an_epoch(act):
        return (keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs=None: act()),)

    def in_a_thread():
        thread = threading.Thread(target=start_another)
        thread.start()
        thread.join()

    run(graphs, tmp_path, num_epochs=1, callbacks=at_the_end_of_an_epoch(in_a_thread))
    assert refused
    assert not (tmp_path / ".lock").exists()
    removed = at_the_end_of_an_epoch(lambda: shutil.rmtree(tmp_path / "removed"))
    with pytest.raises(FileNotFoundError, match="removed or replaced while a training"):
        run(graphs, tmp_path / "removed", callbacks=removed)
    assert not (tmp_path / "removed").exists()


@pytest.mark.once
def test_a_finished_training_stays_finished(graphs, tmp_path):
    """Resuming it, twice even, trains no epoch, loses no line of the log and forgets nothing."""
    first = run(graphs, tmp_path)
    log, state = read_log(tmp_path), (tmp_path / "state.npz").read_bytes()
    for _ in range(2):
        again = run(graphs, tmp_path, resume=True)
    assert read_log(tmp_path) == log
    assert (tmp_path / "state.npz").read_bytes() == state
    for expected, found in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_early_stopping_leaves_the_best_averaged_weights(graphs, tmp_path):
    model = run(graphs, tmp_path, patience=1)
    best = min(float(row["val_loss"]) for row in read_log(tmp_path))
    _, edges = make(graphs)
    found = model.evaluate(edges[6:], verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(found, best, rtol=1e-5)


@pytest.mark.once
def test_a_training_that_was_stopped_early_stays_so(graphs, tmp_path):
    """Unless it gets more patience, and then it goes on with the epoch after the stop."""
    settings = {"num_epochs": 30, "loss": {"energy": "mse"}}

    def resumed(resume=True, **kwargs):
        model, edges = make(graphs)
        optimizer = keras.optimizers.Adam(0.3)  # overshoots
        train(model, edges, tmp_path, optimizer, resume=resume, **settings | kwargs)
        return model.get_weights(), read_log(tmp_path), (tmp_path / "state.npz").read_bytes()

    first = resumed(resume=False, patience=1)
    assert 2 <= len(first[1]) < 30
    for _ in range(2):
        again = resumed(patience=1)
        for expected, found in zip(first[0], again[0], strict=True):
            np.testing.assert_array_equal(expected, found)
        assert again[1:] == first[1:]
    longer = resumed(patience=30, num_epochs=len(first[1]) + 2)
    assert [int(row["epoch"]) for row in longer[1]] == list(range(len(first[1]) + 2))


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
