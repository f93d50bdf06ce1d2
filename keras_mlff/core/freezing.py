"""Freezing: which parts of a model `fit` may change."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import keras

from keras_mlff.backend import keras_private


def set_trainable(
    model: keras.Model, parts: Sequence[str], left_out: Collection[str], value: bool
) -> list[str]:
    """Freezes or unfreezes parts of a model.

    Args:
        model: The model.
        parts: Names of attributes that hold layers or weights; all parts where there is none.
        left_out: Parts that stay as they are, even where all are meant.
        value: Whether `fit` may change the parts.

    Returns:
        The names of all parts that are trainable now.

    Raises:
        ValueError: If the model has no such part.
    """
    owned = parts_of(model)
    unknown = sorted({*parts, *left_out} - owned.keys())
    if unknown:
        raise ValueError(
            f"{type(model).__name__} has no such part. Received: {unknown}. "
            f"Choose from {sorted(owned)}."
        )
    for name in set(parts or owned) - {*left_out}:
        for member in owned[name]:
            member.trainable = value
    return [name for name, members in owned.items() if any(m.trainable for m in members)]


def parts_of(model: keras.Model) -> dict[str, list[Any]]:
    """Lists layers and weights with something to learn by the attribute that holds them."""
    found: dict[str, list[Any]] = {}
    for name, value in keras_private.attributes(model).items():
        listed = list(value) if isinstance(value, (list, tuple)) else [value]
        members = [
            item
            for item in listed
            if isinstance(item, keras.Variable)
            or (isinstance(item, keras.layers.Layer) and item.weights)
        ]
        if members and not name.startswith("_"):
            found[name] = members
    return found
