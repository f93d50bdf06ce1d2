"""A potential without weights, so that long runs take seconds."""

import keras
from keras import ops

from keras_mlff.models import ForceField
from keras_mlff.ops import geometry, segment


@keras.saving.register_keras_serializable("tests")
class Springs(ForceField):
    """A well between each two atoms at 0.64 of the cutoff, where it ends smoothly.

    A depth of zero is an ideal gas.
    """

    def __init__(self, cutoff=4.0, depth=0.1, **kwargs):
        super().__init__(cutoff=cutoff, **kwargs)
        self.num_features, self.depth = 1, depth

    def _properties(self, graph, training):
        lengths = geometry.edge_lengths(geometry.edge_vectors(graph, self.cutoff))
        inside = ops.maximum(1.0 - ops.square(lengths / self.cutoff), 0.0) ** 4
        pairs = 8.0 * self.depth * inside * (8.0 * inside - 2.0)
        pairs = segment.mask(pairs, graph["edge_mask"])
        atomic = 0.5 * segment.sum_over_edges(pairs, graph) + 0.0 * graph["positions"][:, 0]
        energy = segment.sum_over_atoms(atomic, graph)
        return {"energy": energy, "atomic_energies": segment.mask(atomic, graph["atom_mask"])}
