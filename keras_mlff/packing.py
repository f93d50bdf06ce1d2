"""Graphs -> batches of fixed size, in NumPy, read by every backend's loader."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import keras
import numpy as np

from keras_mlff.graph import (
    Array,
    Graph,
    Level,
    count,
    inputs_and_labels,
    join,
    pad,
    with_periodic_keys,
)

Batch = tuple[Graph, dict[str, Array]]  # inputs, labels
Tables = Mapping[str, tuple[Array, float]]  # per label: values per element, shift
_OPEN_BINS = 32  # enough for fill rates above 95 %, few enough to search in microseconds
_CHUNK = 65_536  # graphs whose sizes stand in memory as Python numbers
_EDGE_CLASS = 8  # graphs whose edge counts round up to the same multiple may change places
_EXCHANGES = 8  # how often in an epoch a graph, on average, is offered the place of another size


class Budget(NamedTuple):
    """The fixed sizes of a batch; one budget is one compilation."""

    num_graphs: int
    num_atoms: int
    num_edges: int
    num_triplets: int
    max_atoms: int  # of one graph


@runtime_checkable
class Packable(Protocol):
    """A sequence of graphs that knows their sizes and packs them without making each."""

    sizes: Array  # what `sizes` returns

    def pack(self, indices: Sequence[int] | Array, budget: Budget) -> Graph:
        """Gives what `pack` gives for the graphs of these numbers."""


def sizes(graphs: Sequence[Graph]) -> Array:
    """Counts graphs, atoms, edges and triplets of each graph: `(len(graphs), 4)` int64."""
    if isinstance(graphs, Packable):
        return np.asarray(graphs.sizes, np.int64)
    return np.asarray(
        [[count(graph, what) for what in ("graph", "atom", "edge", "triplet")] for graph in graphs],
        np.int64,
    ).reshape(-1, 4)


def choose_budget(graphs: Sequence[Graph], batch_size: int) -> Budget:
    """Chooses the sizes that hold about `batch_size` graphs and little padding.

    Structures of one size fit exactly. Mixed structures get `batch_size` times their mean size,
    but always room for the largest one.
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
    # one at least, of padding if need be: PyTorch cannot train where there is none
    edges, triplets = max(edges, 1), max(total[3], 1)
    return Budget(int(total[0]), int(total[1]), int(edges), int(triplets), int(largest[1]))


def unpacked(batch: Any) -> tuple[Any, dict[str, Any]]:
    """Parts what a loader gives into inputs and labels, none where it gives inputs alone.

    Raises:
        ValueError: If there are sample weights too.
    """
    inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
    refuse_weights(sample_weight=weights)
    return inputs, {} if labels is None else labels


def refuse_weights(**weights: Any) -> None:
    """Refuses weights of samples or classes, which would not change anything.

    Raises:
        ValueError: If there are any.
    """
    received = sorted(name for name, value in weights.items() if value is not None)
    if received:
        raise ValueError(
            "In the loss of a property every structure, or every atom, has the same weight. "
            f"Received: {', '.join(received)}. Weigh properties by compile(loss_weights=...); "
            "repeat structures that are to count more, and leave out those that are not to "
            "count, or set their `graph_mask` and `atom_mask` to False."
        )


def pack(graphs: Sequence[Graph], budget: Budget) -> Graph:
    """Joins graphs and pads them to the budget."""
    return pad(join(graphs), *budget)


