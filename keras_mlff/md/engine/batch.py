"""Several systems in one padded graph, with neighbors within a skin that stay valid for a while."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_mlff.graph import (
    Array,
    Graph,
    Tensor,
    count,
    inputs_and_labels,
    with_periodic_keys,
)
from keras_mlff.md.engine.systems import System
from keras_mlff.neighbors import neighbor_list, with_edge_list
from keras_mlff.ops import geometry
from keras_mlff.packing.budget import Budget, pack, sizes

_ALL_PAIRS = 1.3  # times the edges within the skin, up to which a molecule gets all its pairs
_ROUNDING = 1e-3  # Å, of the skin, kept for the rounding of float32


@dataclasses.dataclass
class Layout:
    """Where the systems of a batch are in its arrays.

    Attributes:
        graph: The padded batch, NumPy arrays; its positions are near the origin.
        origins: `(num_atoms, 3)`, Å; what was taken off the positions, cell translations included.
        skins: `(num_graphs,)`, Å; infinite where the list holds all pairs.
        rows: The atoms of each system.
        budget: The sizes of the batch.
    """

    graph: Graph
    origins: Array
    skins: Array
    rows: list[slice]
    budget: Budget

    def spread(self, values: Sequence[Any], fill: float = 0.0) -> Array:
        """Places values of each system's atoms `(n, ...)` in an array of all, padding included."""
        first = np.asarray(values[0])
        array = np.full((self.budget.num_atoms, *first.shape[1:]), fill, first.dtype)
        for rows, value in zip(self.rows, values, strict=True):
            array[rows] = value
        return array

    def per_graph(self, values: Sequence[Any] | Array, fill: float) -> Array:
        """Places a number of each system in an array of all graphs, padding included."""
        array = np.full(self.budget.num_graphs, fill, np.float64)
        array[: len(values)] = values
        return array


def layout(
    systems: Sequence[System], spec: Any, skin: float, budget: Budget | None = None
) -> Layout:
    """Finds neighbors and packs systems, in a budget that grows where they need more.

    Args:
        systems: The systems.
        spec: The model's `graph_spec`.
        skin: Å, how much farther than the cutoff the search looks.
        budget: The sizes of the batch before, kept while they suffice.
    """
    graphs, origins, skins = [], [], []
    for system in systems:
        placed, origin = _near_the_origin(system)
        graph, width = _with_wide_edges(placed, spec, skin)
        graphs.append(graph)
        origins.append(origin)
        skins.append(width)
    if any("cell" in graph for graph in graphs):
        graphs = [with_periodic_keys(graph) for graph in graphs]
    room = _grown(graphs, budget)
    starts = np.cumsum([0, *(len(system.masses) for system in systems)])
    rows = [slice(int(a), int(b)) for a, b in itertools.pairwise(starts)]
    inputs, _ = inputs_and_labels(pack(graphs, room))
    made = Layout(inputs, np.zeros((0, 3)), np.zeros(0), rows, room)
    made.origins = made.spread(origins)
    made.skins = made.per_graph(skins, np.inf)
    return made


def masked(graph: Graph, cutoff: float) -> Graph:
    """Masks the edges that are beyond the cutoff now, exactly as padding is masked.

    Args:
        graph: A batch of tensors whose edges reach farther than the cutoff.
        cutoff: Å, the model's.
    """
    vectors = geometry.edge_vectors(graph, cutoff)  # padding is outside
    inside = ops.sum(ops.square(vectors), axis=-1) <= cutoff * cutoff
    complete = {**graph, "edge_mask": inside}
    if "triplet_mask" in graph:
        pairs = [ops.take(inside, graph[key], axis=0) for key in ("triplet_in", "triplet_out")]
        both = ops.logical_and(*pairs)
        complete["triplet_mask"] = ops.logical_and(both, graph["triplet_mask"])
    return complete


def is_valid(
    moves: Tensor, inverse_strain: Tensor | None, skins: Tensor, graph: Graph, cutoff: float
) -> Tensor:
    """Tells for each graph whether no pair can have come within the cutoff unnoticed.

    Args:
        moves: `(num_atoms, 3)`, Å, since the search, what the cell carried along left out.
        inverse_strain: `(num_graphs, 3, 3)`, from the cell now to that of the search; `None` where
            the cell is fixed.
        skins: `(num_graphs,)`, Å.
        graph: The batch.
        cutoff: Å, the model's.

    Returns:
        `(num_graphs,)` bool.
    """
    lengths = ops.sqrt(ops.sum(ops.square(moves), axis=-1))
    num_graphs = graph["graph_mask"].shape[0]
    farthest = ops.maximum(ops.segment_max(lengths, graph["graph_ids"], num_graphs), 0.0)
    # a pair within the cutoff was no farther apart than this when neighbors were searched
    reach = cutoff + 2.0 * farthest
    if inverse_strain is not None:
        change = inverse_strain - ops.eye(3, dtype=moves.dtype)
        reach = reach * (1.0 + ops.sqrt(ops.sum(ops.square(change), axis=(1, 2))))
    return reach < cutoff + skins - _ROUNDING


def _near_the_origin(system: System) -> tuple[Graph, Array]:
    """Moves a system to the origin and its atoms into the cell, where float32 is finest."""
    positions = system.graph["positions"]
    if not system.is_periodic:
        origin = np.broadcast_to(positions.mean(axis=0), positions.shape)
    else:
        cell, pbc = system.graph["cell"][0], system.graph["pbc"][0]
        center = np.where(pbc.all(), 0.0, positions.mean(axis=0))
        complete = cell.copy()
        if not pbc.all():  # directions without a period count nothing
            _, _, axes = np.linalg.svd(cell[pbc])
            complete[~pbc] = axes[int(pbc.sum()) :]
        away = np.round((positions - center) @ np.linalg.inv(complete))
        origin = center + np.where(pbc, away, 0.0) @ complete
    return {**system.graph, "positions": positions - origin}, origin


def _with_wide_edges(graph: Graph, spec: Any, skin: float) -> tuple[Graph, float]:
    periodic = "cell" in graph
    cell, pbc = (graph["cell"][0], graph["pbc"][0]) if periodic else (None, None)
    edges = neighbor_list(graph["positions"], spec.cutoff + skin, cell, pbc)
    width = skin
    num_atoms = len(graph["positions"])
    if not periodic and num_atoms * (num_atoms - 1) <= _ALL_PAIRS * len(edges.senders):
        edges, width = neighbor_list(graph["positions"], np.inf), np.inf
    return with_edge_list(graph, edges, spec.triplets), width


def _grown(graphs: Sequence[Graph], budget: Budget | None) -> Budget:
    """Chooses sizes that are few, and larger than before only where they must be."""
    table = sizes(graphs)
    needed = table.sum(axis=0)
    largest = int(max(count(graph, "atom") for graph in graphs))
    room = [int(needed[0]), *(_rounded(int(size)) for size in needed[1:])]
    if budget is not None and np.all(needed <= budget.room) and largest <= budget.max_atoms:
        return budget
    # PyTorch needs an edge, of padding if need be
    return Budget(room[0], room[1], max(room[2], 1), max(room[3], 1), _rounded(largest))


def _rounded(size: int) -> int:
    """Rounds up to one of few sizes: an eighth apart, at least 2."""
    if size == 0:
        return 0
    step = max(2, 2 ** (int(size).bit_length() - 4))
    return -(-size // step) * step
