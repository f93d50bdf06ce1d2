"""Losses that Keras lacks; each gives one number per structure or atom.

A loss compares rows `(count, size)`, one for each structure or each atom, and returns `(count,)`.
Which rows count is decided elsewhere: `Objective` leaves out padding and missing labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor


@keras.saving.register_keras_serializable("keras_mlff")
class L2Norm(keras.losses.Loss):
    """Computes the length of the difference of two vectors, such as a force and its label.

    The mean absolute error of components depends on how the axes lie; the length does not.

    Example:
        >>> loss = {"energy": "mae", "forces": L2Norm()}
    """

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        # the gradient of a length does not exist at zero: 1e-12 is below any label's noise
        return ops.sqrt(ops.sum(ops.square(y_pred - y_true), axis=-1) + 1e-12)


@keras.saving.register_keras_serializable("keras_mlff")
class PerAtom(keras.losses.Loss):
    """Divides a property of the structure by its number of atoms before it is compared.

    Errors of extensive properties grow with the structure, so that large structures would rule the
    loss. `Objective` knows the numbers of atoms and divides label and prediction.

    Args:
        loss: What compares the quotients: a name (`"mse"`), a Keras loss, or a function of
            `(y_true, y_pred)` that gives one number per row.

    Example:
        >>> loss = {"energy": PerAtom("mse"), "forces": "mse"}
    """

    def __init__(self, loss: Any = "mse", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loss = keras.saving.deserialize_keras_object(loss) if _is_config(loss) else loss
        self._function = _per_row(self.loss)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self._function(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        loss = self.loss
        if isinstance(loss, keras.losses.Loss):
            loss = keras.saving.serialize_keras_object(loss)
        return {**super().get_config(), "loss": loss}


def _per_row(loss: Any) -> Callable[[Tensor, Tensor], Tensor]:
    found = keras.losses.get(loss)
    return found.call if isinstance(found, keras.losses.Loss) else found


def _is_config(value: Any) -> bool:
    return isinstance(value, dict) and "class_name" in value
