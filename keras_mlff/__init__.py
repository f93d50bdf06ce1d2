"""Machine-learned force fields in Keras 3."""

from keras_mlff.presets import available as list_presets

__all__ = ["list_presets"]
__version__ = "0.1.0"
