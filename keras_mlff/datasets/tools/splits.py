"""Names of splits and their slices, written as in TFDS: `train`, `train[:100]`, `train[:80%]`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mlff.graph import Array

_TERM = re.compile(r"(?P<name>\w+)(\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


def select(split: str, parts: Mapping[str, Sequence[int] | Array]) -> Array:
    """Lists the structures of a split.

    Args:
        split: Name of a part, with a slice or without, or several joined by `+`. Bounds are counts
            or percentages and may be negative.
        parts: Indices of the structures of each part.

    Raises:
        ValueError: If the split cannot be read, is empty, or there is no such part.

    Example:
        >>> select("train[:2]+test", {"train": [3, 1, 2], "test": [0]})
        array([3, 1, 0])
    """
    chosen = []
    for match in terms(split):
        if match["name"] not in parts:
            raise ValueError(
                f"There is no such split. Received: split='{split}', known are {sorted(parts)}."
            )
        rows = np.asarray(parts[match["name"]], np.int64)
        bounds = [_bound(match[name], len(rows)) for name in ("start", "stop")]
        chosen.append(rows[slice(*bounds)])
    rows = np.concatenate(chosen)
    if not len(rows):
        sizes = {name: len(part) for name, part in parts.items()}
        raise ValueError(f"The split is empty. Received: split='{split}', parts of sizes {sizes}.")
    return rows


def terms(split: str) -> list[re.Match[str]]:
    """Reads a split without knowing the parts: a match of name, start and stop for each term.

    Raises:
        ValueError: If it cannot be read.
    """
    found = []
    for term in split.split("+"):
        match = _TERM.fullmatch(term.strip())
        if match is None:
            raise ValueError(
                "A split is a name with or without a slice, such as 'train', 'train[:100]' or "
                f"'train[:80%]+test'. Received: '{term}' in split='{split}'."
            )
        found.append(match)
    return found


def by_seed(num_structures: int, sizes: Mapping[str, int], seed: int) -> dict[str, Array]:
    """Draws parts at random; what is left over is in none.

    Args:
        num_structures: To choose from.
        sizes: Number of structures of each part; -1, once at most, is all the rest.
        seed: The seed of the drawing. A part stays the same if a later one changes its size.

    Raises:
        ValueError: If there are too few structures.

    Example:
        >>> by_seed(6, {"test": 2, "train": -1}, seed=0)
        {'test': array([3, 2]), 'train': array([5, 4, 0, 1])}
    """
    order = np.random.default_rng(seed).permutation(num_structures)
    return dict(zip(sizes, _cut(order, list(sizes.values())), strict=True))


def by_group(
    groups: Sequence[Any] | Array, sizes: Mapping[str, int], seed: int
) -> dict[str, Array]:
    """Draws whole groups at random, so that no part has seen what another is tested on.

    Args:
        groups: The group of each structure: a molecule's name, the number of a trajectory.
        sizes: Number of groups of each part; -1, once at most, is all the rest.
        seed: The seed of the drawing.

    Raises:
        ValueError: If there are too few groups.

    Example:
        >>> by_group(["a", "a", "b", "c"], {"test": 1, "train": -1}, seed=0)
        {'test': array([3]), 'train': array([0, 1, 2])}
    """
    names, numbers = np.unique(np.asarray(groups), return_inverse=True)
    drawn = by_seed(len(names), sizes, seed)
    return {part: np.flatnonzero(np.isin(numbers, chosen)) for part, chosen in drawn.items()}


def by_label(
    values: Sequence[float] | Array, sizes: Mapping[str, int], seed: int
) -> dict[str, Array]:
    """Draws parts that have the same distribution of a label, such as the energy.

    Structures are sorted by the label into about sqrt(n) bins of equal numbers, and every part
    takes its share of each.

    Args:
        values: `(num_structures,)`, the label of each structure.
        sizes: Number of structures of each part; -1, once at most, is all the rest.
        seed: The seed of the drawing.

    Raises:
        ValueError: If there are too few structures, or a label is not finite.

    Example:
        >>> by_label(range(9), {"test": 3, "train": -1}, seed=0)
        {'test': array([5, 1, 7]), 'train': array([4, 2, 8, 3, 0, 6])}
    """
    values = np.asarray(values, np.float64)
    if not np.all(np.isfinite(values)):
        raise ValueError(
            f"Labels must be finite. Received: {values[~np.isfinite(values)][0]} at index "
            f"{np.flatnonzero(~np.isfinite(values))[0]}."
        )
    random = np.random.default_rng(seed)
    place = np.empty(len(values))  # in its bin, from 0 to 1: what is between two bounds is a sample
    start, golden = random.random(), 0.5 * (5.0**0.5 - 1.0)
    for number, members in enumerate(
        np.array_split(np.argsort(values), max(1, math.isqrt(len(values))))
    ):
        # bins begin at places of golden-section steps, so that few structures are from all over too
        ranks = random.permutation(len(members)) + (start + number * golden) % 1.0
        place[members] = ranks / len(members)
    return dict(zip(sizes, _cut(np.argsort(place), list(sizes.values())), strict=True))


def _cut(order: Array, sizes: Sequence[int]) -> list[Array]:
    """Cuts parts of these sizes from an order, one after the other; -1 is all the rest."""
    wanted = sum(size for size in sizes if size >= 0)
    if wanted > len(order) or any(size < -1 for size in sizes) or list(sizes).count(-1) > 1:
        raise ValueError(
            f"Parts of {list(sizes)} cannot be cut from {len(order)}. Sizes are counts, and -1, "
            "which may occur once, is all the rest."
        )
    given = iter(np.split(order[:wanted], np.cumsum([size for size in sizes if size >= 0])[:-1]))
    return [order[wanted:] if size == -1 else next(given) for size in sizes]


def _bound(text: str | None, count: int) -> int | None:
    """Turns a bound of a slice, a count or a percentage, into a count."""
    if text is None:
        return None
    return round(int(text[:-1]) * count / 100) if text.endswith("%") else int(text)
