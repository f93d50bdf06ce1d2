"""What was fitted beside the weights goes wherever they go, and training goes on from raw ones."""

import copy
import json
import pickle

import h5py
import keras
import numpy as np
import pytest

from keras_mlff import models
from keras_mlff.graph import structure
from keras_mlff.packing.loader import GraphLoader
from tests.core.pair_net import compiled, make_graphs, weights_of


def fitted(pair_net, **kwargs):
    """Makes a model that was fitted to data, and one of the same arguments that was not."""
    keras.utils.set_random_seed(1)
    models = [pair_net(**kwargs) for _ in range(2)]
    models[0].fit_offsets(make_graphs(8))
    models[0].heads[0].shift = 1.0 / 3.0  # which float32 would round
    return models


def by_file(name, **sizes):
    def take(source, target, folder):
        source.save_weights(folder / name, **sizes)
        target.load_weights(folder / name)
        return target

    return take


def by_keras(source, target, folder):
    source.save(folder / "model.keras")
    target.load_weights(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


def by_list(source, target, folder):
    target.set_weights(source.get_weights())
    return target


def by_tree(source, target, folder):
    for model in (source, target):
        model.compile(keras.optimizers.SGD(0.0), loss={"energy": "mse"})
    tree = source.get_state_tree()
    with pytest.raises(ValueError, match="layers have other names"):  # by which Keras finds them
        target.set_state_tree(tree)
    source.heads[0].shift = 7.0
    source.set_state_tree(tree)
    return source


def by_preset(source, target, folder):
    source.save_to_preset(folder / "preset")
    return type(source).from_preset(folder / "preset")


def by_checkpoint(source, target, folder):
    source.compile(keras.optimizers.SGD(0.0), loss={"energy": "mse"})
    saver = keras.callbacks.ModelCheckpoint(folder / "c.weights.h5", save_weights_only=True)
    source.fit(make_graphs(2), verbose=0, callbacks=[saver])
    target.load_weights(folder / "c.weights.h5")
    return target


WAYS = {
    "h5": by_file("w.weights.h5"),
    "shards": by_file("w.weights.json", max_shard_size=1),
    "checkpoint": by_checkpoint,
    "keras": by_keras,
    "list": by_list,
    "tree": by_tree,
    "preset": by_preset,
    "pickle": lambda source, target, folder: pickle.loads(pickle.dumps(source)),
    "deepcopy": lambda source, target, folder: copy.deepcopy(source),
    "copy": lambda source, target, folder: source.copy(),
    "clone": lambda source, target, folder: by_list(source, keras.models.clone_model(source), None),
}


@pytest.mark.parametrize("way", WAYS)
def test_references_scale_and_domain_go_with_the_weights(pair_net, tmp_path, way):
    source, target = fitted(pair_net, name="net")
    taken = WAYS[way](source, target, tmp_path)
    assert taken.fitted_state == source.fitted_state
    assert taken.heads[0].shift == 1.0 / 3.0
    assert list(taken.domain.elements) == [1, 6, 8]
    for found, expected in zip(weights_of(taken), weights_of(source), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_functions_that_were_compiled_before_get_the_new_scale(pair_net):
    source, target = fitted(pair_net)
    graphs = make_graphs(4)
    target.predict(graphs)
    target.set_weights(source.get_weights())
    expected = source.predict(graphs)
    for key, value in target.predict(graphs).items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-6, atol=1e-6)


def test_ranges_of_tables_go_with_the_weights(tmp_path):
    arguments = {"num_features": 4, "num_layers": 1, "cutoff": 4.0, "distance_encoding": "posenc"}
    source, target = models.EGNN(**arguments), models.EGNN(**arguments)
    near = [structure([[0, 0, 0], [0, 0, d]], [1, 1], energy=d) for d in (1.0, 2.5)]
    source.fit_offsets(near)
    target.set_weights(source.get_weights())
    assert target.get_config()["distance_encoding"]["x_max"] == 2.5
    assert target.fitted_state["ranges"] == [[0.0, 2.5]]
    again = models.EGNN(**arguments)
    source.save_weights(tmp_path / "w.weights.h5")
    again.load_weights(tmp_path / "w.weights.h5")
    assert again.get_config() | {"name": ""} == target.get_config() | {"name": ""}


def test_weights_without_the_state_are_told(pair_net, tmp_path):
    """Files of earlier versions, and arrays from anywhere, may belong to other references."""
    source, target = fitted(pair_net)
    arrays = list(source.get_weights())
    with pytest.raises(UserWarning, match="The list of arrays holds weights without"):
        target.set_weights(arrays)
    source.set_weights([0.5 * array for array in arrays])  # its own, averaged
    source.save_weights(tmp_path / "old.weights.h5")
    with h5py.File(tmp_path / "old.weights.h5", "a") as file:
        del file["vars"]
    with pytest.raises(UserWarning, match=r"old.weights.h5' holds weights without.*'scale'"):
        target.load_weights(tmp_path / "old.weights.h5")
    np.testing.assert_array_equal(weights_of(target)[0], weights_of(source)[0])


def test_a_state_of_other_heads_is_refused(pair_net, tmp_path):
    source, _ = fitted(pair_net)
    source.save_weights(tmp_path / "w.weights.h5")
    with h5py.File(tmp_path / "w.weights.h5", "a") as file:
        state = json.loads(file["vars/fitted_state"][:].tobytes())
        state["heads"]["gap"] = state["heads"].pop("energy")
        del file["vars/fitted_state"]
        file["vars/fitted_state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    with pytest.raises(ValueError, match=r"w.weights.h5.*other heads.*\['gap'\]"):
        source.load_weights(tmp_path / "w.weights.h5")


def _link(file):
    file["embedding/vars/0"] = h5py.ExternalLink("elsewhere.h5", "/x")


def _virtual(file):
    layout = h5py.VirtualLayout((119, 4), "float32")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (119, 4))
    file.create_virtual_dataset("embedding/vars/0", layout)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_link, "is a link to elsewhere"),
        (_virtual, "in another file"),
        (lambda file: None, "expected 1 variables"),
    ],
)
def test_what_is_wrong_with_a_file_of_weights_is_said(pair_net, tmp_path, damage, said):
    model = pair_net()
    model.save_weights(tmp_path / "w.weights.h5")
    with h5py.File(tmp_path / "w.weights.h5", "a") as file:
        del file["embedding/vars/0"]
        damage(file)
    with pytest.raises(ValueError, match=rf"w\.weights\.h5'; .*{said}"):
        model.load_weights(tmp_path / "w.weights.h5")


