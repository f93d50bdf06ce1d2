"""The model of the best validation, kept as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np


class BestWeights(keras.callbacks.Callback):
    """Writes the model with the weights of the best validation, a whole file at any time.

    Epochs without a validation are left out, where `keras.callbacks.ModelCheckpoint` would write
    theirs.

    Args:
        path: Path of the file, which ends in `.keras`: `keras.models.load_model` loads it, with
            everything that was fitted.
        monitor: Name of the log whose smallest value is the best. Defaults to `"val_loss"`.

    Attributes:
        best: The smallest value so far.
    """

    def __init__(self, path: str | Path, monitor: str = "val_loss") -> None:
        super().__init__()
        self.path, self.monitor = Path(path), monitor
        self.best = np.inf

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes weights that are better than those before.

        Raises:
            ValueError: If nothing of that name is measured.
        """
        logs = logs or {}
        if self.monitor in logs:
            if logs[self.monitor] < self.best:
                self.best = float(logs[self.monitor])
                self.model.save(self.path)
        elif not self.monitor.startswith("val_") or any(name.startswith("val_") for name in logs):
            raise ValueError(
                f"Nothing of that name is measured. Received: monitor='{self.monitor}'; there are "
                f"{sorted(logs)}."
            )
