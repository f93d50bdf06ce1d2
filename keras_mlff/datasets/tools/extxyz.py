"""Extended XYZ, read strictly: each line, column and key of a frame is understood or refused."""

from __future__ import annotations

import itertools
import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from keras_mlff.datasets.tools.elements import NUMBERS
from keras_mlff.datasets.tools.rows import Row, make_row
from keras_mlff.datasets.tools.sources import COMPRESSED, DAMAGE, DamagedFile
from keras_mlff.graph import Array

_COUNT = re.compile(rb"\d{1,9}")
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_REAL = re.compile(
    r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)", re.ASCII | re.IGNORECASE
)
_TRUTH = {"T": True, "True": True, "true": True, "TRUE": True}
_TRUTH |= {"F": False, "False": False, "false": False, "FALSE": False}
# what may be in delimiters, else whatever has no space
_QUOTED = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\{[^{}]*\}|\[(?:[^][]|\[[^][]*\])*\]"""
_KEY = r"""(?P<key>"(?:[^"\\]|\\.)*"|[^\s='"{}\[\]]+)"""
# after a space there may be a value, but not the next key
_VALUE = rf"(?P<value>{_QUOTED}|(?<==)[^\s\"'{{}}\[\]]+|(?<=\s)[^\s=\"'{{}}\[\]]+(?![^\s]))"
_ITEM = re.compile(rf"\s*{_KEY}(?P<equals>\s*=\s*(?:{_VALUE})?)?(?=\s|$)")
# names of columns that ASE, and with it the package, calls otherwise
_COLUMNS = {"pos": "positions", "Z": "numbers", "species": "symbols", "charge": "charges"}
_PLAIN = "species:S:1:pos:R:3"


class Block(NamedTuple):
    """The lines of one frame.

    Attributes:
        name: What messages call it: file, frame, and the line where it starts, from 1.
        start: The byte at which it starts.
        lines: Its second line, with keys and values, and a line for each atom.
    """

    name: str
    start: int
    lines: list[bytes]


def is_xyz(path: Path) -> bool:
    """Tells by the name of a file whether it is extended XYZ, compressed or not."""
    name = path.stem if path.suffix in COMPRESSED else path.name
    return name.endswith((".xyz", ".extxyz"))


def rows_of_xyz(
    source: Path | BinaryIO, labels: Sequence[str], keys: Mapping[str, str]
) -> Iterator[Row]:
    """Reads the frames of a file one after the other.

    Args:
        source: The file, which may be compressed (`.gz`, `.bz2`, `.xz`), or the open one.
        labels: Which labels to take; absent ones are `None`.
        keys: The file's names for labels, where they differ.

    Raises:
        DamagedFile: If a frame cannot be read whole, with file, frame and line.
    """
    if not isinstance(source, Path):
        for block in _blocks(source, getattr(source, "name", "the text")):
            yield _row(block, labels, keys)
        return
    opened = COMPRESSED.get(source.suffix, partial(Path.open, mode="rb"))
    try:
        with opened(source) as file:
            for block in _blocks(file, str(source)):
                yield _row(block, labels, keys)
    except DamagedFile:
        raise
    except DAMAGE as error:
        raise DamagedFile(f"'{source}' is damaged ({type(error).__name__}: {error}).") from error


class Frames:
    """A trajectory in extended XYZ whose frames are read from the file one by one, in any order.

    Opening it reads the file once, to note where its frames start: 8 bytes for each. `frames[7]`
    is what `graph.structure` takes for frame 7, in the units of the file.

    Args:
        path: Name of the file.
        labels: What every frame must have.
        keys: The file's names for labels, where they differ.

    Raises:
        ValueError: If the file is not a whole number of frames, or a frame lacks a label.
    """

    def __init__(
        self,
        path: Path,
        labels: Sequence[str] = ("energy", "forces"),
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.labels, self.keys = Path(path), tuple(labels), dict(keys or {})
        with self.path.open("rb") as file:
            self._starts = array("q", (block.start for block in _blocks(file, str(path))))

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads a frame by its number.

        Returns:
            The arguments of `graph.structure`, labels included, in the units of the file.

        Raises:
            ValueError: If the frame cannot be read or lacks a label, with its number and the file.
        """
        with self.path.open("rb") as file:
            file.seek(self._starts[index])
            block = next(_blocks(file, str(self.path)))
        name = f"frame {index} of '{self.path}'"
        return _row(block._replace(name=name), self.labels, self.keys).complete(self.labels)


