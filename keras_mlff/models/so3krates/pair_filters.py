"""Filters between pairs of atoms, from how far they are apart in space and in other coordinates."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import lecun_normal


@keras.saving.register_keras_serializable("keras_mlff")
class ParallelPerceptrons(keras.layers.Layer):
    """Several perceptrons of the same hidden widths on the same input; the last layer is linear.

    Their first layers are one product with joined kernels, which is faster than one for each.

    Args:
        hidden: Widths of the hidden layers; without any, each perceptron is one linear map.
        outputs: Width of each perceptron's output.
        activation: Name of the activation after each hidden layer.
    """

    def __init__(
        self,
        hidden: Sequence[int],
        outputs: Sequence[int],
        activation: str = "silu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden, self.num_outputs = tuple(hidden), tuple(outputs)
        widths = [[*self.hidden, last] for last in outputs]
        self.first_widths = [row[0] for row in widths]
        first_activation = activation if self.hidden else None
        self.first = _dense(sum(self.first_widths), first_activation)
        self.chains = [
            [
                _dense(width, activation if place < len(self.hidden) else None)
                for place, width in enumerate(row)
                if place > 0
            ]
            for row in widths
        ]

    def build(self, input_shape: Any) -> None:
        """Creates the weights."""
        self.first.build(input_shape)
        for width, chain in zip(self.first_widths, self.chains, strict=True):
            for layer in chain:
                layer.build((None, width))
                width = layer.units

    def call(self, inputs: Tensor) -> list[Tensor]:
        """Applies each perceptron.

        Call arguments:
            inputs: `(n, width)`.

        Returns:
            One array `(n, outputs[k])` for each of them.
        """
        *ends, _ = itertools.accumulate(self.first_widths)
        outputs = []
        for values, chain in zip(ops.split(self.first(inputs), ends, -1), self.chains, strict=True):
            for layer in chain:
                values = layer(values)
            outputs.append(values)
        return outputs


@keras.saving.register_keras_serializable("keras_mlff")
class PairFilters(keras.layers.Layer):
    """Makes the filters of each pair from distances in space and in coordinates (step 2).

    F_ij = MLP(b(r_ij)) + MLP(e_ij), where b are the radial functions and e the distances between
    the coordinates of both atoms, one for each degree. Each filter has perceptrons of its own.

    Args:
        num_filters: Widths of the filters, one number for each filter.
        radial_hidden: Hidden widths of the perceptrons of radial functions.
        spherical_hidden: Hidden widths of those of the distances between coordinates; `None`
            leaves the second term out.
        activation: Name of the activation of the hidden layers.

    Reference: Frank, Unke and Müller, 2022 (So3krates), eqs. 12 and 13,
    https://arxiv.org/abs/2205.14276
    """

    def __init__(
        self,
        num_filters: Sequence[int],
        radial_hidden: Sequence[int],
        spherical_hidden: Sequence[int] | None,
        activation: str = "silu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.radial = ParallelPerceptrons(radial_hidden, num_filters, activation)
        self.spherical = None
        if spherical_hidden is not None:
            self.spherical = ParallelPerceptrons(spherical_hidden, num_filters, activation)

    def build(self, basis_shape: Any, distances_shape: Any) -> None:
        """Creates the weights."""
        self.radial.build(basis_shape)
        if self.spherical is not None:
            self.spherical.build(distances_shape)

    def call(self, basis: Tensor, distances: Tensor) -> list[Tensor]:
        """Computes the filters.

        Call arguments:
            basis: b, `(num_pairs, num_radial)`.
            distances: e, `(num_pairs, num_degrees)`.

        Returns:
            One array `(num_pairs, width)` for each filter.
        """
        filters: list[Tensor] = self.radial(basis)
        if self.spherical is None:
            return filters
        return [a + b for a, b in zip(filters, self.spherical(distances), strict=True)]


def _dense(width: int, activation: str | None) -> Any:
    return keras.layers.Dense(width, activation=activation, kernel_initializer=lecun_normal())
