"""Trained models on disk: folders of config, weights and metadata, found by name.

`available` lists them, as the command `keras-mlff zoo list` does; `ForceField.from_preset` and
`keras_mlff.load_preset` load them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import saving
from keras_mlff.graph import MAX_ATOMIC_NUMBER

FORMAT_VERSION = 2  # 2: the weights bring what was fitted beside them
CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
ZOO_ENVIRONMENT = "KERAS_MLFF_ZOO"  # further folders, separated as in PATH
_USER_ZOO = Path("~/.keras_mlff/zoo")
# the types of metadata that programs read, where they are stated
_TYPES: dict[str, Any] = {
    "format_version": int,
    "num_parameters": int,
    "cutoff": (int, float, type(None)),
    **dict.fromkeys(("architecture", "weights_sha256", "dtype", "description"), str),
    **dict.fromkeys(("elements", "properties", "warnings", "notes"), list),
    **dict.fromkeys(("units", "references", "metrics", "domain", "checks", "nve"), dict),
}


@dataclasses.dataclass(frozen=True)
class Preset:
    """A trained model on disk.

    Attributes:
        name: Name of the folder, such as `"ch2"`, unique within the class.
        architecture: Name of the class, such as `"CMRET"`.
        folder: Folder that holds config, weights and metadata.
        metadata: Everything known about the model, as `metadata.json` states it.
    """

    name: str
    architecture: str
    folder: Path
    metadata: Mapping[str, Any]

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the model was trained on."""
        return tuple(self.metadata.get("elements", ()))

    @property
    def properties(self) -> tuple[str, ...]:
        """Properties that the model was trained on; others are refused."""
        return tuple(self.metadata.get("properties", ()))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What users must know before they trust a number, in whole sentences."""
        return tuple(self.metadata.get("warnings", ()))

    @property
    def description(self) -> str:
        """One sentence about the model."""
        return str(self.metadata.get("description", ""))


def zoo_folders() -> list[Path]:
    """Lists the folders searched for presets, first match first.

    They are those of `KERAS_MLFF_ZOO`, the zoo of the package or of its checkout, and the user's
    `~/.keras_mlff/zoo`. The network is never asked.
    """
    named = [
        Path(item).expanduser()
        for item in os.environ.get(ZOO_ENVIRONMENT, "").split(os.pathsep)
        if item
    ]
    package = Path(__file__).resolve().parent
    candidates = [*named, package / "zoo", package.parent / "zoo", _USER_ZOO.expanduser()]
    return [folder for folder in candidates if folder.is_dir()]


def user_zoo() -> Path:
    """Names the folder for presets of the user: the first of `KERAS_MLFF_ZOO`, else the home's."""
    named = [item for item in os.environ.get(ZOO_ENVIRONMENT, "").split(os.pathsep) if item]
    return Path(named[0] if named else _USER_ZOO).expanduser()


def available(architecture: str | None = None) -> dict[str, Preset]:
    """Lists the presets that are at hand.

    Args:
        architecture: Name of a class, such as `"CMRET"`; all classes where `None`.

    Returns:
        Presets by name: `"ch2"` within a class, `"cmret/ch2"` without one. A damaged folder is
        left out with a warning.

    Example:
        ```python
        for name, preset in presets.available().items():
            print(name, preset.description)
        ```
    """
    found: dict[str, Preset] = {}
    for zoo in zoo_folders():
        for path in sorted(zoo.glob(f"*/*/{METADATA}")):
            try:
                preset = read(path.parent)
            except (ValueError, OSError) as error:  # one bad folder must not hide the good ones
                warnings.warn(f"Left out of the list of presets: {error}", stacklevel=2)
                continue
            if architecture is None:
                found.setdefault(f"{preset.architecture.lower()}/{preset.name}", preset)
            elif preset.architecture == architecture:
                found.setdefault(preset.name, preset)
    return found


