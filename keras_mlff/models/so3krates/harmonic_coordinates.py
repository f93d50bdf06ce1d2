"""Spherical harmonic coordinates: one array of orders per atom that turns with the molecule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff.graph import Array, Tensor
from keras_mlff.layers.initializers import Normal
from keras_mlff.models.so3krates import spherical_harmonics as harmonics
from keras_mlff.ops import safe

INVARIANTS = ("squared", "norm")


def measure_degrees(coordinates: Tensor, degrees: Sequence[int], invariants: str) -> Tensor:
    """Measures the length of each degree, which rotations do not change.

    Args:
        coordinates: `(n, width(degrees))`, of atoms or of pairs.
        degrees: Degrees of the coordinates.
        invariants: `"norm"`: the length, whose gradient jumps at zero, where it is taken as zero;
            `"squared"`: the squared length over sqrt(2 d + 1), smooth everywhere.

    Returns:
        `(n, len(degrees))`.
    """
    squares = harmonics.sum_orders(ops.square(coordinates), degrees)
    if invariants == "norm":
        # what vanishes by symmetry is not zero but rounding, whose direction means nothing
        vanishing = 1e-12 if keras.backend.standardize_dtype(squares.dtype) == "float64" else 1e-6
        return safe.root(ops.where(squares < vanishing**2, ops.zeros_like(squares), squares))
    scales = [(2 * degree + 1) ** -0.5 for degree in degrees]
    return squares * ops.convert_to_tensor(scales, dtype=squares.dtype)


@keras.saving.register_keras_serializable("keras_mlff")
class DegreeCoupling(keras.layers.Layer):
    """Couples each two degrees of an atom's coordinates to every degree they can give.

    t_d3 = sum over d1 < d2 of kappa[d3, d1, d2] (q_d1 x q_d2)_d3, a product with real 3j symbols
    (step 4). With one degree there is nothing to couple, and t is zero.

    Args:
        degrees: Degrees of the coordinates, ascending.
        parity: Whether only products that reflect like harmonics take part; without, the energy of
            the mirror image differs.

    Reference: Frank, Unke and Müller, 2022 (So3krates), eq. 16, https://arxiv.org/abs/2205.14276
    """

    def __init__(self, degrees: Sequence[int], parity: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.degrees, self.parity = tuple(degrees), parity
        self.triples = harmonics.coupled_degrees(self.degrees, parity)

    def build(self, *shapes: Any) -> None:
        """Creates kappa `(num_degrees, num_degrees, num_degrees)`: out, first, second.

        Entries without a triple are not used; the authors' program has them too.
        """
        num_degrees = len(self.degrees)
        self.kappa = self.add_weight(
            shape=(num_degrees,) * 3,
            initializer=Normal(stddev=0.1),
            name="kappa",
        )

    def tables(self) -> Array:
        """Lays the 3j symbols of all triples out: `(num_triples, width * width * width)`."""
        widths = [2 * degree + 1 for degree in self.degrees]
        ends = np.cumsum(widths)
        block = {d: slice(e - w, e) for d, e, w in zip(self.degrees, ends, widths, strict=True)}
        tables = np.zeros((len(self.triples), *[int(ends[-1])] * 3))
        for table, (first, second, out) in zip(tables, self.triples, strict=True):
            values = harmonics.coupling_table(first, second, out)
            table[block[first], block[second], block[out]] = values.transpose(1, 2, 0)
        return tables.reshape(len(self.triples), -1)

    def call(self, coordinates: Tensor) -> Tensor:
        """Computes the couplings.

        Call arguments:
            coordinates: q, `(num_atoms, width(degrees))`.

        Returns:
            t in the same shape.
        """
        if not self.triples:
            return ops.zeros_like(coordinates)
        number = len(self.degrees)
        place = self.degrees.index
        used = [
            (place(out) * number + place(first)) * number + place(second)
            for first, second, out in self.triples
        ]
        width = coordinates.shape[-1]
        # one matrix of all couplings (width², width): the loop over triples is done by its zeros
        kappa = ops.take(ops.reshape(self.kappa, (-1,)), ops.convert_to_tensor(used, "int32"))
        tables = ops.convert_to_tensor(self.tables(), dtype=self.compute_dtype)
        matrix = ops.reshape(ops.matmul(kappa, tables), (-1, width))
        products = coordinates[:, :, None] * coordinates[:, None, :]
        return ops.matmul(ops.reshape(products, (-1, width * width)), matrix)


@keras.saving.register_keras_serializable("keras_mlff")
class CoordinateNormalization(keras.layers.Layer):
    """Gives each degree of the coordinates a learned length; what is zero stays zero.

    q_d <- q_d s_d / |q_d| for each degree d, with learned s_d that start at one. It has no
    derivative where a degree vanishes, as it does at sites of high symmetry, and forces near those
    are large. It is an option of the authors' program.

    Args:
        degrees: Degrees of the coordinates, ascending.
    """

    def __init__(self, degrees: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.degrees = tuple(degrees)

    def build(self, *shapes: Any) -> None:
        """Creates the lengths `(num_degrees,)`."""
        self.scale = self.add_weight(shape=(len(self.degrees),), initializer="ones", name="scale")

    def call(self, coordinates: Tensor) -> Tensor:
        """Normalizes coordinates `(num_atoms, width(degrees))`; the shape stays."""
        lengths = measure_degrees(coordinates, self.degrees, "norm")
        factors = safe.divide(self.scale + ops.zeros_like(lengths), lengths)
        return coordinates * harmonics.spread_degrees(factors, self.degrees)
