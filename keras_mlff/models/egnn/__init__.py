"""EGNN: the model, its own layers and the port of the authors' weights."""

from keras_mlff.models.egnn.model import EGNN as EGNN
