"""A preset gives the numbers that were saved, or says clearly why it cannot."""

import json
import shutil
import warnings

import keras
import numpy as np
import pytest

from keras_mlff import heads, presets, saving
from keras_mlff.graph import structure
from keras_mlff.models import CMRET, GeomAtt

WATER = structure([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]], [8, 1, 1])
REFERENCES = {1: -13.6, 8: -2041.75}


class Other(CMRET):
    """Another architecture."""


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    head = heads.EnergyHead(references=REFERENCES, scale=0.7, shift=0.25)
    model = CMRET(num_features=8, num_layers=1, num_heads=2, num_radial=4, cutoff=4.5, heads=[head])
    model.run_eagerly = keras.backend.backend() == "tensorflow"
    return model


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "zoo_folders", lambda: [tmp_path])
    return tmp_path


@pytest.fixture
def folder(model, zoo):
    model.save_to_preset(zoo / "cmret" / "water", elements=[1, 8], seed=3)
    return zoo / "cmret" / "water"


def edit(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_a_preset_gives_the_same_numbers_to_the_bit(model, folder):
    loaded = CMRET.from_preset("water")
    assert loaded.get_config() == model.get_config()
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    loaded.run_eagerly = model.run_eagerly
    expected = model.predict(WATER)
    for key, value in loaded.predict(WATER).items():
        np.testing.assert_array_equal(value, expected[key])
    assert loaded.preset.name == "water"


def test_metadata_say_what_the_model_is(model, folder):
    preset = presets.read(folder)
    assert preset.architecture == "CMRET"
    assert preset.elements == (1, 8)
    assert set(preset.properties) >= {"energy", "forces"}
    assert preset.metadata["cutoff"] == 4.5
    assert preset.metadata["references"] == {"energy": {"1": -13.6, "8": -2041.75}}
    assert preset.metadata["num_parameters"] == model.count_params()
    assert preset.metadata["seed"] == 3


def test_a_preset_can_be_had_in_float64(model, folder):
    loaded = CMRET.from_preset("water", dtype="float64")
    assert loaded.compute_dtype == "float64"
    loaded.run_eagerly = model.run_eagerly
    predicted = loaded.predict(WATER)
    assert predicted["forces"].dtype == np.float64
    np.testing.assert_allclose(predicted["forces"], model.predict(WATER)["forces"], atol=1e-5)


def test_float64_weights_are_stored_in_full(zoo):
    model = CMRET(num_features=4, num_layers=1, num_heads=1, num_radial=4, dtype="float64")
    model.assign_weights([(v, np.full(v.shape, 1 / 3)) for v in model.weights])
    model.save_to_preset(zoo / "cmret/third")
    for weight in CMRET.from_preset("third").get_weights():
        assert weight.dtype == np.float64
        assert np.all(weight == 1 / 3)


def test_presets_are_found_by_name_and_by_folder(model, folder):
    assert list(CMRET.presets) == ["water"]
    assert Other.presets == {}
    assert list(presets.available()) == ["cmret/water"]
    for name in ("water", str(folder), folder):
        assert presets.find(name, "CMRET").folder == folder
    assert presets.find("cmret/water").folder == folder


def test_a_folder_of_something_else_does_not_hide_a_preset(folder, tmp_path, monkeypatch):
    (tmp_path / "elsewhere/cmret/water").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert presets.find("cmret/water").folder == folder


def test_networks_that_see_all_pairs_state_no_cutoff(zoo):
    GeomAtt(num_features=4, num_layers=1).save_to_preset(zoo / "geomatt/all")
    assert GeomAtt.presets["all"].metadata["cutoff"] is None


def test_a_preset_of_another_class_is_refused(folder):
    with pytest.raises(ValueError, match=r"Use CMRET\.from_preset"):
        Other.from_preset(str(folder))
    with pytest.raises(ValueError, match=r"cmret/water"):
        Other.from_preset("water")


def test_an_unknown_preset_is_answered_with_those_that_exist(folder):
    with pytest.raises(ValueError, match=r"Received: 'fire'.*\['water'\]"):
        CMRET.from_preset("fire")


def test_one_flipped_bit_in_the_weights_is_noticed(folder):
    path = folder / presets.WEIGHTS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged.*SHA-256"):
        CMRET.from_preset("water")


@pytest.mark.parametrize("file", [presets.CONFIG, presets.METADATA])
@pytest.mark.parametrize("content", ['{"format_version": 1', "{}", "[]", "3", "\xff"])
def test_damaged_files_are_named(folder, file, content):
    (folder / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=f"{file}' is damaged"):
        CMRET.from_preset(str(folder))


@pytest.mark.parametrize("file", [presets.CONFIG, presets.METADATA, presets.WEIGHTS])
def test_missing_files_are_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(ValueError, match="not a preset"):
        CMRET.from_preset(str(folder))


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        (presets.METADATA, {"architecture": 7}, "architecture=7"),
        (presets.METADATA, {"architecture": None}, "architecture=None"),
        (presets.METADATA, {"format_version": "1"}, "format_version='1'"),
        (presets.METADATA, {"format_version": True}, "format_version=True"),
        (presets.METADATA, {"elements": 8}, "elements=8"),
        (presets.METADATA, {"elements": ["O"]}, "elements="),
        (presets.METADATA, {"elements": [119]}, "elements="),
        (presets.METADATA, {"properties": [1]}, "properties="),
        (presets.METADATA, {"description": {}}, "description="),
        (presets.METADATA, {"weights_sha256": []}, "weights_sha256="),
        (presets.CONFIG, {"class_name": "GeomAtt"}, "contradicts itself.*'GeomAtt'.*'CMRET'"),
        (presets.CONFIG, {"class_name": ["CMRET"]}, "contradicts itself"),
        (presets.METADATA, None, "damaged"),
    ],
)
def test_whatever_is_wrong_with_a_preset_the_others_are_listed(folder, zoo, file, changes, said):
    shutil.copytree(folder, zoo / "cmret/broken")
    if changes is None:
        (zoo / "cmret/broken" / file).write_text("{")
    else:
        edit(zoo / "cmret/broken" / file, **changes)
    with pytest.warns(UserWarning, match=rf"broken.*{said}"):
        assert list(CMRET.presets) == ["water"]


