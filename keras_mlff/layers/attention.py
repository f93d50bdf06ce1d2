"""The softmax of attention, in which masked places have weight zero."""

from __future__ import annotations

from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.ops import safe


def masked_softmax(scores: Tensor, mask: Tensor, axis: int | tuple[int, ...] = -1) -> Tensor:
    """Computes a softmax in which masked places have weight zero.

    Args:
        scores: An array of any shape.
        mask: `bool` of the same shape or one that broadcasts to it; false for places to leave out.
        axis: Axis, or axes, over which weights sum to one.

    Returns:
        Weights in the shape of `scores`; zeros where all places of the axis are masked.
    """
    lowest = ops.where(mask, scores, ops.full_like(scores, -1e30))
    # the maximum only keeps numbers small: it has no gradient of its own
    highest = ops.stop_gradient(ops.max(lowest, axis=axis, keepdims=True))
    exponentials = ops.where(mask, ops.exp(lowest - highest), ops.zeros_like(scores))
    return safe.divide(exponentials, ops.sum(exponentials, axis=axis, keepdims=True))
