"""What happens to a batch between a loader and a step of the model."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import keras
import numpy as np

from keras_mlff.graph import centered, inputs_and_labels, level
from keras_mlff.packing.budget import Batch, empty
from keras_mlff.packing.loader import unpack_batch
from keras_mlff.packing.offsets import Tables, label_offsets


@dataclasses.dataclass
class Feed:
    """Prepares batches for a model, and tells the model about them.

    `fit`, `evaluate` and `predict` make one, and each backend's `feed` applies it to a loader.

    Args:
        offsets: By label, values per element and a shift, which the network does not learn; they
            are taken out of the labels in float64.
        notice_shapes: Called with the inputs of each batch, as a step takes it. A `tf.data.Dataset`
            on TensorFlow, whose batches have one shape, is announced once, by its specification.
        check_inputs: Called with the inputs of each batch as it is prepared; raises an error where
            the model must not see them.
        learn: Called with the inputs of each batch and its labels without offsets, as they are
            prepared.
        add_wait: Called with the seconds that a step has waited for its batch.
        wrap: Whether atoms of crystals may change their cell, see `graph.centered`.
    """

    offsets: Tables = dataclasses.field(default_factory=dict)
    notice_shapes: Callable[[Mapping[str, Any]], None] | None = None
    check_inputs: Callable[[Mapping[str, Any]], None] | None = None
    learn: Callable[[Mapping[str, Any], Mapping[str, Any]], None] | None = None
    add_wait: Callable[[float], None] | None = None
    wrap: bool = True
    _error: Exception | None = dataclasses.field(default=None, init=False)

    def prepare(self, inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> Batch:
        """Checks the inputs of a batch, centers them, and takes the offsets out of its labels.

        May run in another thread than the model, while the step before is computed.

        Returns:
            The inputs, see `graph.centered`, and the labels by name: those with offsets as float64,
            the others as they were.
        """
        if self.check_inputs is not None:
            try:
                self.check_inputs(inputs)
            except Exception as error:
                self._error = error
                raise
        prepared = {
            # a missing label is NaN and stays so
            key: value - label_offsets(level(key), inputs, *self.offsets[key])
            if key in self.offsets
            else value
            for key, value in labels.items()
        }
        if self.learn is not None:
            self.learn(inputs, prepared)
        return centered(inputs, self.wrap), prepared

    @contextlib.contextmanager
    def original_errors(self) -> Iterator[None]:
        """Raises an error of `check_inputs` as it was, where tf.data has made another of it."""
        try:
            yield
        except Exception as error:
            if self._error is None or error is self._error:
                raise
            raise self._error from None


class Replicas(NamedTuple):
    """How many copies of a model share each step, and which of them this process feeds."""

    first: int = 0
    local: int = 1
    total: int = 1
    can_compile: bool = True  # by XLA


class FeedLoader(keras.utils.PyDataset):
    """Gives the batches of another loader as a `Feed` prepares them.

    Args:
        loader: What gives batches: a `PyDataset`, or anything of known length that is iterated
            in order (a tf.data.Dataset on JAX and PyTorch).
        feed: What is done to each batch.
        ahead: Whether a thread prepares the next batch while one is computed. Defaults to False.
        serves_steps: Whether steps ask this loader for their batches, so that their wait is
            measured here; a pipeline between the two measures it by itself. Defaults to True.
        replicas: Where there are several, each step gets a batch for each of this process, stacked
            along a new first axis; padding fills up the last step.
    """

    def __init__(
        self,
        loader: Any,
        feed: Feed,
        ahead: bool = False,
        serves_steps: bool = True,
        replicas: Replicas | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.replicas = replicas or Replicas()
        self.loader, self.feed, self.serves_steps = loader, feed, serves_steps
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
            batch = self._stacked_batch(index)
        else:
            batch = future.result()  # also where it is of no use: a thread must not be overtaken
            if expected != index:
                batch = self._stacked_batch(index)
        if self._thread is not None and not self._complete:
            self._ahead = index + 1, self._thread.submit(self._stacked_batch, index + 1)
        if self.feed.notice_shapes is not None:
            self.feed.notice_shapes(batch[0])
        if self.feed.add_wait is not None and self.serves_steps:
            self.feed.add_wait(time.perf_counter() - start)
        return batch

    def _stacked_batch(self, index: int) -> Batch:
        """Prepares the batches of one step; each replica of this process gets one."""
        first, local, total, _ = self.replicas
        if total == 1:
            return self._batch(index)
        num_batches = len(self.loader)
        in_step = range(index * total, min((index + 1) * total, num_batches))
        mine = range(index * total + first, index * total + first + local)
        random_access = isinstance(self.loader, keras.utils.PyDataset)
        batches = {i: self._batch(i) for i in in_step if i in mine or not random_access}
        if not batches:
            batches[-1] = self._batch(num_batches - 1)
        template = next(iter(batches.values()))
        padding = inputs_and_labels(empty(template[0] | template[1]))
        chosen = [batches.get(i, padding) for i in mine]
        return cast("Batch", keras.tree.map_structure(lambda *parts: np.stack(parts), *chosen))

    def _batch(self, index: int) -> Batch:
        if isinstance(self.loader, keras.utils.PyDataset):
            inputs, labels = unpack_batch(self.loader[index])
        else:
            if self._iterator is None or index == 0:
                self._iterator = iter(self.loader)
            inputs, labels = unpack_batch(
                keras.tree.map_structure(np.asarray, next(self._iterator), none_is_leaf=False)
            )
            if index == len(self.loader) - 1:  # tells a pipeline that its epoch is over
                next(self._iterator, None)
        return self.feed.prepare(inputs, labels)

    def on_epoch_end(self) -> None:
        """Tells the loader that its epoch is over, unless Keras only looked at the first batch."""
        if self._complete and isinstance(self.loader, keras.utils.PyDataset):
            self.loader.on_epoch_end()
        self._complete = False
