"""From atom features to the numbers that heads put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import glorot_uniform


class AtomFeatures(NamedTuple):
    """What an architecture knows about each atom."""

    scalars: Tensor  # (num_atoms, num_features)
    vectors: Tensor | None = None  # (num_atoms, 3, num_features), turns with the molecule


@keras.saving.register_keras_serializable("keras_mlff")
class PerceptronReadout(keras.layers.Layer):
    """Reads scalars with one hidden layer; vectors, which it cannot turn, are left out.

    Args:
        num_scalars: Numbers per atom.
        hidden_features: Width of the hidden layer.
        use_bias: Whether the last layer has a bias.
        activation: Of the hidden layer.
        make_initializer: Makes that of each kernel.
    """

    def __init__(
        self,
        num_scalars: int,
        hidden_features: int,
        use_bias: bool = True,
        activation: str = "silu",
        make_initializer: Callable[[], keras.initializers.Initializer] = glorot_uniform,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(
            hidden_features, activation=activation, kernel_initializer=make_initializer()
        )
        self.output_scalars = keras.layers.Dense(
            num_scalars, use_bias=use_bias, kernel_initializer=make_initializer()
        )

    def call(self, features: AtomFeatures) -> AtomFeatures:
        return AtomFeatures(self.output_scalars(self.hidden(features.scalars)))
