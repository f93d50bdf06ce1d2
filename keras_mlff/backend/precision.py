"""Float64 that is float64 on every backend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
from keras.src.backend.common import dtypes


@contextlib.contextmanager
def keras_float64() -> Iterator[None]:
    """Lets keras.ops compute in float64 inside the block.

    On JAX and PyTorch Keras 3 turns the result type of two float64 arrays into float32 (matmul,
    cos, the optimizers' updates, ...), as JAX does by default. There is no public switch.

    Raises:
        RuntimeError: If this version of Keras keeps the rule elsewhere.
    """
    table = dtypes.BIT64_TO_BIT32_DTYPE
    before = table["float64"]
    table["float64"] = "float64"
    try:
        if keras.backend.result_type("float64", "float64") != "float64":
            raise RuntimeError(
                f"float64 models do not work with keras {keras.__version__} on "
                f"{keras.backend.backend()}. Use dtype='float32' or another version of Keras."
            )
        yield
    finally:
        table["float64"] = before
