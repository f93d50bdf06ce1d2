"""What an epoch's log says beside losses, and which of its rows stay."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import keras

from keras_mlff import saving


class InputWait(keras.callbacks.Callback):
    """Adds to an epoch's logs the share of its time that steps waited for data: `input_wait`.

    Validation does not count. Without a synchronous device the share is an upper bound: while a
    step waits, the device may still compute the one before. `ForceField.fit` tells it the times.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waited = 0.0
        self._start = 0.0
        self._end: float | None = None

    def add(self, seconds: float) -> None:
        """Adds what one step waited."""
        self._waited += seconds

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._waited, self._start, self._end = 0.0, time.perf_counter(), None

    def on_test_begin(self, logs: Any = None) -> None:
        """Stops the clock."""
        self._end = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the share to the logs."""
        end = time.perf_counter() if self._end is None else self._end
        if logs is not None:
            logs["input_wait"] = self._waited / max(end - self._start, 1e-9)


def trim_log(path: str | Path, first_epoch: int) -> None:
    """Removes the rows of a CSV log that a resumed run writes again."""
    path = Path(path)
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    kept = rows[:1] + [row for row in rows[1:] if row and int(row[0]) < first_epoch]
    with saving.replacing(path) as whole, whole.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(kept)
