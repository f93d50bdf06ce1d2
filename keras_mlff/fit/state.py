"""A training that survives a kill: everything it needs to continue, in one file."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mlff import saving
from keras_mlff.backend import keras_private
from keras_mlff.fit.averages import raw_by_variable
from keras_mlff.graph import Array
from keras_mlff.heads import Head
from keras_mlff.packing.loader import GraphLoader

# what Keras's own callbacks remember between epochs
_REMEMBERED = ("best", "wait", "best_epoch", "stopped_epoch", "cooldown_counter")
_ROUNDING = 1e-4  # relative, of what is measured again on another machine or device


class TrainingState(keras.callbacks.Callback):
    """Writes the state of a training, from which a killed one continues to the same last bit.

    Weights, optimizer, epoch and position in it, metrics, and what other callbacks remember go into
    one file, which is replaced at once, so that a kill never leaves half of one. It is written when
    an epoch begins, since then all other callbacks have dealt with the one before, between steps
    and at the end. Where averages have replaced the weights by then, the raw weights are written. A
    training that early stopping has ended stays ended, unless its patience grows. Give it as the
    last callback.

    Args:
        path: Path of the file, such as `state.npz`.
        loader: The training data, whose epoch and position are part of the state.
        others: Callbacks such as `EarlyStopping` whose memory is part of the state.
        seconds: Least time between two writes; the end of training is always written. Defaults to
            30.
        steps: Number of steps of an epoch after which the state is written, whatever the time.
            Defaults to 0, which goes by time alone.

    Example:
        ```python
        state = TrainingState("state.npz", loader)
        first_epoch = state.restore(model)  # 0 where there is no file
        model.fit(loader, initial_epoch=first_epoch, epochs=100, callbacks=[state])
        ```
    """

    def __init__(
        self,
        path: str | Path,
        loader: GraphLoader,
        others: list[keras.callbacks.Callback] | None = None,
        seconds: float = 30.0,
        steps: int = 0,
    ) -> None:
        super().__init__()
        self.path = Path(path)
        self.loader = loader
        self.others = others or []
        self.seconds = seconds
        self.steps = steps
        self._written = time.monotonic()
        self._next_epoch = 0
        self._skipped = 0  # steps of this epoch that an earlier process has made
        self._metrics: list[Array] = []
        self._started = time.process_time()
        self._earlier_seconds = 0.0
        self._memory: list[dict[str, Any]] | None = None
        self._settings: dict[str, str] = {}
        self._has_begun = False  # an epoch of this `fit`
        self._has_stopped = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Reads the settings that the state belongs to, before learning rates change."""
        self._settings = self._settings or self._read_settings()
        self._has_begun = False
        if self._has_stopped:
            # as `keras.callbacks.BackupAndRestore` sets it: no epoch is left
            keras_private.set_initial_epoch(self.model, self.params["epochs"])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Writes the state if it is time."""
        # here, since some callbacks forget everything when training begins
        for other, memory in zip(self.others, self._memory or [], strict=False):
            for name, value in memory.items():
                setattr(other, name, value)
        self._memory = None
        self._has_begun = True
        self._skipped = self.loader.position
        if self._metrics:  # Keras has just reset them
            metrics = self.model.metrics_variables
            self.model.assign_weights(list(zip(metrics, self._metrics, strict=True)))
            self._metrics = []
        self._next_epoch = epoch + 1
        if time.monotonic() - self._written >= self.seconds and self._skipped == 0:
            self.save(epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Writes the state if it is time."""
        # not when a batch ends: Keras would wait for each one's results
        position = self._skipped + batch
        if batch and (
            (self.steps and position % self.steps == 0)
            or time.monotonic() - self._written >= self.seconds
        ):
            self.save(self._next_epoch - 1, position)

    def on_train_end(self, logs: Any = None) -> None:
        """Writes the state, unless there was no epoch left."""
        if self._has_stopped:
            keras_private.set_initial_epoch(self.model, None)
        # without an epoch the other callbacks have forgotten what the state remembers
        if self._has_begun or not self.path.exists():
            self.save(self._next_epoch)
            self._memory = self._remembered()
        self._skipped = 0

    def save(self, next_epoch: int, position: int = 0) -> None:
        """Writes the state with which `next_epoch` continues after `position` steps.

        Args:
            next_epoch: Number of the epoch that comes next, or is unfinished.
            position: Number of its steps that were made. Defaults to 0.

        Raises:
            FloatingPointError: If weights are no numbers any more; the state before them stays.
        """
        raw = raw_by_variable(self.model)
        arrays = {
            f"{index:05d}": raw.get(id(variable), keras.ops.convert_to_numpy(variable))
            for index, variable in enumerate(self._variables())
        }
        if not all(np.all(np.isfinite(array)) for array in arrays.values()):
            raise FloatingPointError(
                f"The training has diverged before epoch {next_epoch + 1}: weights are no numbers "
                f"any more. '{self.path}' holds the last state before that. Start again with a "
                "lower learning rate or clipped gradients (global_clipnorm)."
            )
        if position:
            arrays |= {
                f"metric{index:05d}": keras.ops.convert_to_numpy(variable)
                for index, variable in enumerate(self.model.metrics_variables)
            }
        about = {
            "epoch": next_epoch,
            "position": position,
            "settings": self._settings,
            "heads": [head.fitted for head in self.model.heads],
            "memory": self._remembered(),
            "cpu_seconds": self.cpu_seconds,
        }
        with saving.replacing(self.path) as file:
            np.savez(file, about=json.dumps(about, default=float), **arrays)
        self._written = time.monotonic()

    def _remembered(self) -> list[dict[str, Any]]:
        return [
            {name: getattr(other, name) for name in _REMEMBERED if hasattr(other, name)}
            for other in self.others
        ]

    @property
    def cpu_seconds(self) -> float:
        """Seconds of all processors that the training has taken so far, in all its processes."""
        return self._earlier_seconds + time.process_time() - self._started

    def restore(self, model: Any) -> int:
        """Puts the state back into model, optimizer, loader and callbacks.

        Args:
            model: The compiled model, made with the settings of the first run.

        Returns:
            The epoch to continue with, for `fit(initial_epoch=...)`; 0 where there is no state.
            Where `loader.position` is not 0 that epoch is a short one, and needs a `fit` of its
            own.

        Raises:
            ValueError: If the state belongs to a training with other settings.
        """
        if not self.path.exists():
            return 0
        self.set_model(model)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        with np.load(self.path) as file:
            about = json.loads(str(file["about"]))
            self._settings = self._read_settings()
            earlier = about.get("settings", {})
            changed = [part for part, name in self._settings.items() if earlier.get(part) != name]
            if "model" not in changed and not _restore_measured(model, about["heads"]):
                changed.append("references of the model")
            if changed:
                raise ValueError(
                    f"'{self.path}' belongs to a training with other settings. Changed: {changed} "
                    "(data: structures, their order, seed). Resume with the settings of the first "
                    "run, or choose another folder."
                )
            variables = self._variables()
            metrics = sorted(name for name in file.files if name.startswith("metric"))
            model.assign_weights(
                [(variable, file[f"{index:05d}"]) for index, variable in enumerate(variables)]
            )
            self._metrics = [file[name] for name in metrics]
        model.raw_weights = None  # the state holds them in place of the averages
        self._next_epoch = about["epoch"]  # a finished training may have no further epoch
        self._memory = about["memory"]
        self._has_stopped = any(
            memory.get("stopped_epoch") and memory["wait"] >= other.patience
            for other, memory in zip(self.others, about["memory"], strict=False)
            if isinstance(other, keras.callbacks.EarlyStopping)
        )
        self._earlier_seconds = about["cpu_seconds"]
        self.loader.epoch = about["epoch"]
        self.loader.position = about.get("position", 0)
        return int(about["epoch"])

    def _read_settings(self) -> dict[str, str]:
        """Computes digests of what a training depends on, so that only the same one continues."""
        parts = {
            "model": _unnamed(self.model),
            "optimizer": _unnamed(self.model.optimizer),
            "loss": self.model.loss_arguments,
            "data": self.loader.fingerprint(),
        }
        texts = {
            name: json.dumps(part, sort_keys=True, default=_described)
            for name, part in parts.items()
        }
        return {
            name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()
        }

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.model.optimizer.variables]


