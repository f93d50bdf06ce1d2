"""A force field small enough to be compiled in a second, for what all of them share."""

import keras
import pytest
from keras import ops

from keras_mlff.models import AtomFeatures, ForceField
from keras_mlff.ops import geometry, segment


@keras.saving.register_keras_serializable("tests")
class PairNet(ForceField):
    """Adds to each atom what its neighbors' elements and distances say."""

    def __init__(self, num_features=4, cutoff=5.0, penalty=0.0, **kwargs):
        super().__init__(cutoff=cutoff, **kwargs)
        self.num_features = num_features
        self.embedding = keras.layers.Embedding(119, num_features)
        regularizer = keras.regularizers.L2(penalty) if penalty else None
        self.dense = keras.layers.Dense(
            num_features, activation="tanh", kernel_regularizer=regularizer
        )

    def embed(self, graph, training=False):
        features = self.embedding(graph["atomic_numbers"])
        edges = geometry.edge_vectors(graph, self.cutoff)
        decay = ops.exp(-ops.sum(ops.square(edges), axis=-1) / 4.0)
        decay = segment.mask(decay, graph["edge_mask"])[:, None]
        sent = ops.take(self.dense(features), graph["senders"], axis=0)
        features = features + segment.sum_over_edges(decay * sent, graph)
        return AtomFeatures(features)


@pytest.fixture(scope="session")
def pair_net():
    return PairNet
