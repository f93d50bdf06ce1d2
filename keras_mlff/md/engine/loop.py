"""The loop on the device: it steps until something needs the host."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_mlff import backend
from keras_mlff.graph import Graph, Tensor
from keras_mlff.md.engine.batch import is_valid, masked
from keras_mlff.models import ForceField

RUNNING, LIST_IS_OLD, NOT_FINITE = range(3)  # why a loop has stopped
State = dict[str, Tensor]
Step = Callable[[State, Mapping[str, Tensor], Callable[[State], State]], State]

_programs: weakref.WeakKeyDictionary[ForceField, dict[Hashable, Any]] = weakref.WeakKeyDictionary()


def program(model: ForceField, key: Hashable, step: Step) -> Callable[..., State]:
    """Compiles a loop of steps with the model inside, or finds the one compiled before.

    A step whose forces would need neighbors that the list may lack, or that are not finite, is not
    taken: the loop stops before it.

    Args:
        model: The model, whose weights are read anew whenever the loop starts.
        key: What the step is made of, beside the model.
        step: Makes of a state, inputs and a function that computes the forces the next state. A
            state holds `positions`, `positions_low`, `cell` where it may change, and more; what is
            no state of the step (`step`, `status`, `failed`) is kept by the loop.

    Returns:
        A function of state, batch, inputs and the step at which to end.
    """
    known = _programs.setdefault(model, {})
    if key not in known:
        known[key] = backend.compiled(_loop(model, step), model)
    return known[key]


def evaluation(model: ForceField) -> Callable[..., State]:
    """Compiles what a loop begins from: energy, forces and stress of a state."""
    known = _programs.setdefault(model, {})
    if "evaluation" not in known:

        def evaluate(state: State, batch: Graph) -> State:
            return _evaluate(model, batch, state)

        known["evaluation"] = backend.compiled(evaluate, model)
    return known["evaluation"]


def _evaluate(model: ForceField, batch: Graph, state: State) -> State:
    graph = {**batch, "positions": state["positions"]}
    if "cell" in state:
        graph["cell"] = state["cell"]
    predicted = model(masked(graph, model.cutoff))
    keys = ("energy", "forces", "stress")
    return {**state, **{key: predicted[key] for key in keys if key in predicted}}


def _loop(model: ForceField, step: Step) -> Callable[..., State]:
    def loop(
        state: State, batch: Graph, inputs: Mapping[str, Tensor], first: Tensor, end: Tensor
    ) -> State:
        def goes_on(state: State) -> Tensor:
            return ops.logical_and(state["step"] < end, ops.equal(state["status"], RUNNING))

        def advance(state: State) -> State:
            now = {"index": state["step"] - first, "graph_ids": batch["graph_ids"], **inputs}
            new = step(state, now, lambda moved: _evaluate(model, batch, moved))
            moves = new["positions"] - now["listed"]
            strain = new.get("inverse_strain")
            if strain is not None:
                carried = ops.take(new["strain"], batch["graph_ids"], axis=0)
                moves = new["positions"] - times(now["listed"], carried)
            covers = is_valid(moves, strain, now["skins"], batch, model.cutoff)
            covered = ops.all(ops.logical_or(covers, ops.logical_not(now["watched"])))
            finite = ops.logical_and(
                ops.all(ops.isfinite(new["forces"]), axis=-1),
                ops.isfinite(ops.take(new["energy"], batch["graph_ids"], axis=0)),
            )
            failed = ops.logical_not(ops.logical_or(finite, ops.logical_not(batch["atom_mask"])))
            accepted = ops.logical_and(covered, ops.logical_not(ops.any(failed)))
            zero = ops.zeros_like(state["status"])  # JAX compiles anew for a plain number's type
            wrong = ops.where(covered, zero + NOT_FINITE, zero + LIST_IS_OLD)
            status = ops.where(accepted, zero + RUNNING, wrong)
            kept = {key: ops.where(accepted, new[key], value) for key, value in state.items()}
            return {
                **kept,
                "step": state["step"] + ops.cast(accepted, "int32"),
                "status": status,
                "failed": failed,
            }

        names = sorted(state)  # JAX and TensorFlow want the same order in and out

        def body(*values: Tensor) -> tuple[Tensor, ...]:
            new = advance(dict(zip(names, values, strict=True)))
            return tuple(new[name] for name in names)

        values = ops.while_loop(
            lambda *values: goes_on(dict(zip(names, values, strict=True))),
            body,
            tuple(state[name] for name in names),
        )
        return dict(zip(names, values, strict=True))

    return loop


def times(vectors: Tensor, matrices: Tensor) -> Tensor:
    """Multiplies row vectors `(n, 3)` by matrices `(n, 3, 3)`."""
    return ops.sum(vectors[:, :, None] * matrices, axis=1)


def add(high: Tensor, low: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Adds to a number held as the sum of two, and loses nothing of the change (Knuth's sum).

    Energy is so conserved in float32 as if positions were float64: a step moves an atom by 1e-3 Å,
    of which one float32 alone would keep four digits.
    """
    change = low + change
    total = high + change
    back = total - high
    return total, (high - (total - back)) + (change - back)


def halves(values: Any, dtype: str) -> tuple[Any, Any]:
    """Splits float64 numbers into two of a precision, whose sum they are."""
    high = np.asarray(values).astype(dtype)
    return high, (values - high).astype(dtype)
