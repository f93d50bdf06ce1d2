"""The heads of a model together: checked, grouped by readout, with their offsets."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_mlff.graph import INPUT_LEVELS, Array, Graph, Tensor, level
from keras_mlff.heads.energy import EnergyHead
from keras_mlff.heads.head import Head
from keras_mlff.packing.offsets import label_offsets


def make(heads: Sequence[Head | dict[str, Any]] | None) -> list[Head]:
    """Makes heads of what a model is given, and makes their outputs known.

    Args:
        heads: Heads or their configs, of which the model gets copies; an `EnergyHead` of `None`.

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
    predicted = [quantity.name for head in made for quantity in head.outputs]
    twice = sorted({name for name in predicted if predicted.count(name) > 1})
    if twice and len(set(names)) == len(names):
        raise ValueError(
            "Each quantity is predicted by one head; a PartialChargesHead predicts the dipole too. "
            f"Received: heads={names}, of which several predict {twice}. Leave one of them out."
        )
    if len(set(names)) < len(names):
        raise ValueError(f"Each head needs a name of its own. Received: {names}.")
    taken = sorted(set(names) & (INPUT_LEVELS.keys() | {"forces", "stress", "atomic_energies"}))
    if taken:
        raise ValueError(f"These names have a meaning already. Received: heads named {taken}.")
    for head in made:
        head.register_outputs()
        if isinstance(head, EnergyHead) != (head.name == "energy"):
            raise ValueError(
                "The name 'energy' belongs to EnergyHead, and it has no other, because its "
                f"gradient is the force. Received: {type(head).__name__}(name='{head.name}'). "
                "Use ScalarHead for other energies."
            )
    return made


class AtomNumbers(NamedTuple):
    """What the heads of one readout ask it for."""

    num_scalars: int
    num_vectors: int
    use_bias: bool  # of the last layer
    is_extensive: bool  # whether sums over the atoms of each structure are all that is used
    names: tuple[str, ...]  # of the heads, for messages


def numbers_of(heads: Sequence[Head]) -> AtomNumbers:
    """Adds up what the heads of one readout ask for; one after the other has its share."""
    return AtomNumbers(
        sum(head.num_scalars for head in heads),
        sum(head.num_vectors for head in heads),
        heads[0].use_bias,
        all(head.is_extensive for head in heads),
        tuple(head.name for head in heads),
    )


def grouped(heads: Sequence[Head]) -> list[list[Head]]:
    """Lists the heads of each readout."""
    groups: dict[Any, list[Head]] = {}
    for index, head in enumerate(heads):
        groups.setdefault(head.readout or index, []).append(head)
    return list(groups.values())


def properties(
    head_group: Sequence[Head],
    graph: Graph,
    scalars: Tensor,
    vectors: Tensor | None,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """Lets the heads of one readout make properties of their shares of its numbers.

    Args:
        head_group: Heads of one readout, in their order.
        graph: The batch.
        scalars: `(num_atoms, num_scalars)` of all of them.
        vectors: `(num_atoms, 3, num_vectors)` of all of them; `None` where there are none.
        transform: What is done to the scalars of a head whose property is differentiated.

    Returns:
        Predictions by name.
    """
    made: dict[str, Tensor] = {}
    first_scalar, first_vector = 0, 0
    for head in head_group:
        numbers = scalars[:, first_scalar : first_scalar + head.num_scalars]
        arrows = vectors
        if vectors is not None and len(head_group) > 1:
            arrows = vectors[:, :, first_vector : first_vector + head.num_vectors]
        if transform is not None and head.is_differentiated:
            numbers = transform(numbers)
        made |= head(graph, numbers, arrows)
        first_scalar += head.num_scalars
        first_vector += head.num_vectors
    return made


def offset_tables(heads: Sequence[Head]) -> dict[str, tuple[Array, float]]:
    """Lists what is taken out of each label before a network learns it; see `Head`."""
    return {
        key: table
        for head in heads
        if head.has_offset
        for key, table in head.offset_tables().items()
    }


def add_offsets(
    heads: Sequence[Head], predictions: Mapping[str, Any], inputs: Mapping[str, Any]
) -> dict[str, Array]:
    """Adds element references and shifts to what a network predicts for a batch, in float64.

    Args:
        heads: Heads of the model.
        predictions: By name, padding included.
        inputs: The batch.

    Returns:
        NumPy arrays by name; those without offsets as they were.
    """
    totals = {key: np.asarray(value) for key, value in predictions.items()}
    for head in heads:
        for key, (table, shift) in head.offset_tables().items():
            if key in totals:
                offsets = label_offsets(level(key), inputs, table, shift)
                totals[key] = totals[key].astype(np.float64) + offsets
    return totals