def read(folder: str | Path) -> Preset:
    """Reads what a preset's folder says about itself, without its weights.

    Args:
        folder: The folder of one preset.

    Raises:
        ValueError: If a file is missing, unreadable, contradicts another or is of a later format.
    """
    folder = Path(folder).expanduser()
    missing = [name for name in (CONFIG, WEIGHTS, METADATA) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"The folder is not a preset: {missing} missing. Received: '{folder}'. "
            "A preset is written by `model.save_to_preset(folder)`."
        )
    metadata = _read_json(folder / METADATA, "format_version", "architecture", "weights_sha256")
    for key, kind in _TYPES.items():
        if key in metadata and (not isinstance(metadata[key], kind) or metadata[key] is True):
            raise _damaged(folder / METADATA, f"{key}={metadata[key]!r}")
    numbers, words = metadata.get("elements", []), ("properties", "warnings", "notes")
    if not all(type(z) is int and 0 < z <= MAX_ATOMIC_NUMBER for z in numbers):
        raise _damaged(folder / METADATA, f"elements={numbers}")
    for key in words:
        if not all(isinstance(item, str) for item in metadata.get(key, [])):
            raise _damaged(folder / METADATA, f"{key}={metadata[key]}")
    version = metadata["format_version"]
    if version > FORMAT_VERSION:
        raise ValueError(
            f"The preset '{folder}' has format {version}; this version of keras_mlff reads up to "
            f"{FORMAT_VERSION}. Upgrade: pip install --upgrade keras-mlff."
        )
    owner = _read_json(folder / CONFIG, "class_name", "config")["class_name"]
    if owner != metadata["architecture"]:
        raise ValueError(
            f"'{folder}' contradicts itself: {CONFIG} is of class_name={owner!r}, {METADATA} of "
            f"architecture={metadata['architecture']!r}. Copy the preset again."
        )
    return Preset(Path(os.path.abspath(folder)).name, metadata["architecture"], folder, metadata)


def find(
    name: str | Path, architecture: str | None = None, subclasses: Collection[str] = ()
) -> Preset:
    """Finds a preset by its folder or its name.

    Args:
        name: The path of a preset's folder, `"cmret/ch2"`, or, within a class, `"ch2"`.
        architecture: Name of the class that the preset must belong to; any where `None`.
        subclasses: Names of further classes that it may belong to.

    Raises:
        ValueError: If there is none, with a list of those that exist, or it belongs to another
            class.
    """
    name = os.path.expanduser(name)
    if (Path(name) / METADATA).is_file():
        preset = read(name)
    else:
        everywhere, own = available(), available(architecture)
        found = own.get(name) or everywhere.get(name)
        if found is not None:
            preset = found
        elif os.sep in name and Path(name).is_dir():
            preset = read(name)  # which says what it lacks
        else:
            elsewhere = sorted(key for key in everywhere if key.split("/")[1] == name)
            hint = f" The name exists as {elsewhere}." if elsewhere else ""
            owner = architecture or "any architecture"
            raise ValueError(
                f"There is no preset '{name}' of {owner}, and no such folder. "
                f"Received: '{name}'. Choose from {sorted(own)}.{hint}"
            )
    if architecture is not None and preset.architecture not in {architecture, *subclasses}:
        raise ValueError(
            f"The preset '{name}' belongs to {preset.architecture}. Received: a call of "
            f"{architecture}.from_preset. Use {preset.architecture}.from_preset('{name}')."
        )
    return preset


def load(model_class: Any, name: str | Path, **arguments: Any) -> Any:
    """Makes the model of a preset; see `ForceField.from_preset`.

    Args:
        model_class: The class, or a base of it: `ForceField` loads presets of every architecture
            that is imported.
        name: What `find` takes.
        **arguments: Replace arguments of the constructor.

    Raises:
        ValueError: If there is no such preset, it belongs to another class, or it is damaged.
    """
    classes = {owner.__name__: owner for owner in reversed(_with_subclasses(model_class))}
    import keras  # late: presets are listed without a framework

    preset = find(name, model_class.__name__, classes.keys())
    weights = preset.folder / WEIGHTS
    digest = sha256(weights)
    expected = preset.metadata["weights_sha256"]
    if digest != expected:
        raise ValueError(
            f"The weights of preset '{preset.name}' are damaged: '{weights}' has SHA-256 "
            f"{digest[:12]}..., its metadata say {expected[:12]}.... Copy the preset again."
        )
    owner = classes[preset.architecture]
    config = preset.folder / CONFIG
    if sha256(config) != preset.metadata.get("config_sha256", sha256(config)):
        raise ValueError(
            f"'{config}' is damaged: its SHA-256 is not the one that the metadata of preset "
            f"'{preset.name}' say. Copy the preset again."
        )
    stored = _read_json(config, "config")["config"]
    if not isinstance(stored, dict):
        raise _damaged(config, f"config={stored!r}")
    try:
        # before the arguments of today replace those of then
        model = owner.from_config(owner.upgrade_config(stored) | arguments)
    except Exception as error:
        if arguments:  # which may be at fault
            raise
        raise ValueError(
            f"'{config}' is damaged: no {owner.__name__} can be made of it "
            f"({type(error).__name__}: {error}). Copy the preset again."
        ) from error
    model.read_weights(weights)  # the config has what was fitted beside them
    for weight in model.weights:
        if not np.all(np.isfinite(keras.ops.convert_to_numpy(weight))):
            raise ValueError(
                f"The weights of preset '{preset.name}' are no numbers. Received: NaN or infinite "
                f"values of '{weight.path}' in '{weights}'. The training has diverged; take an "
                "earlier state of it, or another preset."
            )
    model.preset = preset
    for text in preset.warnings:
        warnings.warn(f"{preset.architecture}/{preset.name}: {text}", stacklevel=3)
    return model


