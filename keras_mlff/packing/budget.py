"""Fixed sizes of batches, and the plan of which graphs share one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from keras_mlff.graph import (
    LEVELS,
    Array,
    Graph,
    count,
    join,
    pad,
)

Batch = tuple[Graph, dict[str, Array]]  # inputs, labels
_OPEN_BINS = 32  # enough for fill rates above 95 %, few enough to search in microseconds
_CHUNK = 65_536  # graphs whose sizes are Python numbers at a time


class Budget(NamedTuple):
    """The fixed sizes of a batch; each budget is compiled once.

    Attributes:
        num_graphs: Room for graphs.
        num_atoms: Room for atoms of all graphs together.
        num_edges: Room for edges of all graphs together.
        num_triplets: Room for pairs of edges, for models that read them.
        max_atoms: Number of atoms of the largest graph, the width of `atom_table`.
        num_long_edges: Room for far pairs, for models that read them.
    """

    num_graphs: int
    num_atoms: int
    num_edges: int
    num_triplets: int
    max_atoms: int
    num_long_edges: int = 0

    @property
    def room(self) -> Array:
        """What the graphs of a batch may add up to, in the order of `graph.LEVELS`."""
        return np.asarray([*self[:4], self.num_long_edges], np.int64)


@runtime_checkable
class Packable(Protocol):
    """A sequence of graphs that knows their sizes and packs them without making each."""

    sizes: Array  # what `sizes` returns

    def pack(self, indices: Sequence[int] | Array, budget: Budget) -> Graph:
        """Returns what the function `pack` returns for the graphs of these numbers."""


def sizes(graphs: Sequence[Graph]) -> Array:
    """Counts graphs, atoms, edges, triplets and far pairs of each graph.

    Args:
        graphs: Graphs, or a store of them, which knows their sizes.

    Returns:
        `(len(graphs), 5)`, int64, in the order of `graph.LEVELS`.
    """
    if isinstance(graphs, Packable):
        return np.asarray(graphs.sizes, np.int64)
    rows = [[count(graph, what) for what in LEVELS] for graph in graphs]
    return np.asarray(rows, np.int64).reshape(-1, len(LEVELS))


def choose_budget(graphs: Sequence[Graph], batch_size: int) -> Budget:
    """Chooses the sizes that hold about `batch_size` graphs and little padding.

    Structures of one size fit exactly. Mixed structures get `batch_size` times their mean size,
    but always room for the largest one.

    Args:
        graphs: The graphs that will be packed.
        batch_size: Number of graphs that share a batch, about.

    Raises:
        ValueError: If there are no graphs, or less than one shall share a batch.
    """
    return _budget(sizes(graphs), batch_size)


def _budget(table: Array, batch_size: int) -> Budget:
    if batch_size < 1:
        raise ValueError(f"A batch holds at least one graph. Received: batch_size={batch_size}.")
    if len(table) == 0:
        raise ValueError("A budget needs graphs to measure. Received: an empty list.")
    largest = table.max(axis=0)
    batch_size = min(batch_size, len(table))
    if np.all(table[:, 1] == table[0, 1]):
        total = batch_size * largest
    else:
        total = np.maximum(np.ceil(batch_size * table.mean(axis=0) * 1.02), largest)
        # small structures are many: leave the count of graphs room to exceed the mean
        total[0] = max(np.ceil(1.15 * batch_size), largest[0])
    edges = total[2] if np.all(table[:, 2] == table[0, 2]) else -(-total[2] // 8) * 8
    long_edges = max(total[4], 1 if total[4:].any() else 0)
    # one at least, of padding if need be: PyTorch cannot train where there is none
    edges, triplets = max(edges, 1), max(total[3], 1)
    return Budget(*map(int, (total[0], total[1], edges, triplets, largest[1], long_edges)))


def pack(graphs: Sequence[Graph], budget: Budget) -> Graph:
    """Joins graphs and pads them to the budget.

    Args:
        graphs: Graphs with the same keys.
        budget: The sizes of the batch.

    Returns:
        One graph of exactly these sizes; masks say what is real.

    Raises:
        ValueError: If they do not fit.
    """
    return pad(join(graphs), *budget)


def plan(table: Array, budget: Budget, seed: int = 0) -> list[list[int]]:
    """Distributes graphs over as few batches as a quick search finds.

    Each graph, in random order, goes where it leaves the least room for atoms.

    Args:
        table: `(num_structures, 5)`, what `sizes` returns.
        budget: The room in one batch.
        seed: Fixes the order in which the graphs are placed. Defaults to 0.

    Returns:
        Indices of the graphs of each batch; every graph is in exactly one.

    Raises:
        ValueError: If a graph alone is larger than the budget.
    """
    room = budget.room
    too_large = np.flatnonzero(np.any(table > room, axis=1))
    if len(too_large):
        raise ValueError(
            f"{len(too_large)} graphs are larger than the budget, the first is number "
            f"{too_large[0]} with (graphs, atoms, edges, triplets, far pairs) = "
            f"{table[too_large[0]].tolist()}; the budget is {room.tolist()}."
        )
    # plain numbers: NumPy takes five times longer for so few bins
    free: list[list[int]] = []
    open_bins: list[list[int]] = []
    closed: list[list[int]] = []
    order = np.random.default_rng(seed).permutation(len(table))
    for first in range(0, len(order), _CHUNK):
        part = order[first : first + _CHUNK]
        for index, size in zip(part.tolist(), table[part].tolist(), strict=True):
            graphs, atoms, edges, triplets, long_edges = size
            best, least = -1, budget.num_atoms + 1
            for number, room_left in enumerate(free):
                free_graphs, free_atoms, free_edges, free_triplets, free_long_edges = room_left
                if (
                    atoms <= free_atoms < least
                    and graphs <= free_graphs
                    and edges <= free_edges
                    and triplets <= free_triplets
                    and long_edges <= free_long_edges
                ):
                    best, least = number, free_atoms
            if best < 0:
                if len(open_bins) == _OPEN_BINS:
                    shares = np.min(np.asarray(free) / np.maximum(room, 1), axis=1)
                    fullest = int(np.argmin(shares))
                    closed.append(open_bins.pop(fullest))
                    free.pop(fullest)
                best = len(open_bins)
                open_bins.append([])
                free.append(room.tolist())
            open_bins[best].append(index)
            left = [old - new for old, new in zip(free[best], size, strict=True)]
            free[best] = left
            if left[0] == 0:
                closed.append(open_bins.pop(best))
                free.pop(best)
    return closed + open_bins


def _size_classes(table: Array) -> Array:
    """Numbers graphs by size: those of one number need the same room."""
    keys = np.zeros(len(table), np.int64)
    for column in table.T:
        # ranks stay below the count of graphs, so that no product overflows
        _, ranks = np.unique(column, return_inverse=True)
        _, keys = np.unique(keys * (ranks.max(initial=0) + 1) + ranks, return_inverse=True)
    return keys


def _in_order(table: Array, budget: Budget) -> Array:
    """Fills one batch after the other without changing the order; returns their bounds."""
    room = budget.room
    too_large = np.flatnonzero(np.any(table > room, axis=1))
    if len(too_large):
        raise ValueError(
            f"Graph {too_large[0]} is larger than the budget: (graphs, atoms, edges, triplets, far "
            f"pairs) = "
            f"{table[too_large[0]].tolist()}, the budget is {room.tolist()}."
        )
    ends = np.cumsum(table.T, axis=1)
    bounds, used = [0], np.zeros_like(room)
    while bounds[-1] < len(table):
        limits = used + room
        fits = (
            np.searchsorted(end, limit, "right") for end, limit in zip(ends, limits, strict=True)
        )
        bounds.append(int(min(fits)))
        used = ends[:, bounds[-1] - 1]
    return np.asarray(bounds)


def empty(batch: Mapping[str, Any]) -> Graph:
    """Makes a batch of the same keys and shapes that is nothing but padding."""
    nothing = {key: np.asarray(value)[:0] for key, value in batch.items()}
    counts = [count(batch, what) for what in LEVELS]
    num_graphs, num_atoms, num_edges, num_triplets, num_long_edges = counts
    return pad(
        nothing, num_graphs, num_atoms, num_edges, num_triplets, num_long_edges=num_long_edges
    )
