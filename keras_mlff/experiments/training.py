"""One training from start to end, interruptible at any time; recipes and the CLI call it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mlff.fit.averages import AveragedWeights
from keras_mlff.fit.best_weights import BestWeights
from keras_mlff.fit.logs import InputWait, trim_log
from keras_mlff.fit.state import TrainingState
from keras_mlff.graph import Graph
from keras_mlff.models import ForceField
from keras_mlff.packing.loader import GraphLoader

STATE, LOG, BEST = "state.npz", "log.csv", "best.weights.h5"


def with_edges(structures: Sequence[Graph], model: ForceField) -> list[Graph]:
    """Builds the edges that a model asks for."""
    return [model.graph_spec.add_edges(item) for item in structures]


def steps_per_epoch(graphs: Sequence[Graph], batch_size: int, seed: int = 0) -> int:
    """Counts the batches of an epoch, which schedules need before training begins."""
    return len(GraphLoader(graphs, batch_size, shuffle=True, seed=seed))


def train(
    model: ForceField,
    training: Sequence[Graph],
    validation: Sequence[Graph],
    folder: str | Path,
    optimizer: keras.optimizers.Optimizer,
    loss: Mapping[str, Any],
    loss_weights: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    batch_size: int = 32,
    num_epochs: int = 100,
    seed: int = 0,
    resume: bool = False,
    patience: int | None = None,
    monitor: str = "",
    validation_freq: int = 1,
    tensorboard: bool = False,
    verbose: Any = 2,
    save_steps: int = 0,
) -> keras.callbacks.History:
    """Trains a model; log, state and best weights stand in `folder` at any time.

    Args:
        model: The model, its references set.
        training: Graphs with edges and labels.
        validation: Held-out graphs with edges and labels.
        folder: Receives `log.csv`, `state.npz` and `best.weights.h5`.
        optimizer: Keras optimizer; with `use_ema=True` its averages are validated and kept.
        loss: See `ForceField.compile`.
        loss_weights: See `ForceField.compile`.
        metrics: See `ForceField.compile`.
        batch_size: Graphs per batch.
        num_epochs: Epochs in all, those before a resumption included.
        seed: Of the shuffling.
        resume: Whether to go on from `state.npz`, as if there had been no interruption.
        patience: Validations without improvement after which to stop; `None` never stops.
        monitor: What decides which weights are best; where empty, the loss of the validation
            without what layers add to it, such as the smoothness of tables.
        validation_freq: Epochs between validations.
        tensorboard: Whether to write TensorBoard files (needs TensorFlow).
        verbose: As in Keras.
        save_steps: Steps between two writes of `state.npz`; 0 writes it about every 30 seconds.

    Returns:
        Keras's history of whole epochs; the model holds the best weights.
    """
    folder = Path(folder).expanduser()
    if not resume and (folder / STATE).exists():
        raise ValueError(
            f"There is a training in the folder already. Received: folder='{folder}', "
            "resume=False. Pass resume=True (--resume) to go on with it, or another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    loader = GraphLoader(training, batch_size, shuffle=True, seed=seed)
    held_out = GraphLoader(validation, batch_size)
    if verbose:
        print(loader.summary)
    monitor = monitor or ("val_data_loss" if model.losses else "val_loss")
    model.compile(optimizer, loss=loss, loss_weights=loss_weights, metrics=metrics)
    remembering: list[keras.callbacks.Callback] = [BestWeights(folder / BEST, monitor)]
    if patience is not None:
        stop = keras.callbacks.EarlyStopping(monitor, patience=patience, mode="min")
        remembering.append(stop)
    state = TrainingState(folder / STATE, loader, remembering, steps=save_steps)
    first_epoch = state.restore(model) if resume else 0
    trim_log(folder / LOG, first_epoch)
    if not resume:
        (folder / BEST).unlink(missing_ok=True)  # of a run that was killed at its start
    callbacks = [*remembering, keras.callbacks.CSVLogger(folder / LOG, append=True)]
    if optimizer.use_ema:  # one for both of the runs below
        callbacks.insert(0, AveragedWeights())
    callbacks.append(InputWait())  # after the log, which is the same for each run
    if tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(folder / "tensorboard"))
    callbacks.append(state)
    epochs = [num_epochs]
    if loader.position:  # Keras wants epochs of one length, and the rest of this one is short
        epochs.insert(0, first_epoch + 1)
    for last in epochs:
        history = model.fit(
            loader,
            validation_data=held_out,
            validation_freq=validation_freq,
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
