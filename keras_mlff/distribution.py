"""One call before a model is built makes `fit` use several devices."""

from __future__ import annotations

from collections.abc import Sequence

import keras_mlff.frameworks  # noqa: F401 - before Keras

# isort: split
import keras

from keras_mlff import backend


def use_devices(
    devices: Sequence[str] | None = None,
    coordinator: str | None = None,
    num_processes: int = 1,
    process: int = 0,
) -> int:
    """Lets `fit` and `evaluate` of models that are made from here on share steps among devices.

    Each device gets whole graphs, a batch of its own; losses and metrics are those of all graphs
    together. So a step takes as many batches as there are devices, and `batch_size` graphs are
    what one device gets. TensorFlow mirrors the weights (`tf.distribute.MirroredStrategy`, one
    process); JAX shards the batches (`keras.distribution.DataParallel`, also across processes,
    each of which is given the same data and takes its part).

    Args:
        devices: Names of devices, such as `["gpu:0", "gpu:1"]`; all of the best kind where `None`.
            With several processes those of all of them.
        coordinator: Address and port of process 0, such as `"localhost:9000"`, where there are
            several processes.
        num_processes: Number of processes that train together. Defaults to 1.
        process: Number of this process, from 0. Defaults to 0.

    Returns:
        The number of devices that share each step.

    Raises:
        ValueError: If the backend cannot do it.
    """
    name = keras.backend.backend()
    if name == "tensorflow" and num_processes == 1:
        import tensorflow as tf

        tf.distribute.experimental_set_strategy(tf.distribute.MirroredStrategy(devices))
    elif name == "jax":
        if num_processes > 1:
            keras.distribution.initialize(coordinator, num_processes, process)
        chosen = list(devices) if devices is not None else keras.distribution.list_devices()
        # each process takes its part of the batches by itself, see `packing.FeedLoader`
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False)
        )
    else:
        raise ValueError(
            f"Several {'processes' if num_processes > 1 else 'devices'} are not supported by this "
            f"backend. Received: KERAS_BACKEND={name}, num_processes={num_processes}. TensorFlow "
            "takes several devices of one process, JAX also several processes."
        )
    return backend.replicas().total


def stop() -> None:
    """Returns to one device, for models that are made from here on."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.distribute.experimental_set_strategy(None)
    elif keras.backend.backend() == "jax":
        keras.distribution.set_distribution(None)
