"""Makes datasets of tf.data, of (inputs, labels) with fixed sizes, of whatever holds structures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_mlff import datasets
from keras_mlff.datasets.tools import files
from keras_mlff.graph import Array, Graph, structure
from keras_mlff.neighbors import GraphSpec
from keras_mlff.packing.budget import Budget
from keras_mlff.packing.loader import GraphLoader
from keras_mlff.pipeline import store
from keras_mlff.pipeline.edges import ModelOrSpec, with_edges

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
        graphs: Graphs with edges and labels: a list, a `GraphStore` or a `Subset` of one.
        batch_size: Graphs per batch, about, where sizes differ. Defaults to 32.
        budget: Fixed sizes of a batch; chosen from the graphs where `None`. Give the training
            set's to the validation set, and both compile once.
        shuffle: Whether to change the order in each epoch. Defaults to False.
        seed: Fixes the orders of all epochs. Defaults to 0.
        epoch: Number of the first epoch, for a run that resumes. Defaults to 0.
        position: Number of batches of the first epoch to leave out, for a run that resumes within
            an epoch. The dataset then lasts for the rest of that epoch (`fit(..., epochs=1)`);
            those that follow have their full length, and need another dataset.
        verbose: Whether to print one line: sizes, share of real atoms, bytes. Defaults to 1.

    Returns:
        A `tf.data.Dataset` of pairs `(inputs, labels)`, dictionaries of tensors by name.

    Raises:
        ValueError: If a second epoch is asked of a dataset that began within one.

        ImportError: If TensorFlow is not installed; `GraphLoader` does without.
    """
    tf = _import_tensorflow()
    loader = GraphLoader(graphs, batch_size, budget, shuffle, seed)
    loader.epoch, loader.position = epoch, position
    if verbose:
        print(loader.summary)

    example = loader[0]

    def has_batch(number: int) -> bool:
        if position and loader.epoch > epoch:
            raise ValueError(
                "This dataset was the rest of an epoch, which is over. Received: "
                f"position={position}. Make another with epoch={epoch + 1} for those that follow."
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
    numbers = numbers.take_while(lambda number: tf.numpy_function(has_batch, [number], tf.bool))
    dataset = numbers.map(batch)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(loader)))
    # one ahead, not more: looking at the first batch of two must not end the epoch
    return dataset.prefetch(1)


