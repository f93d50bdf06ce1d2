"""Child processes that were forked from a process with running threads."""

from __future__ import annotations

import os

import keras

_started_in: list[int] = []  # the process in which the framework first computed


def refuse_fork() -> None:
    """Refuses to compute in a process forked from one in which the framework has threads.

    They do not exist in the child, which would wait for them without end.

    Raises:
        RuntimeError: In such a process, on TensorFlow and JAX; PyTorch can be forked.
    """
    if keras.backend.backend() == "torch":
        return
    if not _started_in:
        _started_in.append(os.getpid())
    if _started_in[0] != os.getpid():
        raise RuntimeError(
            f"This process was forked from one in which {keras.backend.backend()} had started its "
            f"threads, and would hang. Received: process {os.getpid()}, forked from "
            f"{_started_in[0]} after a model was made there. Use multiprocessing.get_context("
            "'spawn'), or make and load models in the children only, or KERAS_BACKEND=torch."
        )
