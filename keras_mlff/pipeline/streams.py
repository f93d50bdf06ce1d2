"""Structures -> tf.data.Dataset of (inputs, labels) with fixed sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_mlff import datasets
from keras_mlff.graph import Graph
from keras_mlff.packing import Batch, Budget, GraphLoader
from keras_mlff.pipeline.edges import with_edges

Dataset = Any  # tf.data.Dataset


def from_structures(
    structures: Sequence[Graph],
    cutoff: float,
    batch_size: int = 32,
    budget: Budget | None = None,
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    use_triplets: bool = False,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Makes a dataset that `fit` and `evaluate` take on every backend.

    It gives the batches of `GraphLoader` with the same arguments, in the same order. Each pass
    over the whole of it is an epoch with an order of its own, fixed by `seed` and the epoch.

    Args:
        structures: With labels, without edges.
        cutoff: Å, the model's.
        batch_size: Graphs per batch, about, where sizes differ.
        budget: Fixed sizes; chosen from the graphs where `None`. Give the training set's to
            the validation set, and both compile once.
        shuffle: Whether to change the order each epoch.
        seed: Of the shuffling.
        epoch: Number of the first epoch, for a run that resumes.
        use_triplets: The model's `uses_triplets`.
        cache_dir: Folder for neighbor lists; see `with_edges`.

    Raises:
        ImportError: If TensorFlow is not installed; `GraphLoader` does without.

    Example:
        >>> structures = datasets.load("ch2", split="train")  # doctest: +SKIP
        >>> model.fit(from_structures(structures, model.cutoff, shuffle=True))  # doctest: +SKIP
    """
    tf = _import_tensorflow()
    graphs = with_edges(structures, cutoff, use_triplets, cache_dir)
    loader = GraphLoader(graphs, batch_size, budget, shuffle, seed)
    loader.epoch = epoch

    def batches() -> Iterator[Batch]:
        yield from loader
        loader.on_epoch_end()

    signature = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), loader[0])
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    # one ahead, not more: looking at the first batch of two must not end the epoch
    return dataset.apply(tf.data.experimental.assert_cardinality(len(loader))).prefetch(1)


def from_files(
    path: str | Path,
    cutoff: float,
    batch_size: int = 32,
    labels: Sequence[str] = ("energy", "forces"),
    split: str = "all",
    energy_unit: str = "eV",
    length_unit: str = "Å",
    keys: Mapping[str, str] | None = None,
    **options: Any,
) -> Dataset:
    """Makes a dataset of a file; see `datasets.load` and `from_structures`, which has `options`."""
    structures = datasets.load(path, split, labels, energy_unit, length_unit, keys)
    return from_structures(structures, cutoff, batch_size, **options)


def from_tfds(
    name: str,
    split: str,
    cutoff: float,
    batch_size: int = 32,
    data_dir: str | None = None,
    **options: Any,
) -> Dataset:
    """Makes a dataset of a data set of TensorFlow Datasets, prepared where that is still to do.

    Args:
        name: Data set and configuration, `"ch2/triplet"`.
        split: Such as `"train[:100]"`.
        cutoff: Å, the model's.
        batch_size: Graphs per batch, about, where sizes differ.
        data_dir: Folder of TensorFlow Datasets; its usual one where `None`.
        **options: Of `from_structures`.
    """
    from keras_mlff.datasets import builder

    return from_structures(builder.read(name, split, data_dir), cutoff, batch_size, **options)


def _import_tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise ImportError(
            "A tf.data pipeline needs TensorFlow, which is not installed. Use "
            "`packing.GraphLoader(pipeline.with_edges(structures, cutoff))`, which gives the same "
            "batches, or install it with `pip install keras-mlff[tensorflow]`."
        ) from error
    return tensorflow
