"""Importing keras_mlff needs one framework and no extra, and leaves no trace.

The test runs this file as a program, because only a fresh process has imported nothing yet.
"""

import importlib
import os
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

FRAMEWORKS = {"tensorflow", "jax", "torch"}
EXTRAS = {"ase", "matplotlib", "pandas", "pyarrow", "pyscf", "vesin"}
TENSORFLOW_ROOMS = {"export"}
# the part of datasets/ that needs TensorFlow at once: builders and what they share
BUILDER = re.compile(
    r"^(import tensorflow_datasets|from keras_mlff\.datasets\.tools\.(builder|catalog|sgdml) )",
    re.MULTILINE,
)


def absent_packages(backend: str) -> set[str]:
    """Lists what an installation with the extra `backend` alone does not have."""
    absent = EXTRAS | FRAMEWORKS - {backend}
    if backend != "jax":
        absent |= {"scipy"}  # JAX depends on it
    if backend != "tensorflow":
        absent |= {"tensorboard", "tensorflow_datasets"}
    return absent


def importable_modules(backend: str) -> Iterator[str]:
    """Yields the modules that promise to work without any extra but `backend`."""
    root = Path(__file__).parents[1]
    for path in sorted(root.glob("keras_mlff/**/*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        room = parts[1]
        other_backend = room == "backend" and parts[2] in FRAMEWORKS - {backend}
        needs_tensorflow = backend != "tensorflow" and (
            room in TENSORFLOW_ROOMS
            or (room == "datasets" and bool(BUILDER.search(path.read_text(encoding="utf-8"))))
            or parts[1:] == ("datasets", "tools", "builder")
        )
        if not (other_backend or needs_tensorflow or room == "md"):
            yield ".".join(parts).removesuffix(".__init__")


def hide(packages: set[str]) -> None:
    """Makes packages look as if they were not installed."""

    class Finder(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            hidden = name.partition(".")[0] in packages
            return None if hidden else super().find_spec(name, path, target)

    sys.meta_path[sys.meta_path.index(PathFinder)] = Finder


def global_state(backend: str) -> dict[str, object]:
    """Collects the settings of the process that a library has no business changing."""
    import keras
    import numpy as np

    _, keys, *position = np.random.get_state()  # noqa: NPY002 - the state that others rely on
    state = {
        "floatx": keras.config.floatx(),
        "dtype policy": keras.config.dtype_policy().name,
        "random": random.getstate(),
        "numpy random": (keys.tobytes(), position),
        "numpy errors": np.geterr(),
        "numpy printing": np.get_printoptions(),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
    }
    if backend == "tensorflow":
        import tensorflow as tf

        state["TF32"] = tf.config.experimental.tensor_float_32_execution_enabled()
        state["eager"] = tf.config.functions_run_eagerly()
    elif backend == "jax":
        import jax

        state["x64"] = jax.config.jax_enable_x64
        state["precision"] = jax.config.jax_default_matmul_precision
    else:
        import torch

        state["dtype"] = torch.get_default_dtype()
        state["precision"] = torch.get_float32_matmul_precision()
        state["threads"] = torch.get_num_threads()
        state["seed"] = torch.initial_seed()
        state["gradients"] = torch.is_grad_enabled()
    return state


def import_alone() -> None:
    """Imports the package where other frameworks and all extras are missing."""
    backend = os.environ["KERAS_BACKEND"]
    absent = absent_packages(backend)
    hide(absent)  # before Keras, which looks for other frameworks
    before = global_state(backend)
    import keras_mlff

    assert keras_mlff.models.CMRET  # rooms are imported where they are named
    assert not hasattr(keras_mlff, "nonsense")
    for name in importable_modules(backend):
        importlib.import_module(name)
    after = global_state(backend)
    changed = [key for key in before if before[key] != after[key]]
    assert not changed, f"Importing keras_mlff changed: {changed}"
    assert absent.isdisjoint(sys.modules), "An absent package was found after all"


def test_package_imports_without_other_frameworks_and_extras():
    result = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


if __name__ == "__main__":
    import_alone()
