"""Roots and ratios whose derivatives, first and second, are finite where the value is zero."""

from __future__ import annotations

from keras import ops

from keras_mlff.graph import Tensor


def norm(vectors: Tensor, axis: int = -1, keepdims: bool = False) -> Tensor:
    """Computes Euclidean norms; where a vector is zero, the norm and its gradient are zero.

    Args:
        vectors: An array of any shape.
        axis: Axis of the components.
        keepdims: Whether that axis stays, with length one.
    """
    return root(ops.sum(ops.square(vectors), axis=axis, keepdims=keepdims))


def root(squares: Tensor) -> Tensor:
    """Computes square roots; where a value is zero, the root and its gradient are zero."""
    positive = squares > 0.0
    # masked before the root is taken, or the gradient would be 0 * infinity
    roots = ops.sqrt(ops.where(positive, squares, ops.ones_like(squares)))
    return ops.where(positive, roots, ops.zeros_like(roots))


def smooth_norm(vectors: Tensor, axis: int = -1, epsilon: float = 1e-6) -> Tensor:
    """Computes `sqrt(|v|² + eps²) - eps`, which is smooth, and zero with zero gradient at 0.

    Args:
        vectors: An array of any shape.
        axis: Axis of the components, which is summed away.
        epsilon: Length below which the result is quadratic.
    """
    squares = ops.sum(ops.square(vectors), axis=axis)
    return ops.sqrt(squares + epsilon**2) - epsilon


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divides elementwise; where the denominator is zero, the result and its gradients are zero."""
    nonzero = denominator != 0.0
    safe = ops.where(nonzero, denominator, ops.ones_like(denominator))
    return ops.where(nonzero, numerator / safe, ops.zeros_like(numerator / safe))
