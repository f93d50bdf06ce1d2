"""Writes files that an interruption leaves as they were, or complete, and never half written."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a name to write to, which becomes `path` if the block ends without an error.

    Folders that are missing are made. The name ends as `path` does, which tells NumPy and
    Matplotlib what to write.

    Args:
        path: Path of the file. One that exists stays as it is until the new one is complete.

    Example:
        ```python
        with replacing("results.json") as unfinished:
            unfinished.write_text("{}")
        ```
    """
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    # not the number of the process, which two machines may share
    unfinished = path.with_name(f".unfinished-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes text as UTF-8; an existing file is replaced once the new one is complete."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, plain: Callable[[Any], Any] | None = None) -> None:
    """Writes JSON with an indent of one.

    Args:
        path: Path of the file.
        content: What JSON knows, and arrays and numbers of NumPy.
        plain: Turns an object of another type into what JSON knows; such objects are refused where
            `None`.

    Raises:
        TypeError: If an object of another type is left.
    """

    def convert(value: Any) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            return value.tolist()
        if plain is None:
            raise TypeError(f"JSON knows no {type(value).__name__}. Received: {value!r}.")
        return plain(value)

    text = json.dumps(content, indent=1, ensure_ascii=False, default=convert)
    write_text(path, text + "\n")


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes compressed arrays by their names, in NumPy's format npz."""
    with replacing(path) as unfinished, unfinished.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
