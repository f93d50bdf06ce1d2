"""A perceptron of one number, the baseline that learned tables are compared with."""

from __future__ import annotations

from typing import Any

import keras

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import torch_dense


@keras.saving.register_keras_serializable("keras_mlff")
class PerceptronEncoding(keras.layers.Layer):
    """Turns each number into several by a perceptron of one hidden layer.

    h(x) = W_2 activation(W_1 x + b_1) + b_2, the variant "+MLP" of the paper's tables.

    Args:
        num_features: Numbers that each input becomes.
        hidden_features: Width of the hidden layer; `num_features` by default.
        activation: Activation of the hidden layer. The paper's `"relu"` makes forces jump where a
            unit switches; the default is smooth.

    Call arguments:
        x: Distances in Å or angles in radians, of any shape.

    Call returns:
        The encodings, `(*shape of x, num_features)`.

    Reference: https://arxiv.org/abs/2211.12773, Table 2
    """

    def __init__(
        self,
        num_features: int = 32,
        hidden_features: int | None = None,
        activation: str = "silu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.quantity = "distance"  # what x is
        self.num_features = num_features
        self.hidden_features = num_features if hidden_features is None else hidden_features
        # biases are random: distances are positive, so that without them half of "relu" is dead
        # and the rest a line
        self.hidden = torch_dense(self.hidden_features, 1, activation=activation)
        self.outputs = torch_dense(num_features, self.hidden_features)

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights, whatever the shape of the input."""
        self.hidden.build((None, 1))
        self.outputs.build((None, self.hidden_features))

    def call(self, x: Tensor) -> Tensor:
        return self.outputs(self.hidden(x[..., None]))
