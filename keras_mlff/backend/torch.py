"""PyTorch: gradients by autograd, eager steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import torch

from keras_mlff.backend.precision import keras_float64
from keras_mlff.graph import Tensor
from keras_mlff.packing.feed import Feed, FeedLoader, Replicas
from keras_mlff.packing.loader import unpack_batch

COMPILES = False  # torch.compile cannot differentiate forces once more
RUNS_EAGERLY = True


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
    with torch.enable_grad():  # Keras predicts and evaluates under no_grad
        tensors = [_differentiable(tensor) for tensor in inputs]
        values, more = function(*tensors)
        # a lone atom's energy does not depend on its position
        if not values.requires_grad:
            return (values, more), [torch.zeros_like(tensor) for tensor in tensors]
        gradients = torch.autograd.grad(
            values.sum(), tensors, create_graph=training, allow_unused=True
        )
    filled = [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(tensors, gradients, strict=True)
    ]
    if not training:
        values = values.detach()
        more = keras.tree.map_structure(lambda tensor: tensor.detach(), more)
    return (values, more), filled


def train_step(model: Any, data: Any) -> dict[str, Tensor]:
    """Updates the weights with one batch."""
    inputs, labels = unpack_batch(data)
    predictions = model(inputs, training=True)
    model.zero_grad()
    loss = model.compute_loss(x=inputs, y=labels, y_pred=predictions, training=True)
    variables = model.trainable_variables
    # positions need no gradient of the loss, and the way to them is long
    weights = [variable.value for variable in variables]
    model.optimizer.scale_loss(loss).backward(inputs=weights)
    # a head without a loss has no gradient: as on the other backends it counts as zero
    gradients = [
        torch.zeros_like(variable.value) if variable.value.grad is None else variable.value.grad
        for variable in variables
    ]
    with torch.no_grad():
        model.optimizer.apply(gradients, variables)
    return model.compute_metrics(inputs, labels, predictions)


def test_step(model: Any, data: Any) -> dict[str, Tensor]:
    """Compares one batch with its labels."""
    inputs, labels = unpack_batch(data)
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
    zeros = values.new_zeros((num_segments, *values.shape[1:]))
    return zeros.index_add(0, segment_ids.long(), values)


def global_sum(value: Tensor) -> Tensor:
    """Sums over devices: one process has one."""
    return value


def replicas() -> Replicas:
    """Tells how many copies of a model share a step."""
    return Replicas()


def prepare_data(data: Any, feed: Feed) -> Any:
    """Makes of a loader or a tf.data.Dataset what Keras trains on, as a `Feed` prepares it.

    Args:
        data: A loader with a length, or a tf.data.Dataset of `(inputs, labels)`.
        feed: What is done to each batch.
    """
    return FeedLoader(data, feed, ahead=True)


def double_precision() -> contextlib.AbstractContextManager[None]:
    """Lets float64 models run inside the block, whatever the global settings are."""
    return keras_float64()


def run_once(function: Callable[..., Any], inputs: Any) -> Any:
    """Evaluates a function a single time."""
    return function(inputs)


def compiled(function: Callable[..., Any], model: Any) -> Callable[..., Any]:
    """Compiles a function of tensors in which a model is called.

    Args:
        function: Takes and returns nested tensors.
        model: The model, whose weights are read anew in each call.
    """

    def without_gradients(*inputs: Any) -> Any:
        with torch.no_grad():  # the model enables them where it needs them
            return function(*inputs)

    return without_gradients


def devices() -> list[str]:
    """Names the devices that can compute here."""
    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def peak_device_memory() -> int | None:
    """Returns the most memory (bytes) used on the first GPU so far; `None` without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def _differentiable(tensor: Tensor) -> Tensor:
    tensor = keras.ops.convert_to_tensor(tensor)
    return tensor if tensor.requires_grad else tensor.detach().requires_grad_()
