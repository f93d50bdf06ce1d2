"""tf.data gives the batches of GraphLoader, and `fit` takes them on every backend."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff import datasets, models, pipeline
from keras_mlff.graph import structure
from keras_mlff.neighbors import GraphSpec, add_edges
from keras_mlff.packing.budget import Budget
from keras_mlff.packing.loader import GraphLoader

CUTOFF = 3.0


def random_structures(count, periodic=False):
    random = np.random.default_rng(0)
    grid = 1.2 * np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(8, 3)
    structures = []
    for _ in range(count):
        num_atoms = int(random.integers(2, 6))
        forces = random.normal(size=(num_atoms, 3))
        structures.append(
            structure(
                grid[:num_atoms] + random.normal(scale=0.05, size=(num_atoms, 3)),
                random.choice([1, 6, 8], num_atoms),
                cell=np.eye(3) * 4.0 if periodic else None,
                energy=random.normal() - 100.0 * num_atoms,
                forces=forces - forces.mean(axis=0),
            )
        )
    return structures


def loader_of(structures, **options):
    return GraphLoader([add_edges(graph, CUTOFF) for graph in structures], **options)


def assert_same_batch(one, other):
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for key in left:
            np.testing.assert_array_equal(left[key], right[key], err_msg=key)


# tf.data


@pytest.fixture
def tf():
    return pytest.importorskip("tensorflow")


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.usefixtures("tf")
def test_batches_are_those_of_the_loader(shuffle, tmp_path, capsys):
    structures = random_structures(13)
    options = {"batch_size": 4, "shuffle": shuffle, "seed": 3}
    dataset = pipeline.from_structures(structures, GraphSpec(CUTOFF), cache_dir=tmp_path, **options)
    assert capsys.readouterr().out.startswith("13 structures in ")
    loader = loader_of(structures, **options)
    assert len(dataset) == len(loader)
    for _ in range(3):  # epochs
        for one, other in zip(dataset.as_numpy_iterator(), loader, strict=True):
            assert_same_batch(one, other)
        loader.on_epoch_end()


@pytest.mark.usefixtures("tf")
def test_resumed_epoch_is_that_of_the_uninterrupted_run():
    structures = random_structures(13)
    options = {"batch_size": 4, "shuffle": True, "seed": 3, "verbose": 0}
    dataset = pipeline.from_structures(structures, GraphSpec(CUTOFF), **options)
    epochs = [list(dataset.as_numpy_iterator()) for _ in range(3)]
    resumed = pipeline.from_structures(structures, GraphSpec(CUTOFF), epoch=2, **options)
    for one, other in zip(resumed.as_numpy_iterator(), epochs[2], strict=True):
        assert_same_batch(one, other)
    half_way = pipeline.from_structures(
        structures, GraphSpec(CUTOFF), epoch=1, position=2, **options
    )
    for one, other in zip(half_way.as_numpy_iterator(), epochs[1][2:], strict=True):
        assert_same_batch(one, other)
    orders = [[batch[1]["energy"].tolist() for batch in epoch] for epoch in epochs]
    assert orders[0] != orders[1] != orders[2]


def test_shapes_are_static_and_labels_float64(tf):
    budget = Budget(5, 20, 96, 0, 6)
    inputs, labels = pipeline.from_structures(
        random_structures(9), GraphSpec(CUTOFF), budget=budget
    ).element_spec
    assert inputs["positions"] == tf.TensorSpec((20, 3), tf.float64)
    assert inputs["senders"] == tf.TensorSpec((96,), tf.int32)
    assert inputs["atom_table"] == tf.TensorSpec((5, 6), tf.int32)
    assert labels["energy"] == tf.TensorSpec((5,), tf.float64)


@pytest.mark.usefixtures("tf")
def test_files_give_the_same_batches(tmp_path):
    structures = random_structures(6)
    frames = {
        "n_atoms": [len(graph["positions"]) for graph in structures],
        "z": np.concatenate([graph["atomic_numbers"] for graph in structures]),
        "R": np.concatenate([graph["positions"] for graph in structures]),
        "F": np.concatenate([graph["forces"] for graph in structures]),
        "E": np.concatenate([graph["energy"] for graph in structures]),
    }
    np.savez(tmp_path / "frames.npz", **frames)
    for split, expected in [("all", structures), ("all[1:]", structures[1:])]:
        for cache_dir in (None, tmp_path):
            dataset = pipeline.from_files(
                tmp_path / "frames.npz", GraphSpec(CUTOFF), 2, split=split, cache_dir=cache_dir
            )
            for one, other in zip(
                dataset.as_numpy_iterator(), loader_of(expected, batch_size=2), strict=True
            ):
                assert_same_batch(one, other)


@pytest.mark.usefixtures("tf")
def test_atoms_and_their_files_give_the_same_batches(tmp_path):
    ase_io = pytest.importorskip("ase.io")
    structures = random_structures(6, periodic=True)
    datasets.save(tmp_path / "frames.xyz", structures)
    images = ase_io.read(tmp_path / "frames.xyz", index=":")
    options = {"batch_size": 2, "shuffle": True, "seed": 1}
    expected = loader_of(datasets.load(tmp_path / "frames.xyz"), **options)
    for dataset in (
        pipeline.from_atoms(images, GraphSpec(CUTOFF), **options),
        pipeline.from_files(
            tmp_path / "frames.xyz", GraphSpec(CUTOFF), cache_dir=tmp_path, **options
        ),
    ):
        for one, other in zip(dataset.as_numpy_iterator(), expected, strict=True):
            assert_same_batch(one, other)
    with pytest.raises(ValueError, match="No structure of the images has dipole"):
        pipeline.from_atoms(images, GraphSpec(CUTOFF), labels=["dipole"])


@pytest.mark.usefixtures("tf")
def test_tfds_gives_the_same_batches(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    file = Path(__file__).parents[1] / "datasets/dummy_data/ch2/ch2.npz"
    monkeypatch.setattr("keras_mlff.datasets.ch2.FILE", file)
    dataset = pipeline.from_tfds("ch2/both", "train", GraphSpec(CUTOFF), 2, data_dir=tmp_path)
    loader = loader_of(datasets.load("ch2", split="train"), batch_size=2)
    for one, other in zip(dataset.as_numpy_iterator(), loader, strict=True):
        assert_same_batch(one, other)


# Training


@pytest.mark.usefixtures("tf")
def test_fit_and_predict_take_a_dataset():
    """They give what they give with the loader, epoch by epoch.

    Energies of -300 eV would dominate the loss if the references were not taken out.
    """
    structures = random_structures(8)
    model = models.CMRET(num_features=16, num_layers=1, num_heads=2, num_radial=8, cutoff=CUTOFF)
    model.fit_offsets(structures)
    model.compile(
        keras.optimizers.SGD(1e-4),
        loss={"energy": "mse", "forces": "mse"},
        metrics={"energy": "mae"},
        run_eagerly=keras.backend.backend() == "tensorflow",  # XLA takes longer, JAX's eager too
    )
    weights = model.get_weights()
    options = {"batch_size": 3, "budget": Budget(3, 15, 72, 0, 5)}
    train = [
        loader_of(structures, shuffle=True, **options),
        pipeline.from_structures(structures, GraphSpec(CUTOFF), shuffle=True, **options),
    ]
    test = [
        loader_of(structures, **options),
        pipeline.from_structures(structures, GraphSpec(CUTOFF), **options),
    ]
    histories = []
    for train_data, test_data in zip(train, test, strict=True):
        model.set_weights(weights)
        fitted = model.fit(train_data, validation_data=test_data, epochs=2, verbose=0)
        histories.append(fitted.history)
    assert train[0].epoch == 2
    assert [len(shapes) for shapes in model.compilations.values()] == [1, 1, 0]
    for key, values in histories[0].items():
        np.testing.assert_allclose(histories[1][key], values, rtol=1e-5, err_msg=key)

    predicted = model.predict(test[1])["energy"]
    assert predicted.dtype == np.float64
    errors = np.abs(predicted - np.concatenate([graph["energy"] for graph in structures]))
    np.testing.assert_allclose(errors.mean(), histories[1]["val_energy_mae"][-1], rtol=1e-4)
    assert errors.mean() < 10.0


@pytest.mark.usefixtures("tf")
def test_the_rest_of_an_epoch_is_fitted_and_over():
    structures = random_structures(8)
    model = models.EGNN(num_features=4, num_layers=1, cutoff=CUTOFF)
    model.compile("sgd", loss={"energy": "mse"}, run_eagerly=keras.backend.backend() != "jax")
    dataset = pipeline.from_structures(
        structures,
        GraphSpec(CUTOFF),
        batch_size=2,
        shuffle=True,
        position=1,
        budget=Budget(2, 10, 48, 0, 5),
    )
    assert len(dataset) == 3
    model.fit(dataset, epochs=1, verbose=0)
    assert model.optimizer.iterations == 3
    with pytest.raises(Exception, match="Make another with epoch=1"):
        list(dataset)


@pytest.mark.data
@pytest.mark.usefixtures("tf")
def test_published_ethanol_fills_its_batches():
    folder = os.environ.get("KERAS_MLFF_DATA")
    if folder is None:
        pytest.skip("KERAS_MLFF_DATA does not name a folder of published data")
    frames = datasets.load(
        Path(folder) / "rmd17/rmd17_ethanol.npz", energy_unit="kcal/mol", split="all[:1000]"
    )
    # -97076.1 kcal/mol
    np.testing.assert_allclose(np.mean([f["energy"] for f in frames]), -4209.6, atol=0.1)
    loader = GraphLoader(pipeline.with_edges(frames, GraphSpec(5.0)), 32, shuffle=True)
    assert loader.fill_rate > 0.95
