"""tf.data pipelines: structures -> neighbors (once, cached) -> batches of fixed size -> prefetch.

They wrap `packing.GraphLoader`, which feeds every backend without TensorFlow.
"""

from keras_mlff.pipeline.edges import with_edges as with_edges
from keras_mlff.pipeline.streams import from_files as from_files
from keras_mlff.pipeline.streams import from_structures as from_structures
from keras_mlff.pipeline.streams import from_tfds as from_tfds
