"""The loader that feeds `fit`, `evaluate` and `predict` on every backend.

Compiled code wants batches of one size, so graphs are packed into batches and padded to a budget.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, cast

import keras
import numpy as np

from keras_mlff.graph import (
    Array,
    Graph,
    inputs_and_labels,
    with_equal_labels,
    with_periodic_keys,
)
from keras_mlff.packing.budget import (
    Batch,
    Budget,
    Packable,
    _budget,
    _in_order,
    _size_classes,
    pack,
    plan,
    sizes,
)

_EDGE_CLASS = 8  # graphs whose edge counts round up to the same multiple may change places
_EXCHANGES = 8  # how often in an epoch a graph, on average, is offered the place of another size


def unpack_batch(batch: Any) -> tuple[Any, dict[str, Any]]:
    """Splits what a loader gives into inputs and labels.

    Args:
        batch: `inputs`, `(inputs, labels)` or `(inputs, labels, weights)`.

    Returns:
        Inputs, and labels by name, none where the batch holds inputs alone.

    Raises:
        ValueError: If there are sample weights too.
    """
    inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
    refuse_weights(sample_weight=weights)
    return inputs, {} if labels is None else labels


def refuse_weights(**weights: Any) -> None:
    """Refuses weights of samples or classes, which would not change anything.

    Args:
        **weights: By the name of the argument; `None` where it was not given.

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


class GraphLoader(keras.utils.PyDataset):
    """Feeds `fit`, `evaluate` and `predict` on every backend with batches of one fixed size.

    The batches of an epoch depend on the seed and the epoch alone, so a resumed run (`epoch` and
    `position` set) sees what an uninterrupted one would have seen. From epoch to epoch, graphs of
    equal size change places, others where both batches have the room, and the batches their order.
    All this begins from one plan, so the number of batches never changes.

    Args:
        graphs: Graphs with edges (`neighbors.add_edges`), or a store of them
            (`pipeline.GraphStore`). Molecules and crystals, and graphs with different labels, may
            be mixed: what a graph lacks is NaN in its batch and does not count.
        batch_size: Graphs per batch, about, where sizes differ. Defaults to 32.
        budget: Fixed sizes of a batch; chosen from the graphs where `None`.
        shuffle: Whether to change the order in each epoch. Defaults to False, which keeps it.
        seed: Fixes the orders of all epochs. Defaults to 0.

    Attributes:
        epoch: Number of the epoch whose batches are given, from 0.
        position: Number of batches of this epoch that are left out, since they came before an
            interruption.

    Raises:
        ValueError: If a graph has no edges, or does not fit into the budget.

    Example:
        ```python
        graphs = [model.graph_spec.add_edges(item) for item in structures]
        model.fit(GraphLoader(graphs, batch_size=16, shuffle=True), epochs=100)
        ```
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
        """Returns the graph at each place of the plan, and the order of its batches."""
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
        room = self.budget.room
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
        """Computes a digest of the data, so that a training resumes with the same ones only.

        Of a store only the first and the last graph are read, beside all sizes and the order.
        """
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
        """One line about the data, which a run prints when it starts."""
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
            "graphs = [model.graph_spec.add_edges(graph) for graph in graphs]."
        )
    # every batch has the same keys
    if any(graph.keys() != graphs[0].keys() for graph in graphs):
        if any("cell" in graph for graph in graphs):
            graphs = [with_periodic_keys(graph) for graph in graphs]
        return with_equal_labels(graphs)
    return graphs
