"""Frames of extended XYZ files in any order, without the file in memory."""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from keras_mlff.datasets.tools.ase_files import row_of_atoms
from keras_mlff.datasets.tools.sources import images


class Frames:
    """A trajectory in extended XYZ whose frames are read from the file one by one.

    Opening it reads the file once, to note where its frames start: 8 bytes for each. `frames[7]`
    is what `graph.structure` takes for frame 7, in the units of the file.

    Args:
        path: Name of the file.
        labels: What every frame must have.
        keys: The file's names for labels, where they differ.

    Raises:
        ValueError: If the file is not a whole number of frames, or a frame lacks a label.
        ImportError: If ASE is not installed.
    """

    def __init__(
        self,
        path: Path,
        labels: Sequence[str] = ("energy", "forces"),
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.labels, self.keys = Path(path), tuple(labels), dict(keys or {})
        self._starts = array("q", _starts(self.path))  # the last is the end of the file

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads a frame by its number.

        Returns:
            The arguments of `graph.structure`, labels included, in the units of the file.

        Raises:
            ValueError: If the frame cannot be read or lacks a label, with its number and the file.
        """
        start, stop = self._starts[index], self._starts[index + 1]
        with self.path.open("rb") as file:
            file.seek(start)
            text = file.read(stop - start).decode("utf-8")
        try:
            (row,) = rows_of_text(io.StringIO(text), self.labels, self.keys)
        except (OSError, ValueError) as error:
            raise ValueError(f"Frame {index} of '{self.path}': {error}") from error
        return row


def rows_of_text(
    stream: TextIO, labels: Sequence[str], keys: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Reads the frames of an open text file one after the other, labels included.

    Args:
        stream: The open file, or text in memory, in extended XYZ.
        labels: What every frame must have.
        keys: The file's names for labels, where they differ.

    Yields:
        The arguments of `graph.structure` for each frame, in the units of the file.

    Raises:
        OSError: If the text cannot be read.
        ValueError: If a frame lacks a label.
    """
    for atoms in images(stream):
        values, found = row_of_atoms(atoms, labels, keys)
        missing = [label for label in labels if values.get(label) is None]
        if missing:
            raise ValueError(f"no {' and no '.join(missing)}; there are {sorted(found)}")
        yield values


def _starts(path: Path) -> Iterator[int]:
    """Yields where each frame starts, and where the last one ends."""
    position, frame = 0, 0
    with path.open("rb") as file:
        while line := file.readline():
            if not line.strip():
                break  # empty lines at the end
            if not line.strip().isdigit():
                raise ValueError(
                    f"'{path}' is damaged: frame {frame} starts with {line[:40]!r} instead of a "
                    "number of atoms."
                )
            yield position
            for _ in range(int(line) + 1):
                if not (line := file.readline()):
                    raise ValueError(f"'{path}' is damaged: it ends within frame {frame}.")
            position, frame = file.tell(), frame + 1
    yield position