# ----- raw weights and averages


def averaging(pair_net):
    optimizer = keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9)
    model = compiled(pair_net, optimizer)
    return model, GraphLoader(make_graphs(6, sizes=(3,)), 2)


def fit(model, loader, last, first=0, callbacks=()):
    history = model.fit(
        loader, epochs=last, initial_epoch=first, verbose=0, callbacks=list(callbacks)
    )
    return history.history["loss"]


@pytest.fixture(scope="module")
def whole(pair_net):
    model, loader = averaging(pair_net)
    return fit(model, loader, 4), weights_of(model)


@pytest.mark.parametrize(
    "way", ["backup", *(pytest.param(w, marks=pytest.mark.once) for w in ("twice", "keras"))]
)
def test_a_training_in_two_parts_is_one(pair_net, whole, tmp_path, way):
    """Averages are what is saved and predicted with, raw weights what training goes on with."""
    losses, weights = whole
    model, loader = averaging(pair_net)
    backup = []
    if way == "backup":
        backup = [keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)]
    start = fit(model, loader, 2, callbacks=backup)
    if way == "keras":
        model.save(tmp_path / "m.keras")
        model = keras.models.load_model(tmp_path / "m.keras")
    elif way == "backup":
        model, loader = averaging(pair_net)
    rest = fit(model, loader, 4, 0 if way == "backup" else 2, backup)
    assert start + rest == losses
    for found, expected in zip(weights_of(model), weights, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.once
def test_weights_that_were_replaced_are_what_training_begins_with(pair_net):
    model, loader = averaging(pair_net)
    fit(model, loader, 1)
    model.set_weights([np.zeros_like(array) for array in model.get_weights()])
    model.optimizer.learning_rate = 0.0
    fit(model, loader, 1)
    assert all(np.all(raw == 0.0) for raw in model.raw_weights.arrays)


def test_averages_that_keras_swaps_are_not_backed_up(pair_net, tmp_path):
    model, loader = averaging(pair_net)
    callbacks = [keras.callbacks.SwapEMAWeights(), keras.callbacks.BackupAndRestore(tmp_path)]
    with pytest.raises(ValueError, match=r"train\(\.\.\., resume=True\)"):
        fit(model, loader, 1, callbacks=callbacks)
