"""A perceptron with a way around it."""

from __future__ import annotations

from typing import Any

import keras

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import lecun_normal


@keras.saving.register_keras_serializable("keras_mlff")
class ResidualPerceptron(keras.layers.Layer):
    """Maps x to W3 act(x + W2 act(W1 act(x))), all of one width and without biases.

    The network that the authors went on with has one after each addition to the features. That of
    SO3LR ends where both ways meet, x + W2 act(W1 act(x)), and has biases.

    Args:
        width: Width of input and output.
        activation: Name of the function act.
        is_open: Whether it ends where both ways meet.

    Reference: Frank, Unke, Müller and Chmiela, 2024, https://arxiv.org/abs/2309.15126
    """

    def __init__(
        self, width: int, activation: str = "silu", is_open: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.width, self.activation = width, keras.activations.get(activation)
        self.maps = [
            keras.layers.Dense(width, use_bias=is_open, kernel_initializer=lecun_normal())
            for _ in range(2 if is_open else 3)
        ]

    def build(self, *shapes: Any) -> None:
        """Creates the weights of the maps."""
        for layer in self.maps:
            layer.build((None, self.width))

    def call(self, x: Tensor) -> Tensor:
        """Maps `(num_atoms, width)` to the same shape."""
        first, second, *last = self.maps
        around = x + second(self.activation(first(self.activation(x))))
        for layer in last:
            around = layer(self.activation(around))
        return around
