"""Host memory that stays with the process, where giving it back costs more than the arithmetic.

XLA takes the temporary buffer of each call from `malloc`. Above 32 MiB glibc maps fresh pages for
it and unmaps them afterwards, and the page faults of the next call can take as long as the call
itself (EGNN on 64 silicon atoms: 10,530 faults, 21 of 39 ms). TensorFlow keeps its buffers, and
PyTorch gains nothing, so only the JAX backend asks for this.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

VARIABLE = "KERAS_MLFF_MALLOC"  # "system" leaves the allocator alone
# of malloc.h: no mapping, no trimming, 64 MiB more than asked for, one arena that all threads share
_SETTINGS = {-4: 0, -1: 2**31 - 1, -2: 64 << 20, -8: 1}
_OTHERS = ("jemalloc", "tcmalloc", "mimalloc")

_status = "left to the system: the backend is not JAX"


def keep() -> None:
    """Lets glibc keep what is freed, for this process and from now on.

    Nothing happens on other systems and C libraries, where another allocator is loaded, where the
    user has set glibc's own variables, or where `KERAS_MLFF_MALLOC=system`.
    """
    global _status
    _status = _reason_against() or _apply()


def status() -> str:
    """Says in a line what is in force and why, for `keras-mlff doctor`."""
    return _status


def _reason_against() -> str:
    """Finds why the allocator is left alone; empty where nothing speaks against it."""
    if os.environ.get(VARIABLE) == "system":
        return f"left to the system: {VARIABLE}=system"
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return "left to the system: not Linux with glibc"
    tuned = [name for name in os.environ if name.startswith("MALLOC_")]
    if tuned or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return f"left to the user: {', '.join(tuned) or 'GLIBC_TUNABLES'}"
    maps = Path("/proc/self/maps")
    loaded = maps.read_text() if maps.exists() else ""
    other = next((name for name in _OTHERS if name in loaded), None)
    return f"left to {other}" if other else ""


def _apply() -> str:
    mallopt = ctypes.CDLL(None).mallopt
    if all(mallopt(option, value) == 1 for option, value in _SETTINGS.items()):
        return f"freed memory stays with the process ({VARIABLE}=system leaves it to glibc)"
    return "left to the system: glibc refused"
