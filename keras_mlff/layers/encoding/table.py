"""A learned table of values on knots, with polynomials in between."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff.graph import Array, Tensor
from keras_mlff.layers.encoding.smoothness import Smoothness
from keras_mlff.layers.initializers import Normal, constants

_MODES = ("linear", "cubic", "quintic", "bspline")
_INITIAL = ("normal", "normal_both", "gaussian_rbf")


@keras.saving.register_keras_serializable("keras_mlff")
class PositionalEncoding(keras.layers.Layer):
    """Looks numbers up in a learned table on evenly spaced knots.

    The knots x_1 < ... < x_n include both ends and are D apart. Each has a row of values H and, in
    the modes `"cubic"` and `"quintic"`, one of slopes G. For x between x_i and x_(i+1), with
    t = (x - x_i) / D, the paper's mode `"cubic"` is the Hermite polynomial

        h(x) = c_1 H_i + (1 - c_1) H_(i+1) + c_3 G_i + c_4 G_(i+1),
        c_1 = 2 t³ - 3 t² + 1,  c_3 = t³ - 2 t² + t,  c_4 = t³ - t²,

    and `"linear"` is h(x) = (1 - t) H_i + t H_(i+1). Only t has a gradient with respect to x, the
    index i is constant. Beyond the ends the encoding continues as a straight line with the end's
    slope, which the paper leaves open.

    | mode | tables | continuous derivatives |
    |---|---|---|
    | linear | H | 0 |
    | cubic (Hermite) | H, G | 1 |
    | quintic (Hermite) | H, G, curvatures | 2 |
    | bspline (cubic) | H, control points | 2 |

    Slopes are per knot spacing, as the paper prints them: dh/dx = G / D at a knot. `"quintic"` and
    `"bspline"` have no curvature at the two ends, where the straight lines begin.

    Args:
        num_features: Numbers that each input becomes.
        num_knots: Number of knots, both ends included; at least 2.
        x_min: First knot, Å for distances and radians for angles.
        x_max: Last knot, in the same unit.
        mode: How the encoding continues between knots, a row of the table above.
        smoothness: Factor of the loss `smoothness_loss(H)`, the paper's lambda; 0 leaves it out.
        slope_smoothness: Factor of a loss that pulls slopes to the central differences of H. The
            paper leaves slopes free; only the modes `"cubic"` and `"quintic"` have them.
        initial: How the tables start: `"normal"` draws H from the standard normal distribution and
            sets G to zero, `"normal_both"` draws both, `"gaussian_rbf"` takes Gaussians and their
            slopes, which start smooth.
        scaled_slopes: Whether G is the slope per unit of x, as in textbooks, instead of per knot
            spacing.

    Call arguments:
        x: Distances or angles of any shape.

    Call returns:
        The encodings, `(*shape of x, num_features)`.

    Raises:
        ValueError: If an option is unknown, the knots do not ascend, or a factor is negative.

    Reference: https://arxiv.org/abs/2211.12773, whose equations of the encoding have no factor D
    beside the slopes; modes other than its two, ranges and starts are choices of this package

    Example:
        >>> table = PositionalEncoding(num_features=4, num_knots=6, x_max=5.0)
        >>> tuple(table(np.asarray([0.9, 1.1, 1.5], "float32")).shape)
        (3, 4)
    """

    def __init__(
        self,
        num_features: int = 32,
        num_knots: int = 36,
        x_min: float = 0.0,
        x_max: float = 5.0,
        mode: str = "cubic",
        smoothness: float = 0.0,
        slope_smoothness: float = 0.0,
        initial: str = "normal",
        scaled_slopes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if mode not in _MODES or initial not in _INITIAL:
            raise ValueError(
                f"`mode` is one of {_MODES} and `initial` one of {_INITIAL}. "
                f"Received: mode='{mode}', initial='{initial}'."
            )
        if num_knots < 2 or not x_min < x_max:
            raise ValueError(
                "A table needs two knots or more, from x_min up to x_max. "
                f"Received: num_knots={num_knots}, x_min={x_min}, x_max={x_max}."
            )
        if slope_smoothness and mode not in ("cubic", "quintic"):
            raise ValueError(
                "Only the modes 'cubic' and 'quintic' have slopes. "
                f"Received: slope_smoothness={slope_smoothness}, mode='{mode}'."
            )
        if smoothness < 0.0 or slope_smoothness < 0.0:
            raise ValueError(
                "A negative factor would reward roughness. "
                f"Received: smoothness={smoothness}, slope_smoothness={slope_smoothness}."
            )
        self.num_features, self.num_knots = num_features, num_knots
        self.x_min, self.x_max = float(x_min), float(x_max)
        self.mode, self.initial, self.scaled_slopes = mode, initial, scaled_slopes
        self.smoothness, self.slope_smoothness = smoothness, slope_smoothness
        self.spacing = (self.x_max - self.x_min) / (num_knots - 1)
        self.quantity = "distance"  # what x is
        self.range_from_data = False  # whether `fit_ranges` may move the ends
        self.limit = float("inf")  # beyond which nothing counts, for `fit_ranges`

    def set_range(self, x_min: float, x_max: float) -> None:
        """Moves both ends before training; values stay at their knots, so the tables stretch.

        Args:
            x_min: New first knot, Å or radians.
            x_max: New last knot.
        """
        before = self.spacing
        self.x_min, self.x_max = float(x_min), float(x_max)
        self.spacing = (self.x_max - self.x_min) / (self.num_knots - 1)
        if self.scaled_slopes and self.built:
            for power, table in ((1, self.slopes), (2, self.curvatures)):
                if table is not None:
                    factor = (before / self.spacing) ** power
                    table.assign(ops.convert_to_tensor(table) * factor)

    @property
    def knots(self) -> Array:
        """The places of the knots, `(num_knots,)` in the unit of x."""
        return np.linspace(self.x_min, self.x_max, self.num_knots)

    def build(self, input_shape: Any = None) -> None:
        """Creates values, slopes and curvatures, each `(num_knots, num_features)`."""
        # regularizers of weights reach the loss on every backend without passing the gradient
        # of the energy
        penalty = Smoothness(self.smoothness) if self.smoothness else None
        self.values = self._table("values", 0, penalty)
        self.slopes = self.curvatures = None
        if self.mode in ("cubic", "quintic"):
            pull = self._slope_penalty if self.slope_smoothness else None
            self.slopes = self._table("slopes", 1, pull)
        if self.mode == "quintic":
            self.curvatures = self._table("curvatures", 2, None)

    def _table(self, name: str, derivative: int, regularizer: Any) -> Any:
        shape = (self.num_knots, self.num_features)
        initializer: Any = "zeros"
        if self.initial == "gaussian_rbf":
            initializer = constants(self._gaussians(derivative))
        elif derivative == 0 or self.initial == "normal_both":
            initializer = Normal(stddev=1.0)
        return self.add_weight(
            shape=shape, initializer=initializer, regularizer=regularizer, name=name
        )

    def _gaussians(self, derivative: int) -> Array:
        """Samples Gaussians, one per feature, or a derivative of theirs at the knots."""
        centers = np.linspace(self.x_min, self.x_max, max(self.num_features, 2))
        width = max(centers[1] - centers[0], self.spacing)  # narrower ones fall between knots
        offsets = (self.knots[:, None] - centers[: self.num_features]) / width
        bumps = np.exp(-0.5 * offsets**2)
        factors = [np.ones_like(offsets), -offsets, offsets**2 - 1.0]
        unit = width if self.scaled_slopes else width / self.spacing
        return np.asarray(bumps * factors[derivative] / unit**derivative)

    def _slope_penalty(self, slopes: Tensor) -> Tensor:
        """Computes the mean of (G_i - (H_(i+1) - H_(i-1)) / 2)² over inner knots, and scales it."""
        unit = self.spacing if self.scaled_slopes else 1.0
        values = ops.convert_to_tensor(self.values)
        if self.num_knots < 3:  # no knot has two neighbors
            return ops.zeros((), slopes.dtype)
        central = 0.5 * (values[2:] - values[:-2])
        return self.slope_smoothness * ops.mean(ops.square(slopes[1:-1] * unit - central))

    def call(self, x: Tensor) -> Tensor:
        places = (x - self.x_min) / self.spacing
        floors = ops.clip(ops.floor(ops.stop_gradient(places)), 0, self.num_knots - 2)
        index = ops.cast(floors, "int32")
        t = (places - floors)[..., None]
        values = ops.convert_to_tensor(self.values)
        if self.mode == "linear":
            first, second = _rows(values, index, 2)
            return first + t * (second - first)
        # not `clip`, whose gradient JAX halves on the knots themselves
        inside = ops.where(t < 0.0, ops.zeros_like(t), ops.where(t > 1.0, ops.ones_like(t), t))
        if self.mode == "bspline":
            result = _bspline(values, index, inside)
            low, high = values[1] - values[0], values[-1] - values[-2]
        else:
            slopes = ops.convert_to_tensor(self.slopes)
            slopes = slopes * self.spacing if self.scaled_slopes else slopes
            low, high = slopes[0], slopes[-1]
            result = self._hermite(values, slopes, index, inside)
        return result + (t - inside) * ops.where(t < 0.0, low, high)

    def _hermite(self, values: Tensor, slopes: Tensor, index: Tensor, t: Tensor) -> Tensor:
        """Evaluates the polynomials of the modes "cubic" and "quintic" between two knots."""
        width = self.num_features
        tables = [values, slopes]
        if self.curvatures is not None:
            curvatures = ops.convert_to_tensor(self.curvatures)[1:-1]
            unit = self.spacing**2 if self.scaled_slopes else 1.0
            # no curvature at the ends, where a straight line begins
            tables.append(ops.pad(curvatures * unit, ((1, 1), (0, 0))))
        first, second = _rows(ops.concatenate(tables, axis=-1), index, 2)
        result: Tensor = 0.0
        for number, (left, right) in enumerate(_hermite_basis(t, len(tables))):
            part = slice(number * width, (number + 1) * width)
            result = result + left * first[..., part] + right * second[..., part]
        return result


def _rows(table: Tensor, index: Tensor, number: int) -> list[Tensor]:
    """Takes `number` rows of the table that follow each other, from each index on."""
    return [ops.take(table, index + step, axis=0) for step in range(number)]


def _hermite_basis(t: Tensor, number: int) -> list[tuple[Tensor, Tensor]]:
    """Computes the factors of values, slopes (and curvatures) at both ends of an interval.

    For two tables these are the paper's (c_1, 1 - c_1) and (c_3, c_4), for three the quintic ones.
    """
    t2, t3 = t * t, t * t * t
    if number == 2:
        second = t2 * (3.0 - 2.0 * t)
        return [(1.0 - second, second), (t3 - 2.0 * t2 + t, t3 - t2)]
    second = t3 * (10.0 - 15.0 * t + 6.0 * t2)
    return [
        (1.0 - second, second),
        (t - t3 * (6.0 - 8.0 * t + 3.0 * t2), t3 * (-4.0 + 7.0 * t - 3.0 * t2)),
        (0.5 * t2 - t3 * (1.5 - 1.5 * t + 0.5 * t2), t3 * (0.5 - t + 0.5 * t2)),
    ]


def _bspline(points: Tensor, index: Tensor, t: Tensor) -> Tensor:
    """Evaluates the uniform cubic B-spline whose control points are the rows of the table."""
    # points beyond the ends that make the second derivative there zero
    before, after = 2.0 * points[:1] - points[1:2], 2.0 * points[-1:] - points[-2:-1]
    rows = _rows(ops.concatenate([before, points, after], axis=0), index, 4)
    t2, t3, rest = t * t, t * t * t, 1.0 - t
    factors = [
        rest * rest * rest,
        3.0 * t3 - 6.0 * t2 + 4.0,
        -3.0 * t3 + 3.0 * t2 + 3.0 * t + 1.0,
        t3,
    ]
    total: Tensor = 0.0
    for factor, row in zip(factors, rows, strict=True):
        total = total + factor * row
    return total * (1.0 / 6.0)
