"""Float64 that is float64 on every backend, and float32 that is float32 on every device."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
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


class Switch:
    """Changes a setting of the whole process while any thread is in a block.

    Args:
        read: Returns the setting.
        write: Changes it.
        value: What it is inside.
    """

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], None], value: Any) -> None:
        self._read, self._write, self._value = read, write, value
        self._num_blocks, self._before, self._lock = 0, None, threading.Lock()

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        """Makes a block; the last one that ends puts the setting back."""
        with self._lock:
            if self._num_blocks == 0:
                self._before = self._read()
                self._write(self._value)
            self._num_blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_blocks -= 1
                if self._num_blocks == 0:
                    self._write(self._before)


_tf32 = {"allowed": False}


def allow_tf32(allowed: bool = True) -> None:
    """Leaves it to the framework how precisely GPUs multiply matrices of float32.

    Unless this is called, models of this package compute, train and predict with full precision
    whatever the framework's setting, which is left as it is outside of them. TF32, the default of
    TensorFlow and JAX on NVIDIA's GPUs since Ampere, keeps 10 of 23 bits: forces of presets change
    by up to 3e-3 eV/Å. Call it before a model computes, since compiled steps stay as they are.

    Args:
        allowed: Whether the framework's own setting counts inside of models too. Defaults to True.
    """
    _tf32["allowed"] = bool(allowed)


def tf32_is_allowed() -> bool:
    """Tells what `allow_tf32` was last given; False at first."""
    return _tf32["allowed"]
