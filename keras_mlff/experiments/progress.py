"""Lines on what a training is doing: compiling, and where in an epoch it is."""

from __future__ import annotations

import time
from typing import Any

import keras

from keras_mlff import backend


class Progress(keras.callbacks.Callback):
    """Prints when compilation begins, how long it took, and how far a long epoch is.

    Nothing is printed within an epoch that is shorter than `seconds`. The times are those at which
    steps begin, so that no step waits for the results of the one before.

    Args:
        seconds: Time between two lines of an epoch.
        write: What is called with each line; `print` where `None`.
    """

    def __init__(self, seconds: float = 30.0, write: Any = None) -> None:
        super().__init__()
        self.seconds = seconds
        self._write = write or (lambda line: print(line, flush=True))
        self._compiled: set[str] = set()
        self._started: dict[str, float] = {}
        self._epoch, self._epoch_start, self._last_line = 0, 0.0, 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Forgets what was compiled, since the model has been compiled again."""
        self._compiled, self._started = set(), {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._epoch = epoch
        self._epoch_start = self._last_line = time.monotonic()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Notes where the epoch is."""
        self._note_compilation("training")
        now = time.monotonic()
        if batch and now - self._last_line >= self.seconds:
            self._last_line = now
            steps = self.params.get("steps")
            of_steps = f"of {steps:,} steps" if steps else "steps"
            self._write(
                f"epoch {self._epoch + 1}/{self.params['epochs']}: {batch:,} {of_steps}, "
                f"{now - self._epoch_start:.0f} s"
            )

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Notes the compilation of the validation's step."""
        self._end_compilation("training")
        self._note_compilation("validation")

    def on_test_end(self, logs: Any = None) -> None:
        """Notes the end of a validation of one step."""
        self._end_compilation("validation")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Notes the end of an epoch of one step."""
        self._end_compilation("training")

    def _note_compilation(self, what: str) -> None:
        """Says that a step is compiled when the first one begins, and how long it took later."""
        if what in self._started:
            self._end_compilation(what)
        elif backend.COMPILES and not self.model.run_eagerly:
            self._started[what] = time.monotonic()
            self._write(f"compiling the {what} step (seconds to minutes, once) ...")

    def _end_compilation(self, what: str) -> None:
        if what in self._started and what not in self._compiled:
            self._compiled.add(what)
            seconds = time.monotonic() - self._started[what]
            self._write(f"the {what} step is compiled, {seconds:.1f} s with its first run")
