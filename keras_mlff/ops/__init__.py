"""Pure functions on keras.ops."""

import keras_mlff.frameworks  # noqa: F401 - before Keras
