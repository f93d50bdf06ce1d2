"""What a recipe may say, how it is changed, and what is wrong with one is said."""

import dataclasses
import tomllib

import pytest

from keras_mlff.experiments import Recipe, Settings, recipes, toml

TEXT = """
# a comment
description = "Water."
parameters = { molecule = "water", width = 16 }
[model]
class = "EGNN"
num_features = "{width}"
[data]
source = "md17/{molecule}"
split = { training = "train[:10]" }
[training]
loss = { energy = "mse" }
optimizer = { kind = "Adam", epsilon = 1e-8 }
[preset]
description = "{Molecule} in vacuum."
[variants.slow.training]
num_epochs = 1000
[variants.lion.training]
optimizer = { kind = "Lion" }
[variants.start.model]
preset = "egnn/qm9"
"""


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "water.toml"
    file.write_text(TEXT, "utf-8")
    return recipes.load(file)


def test_parameters_stand_in_texts_and_keep_their_type(source):
    recipe = source.settle()
    assert recipe.data.source == "md17/water"
    assert recipe.preset.description == "Water in vacuum."
    assert recipe.model.arguments == {"num_features": 16}
    assert source.settle(overrides={"molecule": "ice"}).data.source == "md17/ice"


def test_variants_and_overrides_are_laid_over_the_file(source):
    chosen = recipes.parse_overrides(["training.batch_size=8", "data.sizes.test=0.2"])
    recipe = source.settle(["slow", "lion"], chosen)
    assert (recipe.training.num_epochs, recipe.training.batch_size) == (1000, 8)
    assert recipe.training.optimizer == {"kind": "Lion"}  # another kind, with other arguments
    assert recipe.data.sizes == {"test": 0.2}
    assert recipe.data.split == {"training": "train[:10]"}
    assert source.settle(["start"]).model.arguments == {}  # a preset has its own
    assert source.settle(overrides={"model.preset": "x"}).model.class_name == ""
    assert source.settle().training.num_epochs == Settings().num_epochs


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"training.batchsize": 8}, ValueError, r"water.toml.*training.*'batchsize'.*batch_size"),
        ({"trainin.batch_size": 8}, ValueError, "'trainin'. Did you mean training"),
        ({"molecul": "ice"}, ValueError, "Did you mean molecule"),
        ({"training.batch_size": "many"}, TypeError, "whole number for 'batch_size'.*'many'"),
        ({"training.batch_size": True}, TypeError, "whole number"),
        ({"data.sizes": [1]}, TypeError, "a table for 'sizes'"),
        ({"data.source": "{mollecule}"}, ValueError, "no parameter 'mollecule'"),
        ({"data.join": [{"sorce": "x"}]}, ValueError, "data.join.*'sorce'.*source"),
    ],
)
def test_what_is_unknown_or_of_a_wrong_type_is_named(source, changes, error, message):
    with pytest.raises(error, match=message):
        source.settle(overrides=changes)


def test_unknown_variants_and_recipes_are_named(source):
    with pytest.raises(ValueError, match=r"'slo'\. Did you mean slow"):
        source.settle(["slo"])
    with pytest.raises(ValueError, match="Did you mean cmret_md17"):
        recipes.find("cmret_md71")


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    (tmp_path / "bad.toml").write_text("[model\n", "utf-8")
    with pytest.raises(ValueError, match=r"bad.toml is not written in TOML"):
        recipes.load(tmp_path / "bad.toml")


def test_what_is_extended_lies_underneath(source, tmp_path):
    file = tmp_path / "ice.toml"
    file.write_text('extends = "water"\n[parameters]\nmolecule = "ice"\n', "utf-8")
    assert recipes.load(file).settle().data.source == "md17/ice"
    assert recipes.load(file).settle(["slow"]).training.num_epochs == 1000
    # of the package, also what is no recipe itself, and of the own name
    for base, name in (("_md17", "mine.toml"), ("cmret_md17", "cmret_md17.toml")):
        file = tmp_path / name
        file.write_text(f'extends = "{base}"\n[parameters]\nmolecule = "benzene"\n', "utf-8")
        assert recipes.load(file).settle().data.source == "md17/benzene"
    file.write_text('extends = "other"', "utf-8")
    (tmp_path / "other.toml").write_text('extends = "cmret_md17"', "utf-8")
    with pytest.raises(ValueError, match="extends itself"):
        recipes.load(file)


def test_a_settled_recipe_is_written_and_read_without_loss(source):
    recipe = source.settle(["lion"], {"training.loss_weights": {"energy": [[0, 0.1], [9, 1.0]]}})
    text = toml.dumps(toml.as_table(recipe))
    assert toml.read(Recipe, tomllib.loads(text)) == recipe


def test_every_kind_of_value_survives_as_toml():
    table = {"a b": 1, "x": [1.5, float("inf")], "y": {"z": 'say "no"\n', "e": {}}, "t": True}
    assert tomllib.loads(toml.dumps({"s": {"u": table, "v": 1}})) == {"s": {"u": table, "v": 1}}


def test_values_of_overrides_are_toml_or_text():
    parsed = recipes.parse_overrides(["a=1", "b=[1, 2]", "c=x y", "d=true", "e=1e-3", "f=k=v"])
    assert parsed == {"a": 1, "b": [1, 2], "c": "x y", "d": True, "e": 1e-3, "f": "k=v"}
    with pytest.raises(ValueError, match="key=value"):
        recipes.parse_overrides(["a"])


def test_every_setting_is_explained():
    """What a section may hold stands in the text of its class."""
    for field in dataclasses.fields(Recipe):
        section = type(getattr(Recipe(), field.name))
        for inner in dataclasses.fields(section) if dataclasses.is_dataclass(section) else ():
            assert f"        {inner.name}: " in section.__doc__
