"""Which edges a network sees, and what all of its layers know about them."""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from keras_mlff.graph import Graph, Tensor
from keras_mlff.models.alphanet import frames
from keras_mlff.models.alphanet.variant import AlphaNetVariant
from keras_mlff.ops import geometry


class EdgeDistances(NamedTuple):
    """Step 1: what the network knows of each edge by itself, without any feature of its ends."""

    vectors: Tensor  # (num_edges, 3), Å: v
    directions: Tensor  # (num_edges, 3), v over its length: u
    mask: Tensor  # (num_edges, 1), 1 for edges that are seen
    envelope: Tensor  # (num_edges, 1), zero at the cutoff and for padding: w
    basis: Tensor  # (num_edges, num_radial): rho
    filters: Tensor  # (num_edges, num_features), w times the perceptron of rho: r


class EdgeGeometry(NamedTuple):
    """What all layers know about the edges."""

    directions: Tensor  # (num_edges, 3)
    radial: Tensor  # (num_edges, num_radial)
    structure: Tensor  # (num_edges, 3 * num_features + num_radial)
    weights: Tensor  # (num_edges, 1) of messages, zero for padding


def select(graph: Graph, cutoff: float, variant: AlphaNetVariant) -> Graph:
    """Masks the edges that a variant does not see: very short ones, and far neighbors of many.

    Args:
        graph: A batch with edges up to the cutoff.
        cutoff: Å, of the model.
        variant: Its `min_distance` and `max_num_neighbors` decide.

    Returns:
        The graph, its `edge_mask` `(num_edges,)` false for what is left out.
    """
    if variant.min_distance == 0.0 and variant.max_num_neighbors is None:
        return graph
    lengths = geometry.edge_lengths(geometry.edge_vectors(graph, cutoff))
    kept = graph["edge_mask"]
    if variant.min_distance > 0.0:
        kept = ops.logical_and(kept, lengths > variant.min_distance)
    if variant.max_num_neighbors is not None:
        # what is left out already takes no place of others
        lengths = ops.where(kept, lengths, 2.0 * cutoff)
        near = frames.nearest(lengths, graph, variant.max_num_neighbors)
        kept = ops.logical_and(kept, near)
    return {**graph, "edge_mask": kept}