def _with_subclasses(model_class: Any) -> list[Any]:
    """Lists a class and everything derived from it, the class first."""
    found = [model_class]
    for derived in model_class.__subclasses__():
        found += _with_subclasses(derived)
    return found


def save(model: Any, folder: str | Path, **metadata: Any) -> Preset:
    """Writes a preset: all files appear at once or none does.

    Args:
        model: The trained model, which is that preset from here on.
        folder: The folder to write; a preset that is there already is replaced, other files in it
            stay.
        **metadata: What `metadata.json` says besides: `elements`, `properties`, `metrics`,
            `dataset`, `split`, `seed`, `level_of_theory`, `license`, `citation`, ...

    Returns:
        The preset that was written.

    Raises:
        ValueError: If the folder holds something else.
    """
    folder = Path(folder).expanduser()
    check_folder(folder)
    with saving.replacing_folder(folder) as temporary:
        config = {"class_name": type(model).__name__, "config": model.get_config()}
        saving.write_json(temporary / CONFIG, config, _plain)
        # a copy has no optimizer, whose state would be most of the file
        model.copy().save_weights(temporary / WEIGHTS)
        stated = {
            "format_version": FORMAT_VERSION,
            "architecture": type(model).__name__,
            "weights_sha256": sha256(temporary / WEIGHTS),
            "config_sha256": sha256(temporary / CONFIG),
            "num_parameters": model.count_params(),
            "cutoff": None if model.sees_all_pairs or math.isinf(model.cutoff) else model.cutoff,
            "dtype": model.compute_dtype,
            "elements": sorted(model.domain.elements)
            or sorted({z for head in model.heads for z in head.references}),
            "properties": model.property_names,
            "units": {label: head.unit for head in model.heads for label in head.labels},
            "references": {
                head.name: {str(z): value for z, value in head.references.items()}
                for head in model.heads
                if head.references
            },
        }
        if model.domain.elements:
            stated["domain"] = model.domain.to_config()
        saving.write_json(temporary / METADATA, stated | metadata, _plain)
    preset = read(folder)
    model.preset = preset
    return preset


def check_folder(folder: str | Path) -> None:
    """Refuses to write a preset over something else; call it before a training, not after.

    Args:
        folder: The folder that a preset shall be written to.

    Raises:
        ValueError: If the folder holds files and no preset, or is a file.
    """
    folder = Path(folder).expanduser()
    if not folder.exists() or (folder / METADATA).is_file():
        return
    if not folder.is_dir():
        raise ValueError(f"A preset needs a folder. Received: the file '{folder}'. Choose another.")
    if any(folder.iterdir()):
        raise ValueError(
            f"The folder is not empty and not a preset. Received: '{folder}'. Choose another."
        )


def check_property(name: str, preset: Preset) -> None:
    """Refuses a property that a preset was not trained on.

    Args:
        name: Name of the property, such as `"dipole"`.
        preset: The preset, whose metadata list what it was trained on.

    Raises:
        ValueError: If it was not.
    """
    if name not in preset.properties:
        raise ValueError(
            f"The preset was not trained on '{name}'. Received: '{name}', "
            f"preset='{preset.name}', which knows {sorted(preset.properties)}."
        )


def sha256(path: str | Path) -> str:
    """Computes the SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path, *keys: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(path, f"it holds {type(content).__name__}, no object")
    missing = [key for key in keys if key not in content]
    if missing:
        raise _damaged(path, f"{missing} missing")
    return content


def _damaged(path: Path, fault: str) -> ValueError:
    return ValueError(f"'{path}' is damaged: {fault}. Copy the preset again.")


def _plain(value: Any) -> Any:
    import keras

    return keras.saving.serialize_keras_object(value)
