"""Averaged weights that validation, checkpoints and the trained model see."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mlff.backend import keras_private
from keras_mlff.graph import Array


@dataclasses.dataclass(frozen=True)
class RawWeights:
    """The weights that averages have replaced in a model, with which its training goes on.

    Attributes:
        arrays: In the order of the optimizer's variables.
    """

    arrays: Sequence[Array]


def raw_by_variable(model: Any) -> dict[int, Array]:
    """Lists the raw weights that averages have replaced for now, by `id` of the variable."""
    if model.raw_weights is None:
        return {}
    pairs = keras_private.moving_averages(model.optimizer)
    return {
        id(variable): raw
        for (variable, _), raw in zip(pairs, model.raw_weights.arrays, strict=True)
    }


class AveragedWeights(keras.callbacks.Callback):
    """Lets validation, checkpoints and the end of `fit` see the optimizer's averaged weights.

    `fit` adds it where the optimizer has `use_ema=True`. Unlike `keras.callbacks.SwapEMAWeights`
    it puts the raw weights back to the last bit, and early stopping leaves the averages in place.
    Meanwhile the model keeps the raw weights, in its files too, so that another `fit` goes on from
    them.
    """

    def on_train_begin(self, logs: Any = None) -> None:
        """Goes on from the raw weights of an earlier `fit`, unless the averages were replaced."""
        if self.model.raw_weights is not None and self.model.optimizer.built:
            pairs = keras_private.moving_averages(self.model.optimizer)
            if all(np.array_equal(*map(keras.ops.convert_to_numpy, pair)) for pair in pairs):
                self._put_back()
        self.model.raw_weights = None
        # an earlier `fit` left weights and averages in one buffer of JAX
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

    def _put_averages(self) -> None:
        if self.model.raw_weights is not None or not self.model.optimizer.built:
            return
        pairs = keras_private.moving_averages(self.model.optimizer)
        raw = [np.array(keras.ops.convert_to_numpy(variable)) for variable, _ in pairs]
        self.model.raw_weights = RawWeights(raw)
        self.model.assign_weights(
            [(variable, keras.ops.convert_to_numpy(average)) for variable, average in pairs]
        )

    def _put_back(self) -> None:
        if self.model.raw_weights is None:
            return
        pairs = keras_private.moving_averages(self.model.optimizer)
        variables = [variable for variable, _ in pairs]
        self.model.assign_weights(list(zip(variables, self.model.raw_weights.arrays, strict=True)))
        self.model.raw_weights = None
