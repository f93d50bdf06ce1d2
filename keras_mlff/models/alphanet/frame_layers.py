"""Scalars from vectors, by frames of edges or by products within an atom."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import glorot_uniform, torch_dense

MEASURES = ("square", "absolute")


def xavier_dense(units: int, **kwargs: Any) -> Any:
    """Makes a Dense layer that starts with Xavier-uniform weights and without a bias."""
    return keras.layers.Dense(units, kernel_initializer=glorot_uniform(), **kwargs)


def even(values: Tensor, measure: str) -> Tensor:
    """Takes the sign away, by the square or, with a kink at zero, the absolute value."""
    return ops.square(values) if measure == "square" else ops.abs(values)


@keras.saving.register_keras_serializable("keras_mlff")
class Scalarization(keras.layers.Layer):
    """Turns vectors at one end of an edge into scalars, through their parts along the frame.

    The part along the second vector, which a mirror turns around, counts without its sign.

    Args:
        num_features: Number of vectors at each atom.
        measure: `"square"` or `"absolute"`, see `even`.
    """

    def __init__(self, num_features: int, measure: str = "square", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_features, self.measure = num_features, measure
        width = max(num_features // 4, 1)
        self.hidden = torch_dense(width, 3, activation="silu")
        self.output_map = torch_dense(1, width)

    def call(self, frames: Tensor, vectors: Tensor) -> Tensor:
        """Computes `(num_edges, num_features)`.

        Call arguments:
            frames: `(num_edges, 3, 3)`, one vector per row.
            vectors: `(num_edges, 3, num_features)`.
        """
        parts = ops.matmul(frames, vectors)  # (num_edges, 3, num_features)
        along = parts[:, 0]
        parts = ops.stack([along, even(parts[:, 1], self.measure), parts[:, 2]], axis=-1)
        mixed = self.output_map(self.hidden(parts))[:, :, 0]
        return (mixed + along) * self.num_features**-0.5


@keras.saving.register_keras_serializable("keras_mlff")
class FrameTransition(keras.layers.Layer):
    """Exchanges between scalars and vectors of each atom.

    Args:
        num_features: Width of scalars and vectors.
        measure: How the length of a vector is measured: `"square"`, the sum of squares, or
            `"absolute"`, that of absolute values, which depends on the orientation.
    """

    def __init__(self, num_features: int, measure: str = "square", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_features, self.measure = num_features, measure
        self.vector_maps = xavier_dense(2 * num_features, use_bias=False)
        self.hidden = xavier_dense(num_features, activation="silu")
        self.outputs = xavier_dense(3 * num_features)

    def call(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Computes new scalars and vectors.

        Call arguments:
            scalars: `(num_atoms, num_features)`.
            vectors: `(num_atoms, 3, num_features)`.
        """
        width = self.num_features
        maps = self.vector_maps(vectors)
        first, second = maps[:, :, :width], maps[:, :, width:]
        lengths = ops.sum(even(first, self.measure), axis=1)
        products = ops.sum(first * second, axis=1) * width**-0.5
        mixed = self.outputs(self.hidden(ops.concatenate([scalars, lengths], axis=-1)))
        added = mixed[:, :width] + mixed[:, width : 2 * width] + products
        return scalars + added * 2.0**-0.5, vectors + mixed[:, None, 2 * width :] * second
