"""`keras-mlff train` and `keras-mlff recipe` end to end: files in, presets with cards out."""

import json

import numpy as np
import pytest

from keras_mlff import cli, datasets, models, quantities
from keras_mlff.experiments import recipes
from tests.experiments.frames import make_frames

TINY = ["--architecture", "EGNN", "--set", "num_features=4", "num_layers=1"]
SHORT = ["--num-epochs", "1", "--batch-size", "4", "--validation", "0.2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def xyz(folder):
    datasets.save(folder / "frames.xyz", make_frames(12))
    return str(folder / "frames.xyz")


@pytest.fixture(scope="module")
def trained(folder, xyz):
    """The preset of a training by command."""
    output = folder / "new"
    command = ["train", xyz, "--output", f"{output}/", *SHORT, *TINY, "preset.num_nve_steps=5"]
    assert cli.main(["--debug", *command]) == 0
    return output


def test_training_writes_a_preset_with_a_card(trained, folder, capsys):
    """The training lies beside it, also where the folder's name ends in a slash."""
    model = models.load_preset(str(trained))
    about = model.preset.metadata
    assert (model.preset.architecture, model.num_features) == ("EGNN", 4)
    assert model.preset.elements == (1, 6)
    assert about["dataset"] == "frames.xyz; drawn: validation 0.2"
    assert about["split"]["validation"] == "2 structures"
    assert about["metrics"]["forces"]["unit"] == "eV/Å"
    assert about["metrics"]["forces"]["test_mae"] > 0.0
    assert about["recipe"] == "keras-mlff recipe run new/recipe.toml"
    assert "## Checks" in (trained / "README.md").read_text("utf-8")
    assert (folder / "new.training/log.csv").exists()


def test_a_preset_is_fine_tuned_and_its_recipe_run_again(trained, folder, capsys):
    datasets.save(folder / "other.xyz", make_frames(12, shift=3.0))
    tuned = folder / "tuned"
    command = ["train", str(folder / "other.xyz"), "--output", str(tuned), *SHORT]
    command += ["--preset", str(trained), "--keep", "readouts", "--loss-weights", "energy=3"]
    command += ["--set", "preset.num_nve_steps=0", "--callbacks", "TerminateOnNaN"]
    assert cli.main(["--debug", *command]) == 0
    printed = capsys.readouterr().out
    assert "test_mae_before" in printed
    assert "the rest is frozen" in printed
    settled = recipes.load(tuned).settle()
    assert settled.training.learning_rate == 3e-4
    assert settled.training.loss_weights == {"energy": 3}
    assert "went on from" in models.load_preset(str(tuned)).preset.metadata["notes"][0]
    again = ["recipe", "run", str(tuned), "--folder", str(folder / "again")]
    assert cli.main(["--debug", *again]) == 0
    first, second = (
        json.loads((folder / name / "results.json").read_text("utf-8"))
        for name in ("tuned.training", "again")
    )
    assert first == second
    assert cli.main([*again, "--set", "training.batchsize=3"]) == 2
    assert "Did you mean batch_size" in capsys.readouterr().err


def test_files_of_their_own_validate_and_test(xyz, folder):
    datasets.save(folder / "valid.xyz", make_frames(20)[12:16])
    datasets.save(folder / "test.xyz", make_frames(20)[16:])
    command = ["train", xyz, "--output", str(folder / "separate"), *TINY]
    command += ["preset.num_nve_steps=0", "--num-epochs", "1"]
    command += ["--valid-file", str(folder / "valid.xyz"), "--test-file", str(folder / "test.xyz")]
    command += ["--element-energies", "H=-13", "C=-970.5", "--patience", "3", "--seed", "1"]
    assert cli.main(["--debug", *command]) == 0
    model = models.load_preset(str(folder / "separate"))
    split = model.preset.metadata["split"]
    assert [split[part].split()[0] for part in ("training", "validation", "test")] == [
        "12",
        "4",
        "4",
    ]
    assert model.heads[0].references == {1: -13.0, 6: -970.5}
    assert model.preset.metadata["seed"] == 1


def test_an_output_that_is_not_free_is_refused_before_the_training(xyz, tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "notes.txt").write_text("three years")
    assert cli.main(["train", xyz, "--output", f"{tmp_path}/thesis"]) == 2
    assert "not a preset" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis"]


def test_recipes_are_listed_and_shown(capsys):
    assert cli.main(["recipe", "list"]) == 0
    printed = capsys.readouterr().out
    assert "md17/toluene" in printed
    assert "with stress" in printed
    assert cli.main(["recipe", "show", "cmret_md17"]) == 0
    printed = capsys.readouterr().out
    assert "# eq. 15" in printed
    assert "extends" in printed
    settings = ["--variant", "paper", "--set", "molecule=aspirin"]
    assert cli.main(["recipe", "show", "cmret_md17", *settings]) == 0
    printed = capsys.readouterr().out
    assert 'schedule = "triangular"' in printed
    assert 'source = "md17/aspirin"' in printed


def test_a_quantity_that_the_package_does_not_know_is_learned_by_command(folder):
    """Its level stands in the command, and in the recipe of the preset, which knows it alone."""
    quantities.register("spin_densities", level="atom")
    frames = [{**frame, "spin_densities": np.asarray([2.0, 0.1, 0.1])} for frame in make_frames(12)]
    datasets.save(folder / "spins.xyz", frames)
    quantities.unregister("spin_densities")
    output = folder / "spins"
    command = ["train", str(folder / "spins.xyz"), "--output", str(output), *SHORT, *TINY]
    command += ["preset.num_nve_steps=0", "--labels", "energy", "spin_densities"]
    command += ["--loss-weights", "spin_densities=1"]
    assert cli.main(command) == 2
    about = ["quantities.spin_densities.level=atom", "quantities.spin_densities.unit=e"]
    assert cli.main(["--debug", *command, "--set", *about, "training.loss=mse"]) == 0
    quantities.unregister("spin_densities")
    model = models.load_preset(str(output))
    predicted = model.predict(make_frames(2))["spin_densities"]
    np.testing.assert_allclose(predicted, [2.0, 0.1, 0.1] * 2, atol=1.0)
    assert recipes.load(output).settle().quantities["spin_densities"]["unit"] == "e"


@pytest.mark.slow
def test_weights_and_biases_logs_a_training(xyz, folder, monkeypatch):
    """Without a network it keeps a file beside the training, to be sent later."""
    wandb = pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    command = ["train", xyz, "--output", str(folder / "logged"), *SHORT, *TINY]
    command += ["preset.num_nve_steps=0", "--callbacks", "wandb"]
    assert cli.main(["--debug", *command]) == 0
    wandb.finish()
    (run,) = folder.glob("logged.training/wandb/offline-run-*/*.wandb")
    assert b"val_loss" in run.read_bytes()
