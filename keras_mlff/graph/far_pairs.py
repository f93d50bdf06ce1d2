"""Far pairs of a structure, which long-range terms read."""

from __future__ import annotations

import numpy as np

from keras_mlff.graph.keys import Array, Graph


def with_long_edges(graph: Graph, edges: tuple[Array, Array, Array]) -> Graph:
    """Returns a copy of a structure with far pairs, each of which it holds once.

    Args:
        graph: A single structure, without padding. Far pairs it already has are replaced.
        edges: All ordered pairs, sorted by receiver, as `neighbors.neighbor_list` gives them.
    """
    senders, receivers, shifts = edges
    # of an atom's own images, one of each two that lie opposite
    forward = np.sign(shifts) @ [4, 2, 1] > 0
    once = (senders > receivers) | ((senders == receivers) & forward)
    complete = dict(graph)
    complete["long_senders"], complete["long_receivers"] = senders[once], receivers[once]
    complete["long_edge_mask"] = np.ones(int(once.sum()), "bool")
    if "cell" in graph:
        complete["long_cell_shifts"] = shifts[once].astype(graph["positions"].dtype)
    return complete
