"""TensorFlow: gradients by GradientTape, batches by tf.data, compilation by XLA."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mlff.backend.precision import keras_float64
from keras_mlff.graph import Tensor, inputs_and_labels
from keras_mlff.packing.budget import empty
from keras_mlff.packing.feed import Feed, FeedLoader, Replicas
from keras_mlff.packing.loader import unpack_batch

COMPILES = True  # XLA is 1.3 to 2 times faster than graph mode for forces, on a CPU too
RUNS_EAGERLY = True
# the inputs that `Feed.prepare` reads
_READ_BY_FEED = ("atomic_numbers", "atom_mask", "graph_ids", "graph_mask")


def value_and_gradient(
    function: Callable[..., tuple[Tensor, Any]], inputs: Sequence[Tensor], training: bool
) -> tuple[tuple[Tensor, Any], list[Tensor]]:
    """Evaluates `function(*inputs) -> (values, more)` and the gradient of the summed values.

    The gradient can be differentiated again, which is how a model learns from forces.

    Args:
        function: Returns values of any shape, and anything else that it computes on the way.
        inputs: The tensors with respect to which values are differentiated.
        training: Whether the gradient will be differentiated again.

    Returns:
        What the function returns, and a gradient for each input, zero where the values do not
        depend on it.
    """
    inputs = [tf.convert_to_tensor(tensor) for tensor in inputs]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        values, more = function(*inputs)
    gradients = tape.gradient(values, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    # a gradient through tf.gather is IndexedSlices, which `predict` cannot carry
    return (values, more), [tf.convert_to_tensor(gradient) for gradient in gradients]


def train_step(model: Any, data: Any) -> dict[str, Tensor]:
    """Updates the weights with one batch."""
    inputs, labels = _own(data)
    with tf.GradientTape() as tape:
        predictions = model(inputs, training=True)
        loss = model.compute_loss(x=inputs, y=labels, y_pred=predictions, training=True)
        scaled_loss = model.optimizer.scale_loss(loss)
    variables = model.trainable_variables
    # a head without a loss has no gradient: as on the other backends it counts as zero
    zero = tf.UnconnectedGradients.ZERO
    values = [variable.value for variable in variables]  # zeros need TensorFlow's own
    gradients = tape.gradient(scaled_loss, values, unconnected_gradients=zero)
    # rows of an embedding that several atoms share must be added up before clipping measures them
    gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return model.compute_metrics(inputs, labels, predictions)


def test_step(model: Any, data: Any) -> dict[str, Tensor]:
    """Compares one batch with its labels."""
    inputs, labels = _own(data)
    predictions = model(inputs, training=False)
    model.compute_loss(x=inputs, y=labels, y_pred=predictions, training=False)
    return model.compute_metrics(inputs, labels, predictions)


def predict_step(model: Any, data: Any) -> dict[str, Tensor]:
    """Predicts one batch."""
    inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    return model(inputs, training=False)


def segment_sum(values: Tensor, segment_ids: Tensor, num_segments: int) -> Tensor:
    """Sums rows with the same id.

    Args:
        values: `(num_rows, ...)`.
        segment_ids: `(num_rows,)`, ascending.
        num_segments: Number of sums.

    Returns:
        `(num_segments, ...)`, zero where no row has the id.
    """
    return tf.math.unsorted_segment_sum(values, segment_ids, num_segments)


def global_sum(value: Tensor) -> Tensor:
    """Sums over the replicas of a distribution strategy, so that each graph counts the same."""
    replica = tf.distribute.get_replica_context()
    if replica is None or tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return value
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, value)


def replicas() -> Replicas:
    """Tells how many copies of a model share a step."""
    total = tf.distribute.get_strategy().num_replicas_in_sync
    # XLA cannot compile the sum over replicas
    return Replicas(0, total, total, can_compile=total == 1)


def prepare_data(data: Any, feed: Feed) -> Any:
    """Makes of a loader or a tf.data.Dataset what Keras trains on, as a `Feed` prepares it.

    Args:
        data: A loader with a length, or a tf.data.Dataset of `(inputs, labels)`.
        feed: What is done to each batch.
    """
    if isinstance(data, tf.data.Dataset):
        inputs, _ = unpack_batch(data.element_spec)
        if feed.notice_shapes is not None:
            feed.notice_shapes(inputs)
        dataset = data.map(
            lambda *batch: _prepared(*unpack_batch(batch), feed),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        if replicas().total > 1:
            dataset = _stacked(dataset)
    else:
        loader = FeedLoader(data, feed, serves_steps=False, replicas=replicas())
        # unlike Keras's own conversion this one keeps every size static: one compilation
        signature = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), loader[0])

        def batches() -> Any:
            for index in range(len(loader)):
                yield loader[index]
            loader.on_epoch_end()

        dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(loader))).prefetch(2)
    if feed.add_wait is not None and replicas().total == 1:  # a strategy fetches by itself
        dataset = _timed(dataset, feed.add_wait)
    return _without_tuning(dataset)


def double_precision() -> contextlib.AbstractContextManager[None]:
    """Lets float64 models run inside the block, whatever the global settings are."""
    return keras_float64()


def run_once(function: Callable[..., Any], inputs: Any) -> Any:
    """Evaluates a function a single time; compiling would take longer."""
    return function(inputs)


def compiled(function: Callable[..., Any], model: Any) -> Callable[..., Any]:
    """Compiles a function of tensors in which a model is called.

    Args:
        function: Takes and returns nested tensors.
        model: The model, whose weights are read anew in each call.
    """
    return tf.function(function, jit_compile=True, autograph=False)


def devices() -> list[str]:
    """Names the devices that can compute here."""
    found = tf.config.list_logical_devices()
    return [device.name.removeprefix("/device:").lower() for device in found]


def peak_device_memory() -> int | None:
    """Returns the most memory (bytes) used on the first GPU so far; `None` without one."""
    if not tf.config.list_physical_devices("GPU"):
        return None
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])


def _own(data: Any) -> tuple[Any, Any]:
    """Unpacks a batch; that of a replica comes with an axis of length one before the others."""
    inputs, labels = unpack_batch(data)
    if len(inputs["positions"].shape) == 2:
        return inputs, labels
    return tf.nest.map_structure(lambda x: tf.reshape(x, x.shape[1:]), (inputs, labels))


def _prepared(inputs: Any, labels: Any, feed: Feed) -> tuple[Any, Any]:
    """Lets `Feed.prepare`, which works on NumPy arrays, see a batch of a tf.data graph."""
    read = {key: inputs[key] for key in _READ_BY_FEED}
    offset = {key: labels[key] for key in sorted(feed.offsets.keys() & labels.keys())}

    def prepare(*arrays: Any) -> list[Any]:
        graph, values = tf.nest.pack_sequence_as((read, offset), arrays)
        prepared = feed.prepare(graph, values)
        return [graph["atomic_numbers"], *(prepared[key] for key in offset)]

    types = [inputs["atomic_numbers"].dtype, *(tf.float64 for _ in offset)]
    numbers, *values = tf.numpy_function(prepare, tf.nest.flatten((read, offset)), types)
    # as an input of the step, which therefore waits for the check
    inputs = {**inputs, "atomic_numbers": tf.ensure_shape(numbers, inputs["atomic_numbers"].shape)}
    shaped = {
        key: tf.ensure_shape(value, labels[key].shape)
        for key, value in zip(offset, values, strict=True)
    }
    return inputs, {**labels, **shaped}


def _stacked(dataset: Any) -> Any:
    """Stacks a batch for each replica, since TensorFlow deals out what stands along one axis."""
    total = replicas().total
    missing = -len(dataset) % total
    inputs, labels = tf.nest.map_structure(
        lambda spec: np.zeros(spec.shape, spec.dtype.as_numpy_dtype), dataset.element_spec
    )
    nothing = inputs_and_labels(empty(inputs | labels))
    padding = tf.data.Dataset.from_tensors(nothing).repeat(missing)
    return dataset.concatenate(padding).batch(total, drop_remainder=True)


def _timed(dataset: Any, add_wait: Callable[[float], None]) -> Any:
    """Reports the seconds that each batch was waited for."""

    def report(start: Tensor, batch: Any, end: Tensor) -> Any:
        told = tf.numpy_function(lambda seconds: add_wait(float(seconds)), [end - start], [])
        with tf.control_dependencies([told] if isinstance(told, tf.Operation) else told):
            return tf.nest.map_structure(tf.identity, batch)

    clock = tf.data.Dataset.counter().map(lambda _: tf.timestamp())
    # asked for one after the other; a prefetch added by tf.data would hide the wait
    timed = tf.data.Dataset.zip(clock, dataset, clock).map(report)
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return timed.with_options(options)


def _without_tuning(dataset: Any) -> Any:
    """Stops tf.data from tuning itself, unless the dataset asks for it.

    Its tuner sleeps for up to the length of an epoch, and the end of an epoch waits for it to wake
    (measured with TensorFlow 2.21: a third of a training).
    """
    options = tf.data.Options()
    if dataset.options().autotune.enabled is None:
        options.autotune.enabled = False
    return dataset.with_options(options)
