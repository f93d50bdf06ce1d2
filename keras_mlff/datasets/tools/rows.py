"""One structure of a file: what its reader found, and how that becomes a graph."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from keras_mlff import quantities
from keras_mlff.datasets.tools.file_units import FileUnits
from keras_mlff.graph import Array, Graph, structure

_FROM_VOIGT = np.asarray([[0, 5, 4], [5, 1, 3], [4, 3, 2]])  # of xx, yy, zz, yz, xz, xy
_TO_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


class Row(NamedTuple):
    """One structure of a file, in the file's units.

    Attributes:
        values: Arguments of `graph.structure`. A label that was asked for and is absent is `None`.
        found: The names of everything that the file has for it, for messages.
    """

    values: dict[str, Any]
    found: Collection[str]


def check_labels(labels: Iterable[str]) -> None:
    """Refuses labels whose shape and unit are not known.

    Raises:
        ValueError: If a label is not a registered quantity, with the call that registers it.
    """
    for label in labels:
        quantities.get(label)


def label_is_missing(value: Any) -> bool:
    """Tells whether a label is absent: `None`, or not a number throughout."""
    return value is None or bool(np.all(np.isnan(np.asarray(value, np.float64))))


def missing_label(name: str, num_atoms: int) -> Array:
    """Fills the place of a label that a structure does not have with NaN.

    Args:
        name: The quantity.
        num_atoms: How many atoms the structure has.

    Returns:
        `(num_atoms, *shape)` for a quantity of atoms, `(1, *shape)` for one of the structure, as
        the label has it in a graph.
    """
    quantity = quantities.get(name)
    return np.full((num_atoms if quantity.level == "atom" else 1, *quantity.shape), np.nan)


def with_missing_labels(graph: Graph, labels: Iterable[str]) -> Graph:
    """Adds those labels that a structure lacks as NaN, so that all structures have the same keys.

    Losses, metrics and the fit of offsets leave out what is NaN.
    """
    lacking = [label for label in labels if label not in graph]
    return {**graph, **{k: missing_label(k, len(graph["atomic_numbers"])) for k in lacking}}


def structure_of_row(name: str, row: Row, labels: Sequence[str], units: FileUnits) -> Graph:
    """Makes a graph of what a reader found: shapes, units, and NaN for labels that are absent.

    Args:
        name: What messages call the structure, such as `"Structure 3 of 'md.xyz'"`.
        row: What the reader found, in the file's units.
        labels: What the graph is to have. A symmetric tensor may be given by its six components
            in the order of Voigt, xx, yy, zz, yz, xz and xy.
        units: The sizes of the file's units.

    Raises:
        ValueError: If the structure is not usable, with its name.
    """
    values = {key: value for key, value in row.values.items() if value is not None}
    for label in labels:
        if label in values and label_is_missing(values[label]):
            del values[label]
    for key, value in values.items():
        if (quantity := quantities.find(key)) is None:
            continue
        if key in labels:
            count = (len(values["atomic_numbers"]),) if quantity.level == "atom" else ()
            value = _shaped(np.asarray(value, np.float64), (*count, *quantity.shape))
        factor = units.factor(key)
        values[key] = value if factor == 1.0 else np.asarray(value, np.float64) * factor
    try:
        return with_missing_labels(structure(**values), labels)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


class LabelCheck:
    """Notices which of the labels that were asked for no structure has.

    Args:
        labels: What was asked for.
        source: What the structures are from, for the message.
    """

    def __init__(self, labels: Sequence[str], source: str) -> None:
        self.labels, self.source = tuple(labels), source
        self._absent = set(labels)
        self._found: Collection[str] | None = None  # of the first structure

    def passed_on(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Passes rows on, and looks which labels they have.

        Raises:
            ValueError: After the last row, if a label was in none of them.
        """
        for row in rows:
            self.add(row)
            yield row
        self.finish()

    def add(self, row: Row) -> None:
        """Looks at one structure."""
        if self._found is None:
            self._found = row.found
        if self._absent:
            found = {x for x in self._absent if not label_is_missing(row.values.get(x))}
            self._absent -= found

    @property
    def complete(self) -> bool:
        """Whether each label was found in some structure already."""
        return not self._absent

    def finish(self) -> None:
        """Ends the search.

        Raises:
            ValueError: If there were structures, and none of them had one of the labels.
        """
        if self._found is None or not self._absent:
            return
        absent = [label for label in self.labels if label in self._absent]
        raise ValueError(
            f"No structure of {self.source} has {' and none has '.join(absent)}. Received: "
            f"labels={self.labels}; the first structure has {sorted(self._found)}. Leave out what "
            "is not needed, or tell the names it has there: keys={'energy': 'REF_energy'}."
        )


def to_voigt(tensor: Array) -> Array:
    """Picks the six components `(6,)` of a symmetric tensor `(3, 3)`, in the order of Voigt."""
    return np.asarray(tensor)[_TO_VOIGT]


def from_voigt(values: Any) -> Array:
    """Makes a symmetric tensor `(3, 3)` of six components, of nine, or of a tensor."""
    array = np.asarray(values, np.float64)
    return array[_FROM_VOIGT] if array.shape == (6,) else array.reshape(3, 3)


def warn_user(message: str) -> None:
    """Warns about data, at the line outside of this package that asked for them."""
    package, level = __name__.partition(".")[0], 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def _shaped(value: Array, shape: tuple[int, ...]) -> Array:
    """Gives a value its shape where only the layout differs; else `structure` will refuse it."""
    if value.shape == shape:
        return value
    if shape == (3, 3) and value.shape == (6,):
        return from_voigt(value)
    return value.reshape(shape) if value.size == np.prod(shape, dtype=int) else value
