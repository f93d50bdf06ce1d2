"""DistanceTransformer: the model, its own layers and the port of the authors' weights."""

from keras_mlff.models.transformer.model import DistanceTransformer as DistanceTransformer
