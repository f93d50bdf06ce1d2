"""Float64 that is float64 on every backend."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras

from keras_mlff.backend import keras_private


class _Blocks(threading.local):
    """Counts the blocks that a thread is in."""

    depth = 0


_here = _Blocks()
_lock = threading.Lock()


class _PerThread(dict[str, str]):
    """Stands for Keras's table of result types, and leaves float64 to the threads in a block."""

    def __init__(self, original: dict[str, str]) -> None:
        super().__init__(original)
        self.original = original
        self.num_blocks = 0  # of all threads

    def get(self, key: str, default: Any = None) -> Any:
        return "float64" if key == "float64" and _here.depth else super().get(key, default)

    def __getitem__(self, key: str) -> str:
        return "float64" if key == "float64" and _here.depth else super().__getitem__(key)


@contextlib.contextmanager
def keras_float64() -> Iterator[None]:
    """Lets keras.ops compute in float64 inside the block, in this thread alone.

    On JAX and PyTorch Keras 3 turns the result type of two float64 arrays into float32 (matmul,
    cos, the optimizers' updates, ...), as JAX does by default. There is no public switch, and the
    table it reads is one for all threads, in which float32 models may run meanwhile.

    Raises:
        RuntimeError: If this version of Keras keeps the rule elsewhere.
    """
    with _lock:
        found = keras_private.result_types()
        table = found if isinstance(found, _PerThread) else _PerThread(found)
        if table is not found:
            keras_private.set_result_types(table)
        table.num_blocks += 1
    _here.depth += 1
    try:
        if keras.backend.result_type("float64", "float64") != "float64":
            raise keras_private.changed(
                "a table of result types that is read", "compute in float64"
            )
        yield
    finally:
        _here.depth -= 1
        with _lock:
            table.num_blocks -= 1
            if table.num_blocks == 0:
                keras_private.set_result_types(table.original)
