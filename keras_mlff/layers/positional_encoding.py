"""Learned encodings of distances and angles: a table of knots, or a perceptron, on one number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff.graph import Array, Graph, Tensor
from keras_mlff.layers.initializers import Normal, constants, torch_dense

_MODES = ("linear", "cubic", "quintic", "bspline")
_INITIAL = ("normal", "normal_both", "gaussian_rbf")
_TINY = 1e-12  # under roots, whose gradient must exist where two knots are equal


@keras.saving.register_keras_serializable("keras_mlff")
class PositionalEncoding(keras.layers.Layer):
    """Looks numbers up in a learned table on evenly spaced knots: `shape` -> `(*shape, n)`.

    Values H and, in the modes "cubic" and "quintic", slopes G stand at each knot, in between is a
    polynomial of t, the place between two knots. Only t has a gradient, the index is constant.
    Beyond the ends the encoding goes on as a straight line.

    | mode | tables | continuous derivatives |
    |---|---|---|
    | linear | H | 0 |
    | cubic (Hermite) | H, G | 1 |
    | quintic (Hermite) | H, G, curvatures | 2 |
    | bspline (cubic) | H, control points | 2 |

    Slopes are per knot spacing, as the paper prints them. "quintic" and "bspline" have no curvature
    at the two ends, where the straight line begins.

    Args:
        num_features: Numbers that each input becomes.
        num_knots: Knots, both ends included.
        x_min: First knot.
        x_max: Last knot.
        mode: Of the table above.
        smoothness: Factor of the loss `smoothness(H)`.
        slope_smoothness: Factor of the loss that pulls slopes to the central differences of H,
            which the paper leaves free.
        initial: `"normal"` (H random, G zero), `"normal_both"`, or `"gaussian_rbf"`, Gaussians with
            their slopes, which start smooth; where a radial basis is replaced, `get` takes these.
        scaled_slopes: Whether G is the slope per unit of x, as in the textbook.

    Reference: https://arxiv.org/abs/2211.12773
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
        """Moves both ends before training; the tables are stretched."""
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
        """Lists the knots, `(num_knots,)`."""
        return np.linspace(self.x_min, self.x_max, self.num_knots)

    def build(self, input_shape: Any = None) -> None:
        """Creates the tables, each `(num_knots, num_features)`."""
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
        centers = np.linspace(self.x_min, self.x_max, max(self.num_features, 2))
        width = max(centers[1] - centers[0], self.spacing)  # narrower ones fall between knots
        offsets = (self.knots[:, None] - centers[: self.num_features]) / width
        bumps = np.exp(-0.5 * offsets**2)
        factors = [np.ones_like(offsets), -offsets, offsets**2 - 1.0]
        unit = width if self.scaled_slopes else width / self.spacing
        return np.asarray(bumps * factors[derivative] / unit**derivative)

    def _slope_penalty(self, slopes: Tensor) -> Tensor:
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


