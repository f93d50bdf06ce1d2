"""Scalars from vectors: by the frames of edges, and by products within an atom."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import glorot_uniform, torch_dense

MEASURES = ("square", "absolute")


def xavier_dense(units: int, **kwargs: Any) -> Any:
    """Makes a Dense layer that starts with Xavier-uniform weights and biases of zero."""
    return keras.layers.Dense(units, kernel_initializer=glorot_uniform(), **kwargs)


def without_sign(values: Tensor, measure: str) -> Tensor:
    """Takes signs away, elementwise.

    Args:
        values: An array of any shape.
        measure: `"square"`, or `"absolute"` for absolute values, which have a kink at zero.

    Returns:
        Values of the same shape, none of them negative.
    """
    return ops.square(values) if measure == "square" else ops.abs(values)


@keras.saving.register_keras_serializable("keras_mlff")
class Scalarization(keras.layers.Layer):
    """Turns vectors at one end of an edge into scalars, as the edge's frame sees them (step 3).

    A_c = (MLP(f1 . S_c, G(f2 . S_c), f3 . S_c) + f1 . S_c) / sqrt(C) for each of C vectors S_c,
    with one perceptron for all of them. f2 turns around in a mirror, so G takes away its sign.

    Args:
        num_features: C, the number of vectors at each atom.
        measure: G: `"square"` or `"absolute"`, see `without_sign`.

    Reference: AlphaNet, 2025, https://arxiv.org/abs/2501.07155, scalarization in local frames
    """

    def __init__(self, num_features: int, measure: str = "square", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_features, self.measure = num_features, measure
        width = max(num_features // 4, 1)
        self.hidden = torch_dense(width, 3, activation="silu")
        self.output_map = torch_dense(1, width)

    def call(self, frames: Tensor, vectors: Tensor) -> Tensor:
        """Computes the scalars of one end of each edge.

        Call arguments:
            frames: `(num_edges, 3, 3)`, one vector of the frame per row.
            vectors: `(num_edges, 3, num_features)`, those of the atom at that end.

        Returns:
            `(num_edges, num_features)`.
        """
        parts = ops.matmul(frames, vectors)  # (num_edges, 3, num_features)
        along = parts[:, 0]
        parts = ops.stack([along, without_sign(parts[:, 1], self.measure), parts[:, 2]], axis=-1)
        mixed = self.output_map(self.hidden(parts))[:, :, 0]
        return (mixed + along) * self.num_features**-0.5


@keras.saving.register_keras_serializable("keras_mlff")
class FrameTransition(keras.layers.Layer):
    """Exchanges between scalars and vectors of each atom (step 6).

    With [V', V''] = V W, two linear maps of the vectors, and their lengths
    nu = sum over x, y, z of |V'|, squared or absolute:

    1. [q1, q2, q3] = MLP([s, nu]).
    2. s <- s + (q1 + q2 + V' . V'' / sqrt(C)) / sqrt(2).
    3. V <- V + q3 V''.

    The paper's words are an alignment of the frames of neighbors; these formulas are the authors'
    program.

    Args:
        num_features: C, the width of scalars and vectors.
        measure: How the length of a vector is measured: `"square"`, the sum of squares, or
            `"absolute"`, that of absolute values, which depends on the orientation.

    Reference: AlphaNet, 2025, https://arxiv.org/abs/2501.07155, frame transition
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

        Returns:
            Both in the same shapes.
        """
        width = self.num_features
        maps = self.vector_maps(vectors)
        first, second = maps[:, :, :width], maps[:, :, width:]
        lengths = ops.sum(without_sign(first, self.measure), axis=1)
        products = ops.sum(first * second, axis=1) * width**-0.5
        # 1. Three numbers of each feature
        mixed = self.outputs(self.hidden(ops.concatenate([scalars, lengths], axis=-1)))
        # 2. and 3. What they change
        added = mixed[:, :width] + mixed[:, width : 2 * width] + products
        return scalars + added * 2.0**-0.5, vectors + mixed[:, None, 2 * width :] * second
