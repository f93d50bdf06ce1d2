"""Machine-learned force fields in Keras 3, on TensorFlow, JAX and PyTorch.

Everything here is imported when it is first named, so that `import keras_mlff` takes no time and
needs no framework: the rooms (`keras_mlff.datasets`, `keras_mlff.md`, ...) and the names that most
programs need.

Example:
    ```python
    import keras_mlff

    model = keras_mlff.load_preset("cmret/ch2")
    model.predict(keras_mlff.structure(positions, atomic_numbers))
    ```
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors and type checkers see at once
    from keras_mlff import analysis as analysis
    from keras_mlff import backend as backend
    from keras_mlff import bench as bench
    from keras_mlff import cli as cli
    from keras_mlff import core as core
    from keras_mlff import datasets as datasets
    from keras_mlff import distribution as distribution
    from keras_mlff import experiments as experiments
    from keras_mlff import export as export
    from keras_mlff import fit as fit
    from keras_mlff import graph as graph
    from keras_mlff import heads as heads
    from keras_mlff import layers as layers
    from keras_mlff import md as md
    from keras_mlff import models as models
    from keras_mlff import neighbors as neighbors
    from keras_mlff import ops as ops
    from keras_mlff import packing as packing
    from keras_mlff import pipeline as pipeline
    from keras_mlff import plots as plots
    from keras_mlff import presets as presets
    from keras_mlff import publish as publish
    from keras_mlff import quantities as quantities
    from keras_mlff import saving as saving
    from keras_mlff import testing as testing
    from keras_mlff import units as units
    from keras_mlff.graph import structure as structure
    from keras_mlff.models import *  # noqa: F403 - the architectures

__version__ = "0.1.0"

_FOLDER = Path(__file__).parent
# names that most programs need, and the rooms that hold them; architectures are found in `models`
_HOMES = {
    "structure": "graph",
    "ForceField": "models",
    "load_preset": "models",
    "train": "experiments",
}


def _architectures() -> list[str]:
    """Reads the names of the architectures without importing them, which would import Keras."""
    lines = (_FOLDER / "models" / "__init__.py").read_text(encoding="utf-8")
    imports = (line.split(" as ") for line in lines.splitlines() if " as " in line)
    return [parts[1].strip() for parts in imports if parts[0].startswith("from keras_mlff.models.")]


def __getattr__(name: str) -> Any:
    """Imports a room, or one of the names above, where it is first asked for.

    Reference: PEP 562
    """
    home = _HOMES.get(name)
    if home is None and name[:1].isupper() and name in _architectures():
        home = "models"
    try:
        if home is not None:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise  # an extra that the room needs
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'") from None


def __dir__() -> list[str]:
    """Lists rooms and names, for completion."""
    rooms = [module.name for module in pkgutil.iter_modules([str(_FOLDER)])]
    names = ["__version__", *rooms, *_HOMES, *_architectures()]
    return sorted(name for name in names if not name.startswith("_") or name == "__version__")
