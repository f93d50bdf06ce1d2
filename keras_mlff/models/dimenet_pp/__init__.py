"""DimeNetPP: the model, its own layers and the port of the authors' weights."""

from keras_mlff.models.dimenet_pp.model import DimeNetPP as DimeNetPP
