"""How fast training and prediction are, per architecture, batch size and backend."""

import keras_mlff.frameworks  # noqa: F401 - before Keras
from keras_mlff.bench.compare import compare as compare
from keras_mlff.bench.compare import installed_backends as installed_backends
from keras_mlff.bench.compare import table as table
