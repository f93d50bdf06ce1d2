"""Configs, presets, copies and files of models."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import keras

from keras_mlff import presets as preset_store
from keras_mlff import saving
from keras_mlff.backend import keras_private
from keras_mlff.core.state import FittedState

_PRESET = "preset.json"  # beside the weights in Keras's files


class PresetNames:
    """Lists the presets of a class when the class is asked for them: `CMRET.presets`."""

    def __get__(self, instance: Any, owner: type) -> dict[str, preset_store.Preset]:
        return preset_store.available(owner.__name__)


class Persistence(FittedState):
    """Writes models and makes them again: from configs, presets, copies and authors' weights.

    Attributes:
        presets: Trained models of this class that are at hand, by name.
    """

    presets = PresetNames()
    name: str
    dtype_policy: Any

    def get_config(self: Any) -> dict[str, Any]:
        """Lists the constructor's arguments, defaults included, as JSON knows them.

        A `variant` is listed switch by switch.
        """
        # JSON, which presets are stored in, knows no tuples and ranges
        config = {
            key: list(value) if isinstance(value, (tuple, range)) else value
            for key, value in self.arguments.items()
        }
        config["heads"] = [keras.saving.serialize_keras_object(head) for head in self.heads]
        if "variant" in config:  # a name may mean other switches one day
            config["variant"] = self.variant.as_dict()
        config["dtype"] = self.dtype_policy.name
        config["name"] = self.name
        return config

    @classmethod
    def upgrade_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Turns a config that an earlier version has written into today's arguments.

        Presets and files outlive arguments. An architecture that renames or removes one overrides
        this, so that what was written before still loads. Configs of today pass through unchanged.

        Args:
            config: A config by names of arguments; it may be changed.

        Returns:
            A config that the constructor takes; by default the one given.
        """
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Makes the model of a config, with fresh weights."""
        return cls(**cls.upgrade_config(dict(config)))

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Does nothing: the constructor has created the weights that are loaded now."""

    def copy(self: Any, dtype: str | None = None) -> Any:
        """Makes a model of the same class, arguments and weights that shares nothing with this one.

        Optimizer, losses and metrics are not copied.

        Args:
            dtype: Precision of the copy, `"float32"` or `"float64"`. Defaults to that of the model.

        Returns:
            The copy, which is a preset if the model is one.

        Raises:
            ValueError: If the precision is another.
        """
        config = self.get_config()
        if dtype is not None:
            config["dtype"] = dtype
        copied = type(self).from_config(config)
        weights = [keras.ops.convert_to_numpy(weight) for weight in self.weights]
        copied.assign_weights(list(zip(copied.weights, weights, strict=True)))
        copied.preset = self.preset
        copied.domain = self.domain
        return copied

    @classmethod
    def from_preset(cls, preset: str | Path, **kwargs: Any) -> Self:
        """Loads a trained model.

        Args:
            preset: Its name within this class, such as `"ch2"`, see `presets`, or the path of a
                preset's folder.
            **kwargs: Replace arguments of the constructor, such as `dtype="float64"`.

        Raises:
            ValueError: If there is no such preset, it belongs to another class, or it is damaged.

        Example:
            ```python
            model = CMRET.from_preset("ch2")
            model.predict(structure([[0, 0, 0.12], [0, 0.86, -0.48], [0, -0.86, -0.48]], [6, 1, 1]))
            ```
        """
        return preset_store.load(cls, preset, **kwargs)

    def save_to_preset(self, folder: str | Path, **metadata: Any) -> None:
        """Writes config, weights and metadata into a folder that `from_preset` reads.

        Args:
            folder: The folder; a preset that is there already is replaced.
            **metadata: What `metadata.json` says besides, see `keras_mlff.presets.save`.
        """
        preset_store.save(self, folder, **metadata)

    @classmethod
    def from_port(
        cls, hyperparameters: Mapping[str, Any], weights: Mapping[str, Any], **kwargs: Any
    ) -> Self:
        """Makes a model of what the authors' own program has trained.

        Each family's module `port` says which names of that program it knows.

        Args:
            hyperparameters: The settings of the authors' program, by its names.
            weights: NumPy arrays by the names of the authors' program.
            **kwargs: Replace arguments of the constructor, such as `dtype="float64"`.

        Returns:
            A model that predicts what the authors' program predicts, up to rounding.

        Raises:
            NotImplementedError: If no such program is known for this architecture.
            ValueError: If settings or weights are missing, unknown or do not fit.
        """
        for owner in cls.__mro__:
            package = owner.__module__.rpartition(".")[0]
            if package and importlib.util.find_spec(f"{package}.port"):
                port = importlib.import_module(f"{package}.port")
                return port.build(cls, hyperparameters, weights, **kwargs)
        raise NotImplementedError(
            f"No other program is known whose weights {cls.__name__} could take over. A module "
            "`port` beside the module of the model, with a function "
            "`build(model_class, hyperparameters, weights, **kwargs)`, would say how."
        )

    # What Keras calls for its own files and for pickles, whose weights are those of the preset

    def save_weights(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Writes weights as Keras does; an existing file is replaced once the new one is complete.

        Raises:
            OSError: If they cannot be written, with the name of the file; the old one stays.
        """
        parent: Any = super()
        if kwargs or not (overwrite and str(filepath).endswith(".weights.h5")):
            parent.save_weights(filepath, overwrite, **kwargs)  # several files, questions, errors
            return
        memory = keras_private.WeightsInMemory()  # HDF5 crashes where the disk is full
        parent.save_weights(memory)
        saving.write_bytes(filepath, memory.getbuffer())

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Writes the whole model as Keras does; an existing file is replaced as by `save_weights`.

        Raises:
            OSError: If it cannot be written, with the name of the file; the old one stays.
        """
        parent: Any = super()
        if kwargs or not (overwrite and str(filepath).endswith(".keras")):
            parent.save(filepath, overwrite, **kwargs)
            return
        with saving.replacing(filepath) as unfinished:
            parent.save(unfinished)

    def save_assets(self, folder: str) -> None:
        """Writes what is known of the preset; Keras calls it."""
        if self.preset is not None:
            stated = {**vars(self.preset), "folder": str(self.preset.folder)}
            saving.write_json(Path(folder, _PRESET), stated)

    def load_assets(self, folder: str) -> None:
        """Reads what `save_assets` wrote; Keras calls it."""
        path = Path(folder, _PRESET)
        if path.is_file():
            stated = json.loads(path.read_text(encoding="utf-8"))
            self.preset = preset_store.Preset(**stated | {"folder": Path(stated["folder"])})

    def export(self, *args: Any, **kwargs: Any) -> None:
        """Points to `keras_mlff.export`; what Keras would write knows no forces and no units.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "A force field is exported by `keras_mlff.export.export_saved_model(model, folder)`, "
            "which adds units, element references and the search for neighbors. Keras's own "
            "`export` does not know them."
        )
