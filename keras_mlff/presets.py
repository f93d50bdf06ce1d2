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
import shutil
import tempfile
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_mlff import saving
from keras_mlff.graph import Graph, elements

FORMAT_VERSION = 1
CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
ZOO_ENVIRONMENT = "KERAS_MLFF_ZOO"  # further folders, separated as in PATH
_USER_ZOO = Path("~/.keras_mlff/zoo")


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
            except ValueError as error:  # one bad folder must not hide the good ones
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
        ValueError: If a file is missing, unreadable or of a later format.
    """
    folder = Path(folder).expanduser()
    missing = [name for name in (CONFIG, WEIGHTS, METADATA) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"The folder is not a preset: {missing} missing. Received: '{folder}'. "
            "A preset is written by `model.save_to_preset(folder)`."
        )
    metadata = _read_json(folder / METADATA, "format_version", "architecture", "weights_sha256")
    version = metadata["format_version"]
    if version > FORMAT_VERSION:
        raise ValueError(
            f"The preset '{folder}' has format {version}; this version of keras_mlff reads up to "
            f"{FORMAT_VERSION}. Upgrade: pip install --upgrade keras-mlff."
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
    stored = _read_json(preset.folder / CONFIG, "config")["config"]
    # before the arguments of today replace those of then
    model = owner.from_config(owner.upgrade_config(stored) | arguments)
    model.load_weights(weights)
    model.preset = preset
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".preset_") as name:
        temporary = Path(name) / "preset"
        temporary.mkdir()
        config = {"class_name": type(model).__name__, "config": model.get_config()}
        saving.write_json(temporary / CONFIG, config, _plain)
        # a copy has no optimizer, whose state would be most of the file
        model.copy().save_weights(temporary / WEIGHTS)
        stated = {
            "format_version": FORMAT_VERSION,
            "architecture": type(model).__name__,
            "weights_sha256": sha256(temporary / WEIGHTS),
            "num_parameters": model.count_params(),
            "cutoff": None if model.sees_all_pairs or math.isinf(model.cutoff) else model.cutoff,
            "dtype": model.compute_dtype,
            "elements": sorted({z for head in model.heads for z in head.references}),
            "properties": model.property_names,
            "units": {label: head.unit for head in model.heads for label in head.labels},
            "references": {
                head.name: {str(z): value for z, value in head.references.items()}
                for head in model.heads
                if head.references
            },
        }
        saving.write_json(temporary / METADATA, stated | metadata, _plain)
        if not folder.exists():
            os.replace(temporary, folder)
        else:
            for path in folder.iterdir():  # keep what others put there: card, logs, ...
                if not (temporary / path.name).exists():
                    (shutil.copytree if path.is_dir() else shutil.copy2)(
                        path, temporary / path.name
                    )
            old = Path(name) / "old"
            os.replace(folder, old)
            try:
                os.replace(temporary, folder)
            except BaseException:
                os.replace(old, folder)
                raise
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


def check_elements(graphs: Iterable[Graph], preset: Preset) -> None:
    """Refuses elements that a preset was not trained on.

    Args:
        graphs: Graphs, structures or batches.
        preset: The preset; one that lists no elements accepts all.

    Raises:
        ValueError: If there are any, with those that the preset knows.
    """
    unknown = sorted(set(elements(graphs)) - set(preset.elements))
    if unknown and preset.elements:
        raise ValueError(
            "The graph holds elements that the preset was not trained on, so their energy has no "
            f"meaning. Received: atomic_numbers={unknown}, preset='{preset.name}', which knows "
            f"{sorted(preset.elements)}. Choose a preset that covers them (`keras-mlff zoo list`) "
            "or fine-tune this one (`keras-mlff train --preset`)."
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
        missing = [key for key in keys if key not in content]
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{path}' is damaged ({error}). Copy the preset again.") from error
    if missing:
        raise ValueError(f"'{path}' is damaged: {missing} missing. Copy the preset again.")
    return dict(content)


def _plain(value: Any) -> Any:
    import keras  # late: presets are listed without a framework

    return keras.saving.serialize_keras_object(value)
