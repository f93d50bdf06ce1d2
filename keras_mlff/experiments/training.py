"""One training from its start to its end, interruptible at any time."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mlff import saving
from keras_mlff.experiments import choices
from keras_mlff.experiments.data import Parts
from keras_mlff.experiments.progress import Progress
from keras_mlff.experiments.settings import Settings
from keras_mlff.fit.averages import AveragedWeights
from keras_mlff.fit.best_weights import BestWeights
from keras_mlff.fit.logs import InputWait, Log, trim_log
from keras_mlff.fit.state import TrainingState
from keras_mlff.graph import Graph
from keras_mlff.models import ForceField
from keras_mlff.packing.loader import GraphLoader

STATE, LOG, BEST = "state.npz", "log.csv", "best.keras"
# folders that the caller has claimed: other threads have an empty context of their own
_claimed: ContextVar[Mapping[Path, Callable[[], None]]] = ContextVar("claimed")


def with_edges(structures: Sequence[Graph], model: ForceField) -> list[Graph]:
    """Builds the edges that a model asks for, where they are missing."""
    return [item if "senders" in item else model.graph_spec.add_edges(item) for item in structures]


def steps_per_epoch(graphs: Sequence[Graph], batch_size: int, seed: int = 0) -> int:
    """Counts the batches of an epoch, which schedules need before training begins."""
    return len(GraphLoader(graphs, batch_size, shuffle=True, seed=seed))


def fit_model(
    model: ForceField,
    parts: Parts,
    folder: str | Path,
    settings: Settings,
    labels: Sequence[str] = ("energy", "forces"),
    spreads: Mapping[str, float] | None = None,
    resume: bool = False,
    verbose: Any = "auto",
) -> keras.callbacks.History:
    """Trains a model; log, state and best weights stand in `folder` at any time.

    Args:
        model: The model, its offsets set, frozen as it is to be.
        parts: Labeled structures, with edges or without; the test takes no part. Where there is no
            validation, the weights with the lowest loss of the training are the best.
        folder: Receives `log.csv`, `state.npz` and `best.keras`, a whole
            model at any time, which `keras.models.load_model` loads.
        settings: Everything that decides how the weights come out.
        labels: What is learned.
        spreads: See `choices.loss_weights`.
        resume: Whether to go on from `state.npz`, as if there had been no interruption. A training
            that has not begun begins.
        verbose: As in Keras; `"auto"` shows a bar in a terminal and a line per epoch elsewhere.

    Returns:
        Keras's history of whole epochs; the model holds the best weights.

    Raises:
        ValueError: If there is a training in the folder already and it is not to be resumed, or if
            its settings are others.
    """
    folder = Path(folder).expanduser()
    if resume and (folder / "best.weights.h5").exists() and not (folder / BEST).exists():
        raise ValueError(
            f"The training was begun by an earlier version, which kept its best weights in another "
            f"file. Received: '{folder}' with best.weights.h5. Finish it with that version, or "
            "begin anew in another folder."
        )
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    with claiming(folder, resume) as check:
        return _fit(model, parts, folder, settings, labels, spreads, resume, verbose, check)


@contextlib.contextmanager
def claiming(folder: str | Path, resume: bool) -> Iterator[Callable[[], None]]:
    """Makes this the only training in a folder, see `saving.claiming`; one inside another is free.

    Raises:
        ValueError: If there is a training in the folder already that is not to be resumed, or one
            that is running.
    """
    folder = Path(folder).expanduser().absolute()
    if folder in _claimed.get({}):
        yield _claimed.get({})[folder]
        return
    with saving.claiming(folder) as check:
        if not resume and (folder / STATE).exists():
            raise ValueError(
                f"There is a training in the folder already. Received: folder='{folder}', "
                "resume=False. Pass resume=True (--resume) to go on with it, or another folder."
            )
        token = _claimed.set({**_claimed.get({}), folder: check})
        try:
            yield check
        finally:
            _claimed.reset(token)


def _fit(
    model: ForceField,
    parts: Parts,
    folder: Path,
    settings: Settings,
    labels: Sequence[str],
    spreads: Mapping[str, float] | None,
    resume: bool,
    verbose: Any,
    check: Callable[[], None],
) -> keras.callbacks.History:
    """Trains in a folder that belongs to this process."""
    learned = with_edges(parts.training, model)
    loader = GraphLoader(learned, settings.batch_size, shuffle=True, seed=settings.seed)
    held_out = None
    if parts.validation:
        held_out = GraphLoader(with_edges(parts.validation, model), settings.batch_size)
    if verbose:
        print(loader.summary)
    monitor = settings.monitor or (
        ("val_" if held_out else "") + ("data_loss" if model.losses else "loss")
    )
    optimizer = choices.make_optimizer(settings, settings.num_epochs * len(loader))
    model.compile(
        optimizer,
        loss=choices.losses(settings, labels),
        loss_weights=choices.loss_weights(settings, labels, spreads or {}),
        metrics=dict.fromkeys(labels, "mae"),
    )
    # these remember something between epochs, which is part of the state
    named = choices.make_callbacks(settings, folder, monitor)
    remembering = [BestWeights(folder / BEST, monitor), *named]
    state = TrainingState(folder / STATE, loader, remembering, steps=settings.save_steps)
    first_epoch = state.restore(model) if resume else 0
    trim_log(folder / LOG, first_epoch)
    if not resume:
        (folder / BEST).unlink(missing_ok=True)  # of a run that was killed at its start
    # first: what others write would make a folder anew that was removed
    checks = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda _, logs=None: check(),
        on_train_batch_begin=lambda _, logs=None: check(),
    )
    log = Log(str(folder / LOG), append=True)
    callbacks = [checks, *remembering, log]
    if optimizer.use_ema:  # one for both of the runs below
        callbacks.insert(0, AveragedWeights())
    callbacks.append(InputWait())  # after the log, which is the same for each run
    if verbose:
        callbacks.append(Progress(seconds=np.inf if verbose == 1 else 30.0))
    callbacks.append(state)
    epochs = [settings.num_epochs]
    if loader.position:  # Keras wants epochs of one length, and the rest of this one is short
        epochs.insert(0, first_epoch + 1)
    with contextlib.closing(log):
        for last in epochs:
            history = model.fit(
                loader,
                validation_data=held_out,
                validation_freq=settings.validation_freq,
                epochs=last,
                initial_epoch=loader.epoch,
                callbacks=callbacks,
                verbose=verbose,
            )
            if model.stop_training:
                break
    if (folder / BEST).exists():
        model.load_weights(folder / BEST)
    return history


def cpu_hours(folder: str | Path) -> float:
    """Reads how many CPU hours a training has taken, compilation included."""
    with np.load(Path(folder, STATE)) as file:
        return float(json.loads(str(file["about"]))["cpu_seconds"]) / 3600.0
