"""AlphaNet: the model, its own layers and the port of the authors' weights."""

from keras_mlff.models.alphanet.model import AlphaNet as AlphaNet