def _blocks(file: BinaryIO, name: str) -> Iterator[Block]:
    """Cuts a file into frames; empty lines may stand between them, and nothing else."""
    number = start = index = 0
    while line := file.readline():
        number, size = number + 1, len(line)
        if line.strip():
            where = f"frame {index} of '{name}' (line {number})"
            if not _COUNT.fullmatch(line.strip()):
                raise DamagedFile(
                    f"{where} is damaged: it starts with {line[:40]!r} instead of a number "
                    "of atoms."
                )
            count = int(line)
            lines = list(itertools.islice(file, count + 1))
            if len(lines) < count + 1 or count == 0:
                raise DamagedFile(
                    f"{where} is damaged: it should have {count} atoms, and there are "
                    f"{max(0, len(lines) - 1)}. Cut the frame off if the file was cut off in it."
                )
            yield Block(where, start, lines)
            number, size, index = number + count + 1, size + sum(map(len, lines)), index + 1
        start += size


def _row(block: Block, labels: Sequence[str], keys: Mapping[str, str]) -> Row:
    """Reads one frame.

    Raises:
        DamagedFile: If anything in it is not understood, with the name of the frame.
    """
    try:
        if any(b"\0" in line for line in block.lines):
            raise ValueError("there are bytes that are no text")
        info = _header(block.lines[0].decode("utf-8").strip())
        cell = _cell(info.pop("Lattice", None))
        pbc = _pbc(info.pop("pbc", None), cell is not None)
        columns = _columns(info.pop("Properties", _PLAIN), block.lines[1:])
        numbers, positions = _numbers(columns), columns.pop("positions", None)
        if (
            positions is None
            or positions.shape != (len(numbers), 3)
            or positions.dtype.kind not in "if"
        ):
            raise ValueError("Properties need the columns pos:R:3")
        geometry: dict[str, Any] = {"positions": positions, "atomic_numbers": numbers}
        if any(pbc):
            geometry |= {"cell": cell, "pbc": pbc}
        sources = {"info": info, "columns": columns}
        return make_row(geometry, sources, labels, keys)._replace(name=block.name)
    except ValueError as error:
        raise DamagedFile(f"{block.name}: {error}") from error


def _header(line: str) -> dict[str, Any]:
    """Reads keys and values; a key without a value is True, as a word of a comment is.

    Raises:
        ValueError: If a key occurs twice, has no value after its "=", or the line cannot be read.
    """
    found: dict[str, Any] = {}
    words: set[str] = set()
    place = 0
    while place < len(line):
        item = _ITEM.match(line, place)
        if item is None:
            if "=" not in line:
                return {}  # a comment in words, which may hold any signs
            raise ValueError(f"the second line cannot be read from {line[place : place + 40]!r} on")
        key, place = _unquoted(item["key"]), item.end()
        if item["equals"] is None:
            words.add(key)
            continue
        if item["value"] is None:
            raise ValueError(f"'{key}' has no value after its '='")
        if key in found:
            raise ValueError(f"'{key}' is stated twice")
        found[key] = _value(item["value"])
    if twice := words & found.keys():
        raise ValueError(f"{sorted(twice)} are stated with and without a value")
    return found | dict.fromkeys(words, True)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[:1] in "\"'" else text


def _value(text: str) -> Any:
    """Reads integers, reals or truth values, one or several, or JSON; the rest is text."""
    text = re.sub(r"[][]", " ", text) if text[:1] == "[" else _unquoted(text)
    text = text[1:-1] if text[:1] == "{" else text
    if text.startswith("_JSON "):
        try:
            return json.loads(text[6:])
        except ValueError:
            return text
    words = text.replace(",", " ").split()
    if words and all(word in _TRUTH for word in words):
        values = np.asarray([_TRUTH[word] for word in words])
    elif words and all(_REAL.fullmatch(word) for word in words):
        whole = all(_INTEGER.fullmatch(word) for word in words)
        values = np.asarray([int(word) if whole else float(word) for word in words])
    else:
        return text
    return values[0] if len(values) == 1 else values


def _cell(value: Any) -> Array | None:
    if value is None:
        return None
    if np.size(value) != 9 or np.asarray(value).dtype.kind not in "if":
        raise ValueError(f"'Lattice' needs nine numbers. Received: {value!r}")
    return np.asarray(value, np.float64).reshape(3, 3)