def from_structures(
    structures: Sequence[Graph],
    model_or_spec: ModelOrSpec,
    batch_size: int = 32,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> Dataset:
    """Makes a dataset of structures.

    Args:
        structures: Structures with labels and without edges.
        model_or_spec: The model that will read the graphs, or its `neighbors.GraphSpec`.
        batch_size: Structures per batch, about, where sizes differ. Defaults to 32.
        cache_dir: Folder for the graphs; see `with_edges`.
        **options: Further arguments of `from_graphs`, such as `shuffle` and `seed`.

    Example:
        >>> structures = datasets.load("ch2", split="train")  # doctest: +SKIP
        >>> model.fit(from_structures(structures, model, shuffle=True))  # doctest: +SKIP
    """
    return from_graphs(with_edges(structures, model_or_spec, cache_dir), batch_size, **options)


def from_atoms(
    images: Iterable[Any],
    model_or_spec: ModelOrSpec,
    batch_size: int = 32,
    labels: Sequence[str] = ("energy", "forces"),
    keys: Mapping[str, str] | None = None,
    **options: Any,
) -> Dataset:
    """Makes a dataset of ASE's atoms; see `datasets.from_atoms`.

    Args:
        images: `ase.Atoms`, in eV and Å.
        model_or_spec: The model that will read the graphs, or its `neighbors.GraphSpec`.
        batch_size: Structures per batch, about, where sizes differ. Defaults to 32.
        labels: Names of the labels that every image must have. Defaults to energy and forces.
        keys: The images' names for labels, where they differ.
        **options: Further arguments of `from_structures`.
    """
    structures = datasets.from_atoms(images, labels, keys)
    return from_structures(structures, model_or_spec, batch_size, **options)


def from_files(
    path: str | Path,
    model_or_spec: ModelOrSpec,
    batch_size: int = 32,
    labels: Sequence[str] = ("energy", "forces"),
    split: str = "all",
    energy_unit: str | None = None,
    length_unit: str | None = None,
    keys: Mapping[str, str] | None = None,
    cache_dir: str | Path | None = None,
    stress_unit: str | None = None,
    stress_sign: int = 1,
    **options: Any,
) -> Dataset:
    """Makes a dataset of a file; see `datasets.load` for the file.

    With `cache_dir` and all of the file, structures are read one by one, so that it may be larger
    than the memory. The store then belongs to the file's name, size and time of change.

    Args:
        path: Path of the file.
        model_or_spec: The model that will read the graphs, or its `neighbors.GraphSpec`.
        batch_size: Structures per batch, about, where sizes differ. Defaults to 32.
        labels: Names of the labels that every structure must have. Defaults to energy and forces.
        split: The part of the file that is read, into memory. Defaults to all, `"all"`.
        energy_unit: Unit of energies in the file; what it states, else eV, where `None`.
        length_unit: Unit of lengths in the file; what it states, else Å, where `None`.
        keys: The file's names for labels, where they differ.
        cache_dir: Folder for the graphs; see `with_edges`.
        stress_unit: Unit of stresses in the file; energy over length³ where `None`.
        stress_sign: Sign of its stresses relative to ASE's. Defaults to 1.
        **options: Further arguments of `from_graphs`, such as `shuffle` and `seed`.
    """
    settings = (tuple(labels), energy_unit, length_unit, keys)
    stress: dict[str, Any] = {"stress_unit": stress_unit, "stress_sign": stress_sign}
    if cache_dir is None or split != "all" or not Path(path).is_file():
        structures = datasets.load(path, split, *settings, **stress)
        graphs = with_edges(structures, model_or_spec, cache_dir)
        return from_graphs(graphs, batch_size, **options)
    spec = GraphSpec.of(model_or_spec)
    status = Path(path).stat()
    about = (str(Path(path).resolve()), status.st_size, status.st_mtime_ns)
    names = sorted((keys or {}).items())
    graphs = store.make(
        cache_dir,
        ("file", *about, *settings[:3], *stress.values(), names, *store.names_of(spec)),
        lambda: (spec.add_edges(item) for item in files.iterate(path, *settings, **stress)),
    )
    return from_graphs(graphs, batch_size, **options)


def from_tfds(
    name: str,
    split: str,
    model_or_spec: ModelOrSpec,
    batch_size: int = 32,
    data_dir: str | None = None,
    cache_dir: str | Path | None = None,
    **options: Any,
) -> Dataset:
    """Makes a dataset of a data set of TensorFlow Datasets, prepared where that is still to do.

    Examples go one by one from its files to a store, so that it may be larger than the memory.

    Args:
        name: Data set and configuration, such as `"ch2/triplet"`.
        split: The part that is read, such as `"train[:100]"`.
        model_or_spec: The model that will read the graphs, or its `neighbors.GraphSpec`.
        batch_size: Structures per batch, about, where sizes differ. Defaults to 32.
        data_dir: Folder of TensorFlow Datasets; its usual one where `None`.
        cache_dir: Folder for the graphs; the folder `graphs` beside the examples where `None`.
        **options: Further arguments of `from_graphs`, such as `shuffle` and `seed`.
    """
    graphs = store_of_tfds(name, split, model_or_spec, data_dir, cache_dir)
    return from_graphs(graphs, batch_size, **options)


def store_of_tfds(
    name: str,
    split: str,
    model_or_spec: ModelOrSpec,
    data_dir: str | None = None,
    cache_dir: str | Path | None = None,
) -> store.GraphStore:
    """Makes the store of a data set of TensorFlow Datasets; see `from_tfds`.

    Returns:
        A sequence of graphs, which `packing.GraphLoader` and `fit` take on every backend.
    """
    import tensorflow_datasets as tfds

    from keras_mlff.datasets.tools import catalog

    spec = GraphSpec.of(model_or_spec)
    prepared = catalog.prepare(name, data_dir)
    folder = Path(prepared.data_dir)
    about = [(folder / file).read_bytes() for file in ("dataset_info.json", "features.json")]

    def graphs() -> Iterator[Graph]:
        read_config = tfds.ReadConfig(interleave_cycle_length=1)  # keeps the order
        examples = prepared.as_dataset(split=split, read_config=read_config, shuffle_files=False)
        for example in tfds.as_numpy(examples):
            yield spec.add_edges(structure(**example))

    key = ("tfds", prepared.info.full_name, split, *about, *store.names_of(spec))
    return store.make(cache_dir or folder / "graphs", key, graphs)


def _import_tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise ImportError(
            "A tf.data pipeline needs TensorFlow, which is not installed. Use "
            "`packing.GraphLoader(pipeline.with_edges(structures, model))`, which gives the same "
            "batches, or install it with `pip install keras-mlff[tensorflow]`."
        ) from error
    return tensorflow
