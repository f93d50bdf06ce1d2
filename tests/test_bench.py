"""The benchmark must measure every case on every backend, in turns, and say so."""

import json

import keras
import numpy as np
import pytest

from keras_mlff import backend, bench
from keras_mlff.bench import systems
from keras_mlff.neighbors import neighbor_list

SMALL = {"num_features": 8, "num_layers": 1, "num_heads": 2, "num_radial": 4, "cutoff": 2.0}


@pytest.fixture(scope="module")
def comparison():
    said = []
    compared = bench.compare(
        backends=[keras.backend.backend()],
        batch_sizes=[1],
        repeats=6,
        arguments=SMALL,
        report_progress=said.append,
    )
    assert said[0] == "CMRET, ethanol, batch size 1"
    return compared


def test_every_task_is_measured(comparison):
    assert [row["task"] for row in comparison["results"]] == ["train", "predict"]
    for row in comparison["results"]:
        assert len(row["times_ms"]) == 6
        assert row["quartiles_ms"][0] <= row["median_ms"] <= row["quartiles_ms"][1]
        assert row["num_atoms"] == 9
        assert row["atoms_per_second"] == pytest.approx(9e3 / row["median_ms"])
        assert row["ratio"] == 1.0
        assert 50.0 < row["peak_memory_mib"] < 50_000.0
        assert row["compile_seconds"] >= 0.0


def test_a_step_is_compiled_once(comparison):
    for row in comparison["results"]:
        assert row["compilations"] == int(backend.COMPILES)


def test_results_are_json_and_a_table(comparison):
    assert json.loads(json.dumps(comparison)) == comparison
    lines = bench.table(comparison).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert "device MiB" not in lines[0]  # nothing to say without a device


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="measures TensorFlow alone")
def test_tensorflow_is_measured_without_xla():
    compared = bench.compare(
        backends=["tensorflow-graph"], batch_sizes=[1], repeats=1, arguments=SMALL
    )
    assert [row["backend"] for row in compared["results"]] == ["tensorflow-graph"] * 2


def test_systems_are_what_they_are_called():
    for graph in systems.make("ethanol", 2):
        assert np.bincount(graph["atomic_numbers"])[[1, 6, 8]].tolist() == [6, 2, 1]
    crystal = systems.make("silicon:64", 1)[0]
    np.testing.assert_allclose(crystal["cell"][0], np.eye(3) * 2 * 5.431)
    edges = neighbor_list(crystal["positions"], 2.7, crystal["cell"][0])
    assert np.bincount(edges.receivers).tolist() == [4] * 64  # diamond
    salt = systems.make("salt:64", 1)[0]
    edges = neighbor_list(salt["positions"], 3.2, salt["cell"][0])
    assert np.bincount(edges.receivers).tolist() == [6] * 64
    numbers = salt["atomic_numbers"]
    assert set(zip(numbers[edges.receivers], numbers[edges.senders], strict=True)) == {
        (11, 17),
        (17, 11),
    }
    cluster = systems.make("cluster:21", 1)[0]
    edges = neighbor_list(cluster["positions"], 2.0)
    assert np.bincount(edges.receivers).max() == 4
    assert np.bincount(edges.receivers, minlength=21).min() >= 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backends": ["theano"]}, ValueError, "theano"),
        ({"repeats": 0}, ValueError, "repeats=0"),
        ({"system": "iron"}, ValueError, "system='iron'"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, error, message):
    arguments = {"backends": [keras.backend.backend()], "arguments": SMALL} | arguments
    with pytest.raises(error, match=message):
        bench.compare(**arguments)
