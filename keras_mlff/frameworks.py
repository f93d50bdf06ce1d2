"""Chooses an installed framework before Keras is imported.

Keras decides for a framework when it is imported, for TensorFlow unless it is told otherwise, and
fails where TensorFlow is not installed. So rooms that need Keras import this module first: whoever
has installed one framework needs no setting. A choice of the user is never changed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

VARIABLE = "KERAS_BACKEND"
FRAMEWORKS = ("tensorflow", "jax", "torch")


def choose() -> None:
    """Sets `KERAS_BACKEND` where Keras would otherwise ask for a framework that is not installed.

    Does nothing once Keras is imported, where its choice is installed, or where it is another
    backend, which `keras_mlff.backend` refuses.

    Raises:
        ImportError: If no framework is installed, or the one that the user has chosen is not.
    """
    if "keras" in sys.modules:
        return
    installed = [name for name in FRAMEWORKS if importlib.util.find_spec(name) is not None]
    chosen = os.environ.get(VARIABLE) or _configured()
    wanted = chosen or FRAMEWORKS[0]
    if wanted in installed or wanted not in FRAMEWORKS:
        return
    if chosen or not installed:
        known = f"of them {installed} are installed" if installed else "none of them is installed"
        raise ImportError(
            f"keras_mlff needs TensorFlow, JAX or PyTorch, and {known}: "
            f"`pip install 'keras-mlff[{wanted}]'`"
            + (f", or set {VARIABLE}, which asks for '{wanted}'." if installed else ".")
        )
    os.environ[VARIABLE] = installed[0]


def _configured() -> str:
    """Reads the framework that the user's file of settings names; empty where it names none.

    Keras itself writes that file, with TensorFlow in it, so that TensorFlow is no choice.
    """
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        named = json.loads((folder / "keras.json").read_text(encoding="utf-8")).get("backend", "")
    except (OSError, ValueError, AttributeError):
        return ""
    return "" if named == FRAMEWORKS[0] else str(named)


choose()
