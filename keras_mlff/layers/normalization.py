"""Layer normalization that can be differentiated twice."""

from __future__ import annotations

import keras
from keras import ops

from keras_mlff.graph import Tensor


@keras.saving.register_keras_serializable("keras_mlff")
class LayerNormalization(keras.layers.LayerNormalization):
    """Normalizes the last axis as Keras does, with right second derivatives on TensorFlow.

    y = (x - mean(x)) / sqrt(var(x) + epsilon), times gamma plus beta. In Keras's own layer on
    TensorFlow, `ops.moments` takes the mean for constant: first derivatives are right, since that
    part of theirs is zero, but the second ones, which a loss of forces needs, are wrong.

    Reference: Ba et al., 2016, https://arxiv.org/abs/1607.06450
    """

    def call(self, inputs: Tensor) -> Tensor:
        """Normalizes `(..., width)`; the shape stays."""
        centered = inputs - ops.mean(inputs, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centered), axis=-1, keepdims=True)
        result = centered * ops.rsqrt(variance + self.epsilon)
        result = result if self.gamma is None else result * self.gamma
        return result if self.beta is None else result + self.beta
