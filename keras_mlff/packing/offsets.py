"""What is taken out of labels before a network sees them, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import keras
import numpy as np

from keras_mlff.graph import (
    Array,
    Graph,
    inputs_and_labels,
    level,
)
from keras_mlff.packing.budget import Batch, empty
from keras_mlff.packing.loader import unpacked
from keras_mlff.quantities import Level

Tables = Mapping[str, tuple[Array, float]]  # per label: values per element, shift


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


def label_offsets(what: Level, graph: Mapping[str, Any], table: Array, shift: float = 0.0) -> Array:
    """Computes what a network does not have to learn of a label, in float64.

    Args:
        what: Whether the label belongs to structures, whose atoms' values are added up, or to
            atoms, which have their own.
        graph: Graph or batch.
        table: `(119,)`, the value of each atomic number.
        shift: Added once to each real structure, or atom.

    Returns:
        `(num_graphs,)` or `(num_atoms,)`, zero for padding.
    """
    if what != "atom":
        return element_sums(graph, table, shift)
    values = table[np.asarray(graph["atomic_numbers"])] + shift
    return np.where(graph["atom_mask"], values, 0.0)


class Replicas(NamedTuple):
    """How many copies of a model share each step, and which of them this process feeds."""

    first: int = 0
    local: int = 1
    total: int = 1
    can_compile: bool = True  # by XLA


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
            # a missing label is NaN and stays so
            key: value - label_offsets(level(key), inputs, *self.tables[key])
            if key in self.tables
            else value
            for key, value in labels.items()
        }
        return inputs, labels

    def on_epoch_end(self) -> None:
        """Tells the loader inside, unless Keras has only looked at the first batch."""
        if self._complete and isinstance(self.loader, keras.utils.PyDataset):
            self.loader.on_epoch_end()
        self._complete = False
