"""Freed memory stays with the process on JAX, unless somebody has a say in it."""

import os
import subprocess
import sys

import keras
import pytest

from keras_mlff.backend import host_memory

PROGRAM = """
import resource, sys
import keras_mlff.backend
from keras_mlff.backend import host_memory
import numpy as np
np.ones(2**24)  # 128 MiB, 32,768 pages
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(host_memory.status())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the other frameworks gain nothing")
@pytest.mark.parametrize(("choice", "keeps"), [("", True), ("system", False)])
def test_pages_are_kept(choice, keeps):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {host_memory.VARIABLE: choice},
    )
    faults, said = run.stdout.splitlines()[-2:]
    assert (int(faults) < 1000) == keeps
    assert ("stays with the process" in said) == keeps


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MALLOC_TOP_PAD_", "1000"), ("GLIBC_TUNABLES", "glibc.malloc.top_pad=1000")],
)
def test_the_user_s_own_settings_stand(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(host_memory, "_status", "")
    host_memory.keep()
    assert host_memory.status() == f"left to the user: {variable}"
