"""The loss that keeps neighboring rows of a learned table similar."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor

_TINY = 1e-12  # under roots, whose gradient must exist where two knots are equal


def smoothness_loss(table: Tensor) -> Tensor:
    """Computes how much a table changes from knot to knot, relative to its size.

    L_s = sum_i |H_(i+1) - H_i| / sum_i |H_i|, with Euclidean norms of rows and i from the first to
    the last but one knot, so that the last row is not in the denominator. It is zero for a constant
    table and about the root of 2 for one of random numbers. `keras_mlff.analysis.smoothness`, the
    measure of the paper's Table 3, is 1 - L_s.

    Args:
        table: H, `(num_knots, num_features)`.

    Returns:
        A scalar without unit.

    Reference: https://arxiv.org/abs/2211.12773, the smoothness loss L_s
    """
    table = ops.convert_to_tensor(table)
    steps, sizes = (
        ops.sum(ops.sqrt(ops.sum(ops.square(rows), axis=-1) + _TINY))
        for rows in (table[1:] - table[:-1], table[:-1])
    )
    return steps / sizes


@keras.saving.register_keras_serializable("keras_mlff")
class Smoothness(keras.regularizers.Regularizer):
    """Adds `smoothness_loss` of a weight to the loss of a model.

    Args:
        factor: Weight of the loss beside the errors of energy and forces, the paper's lambda.
            Where a model has several tables, each gets its share, so that the losses are averaged.

    Call arguments:
        table: The weight, `(num_knots, num_features)`.
    """

    def __init__(self, factor: float = 0.01) -> None:
        self.factor = factor

    def __call__(self, table: Tensor) -> Tensor:
        return self.factor * smoothness_loss(table)

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        return {"factor": self.factor}
