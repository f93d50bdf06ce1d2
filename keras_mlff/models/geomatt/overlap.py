"""Attention from overlap integrals: coefficients that see distances and, by chains, angles."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import Uniform

ORDERS = (2, 3, 4, 5)


@keras.saving.register_keras_serializable("keras_mlff")
class GaussianGrid(keras.layers.Layer):
    """Expands distances on Gaussians at the points of an evenly spaced grid.

    G(d)_l = exp(-gamma (d - mu_l)²) with mu_l = start + l * spacing for l = 0, ..., L - 1: the
    discretized integrand of an overlap. `stop` itself is no point.

    Args:
        start: First point in Å.
        stop: End of the grid in Å; the last point is one spacing before it.
        spacing: Distance between points in Å, the step of the discretized integral.
        gamma: Width parameter of the Gaussians in 1/Å².

    Call arguments:
        distances: Distances in Å, of any shape.

    Call returns:
        The Gaussians, `(*shape of distances, num_points)`.

    Raises:
        ValueError: If the grid has no point or `gamma` is not positive.

    Reference: Frank and Chmiela, 2021 (GeomAtt), https://arxiv.org/abs/2106.02549
    """

    def __init__(
        self, start: float, stop: float, spacing: float, gamma: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if spacing <= 0.0 or gamma <= 0.0 or stop - start < spacing:
            raise ValueError(
                "The grid needs a spacing above 0, at least one point between its ends, and a "
                f"gamma above 0. Received: start={start}, stop={stop}, spacing={spacing}, "
                f"gamma={gamma}."
            )
        self.start, self.spacing, self.gamma = float(start), float(spacing), float(gamma)
        self.num_points = round((stop - start) / spacing)

    def call(self, distances: Tensor) -> Tensor:
        dtype = ops.dtype(distances)
        points = self.start + self.spacing * ops.cast(ops.arange(self.num_points), dtype)
        return ops.exp(-self.gamma * ops.square(distances[..., None] - points))

    def vanishing_distance(self, exponent: float) -> float:
        """Computes the distance in Å beyond which all Gaussians stay below exp(-exponent)."""
        last = self.start + self.spacing * (self.num_points - 1)
        return last + math.sqrt(exponent / self.gamma)


@keras.saving.register_keras_serializable("keras_mlff")
class OverlapAttention(keras.layers.Layer):
    """Computes attention coefficients from products of overlaps along chains of atoms.

    1. Overlap q of a pair is f^q_ij = (G(0) W_q + b_q) * (G(d_ij) W_k + b_k), feature by feature
       (eq. 16; eqs. 6 and 8 without the biases).
    2. A chain of order k has k - 1 overlaps, whose products are summed over the atoms between its
       ends: P^2_ij = f^1_ij, P^(n+1)_ij = sum_m P^n_im f^n_mj, again feature by feature.
    3. The coefficient is alpha_ij = scale * sum over features of P^k_ij.

    Order 2 sees distances, order 3 angles, order 4 dihedrals. There is no softmax, and atoms i and
    j are among the atoms m.

    Args:
        order: k, from 2 to 5.
        num_features: Width of the overlaps.
        scale: Factor of all coefficients: the step of the grid over the number of streams.
        shared: Whether all overlaps of the chain have the same weights.
        query_bias: Whether overlaps have the bias b_q.
        key_bias: Whether overlaps have the bias b_k, through which all pairs interact, however far.

    Raises:
        ValueError: If the order is not offered or the width is below 1.

    Reference: Frank and Chmiela, 2021 (GeomAtt), eqs. 6, 8 and 16, https://arxiv.org/abs/2106.02549
    """

    def __init__(
        self,
        order: int,
        num_features: int,
        scale: float = 1.0,
        shared: bool = False,
        query_bias: bool = True,
        key_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if order not in ORDERS:
            raise ValueError(f"Chains have an order from {ORDERS}. Received: order={order}.")
        if num_features < 1:
            raise ValueError(f"Overlaps need a feature. Received: num_features={num_features}.")
        self.order, self.num_features, self.scale, self.shared = order, num_features, scale, shared
        self.has_query_bias, self.has_key_bias = query_bias, key_bias

    def build(self, pairs_shape: Any, *shapes: Any) -> None:
        """Creates W_q, W_k `(num_overlaps, num_points, num_features)` and b_q, b_k."""
        num_points = pairs_shape[-1] - 1
        num_overlaps = 1 if self.shared else self.order - 1
        bound = num_points**-0.5  # the default of PyTorch's linear layers

        def weight(name: str, rows: int) -> Any:
            shape = (num_overlaps, rows, self.num_features)
            initializer = Uniform(-bound, bound)
            return self.add_weight(shape=shape, initializer=initializer, name=name)

        self.query_kernel, self.key_kernel = (weight(n, num_points) for n in ("query", "key"))
        self.query_bias = weight("query_bias", 1) if self.has_query_bias else None
        self.key_bias = weight("key_bias", 1) if self.has_key_bias else None

    def call(self, pairs: Tensor, places: Tensor, zero: Tensor) -> Tensor:
        """Runs the steps of the class.

        Call arguments:
            pairs: `(num_graphs, num_pairs, num_points + 1)`: G(d_ij) of each pair, and a last
                column of ones that the bias is multiplied with; padding is zero throughout.
            places: `(max_atoms, max_atoms)` int32, which of the pairs the atoms i and j are.
            zero: G(0), `(num_points,)`.

        Returns:
            alpha, `(num_graphs, max_atoms, max_atoms)`, receiver first.
        """
        if self.order == 2:  # the sum over features follows the overlap: it moves into the kernel
            kernel = ops.sum(self._kernels(zero)[0], axis=-1)
            sums = ops.matmul(pairs, self.scale * kernel[:, None])
            return ops.take(sums[..., 0], places, axis=1)
        overlaps = self._lay_out(self.overlaps(pairs, zero), places)  # step 1
        # 2. Overlaps are symmetric, so the chain read from its end is the transpose of the product,
        # and the last step is one product over features and atoms at once
        half = (self.order - 1) // 2
        forward = _chain(overlaps[: self.order - 1 - half])
        backward = _chain(overlaps[: -half - 1 : -1])
        return self.scale * _contract(forward, backward)  # step 3

    def _kernels(self, zero: Tensor) -> Tensor:
        """Joins both brackets of step 1, `(num_overlaps, num_points + 1, num_features)`."""
        # the first bracket is the same for all pairs: it moves into the kernel of the second
        query = ops.matmul(zero[None, None, :], self.query_kernel)  # (num_overlaps, 1, features)
        if self.query_bias is not None:
            query = query + self.query_bias
        bias = ops.zeros_like(query) if self.key_bias is None else query * self.key_bias
        return ops.concatenate([query * self.key_kernel, bias], axis=1)

    def overlaps(self, pairs: Tensor, zero: Tensor) -> Tensor:
        """Computes step 1 for all overlaps of the chain side by side.

        Args:
            pairs: `(..., num_points + 1)`, as in `call`.
            zero: G(0), `(num_points,)`.

        Returns:
            `(..., num_overlaps * num_features)`.
        """
        kernels = self._kernels(zero)
        side_by_side = ops.transpose(kernels, (1, 0, 2))
        return ops.matmul(pairs, ops.reshape(side_by_side, (kernels.shape[1], -1)))

    def _lay_out(self, overlaps: Tensor, places: Tensor) -> list[Tensor]:
        """Makes `(num_graphs, max_atoms, max_atoms, num_features)` for each step of the chain."""
        width = self.num_features
        overlaps = [
            ops.take(overlaps[..., start : start + width], places, axis=1)
            for start in range(0, overlaps.shape[-1], width)
        ]
        return overlaps * (self.order - 1) if self.shared else overlaps


def _chain(overlaps: list[Tensor]) -> Tensor:
    """Multiplies matrices `(num_graphs, max_atoms, max_atoms, num_features)`, one per feature."""
    if len(overlaps) == 1:
        return overlaps[0]
    product = ops.transpose(overlaps[0], (0, 3, 1, 2))
    for overlap in overlaps[1:]:
        product = ops.matmul(product, ops.transpose(overlap, (0, 3, 1, 2)))
    return ops.transpose(product, (0, 2, 3, 1))


def _contract(forward: Tensor, backward: Tensor) -> Tensor:
    """Computes sum_mc forward_imc backward_jmc: `(num_graphs, max_atoms, max_atoms)`."""
    num_graphs, max_atoms, _, num_features = ops.shape(forward)
    flat = (num_graphs, max_atoms, max_atoms * num_features)
    rows, columns = ops.reshape(forward, flat), ops.reshape(backward, flat)
    return ops.matmul(rows, ops.transpose(columns, (0, 2, 1)))