def _pbc(value: Any, has_cell: bool) -> list[bool]:
    """Reads which directions are periodic: T or F, or 1 or 0; with a cell all are, if not told."""
    if value is None:
        return [has_cell] * 3
    values = np.ravel(value).tolist()
    if len(values) not in (1, 3) or any(item not in (0, 1) for item in values):
        raise ValueError(f"'pbc' needs three times T or F. Received: {value!r}")
    return [bool(item) for item in (values * 3)[:3]]


def _columns(properties: Any, lines: list[bytes]) -> dict[str, Array]:
    """Reads the columns of atoms: (num_atoms,) or (num_atoms, count) each, text as bytes."""
    fields = properties.split(":") if isinstance(properties, str) else []
    names, kinds, counts = fields[::3], fields[1::3], fields[2::3]
    if (
        not fields
        or len(fields) % 3
        or not set(kinds) <= set("SRIL")
        or not all(re.fullmatch(r"[1-9]\d{0,3}", count, re.ASCII) for count in counts)
    ):
        raise ValueError(
            "Properties are triples of a name, S, R, I or L, and a number of columns, such as "
            f"{_PLAIN}. Received: {properties!r}"
        )
    ours = [_COLUMNS.get(name, name) for name in names]
    if len(set(ours)) < len(ours):
        raise ValueError(f"Properties name a column twice. Received: {properties}")
    total = sum(map(int, counts))
    rows = [line.split() for line in lines]
    for index, row in enumerate(rows):
        if len(row) != total:
            raise ValueError(
                f"atom {index} has {len(row)} columns instead of {total} ({properties}). "
                f"Received: {lines[index][:80]!r}"
            )
    table = list(zip(*rows, strict=True))
    columns, first = {}, 0
    for name, kind, count in zip(ours, kinds, map(int, counts), strict=True):
        values = np.asarray([_cast(name, kind, c) for c in table[first : first + count]])
        columns[name] = values[0] if count == 1 else values.T
        first += count
    return columns


def _cast(name: str, kind: str, words: Sequence[bytes]) -> list[Any]:
    """Casts a column of one kind; numbers are plain, without "_" or exponents with D."""
    if kind == "S":
        return list(words)
    try:
        if kind == "L":
            return [_TRUTH[word.decode()] for word in words]
        if b"_" not in b"".join(words):
            return [int(word) if kind == "I" else float(word) for word in words]
    except (ValueError, KeyError):
        pass
    pattern = {"I": _INTEGER, "R": _REAL, "L": re.compile("|".join(_TRUTH))}[kind]
    texts = [word.decode("utf-8", "replace") for word in words]
    index = next((i for i, text in enumerate(texts) if not pattern.fullmatch(text)), 0)
    what = {"I": "an integer", "R": "a number (with an exponent E)", "L": "T or F"}[kind]
    raise ValueError(f"'{name}' of atom {index} is not {what}. Received: {texts[index]!r}")


def _numbers(columns: dict[str, Array]) -> Array:
    """Takes the atomic numbers from the column of symbols, or from that of numbers.

    Raises:
        ValueError: If there is neither, they disagree, or a symbol is not known.
    """
    symbols, numbers = columns.pop("symbols", None), columns.pop("numbers", None)
    if numbers is not None and (numbers.dtype.kind != "i" or numbers.ndim != 1):
        raise ValueError("atomic numbers are a column Z:I:1")
    if symbols is None:
        if numbers is None:
            raise ValueError("Properties need a column species:S:1 or Z:I:1")
        return numbers
    texts = [item.decode("utf-8") for item in symbols.tolist()] if symbols.dtype.kind == "S" else []
    found = [NUMBERS.get(text.capitalize() if text.islower() else text, 0) for text in texts]
    if len(found) != len(symbols) or 0 in found:
        index = found.index(0) if 0 in found else 0
        text = texts[index] if texts else str(symbols[index])
        hint = "a symbol of an element, such as Cl"
        if text in ("D", "T"):
            hint = "an element: write H, and masses elsewhere"
        elif text.isdigit():
            hint = "a symbol: write H for 1, or declare atomic numbers as Z:I:1 in Properties"
        raise ValueError(f"the species of atom {index} is not {hint}. Received: {text!r}")
    if numbers is not None and not np.array_equal(numbers, found):
        raise ValueError("the columns species and Z disagree")
    return np.asarray(found)
