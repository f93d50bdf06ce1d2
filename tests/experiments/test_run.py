"""A training goes from data to preset, and the preset's recipe makes it again."""

import json

import keras
import numpy as np
import pytest

import keras_mlff
from keras_mlff import cli, datasets, experiments, models
from keras_mlff.experiments import DataSettings, Parts, data, evaluation
from keras_mlff.graph import structure
from tests.experiments.frames import make_frames

TINY = {"num_features": 4, "num_layers": 1}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "frames.xyz"
    datasets.save(path, make_frames())
    return path


RECIPE = """
description = "Invented."
[model]
class = "EGNN"
num_features = 4
num_layers = 1
[data]
source = "FILE"
[training]
num_epochs = 3
batch_size = 4
[report]
units = { energy = "meV", energy_per_atom = "meV/atom", forces = "meV/Å" }
published = { Somebody = { energy = 7.0 } }
[preset]
num_nve_steps = 5
"""


@pytest.fixture(scope="module")
def made(file, tmp_path_factory):
    """A recipe that ran to its end."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "mine.toml").write_text(RECIPE.replace("FILE", str(file)), "utf-8")
    results = experiments.run_recipe(
        folder / "mine.toml", folder=folder / "run", preset=folder / "preset", verbose=0
    )
    return folder, results


def test_a_recipe_ends_in_a_preset_with_errors_and_figures(made):
    folder, results = made
    assert [len(part) for part in results.parts] == [16, 2, 2]
    errors = json.loads((folder / "run/results.json").read_text("utf-8"))
    assert errors == results.errors
    assert errors["energy"]["unit"] == "meV"
    assert errors["energy"]["Somebody"] == 7.0
    np.testing.assert_allclose(
        errors["energy_per_atom"]["test_mae"], errors["energy"]["test_mae"] / 3, rtol=1e-6
    )
    assert (folder / "run/parity.png").stat().st_size > 0
    assert (folder / "run/learning_curve.png").stat().st_size > 0
    assert len(results.history["val_loss"]) == 3
    card = (folder / "preset/README.md").read_text("utf-8")
    assert "keras-mlff recipe run preset/recipe.toml" in card
    assert results.preset.metadata["dataset"] == "frames.xyz"


def test_the_recipe_of_a_preset_makes_the_same_weights(made, tmp_path):
    folder, results = made
    again = experiments.run_recipe(folder / "preset", folder=tmp_path, verbose=0)
    assert again.errors == results.errors
    for expected, found in zip(results.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, found)
    assert (tmp_path / "recipe.toml").read_text() == (folder / "preset/recipe.toml").read_text()


def test_a_finished_recipe_is_resumed_without_training(made):
    folder, results = made
    log = (folder / "run/log.csv").read_bytes()
    options = {"folder": folder / "run", "verbose": 0}
    again = experiments.run_recipe(folder / "mine.toml", resume=True, **options)
    assert again.errors == results.errors
    assert (folder / "run/log.csv").read_bytes() == log
    recipe = (folder / "run/recipe.toml").read_bytes()
    changed = {"training.seed": 7}
    with pytest.raises(ValueError, match="resume=True"):
        experiments.run_recipe(folder / "mine.toml", overrides=changed, **options)
    with pytest.raises(ValueError, match="Changed"):
        experiments.run_recipe(
            folder / "mine.toml", overrides={"training.learning_rate": 1.0}, resume=True, **options
        )
    assert (folder / "run/recipe.toml").read_bytes() == recipe  # of what is in the folder


def test_what_stands_in_the_way_of_a_preset_is_said_before_the_training(made, tmp_path):
    folder, _ = made
    (tmp_path / "notes.txt").write_text("three years")
    with pytest.raises(ValueError, match="not a preset"):
        experiments.run_recipe(
            folder / "mine.toml", folder=tmp_path / "run", preset=tmp_path, verbose=0
        )
    assert not (tmp_path / "run").exists()


def test_a_preset_is_trained_further_at_another_level_of_theory(made, tmp_path):
    """The offsets take the difference up; frozen parts keep their weights."""
    folder, _ = made
    model = models.load_preset(str(folder / "preset"))
    before = model.get_weights()
    results = keras_mlff.train(
        model,
        make_frames(shift=5.0),
        folder=tmp_path / "run",
        preset=tmp_path / "new",
        card=experiments.CardSettings(num_nve_steps=0),
        verbose=0,
        keep=("readouts",),
        num_epochs=1,
    )
    energy = results.errors["energy"]
    assert energy["test_mae"] < energy["test_mae_before"] - 3.0
    changed = [
        weight.path
        for weight, old, new in zip(model.weights, before, model.get_weights(), strict=True)
        if np.any(old != new)
    ]
    readouts = {weight.path for readout in model.readouts for weight in readout.weights}
    assert changed
    assert set(changed) <= readouts
    assert "went on from the weights of the preset egnn/preset" in " ".join(
        results.preset.metadata["notes"]
    )
    assert results.preset.metadata["recipe"].startswith("keras_mlff.train(model, data, keep=")


def test_elements_that_a_preset_has_not_seen_need_their_embedding(made, tmp_path):
    folder, _ = made
    model = models.load_preset(str(folder / "preset"))
    other = [{**frame, "atomic_numbers": np.asarray([7, 1, 1])} for frame in make_frames()]
    with pytest.raises(ValueError, match=r"elements \[7\].*embedding"):
        keras_mlff.train(model, other, folder=tmp_path, verbose=0, keep=("readouts",), num_epochs=1)


def test_unknown_settings_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"'batchsize'\. Did you mean batch_size"):
        experiments.train(models.EGNN(**TINY), make_frames(), folder=tmp_path, batchsize=3)


def test_parts_without_a_label_are_refused_before_the_training(tmp_path):
    labeled, model = make_frames(), models.EGNN(**TINY)
    bare = [{key: value for key, value in frame.items() if key != "forces"} for frame in labeled]
    parts = Parts(labeled, labeled[:2], bare[:2])
    with pytest.raises(ValueError, match=r"2 structures of the test part has \['forces'\]"):
        keras_mlff.train(model, parts, folder=tmp_path, verbose=0)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"no loss: \['forces'\].*one loss for all"):
        keras_mlff.train(
            model,
            labeled,
            folder=tmp_path / "new",
            verbose=0,
            labels=("energy", "forces"),
            loss={"energy": "mse"},
        )


def test_a_preset_of_energies_alone_has_no_dynamics(tmp_path, capsys):
    frames = make_frames()
    model = models.EGNN(**TINY)
    target = tmp_path / "energies"
    settings = {"folder": tmp_path / "run", "verbose": 0, "num_epochs": 1}
    keras_mlff.train(model, frames, loss={"energy": "mse"}, preset=target, **settings)
    metadata = json.loads((target / "metadata.json").read_text())
    assert metadata["properties"] == ["energy", "atomic_energies"]
    assert "nve" not in metadata
    datasets.save(tmp_path / "frames.xyz", frames)
    assert cli.main(["evaluate", str(tmp_path / "frames.xyz"), "--preset", str(target)]) == 0
    assert "forces" not in capsys.readouterr().out


def test_choices_are_made_by_name(tmp_path):
    """Optimizers, schedules, losses, weights and callbacks of Keras and of other packages."""
    results = experiments.train(
        models.EGNN(**TINY),
        make_frames(),
        folder=tmp_path,
        verbose=0,
        num_epochs=2,
        optimizer={"kind": "adamw", "weight_decay": 0.01},
        schedule={"kind": "plateau", "factor": 0.5, "patience": 1},
        loss={"energy": {"kind": "PerAtom", "loss": "mae"}, "forces": "L2Norm"},
        loss_weights={"energy": [[0, 0.1], [1, 1.0]], "forces": "spread"} | {"forces": 2.0},
        averages=False,
        callbacks=(
            "TerminateOnNaN",
            {"kind": "keras.callbacks:LambdaCallback"},
            {"kind": "early_stopping", "patience": 5},
        ),
    )
    optimizer = results.model.optimizer
    assert isinstance(optimizer, keras.optimizers.AdamW)
    assert not optimizer.use_ema
    assert optimizer.weight_decay == 0.01
    for changes, message in (
        ({"optimizer": "adaam"}, "no optimizer called"),
        ({"schedule": "triangle"}, "no such schedule"),
        ({"loss": {"kind": "Hubber", "delta": 1.0}}, "no such loss"),
        ({"callbacks": ("tensorbord",)}, "Did you mean tensorboard"),
        ({"loss_weights": {"force": 1.0}}, "Did you mean forces"),
    ):
        with pytest.raises(ValueError, match=message):
            experiments.train(
                results.model, make_frames(), folder=tmp_path / "x", verbose=0, **changes
            )


def test_energies_of_free_atoms_are_given_or_read(tmp_path):
    """Frames that the file calls isolated atoms give them, and are not learned."""
    lone = [
        structure([[0.0, 0.0, 0.0]], [z], energy=e, forces=np.zeros((1, 3)))
        for z, e in ((1, -13.0), (6, -1030.0))
    ]
    datasets.save(tmp_path / "all.xyz", [*lone, *make_frames()])
    lines = (tmp_path / "all.xyz").read_text().splitlines()
    marked = [
        f"{line} config_type=IsolatedAtom" if lines[index - 1] == "1" else line
        for index, line in enumerate(lines)
    ]
    (tmp_path / "all.xyz").write_text("\n".join(marked) + "\n")
    loaded = data.load(DataSettings(source=str(tmp_path / "all.xyz")), ("energy", "forces"))
    assert loaded.isolated_atoms == {1: -13.0, 6: -1030.0}
    assert sum(map(len, loaded.parts)) == 20
    options = {"verbose": 0, "num_epochs": 1}
    results = experiments.train(
        models.EGNN(**TINY), str(tmp_path / "all.xyz"), folder=tmp_path / "a", **options
    )
    assert results.model.heads[0].references == {1: -13.0, 6: -1030.0}
    given = experiments.OffsetSettings(references={"energy": {"H": -14.0, "C": -1040.0}})
    results = experiments.train(
        models.EGNN(**TINY), make_frames(), folder=tmp_path / "b", offsets=given, **options
    )
    assert results.model.heads[0].references == {1: -14.0, 6: -1040.0}
    some = experiments.OffsetSettings(references={"energy": {"H": -14.0}})
    with pytest.raises(ValueError, match=r"without atomic numbers \[6\]"):
        experiments.train(
            models.EGNN(**TINY), make_frames(), folder=tmp_path / "c", offsets=some, **options
        )


def test_parts_come_from_splits_files_and_chance(file, tmp_path):
    def sizes(**settings):
        return [len(part) for part in data.load(DataSettings(**settings)).parts]

    source = str(file)
    assert sizes(source=source) == [16, 2, 2]
    assert sizes(source=source, sizes={"validation": 0.25, "test": 0}) == [15, 5, 0]
    assert sizes(source=source, sizes={"training": 5, "test": -1, "validation": 3}) == [5, 3, 12]
    split = {"training": "all[:10]", "validation": "all[8:14]", "test": "all[14:]"}
    assert sizes(source=source, split=split) == [10, 4, 6]  # what both have is not validated
    assert sizes(source=source, split=split, sizes={"validation": 2}) == [10, 2, 6]
    datasets.save(tmp_path / "other.xyz", make_frames(30)[20:])
    other = str(tmp_path / "other.xyz")
    assert sizes(source=source, validation_file=other, sizes={"test": 4}) == [16, 10, 4]
    assert sizes(source=(source, other), sizes={"validation": 1, "test": 1}) == [26, 2, 2]
    joined = (DataSettings(source=other, sizes={"validation": 1, "test": 1}),)
    assert sizes(source=source, join=joined) == [24, 3, 3]
    with pytest.raises(ValueError, match="share 2 structures"):
        sizes(source=source, split={"training": "all[:10]", "test": "all[8:]"})
    with pytest.raises(ValueError, match="Nothing is left to learn from"):
        sizes(source=source, sizes={"validation": 10, "test": 10})
    with pytest.raises(ValueError, match="what to learn from"):
        sizes()


def test_drawn_parts_do_not_depend_on_the_size_of_later_ones():
    frames = make_frames(10)
    few, many = (experiments.random_parts(frames, 2, 3, number) for number in (1, 4))
    assert [data.identity(f) for f in few.test] == [data.identity(f) for f in many.test]
    assert data.identity(few.training[0]) == data.identity(many.training[0])


def test_units_of_papers_are_known():
    assert evaluation.unit_size("kcal/mol/Å") == pytest.approx(0.0433641, rel=1e-5)
    assert evaluation.unit_size("meV/atom") == 1e-3
    with pytest.raises(ValueError, match=r"'mev'\. Did you mean"):
        evaluation.unit_size("mev")


def test_compilation_and_long_epochs_are_announced(tmp_path, capsys):
    from keras_mlff import backend
    from keras_mlff.experiments.progress import Progress

    lines = []
    model = models.EGNN(**TINY)
    model.compile("adam", loss={"energy": "mse", "forces": "mse"})
    progress = Progress(seconds=0.0, write=lines.append)
    model.fit(
        make_frames(),
        validation_data=make_frames(2),
        batch_size=5,
        epochs=1,
        verbose=0,
        callbacks=[progress],
    )
    assert "epoch 1/1: 2 of 4 steps" in " ".join(lines)
    compiling = [line for line in lines if line.startswith("compiling")]
    assert len(compiling) == (2 if backend.COMPILES else 0)


def test_a_label_that_is_learned_by_other_heads_is_a_quantity(tmp_path):
    """Heads are those of the labels; labels of loss decide which heads of a recipe are made."""
    settings = experiments.ModelSettings(
        class_name="EGNN", arguments=TINY, heads=("energy", {"class": "DipoleHead"})
    )
    from keras_mlff.experiments import building

    made = building.make_model(settings, ("dipole",))
    assert [head.name for head in made.heads] == ["dipole"]
    with pytest.raises(ValueError, match="No head of the model predicts"):
        building.make_model(settings, ("dipole", "polarizability"))
    wrong = experiments.ModelSettings(class_name="EGNN", arguments={"num_feature": 3})
    with pytest.raises(ValueError, match="Did you mean num_features"):
        building.make_model(wrong, ("energy",))


def test_elements_that_were_not_learned_are_not_judged():
    water, hydrogen, fluoride = (
        structure(np.eye(3)[: len(numbers)], numbers) for numbers in ([8, 1, 1], [1, 1], [1, 9])
    )
    parts = Parts([water] * 20, [hydrogen, fluoride], [fluoride, water])
    known = experiments.with_known_elements(parts)
    assert known == Parts([water] * 20, [hydrogen], [water])
    assert data.rare_elements(parts.training) == []
    (note,) = data.rare_elements([*parts.training, fluoride])
    assert note.endswith("9 (in 1).")


def test_structures_are_told_apart_by_what_they_are():
    """A lone atom in cells, in vacuum, charged, and with another spin."""
    box = np.eye(3) * 5.0
    atoms = [
        structure([[0.0, 0.0, 0.0]], [29], **state)
        for state in (
            {},
            {"cell": 2.0 * box},
            {"cell": 2.1 * box},
            {"cell": 2.1 * box, "pbc": [True, True, False]},
            {"total_charge": 1.0},
            {"spin_multiplicity": 2},
            {"total_charge": 1.0, "spin_multiplicity": 2},
        )
    ]
    assert len({data.identity(atom) for atom in atoms}) == len(atoms)
    assert data.identity(atoms[1]) == data.identity({**atoms[1], "energy": np.ones(1)})


def test_the_digest_of_molecules_is_that_of_published_splits():
    """Neutral singlets are named by positions and elements alone, as in presets' metadata."""
    water, hydrogen = (
        structure(np.eye(3)[: len(numbers)], numbers) for numbers in ([8, 1, 1], [1, 1])
    )
    assert Parts([water], [hydrogen], []).digest() == "a6b207b8529dff0a"
    charged = {**water, "total_charge": np.ones(1)}
    assert Parts([charged], [hydrogen], []).digest() != "a6b207b8529dff0a"
