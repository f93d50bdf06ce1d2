"""Layer normalization that can be differentiated twice."""

from __future__ import annotations

import keras
from keras import ops

from keras_mlff.graph import Tensor


@keras.saving.register_keras_serializable("keras_mlff")
class LayerNormalization(keras.layers.LayerNormalization):
    """Normalizes the last axis as Keras does, with right second derivatives on TensorFlow.

    There `ops.moments` takes the mean for constant: first derivatives are right, since that part of
    theirs is zero, but what a loss of forces needs is wrong.
    """

    def call(self, inputs: Tensor) -> Tensor:
        centered = inputs - ops.mean(inputs, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centered), axis=-1, keepdims=True)
        result = centered * ops.rsqrt(variance + self.epsilon)
        result = result if self.gamma is None else result * self.gamma
        return result if self.beta is None else result + self.beta
