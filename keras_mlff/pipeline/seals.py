"""Checksums of the files of a cache, so that damaged ones are not taken for data."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

from keras_mlff import saving

_SEAL = "checksums.json"
_CHUNK = 2**24  # bytes


def seal(folder: Path) -> None:
    """Writes the CRC-32 of every file in a folder beside them, in `checksums.json`."""
    found = {path.name: _checksum(path) for path in sorted(folder.iterdir())}
    saving.write_json(folder / _SEAL, found)


def check_seal(folder: Path) -> None:
    """Compares every file in a folder with its checksum; about 1 GB is read in a second.

    Raises:
        ValueError: If a file is not the one that was sealed, or the seal itself is damaged.
        OSError: If a file is missing or cannot be read.
    """
    found = json.loads((folder / _SEAL).read_bytes())
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{_SEAL} is damaged")
    for name, expected in found.items():
        if _checksum(folder / name) != expected:
            raise ValueError(f"{name} is damaged")


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