def test_weights_that_are_no_numbers_are_refused(model, zoo):
    broken = model.copy()
    broken.assign_weights([(broken.weights[0], np.full(broken.weights[0].shape, np.nan))])
    broken.save_to_preset(zoo / "cmret/broken")
    with pytest.raises(ValueError, match=r"'broken' are no numbers. Received: NaN"):
        CMRET.from_preset("broken")


def test_what_users_must_know_is_shown(model, zoo):
    model.save_to_preset(zoo / "cmret/odd", warnings=["Not for dynamics."])
    with pytest.raises(UserWarning, match=r"CMRET/odd: Not for dynamics\."):
        CMRET.from_preset("odd")


def test_a_preset_keeps_its_domain(model, zoo):
    learned = model.copy()
    learned.fit_offsets([{**WATER, "energy": np.zeros(1)}] * 2)
    learned.save_to_preset(zoo / "cmret/learned")
    assert CMRET.from_preset("learned").domain == learned.domain
    assert presets.read(zoo / "cmret/learned").elements == (1, 8)


def test_a_preset_of_a_later_version_is_refused(folder):
    edit(folder / presets.METADATA, format_version=presets.FORMAT_VERSION + 1)
    with pytest.raises(ValueError, match="Upgrade"):
        CMRET.from_preset(str(folder))


def test_elements_that_were_never_seen_are_refused(folder):
    loaded = CMRET.from_preset("water")
    with pytest.raises(ValueError, match=r"atomic_numbers=\[17\].*\[1, 8\]"):
        loaded.predict(structure([[0, 0, 0], [0, 0, 1.3]], [1, 17]))


@pytest.mark.once
def test_new_elements_may_be_learned(folder):
    loaded = CMRET.from_preset("water")
    forces = np.zeros((2, 3))
    graph = structure([[0, 0, 0], [0, 0, 1.3]], [1, 17], energy=-1.0, forces=forces)
    loaded.compile("sgd", loss={"energy": "mse"}, run_eagerly=True)
    with pytest.raises(TypeError, match="list with str"):
        loaded.fit(["no graph"])
    assert loaded.preset is not None  # nothing was learned
    loaded.fit([graph], validation_data=[graph], epochs=1, verbose=0)
    assert loaded.preset is None
    loaded.evaluate([graph], verbose=0)


def test_a_copied_preset_has_the_name_of_its_folder(folder, zoo, monkeypatch):
    shutil.copytree(folder, zoo / "cmret/other")
    assert set(presets.available()) == {"cmret/other", "cmret/water"}
    monkeypatch.setenv("HOME", str(zoo))
    assert presets.find("~/cmret/other").name == "other"


def test_properties_that_were_not_trained_are_refused(folder):
    preset = presets.read(folder)
    presets.check_property("forces", preset)
    with pytest.raises(ValueError, match="dipole"):
        presets.check_property("dipole", preset)


def test_saving_again_keeps_what_others_put_there(model, folder):
    (folder / "README.md").write_text("card")
    (folder / "logs").mkdir()
    (folder / "logs/train.csv").write_text("1,2")
    model.save_to_preset(folder, seed=4)
    assert (folder / "README.md").read_text() == "card"
    assert (folder / "logs/train.csv").read_text() == "1,2"
    assert presets.read(folder).metadata["seed"] == 4


@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        (presets, "sha256", 1),
        (saving, "write_json", 2),
        (presets.os, "replace", 3),  # of the metadata
        (saving, "exchange", 1),  # of the folders
    ],
)
def test_an_interrupted_save_leaves_the_old_preset(model, folder, monkeypatch, owner, name, number):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "README.md").write_text("card")
    original, calls = getattr(owner, name), []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == number:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.save_to_preset(folder, seed=5)
    monkeypatch.undo()
    assert (folder / "README.md").read_text() == "card"
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert [path.name for path in folder.parent.iterdir()] == ["water"]


def test_a_folder_of_something_else_is_left_alone(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(ValueError, match="not a preset"):
        model.save_to_preset(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "three years"


def test_what_stands_in_the_way_of_a_preset_is_known_beforehand(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for free in (folder, tmp_path / "empty", tmp_path / "new" / "deeper"):
        presets.check_folder(free)
    with pytest.raises(ValueError, match=f"not a preset.*'{folder.parent}'"):
        presets.check_folder(folder.parent)
    with pytest.raises(ValueError, match="the file"):
        presets.check_folder(folder / presets.CONFIG)


def test_further_folders_are_searched_first(tmp_path, monkeypatch):
    monkeypatch.setenv(presets.ZOO_ENVIRONMENT, str(tmp_path))
    assert presets.zoo_folders()[0] == tmp_path


def test_presets_of_the_zoo_can_be_read():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, preset in presets.available().items():
            assert name == f"{preset.architecture.lower()}/{preset.name}"
