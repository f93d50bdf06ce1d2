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


class Log(keras.callbacks.CSVLogger):
    """Adds a row of CSV after each epoch; where that fails, the error names the log."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the row of an epoch."""
        with saving.naming(self.filename):
            super().on_epoch_end(epoch, logs)

    def close(self) -> None:
        """Closes the file where `fit` has ended in an error."""
        if self.csv_file is not None:
            self.csv_file.close()


def read_log(path: str | Path) -> list[dict[str, float]]:
    """Reads the log that `Log` writes.

    This and `trim_log` are the only readers of such logs; they use the standard library, so that
    training needs no pandas. `keras_mlff.tables.training_log` makes a table of it.

    Args:
        path: The log.

    Returns:
        For each epoch its numbers by the names of the columns; `epoch` counts from 0. What was not
        measured in an epoch is absent.
    """
    names, *rows = _cells(Path(path)) or [[]]
    return [
        {name: float(text) for name, text in zip(names, row, strict=True) if text not in ("", "NA")}
        for row in rows
    ]


def trim_log(path: str | Path, first_epoch: int) -> None:
    """Removes the rows of a log that a resumed training writes again.

    Args:
        path: The log; nothing happens where there is none.
        first_epoch: The first epoch to remove, counted from 0.
    """
    path = Path(path)
    if not path.exists():
        return
    rows = _cells(path)
    kept = rows[:1] + [row for row in rows[1:] if int(row[0]) < first_epoch]
    with saving.replacing(path) as whole, whole.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(kept)


def _cells(path: Path) -> list[list[str]]:
    """Reads the cells of all lines, that of the names first."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.reader(file) if row]
