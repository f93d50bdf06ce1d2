"""Layers, one idea per file."""

import keras_mlff.frameworks  # noqa: F401 - before Keras
