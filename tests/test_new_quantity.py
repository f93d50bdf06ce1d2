"""A quantity that this package does not know is one registration: learned, predicted, served."""

import json
import subprocess
import sys

import ase
import keras
import numpy as np
import pytest

from keras_mlff import datasets, fit, heads, models, quantities
from keras_mlff.graph import structure
from keras_mlff.md import MLFFCalculator

NAME = "magnetic_moments"
WATER = np.asarray([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
FRESH = """
import json, sys
import ase
from keras_mlff import models
from keras_mlff.md import MLFFCalculator
positions = json.loads(sys.argv[2])
atoms = ase.Atoms("OH2", positions, calculator=MLFFCalculator(models.EGNN.from_preset(sys.argv[1])))
print(json.dumps(atoms.get_magnetic_moments().tolist()))
"""


@pytest.fixture(scope="module", autouse=True)
def registered():
    quantities.register(NAME, level="atom", shape=(), unit="muB", ase="magmoms")
    yield
    quantities.unregister(NAME)


def frames(count=8, size=None):
    """Makes water molecules, every second of them without moments; those of oxygen are near 2."""
    random = np.random.default_rng(0)
    made = []
    for index in range(count):
        positions = WATER + random.normal(scale=0.05, size=(3, 3))
        labels = {"energy": -10.0 + random.normal(), "forces": random.normal(size=(3, 3))}
        if index % 2 == 0:
            labels[NAME] = [2.0, 0.5, 0.5] + 0.1 * random.normal(size=3)
        made.append(structure(positions, [8, 1, 1], **labels))
    return made


@pytest.fixture(scope="module")
def model(registered):
    keras.utils.set_random_seed(0)
    model = models.EGNN(
        num_features=8, num_layers=1, heads=[heads.EnergyHead(), heads.for_label(NAME)]
    )
    model.fit_offsets(frames())
    loss = {"energy": "mse", "forces": "mse", NAME: "mse"}
    model.compile(keras.optimizers.Adam(1e-2), loss, metrics={NAME: ["mae", "rmse"]})
    model.fit(frames(), epochs=3, batch_size=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def preset(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo") / "magnetic"
    model.save_to_preset(folder)
    return folder


def test_the_reference_is_the_mean_of_each_element(model):
    moments = np.stack([frame[NAME] for frame in frames()[::2]])
    expected = {8: moments[:, 0].mean(), 1: moments[:, 1:].mean()}
    assert model.heads[1].references == pytest.approx(expected)
    rest = moments - [expected[8], expected[1], expected[1]]
    assert model.heads[1].scale == pytest.approx(np.sqrt(np.mean(rest**2)))


def test_errors_count_the_atoms_that_have_moments(model):
    """Frames of equal sizes, of which half lack a label, as in the files that people have."""
    data = frames()
    predicted = model.predict(data)
    assert predicted[NAME].shape == (24,)
    known = np.repeat(np.arange(8) % 2 == 0, 3)
    moments = np.concatenate([frame[NAME] for frame in data[::2]])
    difference = predicted[NAME][known] - moments
    logs = model.evaluate(data, batch_size=3, return_dict=True, verbose=0)
    np.testing.assert_allclose(logs[f"{NAME}_mae"], np.abs(difference).mean(), rtol=1e-4)
    np.testing.assert_allclose(logs[f"{NAME}_rmse"], np.sqrt(np.mean(difference**2)), rtol=1e-4)
    found = fit.errors(data, predicted)[NAME]
    np.testing.assert_allclose(found.mae, np.abs(difference).mean(), rtol=1e-9)
    assert found.num_values == 12


def test_ase_calls_them_magnetic_moments(model):
    atoms = ase.Atoms("OH2", WATER, calculator=MLFFCalculator(model))
    expected = model.predict(structure(WATER, [8, 1, 1]))[NAME]
    np.testing.assert_allclose(atoms.get_magnetic_moments(), expected, rtol=1e-5)
    assert abs(expected[0] - 2.0) < 0.5


@pytest.mark.once
def test_a_fresh_process_needs_no_registration(model, preset):
    arguments = [sys.executable, "-c", FRESH, str(preset), json.dumps(WATER.tolist())]
    run = subprocess.run(arguments, check=True, capture_output=True, text=True)
    expected = model.predict(structure(WATER, [8, 1, 1]))[NAME]
    np.testing.assert_allclose(json.loads(run.stdout.splitlines()[-1]), expected, rtol=1e-5)


@pytest.mark.once
def test_the_command_line_compares_what_only_the_preset_knows(preset, tmp_path):
    datasets.save(tmp_path / "frames.xyz", frames())
    labels = ["--labels", "energy", NAME]
    command = [sys.executable, "-m", "keras_mlff.cli", "evaluate", str(tmp_path / "frames.xyz")]
    run = subprocess.run(
        [*command, "--preset", str(preset), *labels], check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    (row,) = [line for line in run.stdout.splitlines() if line.startswith(NAME)]
    assert row.split()[-2:] == ["muB", "12"]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports are TensorFlow's")
def test_an_export_serves_them_and_says_what_they_are(model, tmp_path):
    import tensorflow as tf

    from keras_mlff import export

    folder = export.export_saved_model(model, tmp_path / "served")
    metadata = json.loads((folder / export.METADATA).read_text())
    stated = metadata["signatures"]["serving_default"]["outputs"][NAME]
    assert (stated["level"], stated["shape"], stated["unit"]) == ("atom", ["num_atoms"], "muB")
    serve = tf.saved_model.load(str(folder)).signatures["structure"]
    inputs = {
        "positions": WATER,
        "atomic_numbers": np.asarray([8, 1, 1], np.int32),
        "cell": np.zeros((3, 3)),
        "pbc": np.zeros(3, bool),
        "total_charge": np.float64(0.0),
        "spin_multiplicity": np.int32(1),
    }
    served = serve(**{key: tf.constant(value) for key, value in inputs.items()})[NAME]
    expected = model.predict(structure(WATER, [8, 1, 1]))[NAME]
    np.testing.assert_allclose(served, expected, rtol=1e-5)


def test_without_registration_the_error_says_how():
    with pytest.raises(ValueError, match=r"quantities\.register\('spin_densities', level='atom'"):
        structure(WATER, [8, 1, 1], spin_densities=[0.1, 0.2, 0.3])
