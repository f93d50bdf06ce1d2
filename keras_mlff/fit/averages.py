"""Averaged weights that validation, checkpoints and the trained model see."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_mlff.backend import keras_private
from keras_mlff.graph import Array


class AveragedWeights(keras.callbacks.Callback):
    """Lets validation, checkpoints and the end of `fit` see the optimizer's averaged weights.

    `fit` adds it where the optimizer has `use_ema=True`. Unlike `keras.callbacks.SwapEMAWeights`
    it puts the raw weights back to the last bit, and early stopping leaves the averages in place.
    """

    def __init__(self) -> None:
        super().__init__()
        self._raw: list[Array] | None = None
        self._pairs: list[tuple[Any, Any]] = []  # variables and their averages

    def on_train_begin(self, logs: Any = None) -> None:
        """Separates weights from averages: an earlier `fit` left both in one buffer of JAX."""
        self.model.assign_weights(
            [
                (variable, np.array(keras.ops.convert_to_numpy(variable)))
                for variable in self.model.trainable_variables
            ]
        )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Puts the raw weights back, with which training continues."""
        self._put_back()

    def on_test_begin(self, logs: Any = None) -> None:
        """Puts the averages into the model, so that they are validated."""
        self._put_averages()

    def on_test_end(self, logs: Any = None) -> None:
        """Puts the raw weights back, with which training continues."""
        self._put_back()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Shows the averages to the callbacks that follow and to whoever reads the model now."""
        self._put_averages()

    def raw_weights(self) -> dict[int, Array]:
        """Lists the raw weights that averages have replaced for now, by `id` of the variable."""
        if self._raw is None:
            return {}
        return {
            id(variable): raw for (variable, _), raw in zip(self._pairs, self._raw, strict=True)
        }

    def _put_averages(self) -> None:
        if self._raw is not None or not self.model.optimizer.built:
            return
        pairs = self._pairs = keras_private.moving_averages(self.model.optimizer)
        self._raw = [keras.ops.convert_to_numpy(variable) for variable, _ in pairs]
        self.model.assign_weights(
            [(variable, keras.ops.convert_to_numpy(average)) for variable, average in pairs]
        )

    def _put_back(self) -> None:
        if self._raw is None:
            return
        self.model.assign_weights(
            [(variable, raw) for (variable, _), raw in zip(self._pairs, self._raw, strict=True)]
        )
        self._raw = None