@keras.saving.register_keras_serializable("keras_mlff")
class PerceptronEncoding(keras.layers.Layer):
    """Turns each number into several by a perceptron of one hidden layer.

    Args:
        num_features: Numbers that each input becomes.
        hidden_features: Width of the hidden layer; `num_features` by default.
        activation: Of the hidden layer. The paper's "relu" makes forces jump.
    """

    def __init__(
        self,
        num_features: int = 32,
        hidden_features: int | None = None,
        activation: str = "silu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.quantity = "distance"  # what x is
        self.num_features = num_features
        self.hidden_features = num_features if hidden_features is None else hidden_features
        # biases are random: distances are positive, so that without them half of "relu" is dead
        # and the rest a line
        self.hidden = torch_dense(self.hidden_features, 1, activation=activation)
        self.outputs = torch_dense(num_features, self.hidden_features)

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights."""
        self.hidden.build((None, 1))
        self.outputs.build((None, self.hidden_features))

    def call(self, x: Tensor) -> Tensor:
        return self.outputs(self.hidden(x[..., None]))


@keras.saving.register_keras_serializable("keras_mlff")
class Smoothness(keras.regularizers.Regularizer):
    """Multiplies `smoothness` of a table by a factor, as the regularizer of a weight."""

    def __init__(self, factor: float = 0.01) -> None:
        self.factor = factor

    def __call__(self, table: Tensor) -> Tensor:
        return self.factor * smoothness(table)

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        return {"factor": self.factor}


def smoothness(table: Tensor) -> Tensor:
    """Computes sum |H_(i+1) - H_i| / sum |H_i| over knots, the last not in the denominator.

    Reference: https://arxiv.org/abs/2211.12773
    """
    table = ops.convert_to_tensor(table)
    steps, sizes = (
        ops.sum(ops.sqrt(ops.sum(ops.square(rows), axis=-1) + _TINY))
        for rows in (table[1:] - table[:-1], table[:-1])
    )
    return steps / sizes


def distance_range(graphs: Sequence[Graph]) -> tuple[float, float]:
    """Finds the range of a table from training structures: zero to the largest distance, Å.

    Distances are those between any two atoms of a molecule, periodic images left out.
    """
    largest = _largest_distance(graphs)
    if largest == 0.0:
        raise ValueError("No structure has two atoms, so there is no distance to learn from.")
    return 0.0, largest


def _largest_distance(graphs: Sequence[Graph], limit: float = float("inf")) -> float:
    """Finds the largest distance within a molecule; stops where it exceeds a limit."""
    largest = 0.0
    for graph in graphs:
        ids = np.where(graph["atom_mask"], graph["graph_ids"], -1)
        for index in range(int(ids.max()) + 1):
            positions = np.asarray(graph["positions"])[ids == index]
            for first in range(0, len(positions), 256):  # rows, so that memory has a bound
                vectors = positions[first : first + 256, None] - positions
                largest = max(largest, float(np.sqrt(np.sum(vectors**2, axis=-1).max())))
        if largest >= limit:
            return limit
    return largest


def fit_ranges(
    layers: Sequence[keras.layers.Layer], graphs: Sequence[Graph]
) -> dict[str, float] | None:
    """Moves the ends of tables of distances to what occurs, unless their ends were given.

    The last knot is at the largest distance of the structures, no further than the cutoff in models
    that see nothing beyond it; in crystals at the cutoff.

    Args:
        layers: Those of a model that has not been trained.
        graphs: Training structures.

    Returns:
        The new `x_min` and `x_max`; `None` where nothing has changed.
    """
    tables = [layer for layer in layers if getattr(layer, "range_from_data", False)]
    if not tables or any("cell" in graph for graph in graphs):
        return None
    largest = _largest_distance(graphs, max(table.limit for table in tables))
    if largest == 0.0:  # single atoms
        return None
    for table in tables:
        table.set_range(0.0, largest)
    return {"x_min": 0.0, "x_max": largest}


_SHORT: dict[str, dict[str, Any]] = {
    "original": {"kind": "original"},
    "mlp": {"kind": "mlp"},
    "posenc": {"kind": "posenc"},
    "smooth": {"kind": "posenc", "smoothness": 0.01},
}
_KINDS = ("mlp", "posenc")


def options(distance_encoding: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Writes what models take as `distance_encoding` as a dict with a known `kind`."""
    if distance_encoding is None:
        return dict(_SHORT["original"])
    if isinstance(distance_encoding, str):
        found = dict(_SHORT.get(distance_encoding, {"kind": distance_encoding}))
    else:
        found = {"kind": "posenc", **distance_encoding}
    if found["kind"] == "smooth":
        found = {**_SHORT["smooth"], **found, "kind": "posenc"}
    if found["kind"] not in (*_KINDS, "original") or (
        found["kind"] == "original" and len(found) > 1
    ):
        raise ValueError(
            f"`distance_encoding` is one of {sorted(_SHORT)}, or a dict whose 'kind' is one of "
            f"them. Received: {distance_encoding!r}."
        )
    return found


def get(
    distance_encoding: str | Mapping[str, Any] | None,
    x_min: float,
    x_max: float,
    num_tables: int = 1,
    num_features: int | None = None,
    bounded: bool = True,
    quantity: str = "distance",
) -> Any:
    """Makes an encoding from what models take as `distance_encoding`.

    Args:
        distance_encoding: `"original"` or `None`, `"mlp"`, `"posenc"`, `"smooth"` (posenc with the
            smoothness loss), or a dict: `{"kind": "posenc", "num_knots": 20, ...}` with arguments
            of `PositionalEncoding` or, for the kind "mlp", `PerceptronEncoding`.
        x_min: Start of the table, where the dict has none.
        x_max: End of the table, where the dict has none; `ForceField.fit_offsets` moves it.
        num_tables: How many the model has: their losses are averaged.
        num_features: Width of the radial basis that the encoding replaces. Tables then start from
            Gaussians, unless the dict has `initial`: what a network reads of a basis is smooth, and
            it learns worse from random numbers.
        bounded: Whether the model sees nothing beyond `x_max`.
        quantity: What is encoded, `"distance"` or `"angle"`.

    Returns:
        A layer, `shape` -> `(*shape, num_features)`; `None` for `"original"`.
    """
    chosen = options(distance_encoding)
    kind = chosen.pop("kind")
    if kind == "original":
        return None
    if num_features is not None:
        width = chosen.setdefault("num_features", num_features)
        if width != num_features:
            raise ValueError(
                "The encoding stands in the place of a radial basis and has its width, "
                f"`num_radial`. Received: num_radial={num_features}, "
                f"distance_encoding={distance_encoding!r}."
            )
    if kind == "posenc":
        given = quantity == "angle" or "x_min" in chosen or "x_max" in chosen
        start = "normal" if num_features is None else "gaussian_rbf"
        chosen = {"x_min": x_min, "x_max": x_max, "initial": start, **chosen}
        for name in ("smoothness", "slope_smoothness"):
            chosen[name] = chosen.get(name, 0.0) / num_tables
        layer: Any = PositionalEncoding(**chosen)
        layer.range_from_data = not given
        if bounded:
            layer.limit = x_max
    else:
        layer = PerceptronEncoding(**chosen)
    layer.quantity = quantity
    return layer


def _rows(table: Tensor, index: Tensor, number: int) -> list[Tensor]:
    return [ops.take(table, index + step, axis=0) for step in range(number)]


def _hermite_basis(t: Tensor, number: int) -> list[tuple[Tensor, Tensor]]:
    """Computes the factors of values, slopes (and curvatures) at both ends of an interval."""
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
