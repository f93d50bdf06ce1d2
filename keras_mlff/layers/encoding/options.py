"""What architectures take as `distance_encoding`: read, checked and turned into a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_mlff.layers.encoding.perceptron import PerceptronEncoding
from keras_mlff.layers.encoding.table import PositionalEncoding

_SHORT: dict[str, dict[str, Any]] = {
    "original": {"kind": "original"},
    "mlp": {"kind": "mlp"},
    "posenc": {"kind": "posenc"},
    "smooth": {"kind": "posenc", "smoothness": 0.01},
}
_KINDS = ("mlp", "posenc")


def parse_encoding(distance_encoding: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Writes what models take as `distance_encoding` as a dict with a known `kind`.

    Args:
        distance_encoding: As in `make_encoding`.

    Returns:
        `{"kind": "original"}`, or the kind `"mlp"` or `"posenc"` with arguments of its layer.

    Raises:
        ValueError: If the kind is unknown, or has arguments although it has no layer.

    Example:
        >>> parse_encoding("smooth")
        {'kind': 'posenc', 'smoothness': 0.01}
    """
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


def make_encoding(
    distance_encoding: str | Mapping[str, Any] | None,
    x_min: float,
    x_max: float,
    num_tables: int = 1,
    num_features: int | None = None,
    bounded: bool = True,
    quantity: str = "distance",
) -> Any:
    """Makes the layer that encodes distances or angles from what a user has chosen.

    Args:
        distance_encoding: `"original"` or `None` for no encoding, `"mlp"` for a perceptron,
            `"posenc"` for a learned table, `"smooth"` for a table with the smoothness loss (factor
            0.01), or a dict: `{"kind": "posenc", "num_knots": 20, ...}` with arguments of
            `PositionalEncoding` or, for the kind `"mlp"`, of `PerceptronEncoding`.
        x_min: First knot of a table whose dict has none, Å or radians.
        x_max: Last knot of a table whose dict has none, Å or radians. Fitting the offsets of a
            model moves it to the largest distance that occurs.
        num_tables: How many tables the model has: their losses are averaged.
        num_features: Width of the radial basis that the encoding replaces. Tables then start from
            Gaussians, unless the dict has `initial`: what a network reads of a basis is smooth, and
            it learns worse from random numbers.
        bounded: Whether the model sees nothing beyond `x_max`.
        quantity: What is encoded, `"distance"` or `"angle"`.

    Returns:
        A layer that turns numbers of any shape into `(*shape, num_features)`; `None` for
        `"original"`.

    Raises:
        ValueError: If the kind is unknown or the width is not that of the basis.

    Example:
        >>> make_encoding("smooth", x_min=0.0, x_max=5.0).num_features
        32
    """
    chosen = parse_encoding(distance_encoding)
    kind = chosen.pop("kind")
    if kind == "original":
        return None
    if num_features is not None:
        width = chosen.setdefault("num_features", num_features)
        if width != num_features:
            raise ValueError(
                "The encoding takes the place of a radial basis, so it has the width of one, "
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