def plan(table: Array, budget: Budget, seed: int = 0) -> list[list[int]]:
    """Distributes graphs over as few batches as a quick search finds.

    Each graph, in random order, goes where it leaves the least room for atoms.

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
    # plain numbers: NumPy takes five times longer for so few bins
    free: list[list[int]] = []
    open_bins: list[list[int]] = []
    closed: list[list[int]] = []
    order = np.random.default_rng(seed).permutation(len(table))
    for first in range(0, len(order), _CHUNK):
        part = order[first : first + _CHUNK]
        for index, size in zip(part.tolist(), table[part].tolist(), strict=True):
            graphs, atoms, edges, triplets = size
            best, least = -1, budget.num_atoms + 1
            for number, (free_graphs, free_atoms, free_edges, free_triplets) in enumerate(free):
                if (
                    atoms <= free_atoms < least
                    and graphs <= free_graphs
                    and edges <= free_edges
                    and triplets <= free_triplets
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


class GraphLoader(keras.utils.PyDataset):
    """Feeds `fit`, `evaluate` and `predict` on every backend with batches of one fixed size.

    The batches of an epoch depend on the seed and the epoch alone, so a resumed run (`epoch` and
    `position` set) sees what an uninterrupted one would have seen. From epoch to epoch, graphs of
    equal size change places, others where both batches have the room, and the batches their order.
    All this begins from one plan, so the number of batches never changes.

    Args:
        graphs: Graphs with edges (`neighbors.add_edges`), or a store of them
            (`pipeline.GraphStore`).
        batch_size: Graphs per batch, about, where sizes differ.
        budget: Fixed sizes; chosen from the graphs where `None`.
        shuffle: Whether to change the order each epoch. Without, the order is kept.
        seed: Of the shuffling.

    Attributes:
        epoch: Number of the epoch whose batches come.
        position: Batches of this epoch that are left out, since they came before an interruption.
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
        if not isinstance(graphs, Packable):
            graphs = _checked(graphs)
        self.graphs = graphs
        table = sizes(graphs)
        self.budget = budget or _budget(table, batch_size)
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.position = 0
        self.num_atoms = int(table[:, 1].sum())
        if shuffle:
            # what may change places needs the same room
            rounded = -(-table[:, 2] // _EDGE_CLASS) * _EDGE_CLASS
            table = table.copy()
            table[:, 2] = np.minimum(rounded, table[:, 2].max(initial=0))
            batches = plan(table, self.budget, seed)
            self._order = np.concatenate([np.asarray(batch, np.int64) for batch in batches])
            self._bounds = np.cumsum([0, *map(len, batches)])
        else:
            self._order = np.arange(len(table))
            self._bounds = _in_order(table, self.budget)
        self._table = table
        self._classes = _size_classes(table)
        self._planned: tuple[int, Array, Array] | None = None

    def __len__(self) -> int:
        return len(self._bounds) - 1 - self.position

    def __getitem__(self, index: int) -> Batch:
        indices = self._indices(index + self.position)
        if isinstance(self.graphs, Packable):
            return inputs_and_labels(self.graphs.pack(indices, self.budget))
        return inputs_and_labels(pack([self.graphs[i] for i in indices], self.budget))

    def __iter__(self) -> Iterator[Batch]:
        for index in range(len(self)):
            yield self[index]

    def on_epoch_end(self) -> None:
        """Moves on to the next epoch's order; Keras calls it."""
        self.epoch += 1
        self.position = 0

    def _indices(self, index: int) -> Array:
        """Lists the graphs of a batch of this epoch."""
        if not self.shuffle:
            return self._order[self._bounds[index] : self._bounds[index + 1]]
        planned = self._planned  # read once: a thread may be one epoch ahead of another
        if planned is None or planned[0] != self.epoch:
            planned = self._planned = (self.epoch, *self._shuffled(self.epoch))
        _, order, batches = planned
        batch = batches[index]
        return order[self._bounds[batch] : self._bounds[batch + 1]]

    def _shuffled(self, epoch: int) -> tuple[Array, Array]:
        """Returns what stands at each place of the plan, and the order of its batches."""
        random = np.random.default_rng((self.seed, epoch))
        classes = self._classes[self._order]
        by_class = np.argsort(classes, kind="stable")
        shuffled = self._order.copy()
        shuffled[by_class] = self._order[np.lexsort((random.random(len(classes)), classes))]
        batches = random.permutation(len(self._bounds) - 1)
        if classes.max(initial=0) > 0:
            self._exchange(shuffled, random)
        return shuffled, batches

    def _exchange(self, order: Array, random: np.random.Generator) -> None:
        """Lets graphs of different sizes change places, in pairs of batches, where both fit."""
        firsts, lengths = self._bounds[:-1], np.diff(self._bounds)
        used = np.add.reduceat(self._table[order], firsts, axis=0)  # (num_batches, 4)
        room = np.asarray(self.budget[:4], np.int64)
        half = len(lengths) // 2
        for _ in range(_EXCHANGES * -(-len(order) // len(lengths))):
            # no batch is in two pairs, so that all of them can be looked at together
            pairs = random.permutation(len(lengths))[: 2 * half].reshape(2, half)
            places = firsts[pairs] + random.integers(lengths[pairs])
            gains = self._table[order[places[1]]] - self._table[order[places[0]]]
            fits = np.all(
                (used[pairs[0]] + gains <= room) & (used[pairs[1]] - gains <= room), axis=1
            )
            (here, there), (one, other), gains = pairs[:, fits], places[:, fits], gains[fits]
            order[one], order[other] = order[other], order[one]
            used[here] += gains
            used[there] -= gains

    def fingerprint(self) -> str:
        """Names the data by sizes, order and all graphs; of a store, by the first and the last."""
        found = hashlib.sha256(repr((len(self.graphs), *self.budget, self.seed)).encode())
        found.update(self._order.tobytes())
        ends = [0, len(self.graphs) - 1]
        for index in ends if isinstance(self.graphs, Packable) else range(len(self.graphs)):
            for key, value in sorted(self.graphs[index].items()):
                found.update(key.encode() + np.asarray(value).tobytes())
        return found.hexdigest()

    @property
    def fill_rate(self) -> float:
        """Real atoms over all places for atoms, padding included."""
        return self.num_atoms / ((len(self._bounds) - 1) * self.budget.num_atoms)

    @property
    def summary(self) -> str:
        """What a run prints when it starts."""
        batch = self[0]
        num_bytes = sum(value.nbytes for part in batch for value in cast("Any", part).values())
        num_batches = len(self._bounds) - 1
        return (
            f"{len(self.graphs)} structures in {num_batches} batches of {self.budget.num_graphs} "
            f"graphs, {self.budget.num_atoms} atoms and {self.budget.num_edges} edges; "
            f"{100 * self.fill_rate:.1f} % of the atoms are real; "
            f"{num_bytes * num_batches / len(self.graphs):.0f} bytes per structure"
        )


def _checked(graphs: Sequence[Graph]) -> Sequence[Graph]:
    missing = next((i for i, graph in enumerate(graphs) if "senders" not in graph), None)
    if missing is not None:
        raise ValueError(
            f"Graph {missing} has no edges. Build them first: "
            "graphs = [neighbors.add_edges(graph, model.cutoff) for graph in graphs]."
        )
    periodic = ["cell" in graph for graph in graphs]
    if any(periodic) and not all(periodic):  # every batch has the same keys
        return [with_periodic_keys(graph) for graph in graphs]
    return graphs


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
    room = np.asarray(budget[:4], np.int64)
    too_large = np.flatnonzero(np.any(table > room, axis=1))
    if len(too_large):
        raise ValueError(
            f"Graph {too_large[0]} is larger than the budget: (graphs, atoms, edges, triplets) = "
            f"{table[too_large[0]].tolist()}, the budget is {room.tolist()}."
        )
    ends = np.cumsum(table.T, axis=1)
    bounds, used = [0], np.zeros(4, np.int64)
    while bounds[-1] < len(table):
        limits = used + room
        bounds.append(min(int(np.searchsorted(ends[i], limits[i], "right")) for i in range(4)))
        used = ends[:, bounds[-1] - 1]
    return np.asarray(bounds)


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


class Replicas(NamedTuple):
    """How many copies of a model share each step, and which of them this process feeds."""

    first: int = 0
    local: int = 1
    total: int = 1
    can_compile: bool = True  # by XLA


def empty(batch: Mapping[str, Any]) -> Graph:
    """Gives a batch of the same shapes that is nothing but padding."""
    nothing = cast("Graph", {key: np.asarray(value)[:0] for key, value in batch.items()})
    levels: tuple[Level, ...] = ("graph", "atom", "edge", "triplet")
    return pad(nothing, *(count(batch, what) for what in levels))


class OffsetLoader(keras.utils.PyDataset):
    """Takes element references out of the labels of another loader, in float64.

    Args:
        loader: What gives batches: a `PyDataset`, or anything of known length that is iterated
            in order (a tf.data.Dataset on JAX and PyTorch).
        tables: Values per element and shift of each label.
        see: Called with the inputs of each batch.
        ahead: Whether a thread prepares the next batch while one is computed.
        waited: Called with the seconds that each batch was waited for.
        check: Called with the inputs of each batch before it is handed on; may raise.
        replicas: Where there are several, each step gets a batch for each of this process, stacked
            along a new first axis; padding fills up the last step.
    """

    def __init__(
        self,
        loader: Any,
        tables: Tables,
        see: Callable[[Graph], None],
        ahead: bool = False,
        waited: Callable[[float], None] | None = None,
        check: Callable[[Graph], None] | None = None,
        replicas: Replicas | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.replicas = replicas or Replicas()
        self.loader, self.tables, self.see, self.waited = loader, tables, see, waited
        self.check = check
        self._iterator: Iterator[Any] | None = None
        self._complete = False
        self._thread = ThreadPoolExecutor(1) if ahead else None
        self._ahead: tuple[int, Future[Batch]] | None = None

    def __len__(self) -> int:
        return -(-len(self.loader) // self.replicas.total)

    def __getitem__(self, index: int) -> Batch:
        start = time.perf_counter()
        self._complete = index == len(self) - 1
        expected, future = self._ahead or (-1, None)
        self._ahead = None
        if future is None:
            batch = self._batch(index)
        else:
            batch = future.result()  # also where it is of no use: a thread must not be overtaken
            if expected != index:
                batch = self._batch(index)
        if self._thread is not None and not self._complete:
            self._ahead = index + 1, self._thread.submit(self._batch, index + 1)
        self.see(batch[0])
        if self.waited is not None:
            self.waited(time.perf_counter() - start)
        return batch

    def _batch(self, index: int) -> Batch:
        first, local, total, _ = self.replicas
        if total == 1:
            return self._one_batch(index)
        num_batches = len(self.loader)
        here = range(index * total, min((index + 1) * total, num_batches))
        mine = range(index * total + first, index * total + first + local)
        random_access = isinstance(self.loader, keras.utils.PyDataset)
        batches = {i: self._one_batch(i) for i in here if i in mine or not random_access}
        if not batches:
            batches[-1] = self._one_batch(num_batches - 1)
        template = next(iter(batches.values()))
        nothing = inputs_and_labels(empty(cast("Any", template[0]) | template[1]))
        chosen = [batches.get(i, nothing) for i in mine]
        return cast("Batch", keras.tree.map_structure(lambda *parts: np.stack(parts), *chosen))

    def _one_batch(self, index: int) -> Batch:
        if isinstance(self.loader, keras.utils.PyDataset):
            inputs, labels = unpacked(self.loader[index])
        else:
            if self._iterator is None or index == 0:
                self._iterator = iter(self.loader)
            inputs, labels = unpacked(
                keras.tree.map_structure(np.asarray, next(self._iterator), none_is_leaf=False)
            )
            if index == len(self.loader) - 1:  # tells a pipeline that its epoch is over
                next(self._iterator, None)
        if self.check is not None:
            self.check(inputs)
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
