"""From atom features to the numbers that heads put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import glorot_uniform, torch_dense


class AtomFeatures(NamedTuple):
    """What an architecture knows about each atom."""

    scalars: Tensor  # (num_atoms, num_features)
    vectors: Tensor | None = None  # (num_atoms, 3, num_features), turns with the molecule
    elements: Tensor | None = None  # (num_atoms,), for readouts with weights of each element


@keras.saving.register_keras_serializable("keras_mlff")
class PerceptronReadout(keras.layers.Layer):
    """Reads scalars with one hidden layer; vectors, which it cannot turn, are left out.

    y_i = W_2 activation(W_1 x_i + b_1) + b_2 for each atom i.

    Args:
        num_scalars: Numbers per atom that the head asks for.
        hidden_features: Width of the hidden layer.
        use_bias: Whether the last layer has a bias.
        activation: Activation of the hidden layer, a name or a function; `None` for none.
        make_initializer: Makes the initializer of each kernel; biases start from zero.
        input_features: Width of what is read. If it is given, kernels and biases start as those of
            PyTorch's linear layers do, which depends on it, instead of by `make_initializer`.

    Call arguments:
        features: Features of the atoms, of which the scalars `(num_atoms, n)` are read.

    Call returns:
        Scalars `(num_atoms, num_scalars)`, without vectors.
    """

    def __init__(
        self,
        num_scalars: int,
        hidden_features: int,
        use_bias: bool = True,
        activation: str | Callable[[Tensor], Tensor] | None = "silu",
        make_initializer: Callable[[], keras.initializers.Initializer] = glorot_uniform,
        input_features: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if input_features is not None:
            self.hidden = torch_dense(hidden_features, input_features, activation=activation)
            self.output_scalars = torch_dense(num_scalars, hidden_features, use_bias=use_bias)
            return
        self.hidden = keras.layers.Dense(
            hidden_features, activation=activation, kernel_initializer=make_initializer()
        )
        self.output_scalars = keras.layers.Dense(
            num_scalars, use_bias=use_bias, kernel_initializer=make_initializer()
        )

    def call(self, features: AtomFeatures) -> AtomFeatures:
        return AtomFeatures(self.output_scalars(self.hidden(features.scalars)))
