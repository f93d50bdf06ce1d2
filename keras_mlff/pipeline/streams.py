"""Structures -> tf.data.Dataset of (inputs, labels) with fixed sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_mlff import datasets
from keras_mlff.datasets.tools import files
from keras_mlff.graph import Array, Graph, structure
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.budget import Budget
from keras_mlff.packing.loader import GraphLoader
from keras_mlff.pipeline import store
from keras_mlff.pipeline.edges import with_edges

Dataset = Any  # tf.data.Dataset


def from_graphs(
    graphs: Sequence[Graph],
    batch_size: int = 32,
    budget: Budget | None = None,
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    position: int = 0,
    verbose: int = 1,
) -> Dataset:
    """Makes a dataset that `fit` and `evaluate` take on every backend.

    It gives the batches of `GraphLoader` with the same arguments, in the same order. Each pass
    over the whole of it is an epoch with an order of its own, fixed by `seed` and the epoch.

    Args:
        graphs: With edges and labels: a list, a `GraphStore` or a `Subset` of one.
        batch_size: Graphs per batch, about, where sizes differ.
        budget: Fixed sizes; chosen from the graphs where `None`. Give the training set's to
            the validation set, and both compile once.
        shuffle: Whether to change the order each epoch.
        seed: Of the shuffling.
        epoch: Number of the first epoch, for a run that resumes.
        position: Batches of the first epoch to leave out, for a run that resumes amid an epoch.
            The dataset then lasts for the rest of that epoch (`fit(..., epochs=1)`); those that
            follow are as long as ever, and need another.
        verbose: Whether to print one line: sizes, share of real atoms, bytes.

    Raises:
        ImportError: If TensorFlow is not installed; `GraphLoader` does without.
    """
    tf = _import_tensorflow()
    loader = GraphLoader(graphs, batch_size, budget, shuffle, seed)
    loader.epoch, loader.position = epoch, position
    if verbose:
        print(loader.summary)

    example = loader[0]

    def goes_on(number: int) -> bool:
        if position and loader.epoch > epoch:
            raise ValueError(
                "This dataset was the rest of an epoch, which is over. Received: "
                f"position={position}. Make another with epoch={epoch + 1} for the following ones."
            )
        if number < len(loader):
            return True
        loader.on_epoch_end()
        return False

    def arrays(number: int) -> list[Array]:
        return tf.nest.flatten(loader[number])

    def batch(number: Any) -> Any:
        flat = tf.numpy_function(arrays, [number], [x.dtype for x in tf.nest.flatten(example)])
        batch = tf.nest.pack_sequence_as(example, flat)
        return tf.nest.map_structure(lambda x, y: tf.ensure_shape(x, y.shape), batch, example)

    # `from_generator` would copy each array through Python objects, at a tenth of the speed
    numbers = tf.data.Dataset.range(position + len(loader) + 1)
    numbers = numbers.take_while(lambda number: tf.numpy_function(goes_on, [number], tf.bool))
    dataset = numbers.map(batch)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(loader)))
    # one ahead, not more: looking at the first batch of two must not end the epoch
    return dataset.prefetch(1)


def from_structures(
    structures: Sequence[Graph],
    cutoff: float,
    batch_size: int = 32,
    use_triplets: bool = False,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> Dataset:
    """Makes a dataset of structures.

    Args:
        structures: With labels, without edges.
        cutoff: Å, the model's.
        batch_size: Graphs per batch, about, where sizes differ.
        use_triplets: The model's `uses_triplets`.
        cache_dir: Folder for the graphs; see `with_edges`.
        **options: Of `from_graphs`.

    Example:
        >>> structures = datasets.load("ch2", split="train")  # doctest: +SKIP
        >>> model.fit(from_structures(structures, model.cutoff, shuffle=True))  # doctest: +SKIP
    """
    return from_graphs(
        with_edges(structures, cutoff, use_triplets, cache_dir), batch_size, **options
    )


def from_atoms(
    images: Iterable[Any],
    cutoff: float,
    batch_size: int = 32,
    labels: Sequence[str] = ("energy", "forces"),
    keys: Mapping[str, str] | None = None,
    **options: Any,
) -> Dataset:
    """Makes a dataset of ASE's atoms; see `datasets.from_atoms`.

    Args:
        images: `ase.Atoms`, units eV and Å.
        cutoff: Å, the model's.
        batch_size: Graphs per batch, about, where sizes differ.
        labels: What every image must have.
        keys: The images' names for labels, where they differ.
        **options: Of `from_structures`.
    """
    return from_structures(datasets.from_atoms(images, labels, keys), cutoff, batch_size, **options)


def from_files(
    path: str | Path,
    cutoff: float,
    batch_size: int = 32,
    labels: Sequence[str] = ("energy", "forces"),
    split: str = "all",
    energy_unit: str = "eV",
    length_unit: str = "Å",
    keys: Mapping[str, str] | None = None,
    use_triplets: bool = False,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> Dataset:
    """Makes a dataset of a file; see `datasets.load` for the file.

    With `cache_dir` and all of the file, structures are read one by one, so that it may be larger
    than the memory. The store then belongs to the file's name, size and time of change.

    Args:
        path: Name of the file.
        cutoff: Å, the model's.
        batch_size: Graphs per batch, about, where sizes differ.
        labels: What every structure must have.
        split: A part of the file, which is read into memory.
        energy_unit: Of the file.
        length_unit: Of the file.
        keys: The file's names for labels.
        use_triplets: The model's `uses_triplets`.
        cache_dir: Folder for the graphs; see `with_edges`.
        **options: Of `from_graphs`.
    """
    settings = (tuple(labels), energy_unit, length_unit, keys)
    if cache_dir is None or split != "all" or not Path(path).is_file():
        structures = datasets.load(path, split, *settings)
        graphs = with_edges(structures, cutoff, use_triplets, cache_dir)
        return from_graphs(graphs, batch_size, **options)
    status = Path(path).stat()
    about = (str(Path(path).resolve()), status.st_size, status.st_mtime_ns)
    names = sorted((keys or {}).items())
    graphs = store.make(
        cache_dir,
        ("file", *about, *settings[:3], names, float(cutoff), use_triplets),
        lambda: (add_edges(item, cutoff, use_triplets) for item in files.iterate(path, *settings)),
    )
    return from_graphs(graphs, batch_size, **options)


def from_tfds(
    name: str,
    split: str,
    cutoff: float,
    batch_size: int = 32,
    data_dir: str | None = None,
    use_triplets: bool = False,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> Dataset:
    """Makes a dataset of a data set of TensorFlow Datasets, prepared where that is still to do.

    Examples go one by one from its files to a store, so that it may be larger than the memory.

    Args:
        name: Data set and configuration, `"ch2/triplet"`.
        split: Such as `"train[:100]"`.
        cutoff: Å, the model's.
        batch_size: Graphs per batch, about, where sizes differ.
        data_dir: Folder of TensorFlow Datasets; its usual one where `None`.
        use_triplets: The model's `uses_triplets`.
        cache_dir: Folder for the graphs; the folder `graphs` beside the examples where `None`.
        **options: Of `from_graphs`.
    """
    graphs = store_of_tfds(name, split, cutoff, data_dir, use_triplets, cache_dir)
    return from_graphs(graphs, batch_size, **options)


def store_of_tfds(
    name: str,
    split: str,
    cutoff: float,
    data_dir: str | None = None,
    use_triplets: bool = False,
    cache_dir: str | Path | None = None,
) -> store.GraphStore:
    """Makes the store of a data set of TensorFlow Datasets; see `from_tfds`."""
    import tensorflow_datasets as tfds

    from keras_mlff.datasets.tools import builder

    prepared = builder.prepare(name, data_dir)
    folder = Path(prepared.data_dir)
    about = [(folder / file).read_bytes() for file in ("dataset_info.json", "features.json")]

    def graphs() -> Iterator[Graph]:
        read_config = tfds.ReadConfig(interleave_cycle_length=1)  # keeps the order
        examples = prepared.as_dataset(split=split, read_config=read_config, shuffle_files=False)
        for example in tfds.as_numpy(examples):
            yield add_edges(structure(**example), cutoff, use_triplets)

    key = ("tfds", prepared.info.full_name, split, *about, float(cutoff), use_triplets)
    return store.make(cache_dir or folder / "graphs", key, graphs)


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
