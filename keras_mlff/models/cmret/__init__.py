"""CMRET: the model, its own layers and the port of the authors' weights."""

from keras_mlff.models.cmret.model import CMRET as CMRET
