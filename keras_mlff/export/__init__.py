"""Force fields as TensorFlow SavedModels, which need neither Keras nor this package to run."""

import keras_mlff.frameworks  # noqa: F401 - before Keras

try:
    import tensorflow  # noqa: F401
except ImportError as error:
    raise ImportError(
        "A SavedModel is written by TensorFlow, which is not installed. "
        "Install it with `pip install keras-mlff[tensorflow]`."
    ) from error

from keras_mlff.export.saved_model import METADATA as METADATA
from keras_mlff.export.saved_model import export_saved_model as export_saved_model
