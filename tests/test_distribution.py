"""Several devices compute what one does: the same losses, weights and predictions."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff import datasets, distribution
from keras_mlff.graph import structure

PROGRAM = Path(__file__).with_name("distribution_program.py")


def start(folder, num_devices, *more, local_devices=None):
    name = f"{num_devices}-{'-'.join(map(str, more))}.npz"
    flags = [os.environ.get("XLA_FLAGS", "")]
    flags.append(f"--xla_force_host_platform_device_count={local_devices or num_devices}")
    environment = os.environ | {
        "KERAS_BACKEND": keras.backend.backend(),
        "XLA_FLAGS": " ".join(flags),
        "JAX_PLATFORMS": "cpu",
    }
    arguments = [str(folder / name), str(num_devices), *map(str, more)]
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, folder / name


def finish(process, file=None):
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors[-3000:]
    return None if file is None else dict(np.load(file))


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return finish(*start(tmp_path_factory.mktemp("one"), 1))


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        # float32: 1e-7 per operation, and sums in another order
        np.testing.assert_allclose(other[key], value, rtol=1e-6, atol=1e-6, err_msg=key)


needs_devices = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras has no data parallelism on PyTorch"
)


@pytest.mark.slow
@needs_devices
def test_two_devices_give_what_one_does(one_device, tmp_path):
    assert_same(one_device, finish(*start(tmp_path, 2)))


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a dataset of TensorFlow's")
def test_two_devices_share_a_pipeline(one_device, tmp_path):
    assert_same(one_device, finish(*start(tmp_path, 2, "tf.data")))


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="TensorFlow has one process")
def test_two_processes_give_what_one_does(one_device, tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    options = {"local_devices": 1}
    other, _ = start(tmp_path, 2, "loader", 1, port, **options)
    results = finish(*start(tmp_path, 2, "loader", 0, port, **options))
    finish(other)
    assert_same(one_device, results)


COMMAND = """
import sys
import keras
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    logical = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
from keras_mlff import backend, cli
status = cli.main(sys.argv[1:])
assert backend.replicas().total == 2
sys.exit(status)
"""


@pytest.mark.slow
@needs_devices
def test_a_command_trains_on_two_devices(tmp_path):
    """Each takes a batch of its own, so that an epoch of eight structures has two steps."""
    random = np.random.default_rng(0)
    frames = [
        structure(
            np.asarray([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]) + random.normal(scale=0.05, size=(2, 3)),
            [6, 1],
            energy=random.normal() - 1000.0,
            forces=np.outer([1.0, -1.0], random.normal(size=3)),
        )
        for _ in range(10)
    ]
    datasets.save(tmp_path / "data.xyz", frames)
    command = ["--debug", "train", str(tmp_path / "data.xyz"), "--output", str(tmp_path / "new")]
    command += ["--architecture", "EGNN", "--num-epochs", "1", "--set", "num_features=4"]
    command += ["num_layers=1", "preset.num_nve_steps=0", "report.plots=false"]
    command += ["--batch-size", "2", "--devices", "cpu:0", "cpu:1"]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = {"KERAS_BACKEND": keras.backend.backend(), "XLA_FLAGS": flags}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *command],
        env=os.environ | environment | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    printed, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors[-3000:]
    assert "\n2/2 - " in printed
    assert (tmp_path / "new/metadata.json").exists()


def test_what_a_backend_cannot_do_is_said():
    if keras.backend.backend() == "jax":
        pytest.skip("it can")
    with pytest.raises(ValueError, match="Several processes are not supported"):
        distribution.use_devices(None, "localhost:1", num_processes=2)
