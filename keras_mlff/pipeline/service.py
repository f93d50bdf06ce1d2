"""tf.data service: other processes read and order the batches that a training takes.

Batches are packed once and written to a folder that all processes see, a file for each, because
the service's workers run TensorFlow graphs only. The service gives each to one worker at a time;
if that dies, what it held is lost or comes twice. The client therefore counts: what came before is
dropped, and what has not come when the epoch ends is read by the client itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import saving
from keras_mlff.packing.budget import Batch
from keras_mlff.packing.loader import GraphLoader
from keras_mlff.pipeline.seals import check_seal, seal

_HEARTBEAT = 1_000  # ms
_PATIENCE = 60.0  # s without a batch after which the client reads the rest by itself
_TIMEOUT = 20_000  # ms without a heartbeat after which a worker is given up


def start_dispatcher(port: int, folder: str | Path) -> Any:
    """Starts the dispatcher of this process, which tells workers what to do.

    Args:
        port: Port that the dispatcher listens on.
        folder: Folder of its journal, from which a restarted dispatcher continues.

    Returns:
        The server; its method `join` waits for its end.
    """
    from tensorflow.data.experimental import service

    return service.DispatchServer(
        service.DispatcherConfig(
            port=port,
            work_dir=str(folder),
            fault_tolerant_mode=True,
            worker_timeout_ms=_TIMEOUT,
        )
    )


def start_worker(port: int, dispatcher: str, host: str = "localhost") -> Any:
    """Starts the worker of this process; one that is restarted needs the same port.

    Args:
        port: Port that the worker listens on.
        dispatcher: Address and port of the dispatcher, such as `"localhost:5000"`.
        host: Name of this machine, as the client and the dispatcher know it. Defaults to
            `"localhost"`.

    Returns:
        The server; its method `join` waits for its end.
    """
    from tensorflow.data.experimental import service

    return service.WorkerServer(
        service.WorkerConfig(
            dispatcher_address=dispatcher,
            worker_address=f"{host}:{port}",
            port=port,
            heartbeat_interval_ms=_HEARTBEAT,
        )
    )


def from_service(
    loader: GraphLoader, dispatcher: str, folder: str | Path, shuffle: bool = True, seed: int = 0
) -> Any:
    """Makes a dataset of a loader's batches that comes from a service; each comes once an epoch.

    Which graphs share a batch stays as it is in the loader's epoch; the order of the batches
    changes from epoch to epoch, and depends on the workers' speed.

    Args:
        loader: The loader whose batches are written to the folder, unless they are there already.
        dispatcher: Address and port of the dispatcher, such as `"localhost:5000"`.
        folder: Folder that workers and client see by the same name.
        shuffle: Whether to change the order of the batches in each epoch. Defaults to True.
        seed: Fixes the order in which batches are asked for. Defaults to 0.

    Returns:
        A `tf.data.Dataset` of `(inputs, labels)`.
    """
    import tensorflow as tf

    num_batches = len(loader)
    layout = _layout(loader[0])
    written = _write(loader, Path(folder))

    def read(index: Any) -> Any:
        name = tf.strings.join([str(written), "/", tf.strings.as_string(index), ".batch"])
        data, position, arrays = tf.io.read_file(name), 0, {}
        for part, key, shape, dtype in layout:
            size = int(np.prod(shape)) * dtype.itemsize
            raw = tf.strings.substr(data, position, size)
            arrays[part, key] = tf.reshape(tf.io.decode_raw(raw, tf.as_dtype(dtype)), shape)
            position += size
        return tuple({k: v for (p, k), v in arrays.items() if p == part} for part in (0, 1))

    indices = tf.data.Dataset.range(num_batches)
    if shuffle:
        indices = indices.shuffle(num_batches, seed)
    served = indices.map(lambda index: (index, read(index)), num_parallel_calls=2).apply(
        tf.data.experimental.service.distribute(
            tf.data.experimental.service.ShardingPolicy.DYNAMIC, f"grpc://{dispatcher}"
        )
    )

    def batches() -> Iterator[Any]:
        seen = np.zeros(num_batches, np.bool_)
        for index, batch in _until_silent(served):
            if not seen[int(index)]:
                seen[int(index)] = True
                yield batch
        for index in np.flatnonzero(~seen):
            yield read(index)

    signature = tf.nest.map_structure(
        lambda array: tf.TensorSpec(array.shape, array.dtype), loader[0]
    )
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(num_batches)).prefetch(1)


def _until_silent(served: Any) -> Iterator[Any]:
    """Gives what the service gives, until it ends or gives nothing for a long time."""
    waiting: queue.Queue[Any] = queue.Queue(2)

    def take() -> None:
        try:
            for item in served:
                waiting.put(item)
        except Exception as error:  # TensorFlow's are of many types, and the client can go on
            warnings.warn(f"The service has failed: {error}", stacklevel=1)
        waiting.put(None)

    # a daemon: a client of a dead worker may wait for ever
    threading.Thread(target=take, daemon=True).start()
    while True:
        try:
            item = waiting.get(timeout=_PATIENCE)
        except queue.Empty:
            return
        if item is None:
            return
        yield item


def _layout(batch: Batch) -> list[tuple[int, str, tuple[int, ...], np.dtype[Any]]]:
    """Lists the arrays in the file of a batch, in order: part, key, shape and type."""
    return [
        (part, key, value.shape, value.dtype)
        for part, arrays in enumerate(batch)
        for key, value in sorted(arrays.items())
    ]


def _bytes(batch: Batch) -> bytes:
    arrays = list(batch)
    return b"".join(arrays[part][key].tobytes() for part, key, _, _ in _layout(batch))


def _write(loader: GraphLoader, folder: Path) -> Path:
    """Writes all batches, unless an earlier run has; the folder's name tells what is inside."""
    about = (loader.fingerprint(), len(loader), _layout(loader[0]))
    digest = hashlib.sha256(repr(about).encode())
    for index in {0, len(loader) // 2, len(loader) - 1}:
        digest.update(_bytes(loader[index]))
    final = folder / f"batches-{digest.hexdigest()[:32]}"
    with contextlib.suppress(OSError, ValueError):  # absent, or damaged
        check_seal(final)
        return final
    with saving.replacing_folder(final) as unfinished:
        for index, batch in enumerate(loader):
            with saving.naming(unfinished):
                (unfinished / f"{index}.batch").write_bytes(_bytes(batch))
        seal(unfinished)
    return final
