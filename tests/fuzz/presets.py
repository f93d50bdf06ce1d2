"""Fuzzer of preset folders: damaged bytes, JSON of other values, weights of other content."""

import functools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from keras_mlff import models, presets
from keras_mlff.graph import structure
from tests.fuzz.cases import Fuzzer, Outcome, attempt
from tests.fuzz.stores import damage

WATER = structure([[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]], [8, 1, 1])
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    1,
    -1,
    7,
    2.5,
    1e300,
    "",
    "x",
    "float16",
    [],
    {},
    [1],
    {"a": 1},
)


@functools.cache
def made():
    """Makes two presets in a zoo and what one of them predicts, once."""
    zoo = tempfile.TemporaryDirectory()
    for name in ("good", "victim"):
        model = models.EGNN(num_features=4, num_layers=1)
        model.save_to_preset(
            Path(zoo.name, "egnn", name), elements=[1, 8], properties=["energy", "forces"]
        )
    return zoo, model.predict(WATER)


def places(content: Any) -> list[tuple[Any, Any]]:
    """Lists every container of a JSON value with each of its keys or indices."""
    keys = content if isinstance(content, dict) else range(len(content))
    found = [(content, key) for key in keys]
    for key in keys:
        if isinstance(content[key], (dict, list)):
            found += places(content[key])
    return found


def change_json(random: np.random.Generator, path: Path) -> None:
    content = json.loads(path.read_text("utf-8"))
    found = places(content)
    owner, key = found[int(random.integers(len(found)))]
    if random.random() < 0.3:
        del owner[key]
    else:
        owner[key] = ODD[int(random.integers(len(ODD)))]
    path.write_text(json.dumps(content), "utf-8")


def change_weights(random: np.random.Generator, path: Path) -> None:
    """Writes other content into a file of weights that stays a whole one."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "dtype") else None)
        name = names[int(random.integers(len(names)))]
        values = file[name][...]
        kind = random.choice(["nan", "shape", "removed", "external", "text"])
        if kind == "nan" and values.dtype.kind == "f" and values.size:
            values.flat[int(random.integers(values.size))] = random.choice([np.nan, np.inf])
            file[name][...] = values
            return
        del file[name]
        if kind == "shape":
            file[name] = np.zeros((3, 1, 2), np.float32)
        elif kind == "external":
            file[name] = h5py.ExternalLink("/etc/hostname", "/x")
        elif kind == "text":
            file[name] = "abc"


def folders(random: np.random.Generator, folder: Path) -> Outcome:
    """Damages a preset: it is refused, or predicts what it predicted, and hides no other."""
    zoo, expected = made()
    shutil.copytree(zoo.name, folder / "zoo")
    victim = folder / "zoo/egnn/victim"
    name = str(random.choice([presets.CONFIG, presets.WEIGHTS, presets.METADATA]))
    before = (victim / name).read_bytes()
    if name == presets.WEIGHTS and random.random() < 0.5:
        change_weights(random, victim / name)
        metadata = json.loads((victim / presets.METADATA).read_text("utf-8"))
        metadata["weights_sha256"] = presets.sha256(victim / name)
        (victim / presets.METADATA).write_text(json.dumps(metadata), "utf-8")
    elif name != presets.WEIGHTS and random.random() < 0.7:
        change_json(random, victim / name)
    else:
        damage(random, victim / name)
    # what another program has written knows no digest of its config, which then may be changed
    unsealed = name == presets.CONFIG and random.random() < 0.3
    if unsealed:
        metadata = json.loads((victim / presets.METADATA).read_text("utf-8"))
        del metadata["config_sha256"]
        (victim / presets.METADATA).write_text(json.dumps(metadata), "utf-8")
    os.environ[presets.ZOO_ENVIRONMENT] = str(folder / "zoo")
    try:
        assert "egnn/good" in presets.available()
    finally:
        del os.environ[presets.ZOO_ENVIRONMENT]
    found, _ = attempt(lambda: models.load_preset(str(victim)).predict(WATER))
    if found is None:
        assert not (victim / name).exists() or (victim / name).read_bytes() != before
        return "refused"
    if not unsealed:
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, 1e-6, 1e-6, err_msg=key)
    return "right"


FUZZERS = {"preset folders": Fuzzer(folders, 0.5)}
