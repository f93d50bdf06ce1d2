"""Losses, optimizers and callbacks by the names that recipes and the command line write."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_mlff import fit
from keras_mlff.experiments import toml
from keras_mlff.experiments.settings import DEFAULT_WEIGHTS, Settings
from keras_mlff.fit import schedules

_CALLBACKS = {  # beside the classes of Keras
    "early_stopping": "EarlyStopping",
    "tensorboard": "TensorBoard",
    "csv_logger": "CSVLogger",
    "terminate_on_nan": "TerminateOnNaN",
}


def split_named(value: Any) -> tuple[str, dict[str, Any]]:
    """Parts `"adam"` or `{ kind = "adam", ... }` into the name and the arguments.

    Raises:
        ValueError: If a table has no `kind`.
    """
    if isinstance(value, str):
        return value, {}
    arguments = dict(value)
    if "kind" not in arguments:
        raise ValueError(
            f"A table names the thing by its key `kind`. Received: {arguments}, without one."
        )
    return str(arguments.pop("kind")), arguments


def by_path(path: str) -> Any:
    """Imports `"package.module:Name"`.

    Raises:
        ValueError: If the module has no such name.
        ImportError: If there is no such module.
    """
    module, _, name = path.partition(":")
    found = importlib.import_module(module)
    if not hasattr(found, name):
        raise ValueError(f"The module '{module}' has no '{name}'. Received: '{path}'.")
    return getattr(found, name)


def make_loss(value: Any) -> Any:
    """Makes a loss of a name or a table; what is a loss already is returned.

    Args:
        value: `"mse"` and other names of Keras, a class of `keras_mlff.fit` (`"L2Norm"`), an import
            path, or a table of one of them and its arguments:
            `{ kind = "PerAtom", loss = "mae" }`, `{ kind = "Huber", delta = 0.01 }`.
    """
    if not isinstance(value, (str, Mapping)):
        return value
    name, arguments = split_named(value)
    if isinstance(arguments.get("loss"), Mapping):
        arguments["loss"] = make_loss(arguments["loss"])
    if ":" in name:
        return by_path(name)(**arguments)
    made = getattr(fit, name, None) if name[:1].isupper() else None
    if made is None and not arguments:
        keras.losses.get(name)  # which refuses what it does not know
        return name
    made = made or getattr(keras.losses, name, None)
    if made is None:
        raise ValueError(
            f"There is no such loss. Received: '{name}' with arguments {arguments}. Choose a class "
            "of keras.losses, such as 'Huber', or of keras_mlff.fit, such as 'PerAtom'."
        )
    return made(**arguments)


def losses(settings: Settings, labels: Sequence[str]) -> dict[str, Any]:
    """Makes the loss of each label that is learned.

    Raises:
        ValueError: If a label has none.
    """
    given = settings.loss
    if not isinstance(given, Mapping) or "kind" in given:
        return {label: make_loss(given) for label in labels}
    missing = [label for label in labels if label not in given]
    if missing:
        raise ValueError(
            f"These labels are to be learned and have no loss: {missing}. Received: loss={given}. "
            "Give one loss for all, such as loss='mse', or name one for each."
        )
    return {label: make_loss(given[label]) for label in labels}


def loss_weights(
    settings: Settings, labels: Sequence[str], spreads: Mapping[str, float]
) -> dict[str, Any]:
    """Makes the factor of each label that is learned.

    Args:
        settings: Of the training.
        labels: What is learned.
        spreads: Mean absolute deviation of what offsets leave of each label that asks for it, see
            `asks_for_spread`.

    Raises:
        ValueError: If a factor is given for something that is not learned.
    """
    given = settings.loss_weights
    if isinstance(given, str):
        given = dict.fromkeys(labels, given)
    toml.refuse_unknown(given, labels, "There is a weight, and no loss, for", "What is learned")
    made: dict[str, Any] = {}
    for label in labels:
        value = given.get(label, DEFAULT_WEIGHTS.get(label, 1.0))
        if isinstance(value, (int, float)) and math.isfinite(value) and value >= 0:
            pass
        elif value == "spread":
            value = 1.0 / (len(labels) * spreads[label])
        elif isinstance(value, (list, tuple)):
            value = fit.WeightSchedule(value)
        else:
            raise ValueError(
                "A weight is a number of at least 0, 'spread', or pairs of epoch and number. "
                f"Received: loss_weights={{'{label}': {value!r}}}."
            )
        made[label] = value
    return made


def asks_for_spread(settings: Settings, labels: Sequence[str]) -> list[str]:
    """Lists the labels whose factor is `"spread"`."""
    given = settings.loss_weights
    if isinstance(given, str):
        toml.refuse_unknown([given], ["spread"], "There is no rule for weights called", "Known")
        return list(labels)
    return [label for label in labels if given.get(label) == "spread"]


def make_optimizer(settings: Settings, total_steps: int) -> keras.optimizers.Optimizer:
    """Makes the optimizer with its schedule and averages.

    The averages reach back over the last twentieth of the training at most.

    Args:
        settings: Of the training.
        total_steps: Of the whole training.

    Raises:
        ValueError: If there is no such optimizer.
    """
    if not isinstance(settings.optimizer, (str, Mapping)):
        return settings.optimizer
    name, arguments = split_named(settings.optimizer)
    if ":" in name:
        made = by_path(name)
    else:
        classes = {
            key.lower(): value
            for key, value in vars(keras.optimizers).items()
            if isinstance(value, type)
        }
        toml.refuse_unknown([name.lower()], classes, "There is no optimizer called", "Known")
        made = classes[name.lower()]
    kind, about_schedule = split_named(settings.schedule)
    rate = schedules.make(kind, settings.learning_rate, total_steps, **about_schedule)
    if settings.averages is True:
        momentum = min(0.999, max(0.9, 1.0 - 20.0 / max(total_steps, 20)))
    else:
        momentum = float(settings.averages)
    if momentum:
        arguments = {"use_ema": True, "ema_momentum": momentum} | arguments
    return made(learning_rate=rate, **arguments)


def make_callbacks(settings: Settings, folder: Path, monitor: str) -> list[Any]:
    """Makes the callbacks that the settings name, those of patience and plateaus included.

    Args:
        settings: Of the training.
        folder: Of the training, where TensorBoard and Weights & Biases write.
        monitor: What decides which weights are best.
    """
    watching = {"monitor": monitor, "mode": "min"}
    made: list[Any] = []
    if settings.patience:
        made.append(keras.callbacks.EarlyStopping(patience=settings.patience, **watching))
    if isinstance(settings.schedule, (str, Mapping)):
        kind, arguments = split_named(settings.schedule)
        if kind == "plateau":
            made.append(keras.callbacks.ReduceLROnPlateau(**watching | arguments))
    for value in settings.callbacks:
        if not isinstance(value, (str, Mapping)):
            made.append(value)
            continue
        name, arguments = split_named(value)
        if name == "tensorboard":
            arguments = {"log_dir": str(folder / "tensorboard")} | arguments
        elif name == "early_stopping":
            arguments = watching | arguments
        made.append(
            _weights_and_biases(arguments, folder)
            if name == "wandb"
            else _callback_class(name)(**arguments)
        )
    return made


def check_callbacks(settings: Settings) -> None:
    """Refuses callbacks that cannot be made, without making them.

    Raises:
        ValueError: If there is no such callback.
        TypeError: If it has no such argument.
    """
    for value in settings.callbacks:
        if isinstance(value, (str, Mapping)):
            name, arguments = split_named(value)
            if name != "wandb":
                try:
                    inspect.signature(_callback_class(name)).bind_partial(**arguments)
                except TypeError as error:
                    raise TypeError(f"The callback '{name}': {error}.") from error


def _callback_class(name: str) -> Any:
    """Finds a class of callbacks by name or import path."""
    if ":" in name:
        return by_path(name)
    known = {key for key, value in vars(keras.callbacks).items() if isinstance(value, type)}
    toml.refuse_unknown(
        [name], [*known, *_CALLBACKS, "wandb"], "There is no callback called", "Known"
    )
    return getattr(keras.callbacks, _CALLBACKS.get(name, name))


def _weights_and_biases(arguments: dict[str, Any], folder: Path) -> Any:
    """Begins a run of Weights & Biases, whose callback logs each epoch."""
    try:
        import wandb
        from wandb.integration.keras import WandbMetricsLogger
    except ImportError as error:
        raise ImportError(
            "The callback 'wandb' needs the package wandb, which is not installed. Install it with "
            "`pip install wandb`, or use 'tensorboard'."
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    wandb.init(**{"dir": str(folder), "resume": "allow", "name": folder.name} | arguments)
    return WandbMetricsLogger()
