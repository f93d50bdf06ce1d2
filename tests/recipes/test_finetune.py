"""Fine-tuning starts from a preset and ends in another, whichever elements and level of theory."""

import importlib

import numpy as np
import pytest

from keras_mlff import datasets, models


@pytest.fixture(scope="module")
def recipe():
    return importlib.import_module("finetune")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twenty points of CH2, their energies moved as another method would."""
    points = datasets.load("ch2/triplet", split="train[:20]")
    file = tmp_path_factory.mktemp("finetune") / "mine.npz"
    np.savez(
        file,
        positions=np.stack([point["positions"] for point in points]),
        atomic_numbers=points[0]["atomic_numbers"],
        spin_multiplicity=np.full(len(points), 3),
        energy=np.concatenate([point["energy"] for point in points]) + 5.0,
        forces=np.stack([point["forces"] for point in points]),
    )
    return file


def test_a_preset_is_carried_to_another_level_of_theory(recipe, data, tmp_path):
    points = datasets.load("ch2/triplet", split="train[:20]")
    small = models.CMRET(num_features=8, num_layers=1, num_radial=4, num_heads=2)
    small.fit_offsets(points)
    small.save_to_preset(str(tmp_path / "small"), elements=[1, 6])
    results = recipe.main(
        data=str(data),
        preset=str(tmp_path / "small"),
        output=str(tmp_path / "mine"),
        keep=("readouts",),
        num_epochs=1,
        learning_rate=1e-6,
        num_nve_steps=0,
        verbose=0,
    )
    energy = results["energy"]
    # the references take the difference up; the new network has its own errors
    assert energy["test_mae"] < energy["test_mae_before"] - 3.0
    copy = models.load_preset(str(tmp_path / "mine"))
    assert copy.preset.metadata["dataset"] == str(data)
    assert (tmp_path / "mine/README.md").exists()


def test_too_little_data_is_refused(recipe, data):
    with pytest.raises(ValueError, match="Nothing is left"):
        recipe.main(data=str(data), validation_share=0.5, test_share=0.5)
