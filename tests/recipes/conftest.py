"""How tests load and run recipes, which are scripts beside the package."""

import sys
from pathlib import Path

import numpy as np
import pytest

from keras_mlff import publish

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module", autouse=True)
def recipes():
    """Lets tests import recipes by name, as Python does that runs one: beside the others."""
    sys.path.insert(0, str(RECIPES))
    yield
    sys.path.remove(str(RECIPES))
    for path in RECIPES.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture(autouse=True)
def short_dynamics(monkeypatch):
    """Runs 20 steps before a preset is published instead of 4,000."""
    monkeypatch.setattr(publish.publish, "__defaults__", (20,))


@pytest.fixture
def trajectory(tmp_path):
    """Writes frames of an invented molecule in kcal/mol and Å, and three splits of them."""
    random = np.random.default_rng(0)
    file = tmp_path / "invented.npz"
    rest = np.asarray([[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [-0.4, 1.0, 0.0], [-0.5, -0.6, 0.9]])
    forces = random.normal(size=(16, 4, 3)) * 10.0
    np.savez(
        file,
        positions=rest + random.normal(scale=0.05, size=(16, 4, 3)),
        atomic_numbers=np.asarray([6, 1, 1, 8]),
        energy=random.normal(size=16) - 1000.0,
        forces=forces - forces.mean(axis=1, keepdims=True),
        learn=np.arange(8),
        choose=np.arange(6, 12),  # two of them are learned
        judge=np.arange(12, 16),
    )
    return file
