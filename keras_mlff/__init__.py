"""Machine-learned force fields in Keras 3."""

import importlib
from types import ModuleType

from keras_mlff.presets import available as list_presets

__all__ = ["list_presets"]
__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """Imports a room where it is first named, as in `keras_mlff.models.CMRET`.

    Reference: PEP 562
    """
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise  # an extra that the room needs
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'") from None
