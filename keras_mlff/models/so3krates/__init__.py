"""So3krates: the model, its own layers and the port of the authors' weights."""

from keras_mlff.models.so3krates.model import So3krates as So3krates
