"""tf.data pipelines: structures -> neighbors (once, stored) -> batches of fixed size -> prefetch.

They wrap `packing.GraphLoader`, which feeds every backend without TensorFlow.
"""

from keras_mlff.pipeline.edges import with_edges as with_edges
from keras_mlff.pipeline.store import GraphStore as GraphStore
from keras_mlff.pipeline.store import Subset as Subset
from keras_mlff.pipeline.streams import from_atoms as from_atoms
from keras_mlff.pipeline.streams import from_files as from_files
from keras_mlff.pipeline.streams import from_graphs as from_graphs
from keras_mlff.pipeline.streams import from_structures as from_structures
from keras_mlff.pipeline.streams import from_tfds as from_tfds
from keras_mlff.pipeline.streams import store_of_tfds as store_of_tfds
