"""In what structures differ from everything that a model has learned from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from keras_mlff.core.domain import Domain, Structures, are_stated, check_batch
from keras_mlff.graph import Array

Policy = Literal["refuse", "warn", "ignore"]
POLICIES = ("refuse", "warn", "ignore")


class Deviation(NamedTuple):
    """One way in which structures lie outside of a domain."""

    kind: str
    rows: list[int]  # structures of the batch, padding left out
    text: str
    is_grave: bool  # refused unless the user says otherwise


def deviations(
    domain: Domain, inputs: Mapping[str, Any] | Structures, sees_states: bool, name: str
) -> list[Deviation]:
    """Lists in what a batch differs from everything that was learned from.

    Args:
        domain: What was learned.
        inputs: A structure, a graph or a batch.
        sees_states: Whether total charge and spin take part in the network.
        name: What messages call the model.
    """
    batch = inputs if isinstance(inputs, Structures) else Structures.of(inputs)
    counts, charges, spins, periodic = batch
    found: list[Deviation] = []

    def add(kind: str, wrong: Any, text: Callable[[list[int]], str], grave: bool) -> None:
        if np.any(wrong):
            rows = np.flatnonzero(wrong).tolist()
            found.append(Deviation(kind, rows, text(rows), grave))

    def unique(values: Array, rows: list[int]) -> list[Any]:
        return np.unique(values[rows]).tolist()

    if domain.elements:
        strange = counts.copy()
        strange[:, list(domain.elements)] = 0
        add(
            "elements",
            strange.any(axis=1),
            lambda rows: (
                "elements that the model was not trained on, so their energy has no "
                f"meaning: atomic_numbers={np.flatnonzero(strange.any(axis=0)).tolist()}, {name}, "
                f"which knows {sorted(domain.elements)}"
            ),
            True,
        )
    states = list(zip(charges.tolist(), spins.tolist(), strict=True))
    outside = np.asarray([state not in domain.states for state in states], np.bool_)

    def told(rows: list[int]) -> str:
        learned = f", learned were {list(domain.states)}" if domain.states else ""
        return f"{sorted({states[row] for row in rows})}{learned}"

    if not sees_states:
        add(
            "unseen states",
            outside & are_stated(charges, spins),
            lambda rows: (
                "a total charge or spin multiplicity that this model does not see, so "
                f"that it predicts the same without: {told(rows)}"
            ),
            False,
        )
    elif domain.states:
        text = "total charge and spin multiplicity that were not learned: "
        add("states", outside, lambda rows: text + told(rows), True)
    if domain.periodic:
        add(
            "periodicity",
            ~np.isin(periodic, domain.periodic),
            lambda rows: (
                "numbers of periodic directions that were not learned (0 of a "
                f"molecule, 2 of a slab, 3 of a crystal): {unique(periodic, rows)}, learned were "
                f"{list(domain.periodic)}"
            ),
            True,
        )
    molecules = periodic == 0  # a crystal may be repeated as often as one likes
    if domain.sizes:
        least, largest = domain.sizes
        sizes = np.asarray(counts.sum(axis=1))
        add(
            "sizes",
            molecules & ((sizes < least) | (sizes > largest)),
            lambda rows: (
                f"numbers of atoms beyond those learned from: {unique(sizes, rows)}, "
                f"learned were {least} to {largest}"
            ),
            False,
        )
    for z, known in domain.elements.items():
        if known is None or known.fewest is None or known.most is None:
            continue
        number = counts[:, z]
        add(
            "composition",
            molecules & ((number < known.fewest) | (number > known.most)),
            lambda rows, z=z, known=known: (
                f"other numbers of atoms of element {z} than were "  # type: ignore[misc]
                f"learned from: {unique(counts[:, z], rows)}, learned were {known.fewest} to "
                f"{known.most}"
            ),
            False,
        )
    for z, rare in domain.rare.items():
        add(
            "rare elements",
            counts[:, z] > 0,
            lambda rows, z=z, rare=rare: (
                f"element {z}, which {rare} of {domain.num_structures} structures had that the "  # type: ignore[misc]
                "model has learned from, so little is known of it"
            ),
            False,
        )
    return found


def check(
    domain: Domain,
    inputs: Mapping[str, Any],
    policy: Policy | None,
    sees_states: bool,
    told: set[str],
    name: str = "a model",
    first: int = 0,
) -> None:
    """Refuses what a model cannot answer for, or warns of it once.

    Args:
        domain: What the model has learned from.
        inputs: A structure, a graph or a batch.
        policy: `"refuse"` refuses everything outside of the domain, `"warn"` warns of it once and
            `"ignore"` passes over it. `None` refuses elements, charges, multiplicities and periodic
            directions that were not learned, and warns once of sizes, compositions, rare elements
            and of states that the model does not see.
        sees_states: Whether total charge and spin take part in the network.
        told: Kinds of deviations that were warned of before; it is added to.
        name: What messages call the model, such as `"preset='ch2'"`.
        first: Number of the first structure, for messages.

    Raises:
        ValueError: If a state is impossible, whatever the policy, or if something is refused.
    """
    check_policy(policy)
    batch = Structures.of(inputs)
    check_batch(batch, first)
    if policy == "ignore" or not (domain.elements or domain.states or not sees_states):
        return
    found = deviations(domain, batch, sees_states, name)
    refused = [d for d in found if policy == "refuse" or (policy is None and d.is_grave)]
    if refused:
        raise ValueError(_message(refused, first))
    found = [d for d in found if d.kind not in told]
    if found:
        told.update(d.kind for d in found)
        warnings.warn(_message(found, first), stacklevel=2)


def check_policy(policy: str | None) -> None:
    """Refuses words that are no policy."""
    if policy is not None and policy not in POLICIES:
        raise ValueError(f"`domain` is one of {list(POLICIES)} or None. Received: {policy!r}.")


def _message(found: list[Deviation], first: int) -> str:
    listed = "; ".join(
        f"{d.text} (structure {first + d.rows[0]}"
        + (f" and {len(d.rows) - 1} more)" if len(d.rows) > 1 else ")")
        for d in found
    )
    return (
        f"Outside of what the model has learned. Received: {listed}. Choose a model that covers "
        "this (`keras-mlff zoo list`), fine-tune this one (`keras-mlff train --preset`), or pass "
        "domain='warn' or 'ignore' (--domain) if you know that it makes sense."
    )
