"""Graphs -> batches of fixed size, in NumPy, read by every backend's loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_mlff.graph import Array, Graph, count, inputs_and_labels, join, pad

Batch = tuple[Graph, dict[str, Array]]  # inputs, labels
Tables = Mapping[str, tuple[Array, float]]  # per label: values per element, shift
_OPEN_BINS = 32  # enough for fill rates above 95 %, few enough to search in microseconds
_EDGE_CLASS = 8  # graphs whose edge counts round up to the same multiple may change places


class Budget(NamedTuple):
    """The fixed sizes of a batch; one budget is one compilation."""

    num_graphs: int
    num_atoms: int
    num_edges: int
    num_triplets: int
    max_atoms: int  # of one graph


def sizes(graphs: Sequence[Graph]) -> Array:
    """Counts graphs, atoms, edges and triplets of each graph: `(len(graphs), 4)` int64."""
    return np.asarray(
        [[count(graph, what) for what in ("graph", "atom", "edge", "triplet")] for graph in graphs],
        np.int64,
    ).reshape(-1, 4)


def choose_budget(graphs: Sequence[Graph], batch_size: int) -> Budget:
    """Chooses the sizes that hold about `batch_size` graphs and little padding.

    Structures of one size fit exactly. Mixed structures get `batch_size` times their mean size,
    but always room for the largest one.
    """
    if batch_size < 1:
        raise ValueError(f"A batch holds at least one graph. Received: batch_size={batch_size}.")
    if len(graphs) == 0:
        raise ValueError("A budget needs graphs to measure. Received: an empty list.")
    table = sizes(graphs)
    largest = table.max(axis=0)
    batch_size = min(batch_size, len(graphs))
    if np.all(table[:, 1] == table[0, 1]):
        total = batch_size * largest
    else:
        total = np.maximum(np.ceil(batch_size * table.mean(axis=0) * 1.02), largest)
        # small structures are many: leave the count of graphs room to exceed the mean
        total[0] = np.ceil(1.15 * batch_size)
    edges = total[2] if np.all(table[:, 2] == table[0, 2]) else -(-total[2] // 8) * 8
    return Budget(int(total[0]), int(total[1]), int(edges), int(total[3]), int(largest[1]))


def pack(graphs: Sequence[Graph], budget: Budget) -> Graph:
    """Joins graphs and pads them to the budget."""
    return pad(join(graphs), *budget)


def plan(table: Array, budget: Budget, seed: int = 0) -> list[list[int]]:
    """Distributes graphs over as few batches as a quick search finds.

    Args:
        table: `(num_structures, 4)`, what `sizes` returns.
        budget: The room in one batch.
        seed: Fixes the order in which the graphs are placed.

    Returns:
        Indices of the graphs of each batch; every graph is in exactly one.
    """
    room = np.asarray(budget[:4], np.int64)
    too_large = np.flatnonzero(np.any(table > room, axis=1))
    if len(too_large):
        raise ValueError(
            f"{len(too_large)} graphs are larger than the budget, the first is number "
            f"{too_large[0]} with (graphs, atoms, edges, triplets) = "
            f"{table[too_large[0]].tolist()}; the budget is {room.tolist()}."
        )
    free = np.zeros((0, 4), np.int64)
    open_bins: list[list[int]] = []
    closed: list[list[int]] = []
    for index in np.random.default_rng(seed).permutation(len(table)).tolist():
        fits = np.flatnonzero(np.all(free >= table[index], axis=1))
        if len(fits) == 0:
            if len(open_bins) == _OPEN_BINS:
                fullest = int(np.argmin(np.min(free / np.maximum(room, 1), axis=1)))
                closed.append(open_bins.pop(fullest))
                free = np.delete(free, fullest, axis=0)
            open_bins.append([])
            free = np.concatenate([free, room[None]])
            fits = np.asarray([len(open_bins) - 1])
        best = int(fits[np.argmin(free[fits, 1])])
        open_bins[best].append(index)
        free[best] -= table[index]
        if free[best, 0] == 0:
            closed.append(open_bins.pop(best))
            free = np.delete(free, best, axis=0)
    return closed + open_bins


class GraphLoader(keras.utils.PyDataset):
    """Feeds `fit`, `evaluate` and `predict` on every backend with batches of one fixed size.

    The batches of an epoch depend on the seed and the epoch alone, so a resumed run (`epoch` set)
    sees what an uninterrupted one would have seen. From epoch to epoch, graphs of equal size
    change places and the batches their order: the number of batches never changes.

    Args:
        graphs: Graphs with edges (`neighbors.add_edges`).
        batch_size: Graphs per batch, about, where sizes differ.
        budget: Fixed sizes; chosen from the graphs where `None`.
        shuffle: Whether to change the order each epoch. Without, the order is kept.
        seed: Of the shuffling.
    """

    def __init__(
        self,
        graphs: Sequence[Graph],
        batch_size: int = 32,
        budget: Budget | None = None,
        shuffle: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        missing = next((i for i, graph in enumerate(graphs) if "senders" not in graph), None)
        if missing is not None:
            raise ValueError(
                f"Graph {missing} has no edges. Build them first: "
                "graphs = [neighbors.add_edges(graph, model.cutoff) for graph in graphs]."
            )
        self.graphs = graphs
        self.budget = budget or choose_budget(graphs, batch_size)
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        table = sizes(graphs)
        if shuffle:
            # what may change places needs the same room
            rounded = -(-table[:, 2] // _EDGE_CLASS) * _EDGE_CLASS
            table[:, 2] = np.minimum(rounded, table[:, 2].max(initial=0))
            self._plan = plan(table, self.budget, seed)
        else:
            self._plan = _in_order(table, self.budget)
        _, self._classes = np.unique(table, axis=0, return_inverse=True)
        self._batches = self._plan
        self._planned_epoch = -1

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> Batch:
        return inputs_and_labels(pack([self.graphs[i] for i in self._indices(index)], self.budget))

    def __iter__(self) -> Iterator[Batch]:
        for index in range(len(self)):
            yield self[index]

    def on_epoch_end(self) -> None:
        """Moves on to the next epoch's order; Keras calls it."""
        self.epoch += 1

    def _indices(self, index: int) -> list[int]:
        if not self.shuffle:
            return self._plan[index]
        if self._planned_epoch != self.epoch:
            self._batches = self._shuffled(self.epoch)
            self._planned_epoch = self.epoch
        return self._batches[index]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        random = np.random.default_rng((self.seed, epoch))
        places = np.concatenate([np.asarray(batch) for batch in self._plan])
        shuffled = places.copy()
        classes = self._classes.reshape(-1)[places]
        order = np.argsort(classes, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(classes[order])) + 1):
            shuffled[group] = random.permutation(places[group])
        bounds = np.cumsum([len(batch) for batch in self._plan])[:-1]
        batches = np.split(shuffled, bounds)
        return [batches[i].tolist() for i in random.permutation(len(batches))]

    @property
    def fill_rate(self) -> float:
        """Real atoms over all places for atoms, padding included."""
        atoms = sum(count(graph, "atom") for graph in self.graphs)
        return atoms / (len(self) * self.budget.num_atoms)


