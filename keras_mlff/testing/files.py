"""Checks of files: a saved model comes back, and stored weights agree on every backend."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mlff import saving
from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import Graph
from keras_mlff.testing.checks import Checks, NotApplicable
from keras_mlff.testing.structures import molecule, symmetric_molecules
from keras_mlff.testing.subject import Subject, assert_same

check = Checks()


@check()
def a_saved_model_comes_back(subject: Subject) -> None:
    """`save` and `load_model` keep class, config and weights to the last bit."""
    model = subject.model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        model.save(path)
        loaded: Any = keras.models.load_model(path)
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        assert ours.dtype == theirs.dtype, ours.path
        pair = [keras.ops.convert_to_numpy(weight) for weight in (ours, theirs)]
        np.testing.assert_array_equal(pair[0], pair[1], ours.path)
    loaded.run_eagerly = model.run_eagerly
    structures = [molecule(6, seed=6)]
    mine, its = (subject.predict(structures, item)[0] for item in (model, loaded))
    assert_same(its, mine, rtol=1e-14)


@check()
def stored_weights_give_the_same_numbers_on_every_backend(subject: Subject) -> None:
    """The files were written on one backend; this check reads them on each."""
    if subject.stored is None:
        raise NotApplicable("no folder of stored weights is given; see testing.write_stored")
    weights, numbers = _paths(subject)
    assert weights.exists(), (
        f"{weights} is missing. Write it with keras_mlff.testing.write_stored("
        f"{subject.architecture.__name__}, '{subject.stored}')."
    )
    model = subject.build()
    model.read_weights(weights)  # fresh models have nothing fitted beside them
    stored = json.loads(numbers.read_text(encoding="utf-8"))
    predicted = subject.predict(_stored_structures(), model)
    for got, expected in zip(predicted, stored, strict=True):
        np.testing.assert_allclose(got["energy"], expected["energy"], rtol=1e-10)
        np.testing.assert_allclose(got["forces"], expected["forces"], rtol=1e-10, atol=1e-12)


def write_stored(architecture: type[ForceField], folder: str | Path, **arguments: Any) -> None:
    """Writes the weights and numbers that every backend, and every later version, must reproduce.

    Args:
        architecture: The class.
        folder: Receives `NAME.weights.h5` and `NAME.json`; commit both.
        **arguments: Those of the test suite, where it sets any.
    """
    subject = Subject(architecture, arguments, folder)
    weights, numbers = _paths(subject)
    weights.parent.mkdir(parents=True, exist_ok=True)
    subject.model.save_weights(weights)
    kept = [
        {key: item[key].tolist() for key in ("energy", "forces")}
        for item in subject.predict(_stored_structures())
    ]
    saving.write_json(numbers, kept)


def _paths(subject: Subject) -> tuple[Path, Path]:
    folder, name = Path(subject.stored or "."), subject.architecture.__name__
    return folder / f"{name}.weights.h5", folder / f"{name}.json"


def _stored_structures() -> list[Graph]:
    charged = molecule(6, seed=8, total_charge=2.0, spin_multiplicity=4)
    return [molecule(5, seed=4), charged, symmetric_molecules()["methane"]]
