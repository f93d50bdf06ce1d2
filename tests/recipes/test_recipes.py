"""Every recipe can be read, builds its model in each variant, and trains on invented data."""

import numpy as np
import pytest

from keras_mlff import datasets, experiments
from keras_mlff.experiments import building, recipes

NAMES = sorted(recipes.available())
VARIANTS = [(name, variant) for name in NAMES for variant in recipes.load(name).variants]
SMALL = {"num_features": 12, "num_layers": 1, "num_heads": 2, "num_radial": 4, "num_knots": 6}
DATA = ("file", "tfds", "rmd17")  # variants that change the data alone


def make_small(source, variants=()):
    """Settles a recipe with a small network and two steps of training."""
    found = source.settle(variants).model
    changes = {"training.num_epochs": 1, "training.batch_size": 4, "report.plots": False}
    if not found.preset:
        sizes = {"num_features", "num_layers"} | (SMALL.keys() & found.arguments.keys())
        changes |= {f"model.{name}": SMALL[name] for name in sizes}
        changes |= {"model.cutoff": 3.0}
    return source.settle(variants, changes)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Frames of one molecule in a cell, with every label that a recipe learns."""
    path = tmp_path_factory.mktemp("recipes") / "invented.npz"
    random = np.random.default_rng(0)
    rest = np.asarray([[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [-0.4, 1.0, 0.0], [-0.5, -0.6, 0.9]])
    forces = random.normal(size=(12, 4, 3))
    labels = {label for name in NAMES for label in building.learned_labels(*_sections(name))} - {
        "energy",
        "forces",
        "stress",
    }
    stress = 0.01 * random.normal(size=(12, 3, 3))
    np.savez(
        path,
        positions=rest + random.normal(scale=0.05, size=(12, 4, 3)),
        atomic_numbers=np.asarray([6, 1, 1, 8]),
        cell=np.diag([6.0, 6.2, 6.4]),
        energy=random.normal(size=12) - 1000.0,
        forces=forces - forces.mean(axis=1, keepdims=True),
        stress=stress + stress.transpose(0, 2, 1),
        **{label: np.abs(random.normal(size=12)) + 1.0 for label in sorted(labels)},
    )
    return path


def _sections(name):
    recipe = recipes.load(name).settle()
    return recipe.model, recipe.training


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is_and_names_data_that_exist(name):
    source = recipes.load(name)
    recipe = source.settle()
    assert recipe.description.endswith(".")
    assert source.path.read_text("utf-8").startswith("# ")  # what it repeats, and what is not known
    named = recipe.data.source if isinstance(recipe.data.source, tuple) else [recipe.data.source]
    for item in filter(None, named):
        assert "." in item or item.partition("/")[0] in datasets.NAMES
    for variant in source.variants:
        source.settle([variant])


@pytest.mark.parametrize(("name", "variant"), [(n, v) for n, v in VARIANTS if v not in DATA])
def test_a_variant_builds_its_model(name, variant):
    recipe = make_small(recipes.load(name), [variant])
    labels = building.learned_labels(recipe.model, recipe.training)
    model = building.make_model(recipe.model, labels)
    assert set(labels) <= {label for head in model.heads for label in head.labels} | {
        "forces",
        "stress",
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains(name, file, tmp_path):
    source = recipes.load(name)
    periodic = source.settle().model.class_name == "AlphaNet"
    chosen = file if periodic else _without_cell(file, tmp_path)
    section = {"source": str(chosen), "sizes": {"test": 2, "validation": 2}}
    recipe = make_small(source.replacing(data=section))
    results = experiments.run_recipe(recipe, folder=tmp_path / "run", verbose=0)
    labels = building.learned_labels(recipe.model, recipe.training)
    assert set(labels) <= set(results.errors)
    assert all(values["test_mae"] >= 0.0 for values in results.errors.values())


def _without_cell(file, folder):
    with np.load(file) as arrays:
        kept = {key: arrays[key] for key in arrays.files if key not in ("cell", "stress")}
    np.savez(folder / "molecules.npz", **kept)
    return folder / "molecules.npz"
