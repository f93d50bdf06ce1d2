"""Files of one array each that are written row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import saving
from keras_mlff.graph import Array

_BUFFER = 2**22  # bytes of a key that wait for being written
_NUM_WAITING = 5_000  # arrays, which take more memory than the few numbers in them


class Column:
    """Writes the rows of one key into a .npy file whose length is not known yet.

    Args:
        path: Where to; `close` completes the file.
        sample: Rows like those to come, whose type and shape the file has.
        dtype: Another type that the rows are stored in.
    """

    def __init__(self, path: Path, sample: Array, dtype: np.dtype[Any] | None = None) -> None:
        self.dtype, self.shape = dtype or sample.dtype, sample.shape[1:]
        self.num_rows = 0
        self._path, self._file = path, path.open("wb")
        self._waiting: list[Array] = []
        self._num_waiting = 0
        self._write_header()

    def append(self, rows: Array) -> None:
        """Adds rows `(count, *shape)`.

        Raises:
            ValueError: If values change when they are stored in the file's type.
        """
        converted = rows.astype(self.dtype, copy=False)
        if converted.dtype != rows.dtype and not np.array_equal(
            converted, rows, equal_nan=rows.dtype.kind == "f"
        ):
            raise ValueError(f"Values of {rows.dtype} do not fit into {self.dtype}.")
        self._waiting.append(converted)
        self._num_waiting += converted.nbytes
        self.num_rows += len(converted)
        if self._num_waiting > _BUFFER or len(self._waiting) > _NUM_WAITING:
            self._flush()

    def append_filling(self, value: float, num_rows: int) -> None:
        """Adds rows of one value, such as NaN for graphs that do not have a label."""
        for first in range(0, num_rows, 100_000):
            size = min(100_000, num_rows - first)
            self.append(np.full((size, *self.shape), value, self.dtype))

    def close(self) -> None:
        """Writes what waits, and the number of rows into the header."""
        with saving.naming(self._path), self._file:
            self._flush()
            self._file.seek(0)
            self._write_header()

    def _flush(self) -> None:
        if self._waiting:
            with saving.naming(self._path):
                self._file.write(np.concatenate(self._waiting).tobytes())
        self._waiting, self._num_waiting = [], 0

    def _write_header(self) -> None:
        # NumPy leaves room for the first axis to grow, so that the second header fits
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.num_rows, *self.shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