def _in_order(table: Array, budget: Budget) -> list[list[int]]:
    """Fills one batch after the other without changing the order."""
    room = np.asarray(budget[:4], np.int64)
    batches: list[list[int]] = []
    used = room + 1  # forces a first batch
    for index, size in enumerate(table):
        if np.any(size > room):
            raise ValueError(
                f"Graph {index} is larger than the budget: (graphs, atoms, edges, triplets) = "
                f"{size.tolist()}, the budget is {room.tolist()}."
            )
        if np.any(used + size > room):
            batches.append([])
            used = np.zeros(4, np.int64)
        batches[-1].append(index)
        used = used + size
    return batches


def element_sums(graph: Mapping[str, Any], table: Array, shift: float = 0.0) -> Array:
    """Sums a table of values per element over the atoms of each graph, plus a shift.

    Args:
        graph: Graph or batch.
        table: `(119,)`, the value of each atomic number.
        shift: Added once to each real graph.

    Returns:
        `(num_graphs,)` float64, zero for padding.
    """
    values = np.where(graph["atom_mask"], table[np.asarray(graph["atomic_numbers"])], 0.0)
    num_graphs = len(graph["graph_mask"])
    sums = np.bincount(np.asarray(graph["graph_ids"]), weights=values, minlength=num_graphs)
    return np.where(graph["graph_mask"], sums + shift, 0.0)


class OffsetLoader(keras.utils.PyDataset):
    """Takes element references out of the labels of another loader, in float64.

    Args:
        loader: What gives batches: a `PyDataset`, or anything of known length that is iterated
            in order (a tf.data.Dataset on JAX and PyTorch).
        tables: Values per element and shift of each label.
        see: Called with the inputs of each batch.
    """

    def __init__(
        self, loader: Any, tables: Tables, see: Callable[[Graph], None], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.loader, self.tables, self.see = loader, tables, see
        self._iterator: Iterator[Any] | None = None
        self._complete = False

    def __len__(self) -> int:
        return len(self.loader)

    def __getitem__(self, index: int) -> Batch:
        self._complete = index == len(self) - 1
        if isinstance(self.loader, keras.utils.PyDataset):
            inputs, labels = self.loader[index]
        else:
            if self._iterator is None or index == 0:
                self._iterator = iter(self.loader)
            arrays = keras.tree.map_structure(np.asarray, next(self._iterator))
            inputs, labels = arrays
            if self._complete:  # tells a pipeline that its epoch is over
                next(self._iterator, None)
        self.see(inputs)
        labels = {
            key: value - element_sums(inputs, *self.tables[key]) if key in self.tables else value
            for key, value in labels.items()
        }
        return inputs, labels

    def on_epoch_end(self) -> None:
        """Tells the loader inside, unless Keras has only looked at the first batch."""
        if self._complete and isinstance(self.loader, keras.utils.PyDataset):
            self.loader.on_epoch_end()
        self._complete = False
