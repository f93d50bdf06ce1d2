"""Whoever has installed one framework needs no setting, and a choice of the user is kept."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_mlff
from keras_mlff import frameworks

PACKAGE = Path(frameworks.__file__).parent
BACKEND = keras.backend.backend()


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Makes a user of whom nothing is known, with Keras not imported yet."""
    monkeypatch.delenv(frameworks.VARIABLE, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "keras")

    def install(*names):
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name: object() if name in names else None
        )

    return install


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (["jax"], "jax"),
        (["torch"], "torch"),
        (["jax", "torch"], "jax"),
        (["tensorflow", "jax"], None),  # what Keras asks for is there
    ],
)
@pytest.mark.parametrize("has_file", [False, True])
def test_what_is_installed_is_chosen(fresh, tmp_path, installed, expected, has_file):
    """Keras writes a file that names TensorFlow, which is nobody's choice."""
    fresh(*installed)
    if has_file:
        (tmp_path / "keras.json").write_text(json.dumps({"backend": "tensorflow"}))
    frameworks.choose()
    assert os.environ.get(frameworks.VARIABLE) == expected


def test_a_choice_is_kept_or_refused(fresh, tmp_path, monkeypatch):
    fresh("torch", "jax")
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "torch"}))
    frameworks.choose()
    assert frameworks.VARIABLE not in os.environ
    monkeypatch.setenv(frameworks.VARIABLE, "tensorflow")
    with pytest.raises(ImportError, match=r"\['jax', 'torch'\] are installed.*keras-mlff\[tensorf"):
        frameworks.choose()
    fresh()
    monkeypatch.delenv(frameworks.VARIABLE)
    (tmp_path / "keras.json").unlink()
    with pytest.raises(ImportError, match="none of them is installed"):
        frameworks.choose()


PROGRAM = """
import os, sys
for name in {"tensorflow", "jax", "torch"} - {sys.argv[1]}:
    sys.modules[name] = None
before = dict(os.environ)
import keras_mlff
from keras_mlff import frameworks, graph, presets, quantities
heavy = {"keras", "tensorflow", "jax", "torch", "ase", "matplotlib"} & {
    name for name, module in sys.modules.items() if module is not None
}
assert not heavy, heavy
assert keras_mlff.cli.main(["doctor"]) == 0
from keras_mlff.models import EGNN
import keras
assert keras.backend.backend() == sys.argv[1]
assert EGNN is keras_mlff.EGNN
"""


def test_the_only_framework_is_used_without_a_setting(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != frameworks.VARIABLE}
    environment["KERAS_HOME"] = str(tmp_path)
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, BACKEND],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_every_room_chooses_before_it_imports_keras():
    """The first module of a room that is imported is its `__init__`."""
    rooms = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(
            (isinstance(node, ast.Import) and node.names[0].name == "keras")
            or (isinstance(node, ast.ImportFrom) and node.module == "keras")
            for node in ast.parse(path.read_text(encoding="utf-8")).body
        )
    }
    assert {"backend", "analysis.py"} <= rooms
    for room in sorted(rooms):
        path = PACKAGE / room if room.endswith(".py") else PACKAGE / room / "__init__.py"
        names = [
            node.names[0].name if isinstance(node, ast.Import) else node.module
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, (ast.Import, ast.ImportFrom))
        ]
        ours = [name for name in names if name == "keras" or name.startswith("keras_mlff")]
        assert ours[0] == "keras_mlff.frameworks", room


# What the package shows


def test_rooms_and_names_are_listed_for_completion():
    names = dir(keras_mlff)
    for name in ("md", "datasets", "models", "presets", "CMRET", "load_preset", "structure"):
        assert name in names
    assert set(keras_mlff.models.ARCHITECTURES) <= set(names)
    assert not [name for name in names if name.startswith("_") and name != "__version__"]


def test_listed_names_are_there():
    assert keras_mlff.CMRET is keras_mlff.models.CMRET
    assert keras_mlff.structure is keras_mlff.graph.structure
    assert keras_mlff.load_preset is keras_mlff.models.load_preset
    assert keras_mlff.ForceField is keras_mlff.models.ForceField
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        keras_mlff.Nonsense  # noqa: B018
