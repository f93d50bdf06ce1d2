"""GeomAtt: the model, its own layers and the port of the authors' weights."""

from keras_mlff.models.geomatt.model import GeomAtt as GeomAtt
