"""Names of splits and their slices, written as in TFDS: `train`, `train[:100]`, `train[:80%]`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
        ValueError: If the split cannot be read or there is no such part.

    Example:
        >>> select("train[:2]+test", {"train": [3, 1, 2], "test": [0]})
        array([3, 1, 0])
    """
    terms = [(term, _TERM.fullmatch(term.strip())) for term in split.split("+")]
    chosen = []
    for term, match in terms:
        if match is None:
            raise ValueError(
                "A split is a name with or without a slice, such as 'train', 'train[:100]' or "
                f"'train[:80%]+test'. Received: '{term}' in split='{split}'."
            )
        if match["name"] not in parts:
            raise ValueError(
                f"There is no such split. Received: split='{split}', known are {sorted(parts)}."
            )
        rows = np.asarray(parts[match["name"]], np.int64)
        bounds = [_bound(match[name], len(rows)) for name in ("start", "stop")]
        chosen.append(rows[slice(*bounds)])
    return np.concatenate(chosen)


def _bound(text: str | None, count: int) -> int | None:
    if text is None:
        return None
    return round(int(text[:-1]) * count / 100) if text.endswith("%") else int(text)
