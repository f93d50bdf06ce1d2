"""JAX: gradients by reverse mode, steps without side effects, compilation always."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import keras
from jax import numpy as jnp

from keras_mlff.backend.precision import keras_float64
from keras_mlff.graph import Tensor
from keras_mlff.packing.feed import Feed, FeedLoader, Replicas
from keras_mlff.packing.loader import unpack_batch

COMPILES = True
RUNS_EAGERLY = False  # it would compile each operation


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
    tensors = [keras.ops.convert_to_tensor(tensor) for tensor in inputs]
    values, pull_back, more = jax.vjp(function, *tensors, has_aux=True)
    return (values, more), list(pull_back(jnp.ones_like(values)))


def train_step(model: Any, state: Any, data: Any) -> tuple[dict[str, Tensor], Any]:
    """Updates the weights with one batch."""
    inputs, labels = unpack_batch(data)
    trainable, non_trainable, optimizer, metrics = state

    def loss_function(trainable: Any) -> tuple[Tensor, Any]:
        mapping = _mapping(model, trainable, non_trainable, metrics)
        mapping += list(zip(model.optimizer.variables, optimizer, strict=True))
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            predictions = _predict(model, inputs, training=True)
            graph, targets = _joined(inputs, inputs), _joined(labels, inputs)
            loss = model.compute_loss(x=graph, y=targets, y_pred=predictions, training=True)
            logs = model.compute_metrics(graph, targets, predictions)
            scaled_loss = model.optimizer.scale_loss(loss)
        updated = (
            _current(scope, model.non_trainable_variables),
            _current(scope, model.metrics_variables),
        )
        return scaled_loss, (logs, updated)

    gradients, (logs, updated) = jax.grad(loss_function, has_aux=True)(trainable)
    trainable, optimizer = model.optimizer.stateless_apply(optimizer, gradients, trainable)
    return logs, (trainable, updated[0], optimizer, updated[1])


def test_step(model: Any, state: Any, data: Any) -> tuple[dict[str, Tensor], Any]:
    """Compares one batch with its labels."""
    inputs, labels = unpack_batch(data)
    trainable, non_trainable, metrics = state
    mapping = _mapping(model, trainable, non_trainable, metrics)
    with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
        predictions = _predict(model, inputs, training=False)
        graph, targets = _joined(inputs, inputs), _joined(labels, inputs)
        model.compute_loss(x=graph, y=targets, y_pred=predictions, training=False)
        logs = model.compute_metrics(graph, targets, predictions)
    state = (
        trainable,
        _current(scope, model.non_trainable_variables),
        _current(scope, model.metrics_variables),
    )
    return logs, state


def predict_step(model: Any, state: Any, data: Any) -> tuple[dict[str, Tensor], Any]:
    """Predicts one batch."""
    inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    trainable, non_trainable = state
    mapping = [
        *zip(model.trainable_variables, trainable, strict=True),
        *zip(model.non_trainable_variables, non_trainable, strict=True),
    ]
    # Keras's own `stateless_call` would leave float64 inputs as they are
    with keras.StatelessScope(state_mapping=mapping) as scope:
        predictions = model(inputs, training=False)
    return predictions, _current(scope, model.non_trainable_variables)


def segment_sum(values: Tensor, segment_ids: Tensor, num_segments: int) -> Tensor:
    """Sums rows with the same id.

    Args:
        values: `(num_rows, ...)`.
        segment_ids: `(num_rows,)`, ascending.
        num_segments: Number of sums.

    Returns:
        `(num_segments, ...)`, zero where no row has the id.
    """
    return jax.ops.segment_sum(values, segment_ids, num_segments, indices_are_sorted=True)


def global_sum(value: Tensor) -> Tensor:
    """Sums over devices: nothing to do, JAX sees one array that spans them."""
    return value


def replicas() -> Replicas:
    """Tells how many copies of a model share a step."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return Replicas()
    devices = list(distribution.device_mesh.devices.flat)
    local = [device for device in jax.local_devices() if _name(device) in devices]
    first = min((devices.index(_name(device)) for device in local), default=0)
    return Replicas(first, len(local), len(devices))


def prepare_data(data: Any, feed: Feed) -> Any:
    """Makes of a loader or a tf.data.Dataset what Keras trains on, as a `Feed` prepares it.

    Args:
        data: A loader with a length, or a tf.data.Dataset of `(inputs, labels)`.
        feed: What is done to each batch.
    """
    return FeedLoader(data, feed, ahead=True, replicas=replicas())


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Lets float64 models run inside the block, whatever the global settings are."""
    with jax.enable_x64(True), keras_float64():
        yield


def run_once(function: Callable[..., Any], inputs: Any) -> Any:
    """Evaluates a function a single time; compiled as a whole, since each operation would be."""
    return jax.jit(function)(inputs)


def compiled(function: Callable[..., Any], model: Any) -> Callable[..., Any]:
    """Compiles a function of tensors in which a model is called.

    Args:
        function: Takes and returns nested tensors.
        model: The model, whose weights are read anew in each call.
    """

    def stateless(weights: Any, *inputs: Any) -> Any:
        mapping = list(zip(_weights(model), weights, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return function(*inputs)

    program = jax.jit(stateless)  # weights as constants would be compiled for long
    return lambda *inputs: program([variable.value for variable in _weights(model)], *inputs)


def devices() -> list[str]:
    """Names the devices that can compute here."""
    return [f"{device.platform}:{device.id}" for device in jax.local_devices()]


def peak_device_memory() -> int | None:
    """Returns the most memory (bytes) used on the first GPU so far; `None` without one."""
    statistics = jax.local_devices()[0].memory_stats() or {}  # a CPU has none
    return statistics.get("peak_bytes_in_use")


def _predict(model: Any, inputs: Any, training: bool) -> dict[str, Tensor]:
    """Predicts a batch, or one for each replica, whose graphs never need another device."""
    if inputs["positions"].ndim == 2:
        return model(inputs, training=training)
    predictions = jax.vmap(lambda one: model(one, training=training))(inputs)
    return _joined(predictions, inputs)


def _joined(arrays: Any, inputs: Any) -> dict[str, Tensor]:
    """Joins what the replicas have along atoms or graphs, for losses and metrics."""
    if inputs["positions"].ndim == 2:
        return arrays
    num_replicas, num_graphs = inputs["graph_mask"].shape
    joined = {}
    for key, value in arrays.items():
        if key == "graph_ids":
            value = value + num_graphs * jnp.arange(num_replicas, dtype=value.dtype)[:, None]
        joined[key] = value.reshape(-1, *value.shape[2:])
    return joined


def _mapping(model: Any, trainable: Any, non_trainable: Any, metrics: Any) -> list[Any]:
    return [
        *zip(model.trainable_variables, trainable, strict=True),
        *zip(model.non_trainable_variables, non_trainable, strict=True),
        *zip(model.metrics_variables, metrics, strict=True),
    ]


def _current(scope: keras.StatelessScope, variables: Any) -> list[Tensor]:
    return [scope.get_current_value(variable) for variable in variables]


def _weights(model: Any) -> list[Any]:
    return [*model.trainable_variables, *model.non_trainable_variables]


def _name(device: Any) -> str:
    """Names a device as Keras does."""
    return f"{device.platform}:{device.id}"