def _unnamed(part: Any) -> dict[str, Any]:
    """Lists the config without the name, in which Keras counts what a process has made.

    What heads measure on the data is left out, since it is compared by value.
    """
    config = {key: value for key, value in part.get_config().items() if key != "name"}
    for head in config.get("heads", ()):
        head["config"] = {k: v for k, v in head["config"].items() if k not in Head.fitted_names}
    return config


def _restore_measured(model: Any, earlier: list[dict[str, Any]]) -> bool:
    """Gives heads the references that a training began with, if theirs are those but for rounding.

    References are fitted again at each start, by linear algebra that differs between processors,
    and from predictions that differ between runs of one GPU.
    """
    for head, item in zip(model.heads, earlier, strict=True):
        if item["references"].keys() != head.fitted["references"].keys():
            return False
        old, new = (
            [f["shift"], f["scale"], *f["references"].values()] for f in (item, head.fitted)
        )
        if not np.allclose(old, new, rtol=_ROUNDING, atol=_ROUNDING):
            return False
    for head, item in zip(model.heads, earlier, strict=True):
        head.fitted = head.fitted | item
    return True


def _described(value: Any) -> Any:
    """Writes what JSON does not know by class and config, which are the same in every process."""
    name = getattr(value, "__name__", type(value).__name__)
    return [name, value.get_config()] if hasattr(value, "get_config") else name
