"""Checks the heads of a model, and tells which of them share a readout."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import keras

from keras_mlff.graph import INPUT_LEVELS
from keras_mlff.heads.energy import EnergyHead
from keras_mlff.heads.head import Head


def make(heads: Sequence[Head | dict[str, Any]] | None) -> list[Head]:
    """Makes heads of what a model is given, an `EnergyHead` of `None`; given ones are copied.

    Raises:
        TypeError: If something else than heads or their configs is given.
        ValueError: If names collide with each other or with those of a graph.
    """
    made = [
        keras.saving.deserialize_keras_object(head)
        if isinstance(head, dict)
        # two models have references of their own
        else copy.deepcopy(head)
        for head in (heads if heads is not None else [EnergyHead()])
    ]
    wrong = [head for head in made if not isinstance(head, Head)]
    if wrong or not made:
        raise TypeError(
            "`heads` is a list of heads, such as [EnergyHead(), DipoleHead()]. "
            f"Received: heads={heads!r}."
        )
    names = [head.name for head in made]
    if len(set(names)) < len(names):
        raise ValueError(f"Each head needs a name of its own. Received: {names}.")
    taken = sorted(set(names) & (INPUT_LEVELS.keys() | {"forces", "stress", "atomic_energies"}))
    if taken:
        raise ValueError(f"These names have a meaning already. Received: heads named {taken}.")
    for head in made:
        if isinstance(head, EnergyHead) != (head.name == "energy"):
            raise ValueError(
                "The name 'energy' belongs to EnergyHead, and it has no other, because its "
                f"gradient is the force. Received: {type(head).__name__}(name='{head.name}'). "
                "Use ScalarHead for other energies."
            )
    return made


def joined(heads: Sequence[Head]) -> Head:
    """Makes one head that asks for the numbers of all."""
    joined = copy.copy(heads[0])
    if len(heads) > 1:
        joined.num_scalars = sum(head.num_scalars for head in heads)
    return joined


def grouped(heads: Sequence[Head]) -> list[list[Head]]:
    """Lists the heads of each readout."""
    groups: dict[Any, list[Head]] = {}
    for index, head in enumerate(heads):
        groups.setdefault(head.readout or index, []).append(head)
    return list(groups.values())
