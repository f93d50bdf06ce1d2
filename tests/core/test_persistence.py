"""Files, pickles, copies and presets keep what a model is, and what it was trained on."""

import copy
import importlib.machinery
import json
import pickle
import sys
import types

import keras
import numpy as np
import pytest

from keras_mlff import fit, heads, presets
from keras_mlff.models import ForceField
from keras_mlff.packing.loader import GraphLoader
from tests.core.pair_net import as_preset, assert_logs, compiled, make_graphs, weights_of, with_gold


def test_training_goes_on_after_saving_as_if_nothing_had_happened(pair_net, tmp_path):
    graphs = make_graphs(6, sizes=(3,))
    model = compiled(pair_net, keras.optimizers.Adam(0.01, use_ema=False))
    model.fit(GraphLoader(graphs, 2), epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    histories = [
        one.fit(GraphLoader(graphs, 2), epochs=2, verbose=0).history for one in (model, loaded)
    ]
    assert histories[0] == histories[1]
    for ours, theirs in zip(weights_of(model), weights_of(loaded), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_losses_and_metrics_come_back_from_a_file(pair_net, tmp_path):
    model = pair_net(heads=[heads.EnergyHead(), heads.ScalarHead("gap", pooling="mean")])
    model.compile(
        keras.optimizers.AdamW(1e-3),
        loss={"energy": fit.PerAtom("mae"), "forces": fit.L2Norm(), "gap": "mse"},
        loss_weights={"energy": 2.0},
        metrics={"energy": ["mae", keras.metrics.MeanSquaredError(name="squares")]},
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, keras.optimizers.AdamW)
    assert [metric.name for metric in loaded.metrics] == [metric.name for metric in model.metrics]
    graphs = make_graphs(3, gap=lambda random: random.normal())
    expected = model.evaluate(graphs, verbose=0, return_dict=True)
    actual = loaded.evaluate(graphs, verbose=0, return_dict=True)
    assert_logs(actual, {key: float(value) for key, value in expected.items()})


def test_a_file_does_not_carry_one_backends_compiler_to_another(pair_net):
    """PyTorch cannot compile forces, so a model saved by TensorFlow must not ask for it."""
    model = compiled(pair_net, jit_compile="auto")
    assert model.get_compile_config()["jit_compile"] == "auto"


def test_configs_hold_defaults_too(pair_net):
    config = pair_net(num_features=6).get_config()
    assert (config["num_features"], config["cutoff"], config["penalty"]) == (6, 5.0, 0.0)
    assert config["dtype"] == "float32"
    assert config["heads"][0]["config"]["scale"] == 1.0
    again = pair_net.from_config(config)
    assert again.get_config() == config


def test_float64_survives_a_file_on_every_backend(pair_net, tmp_path):
    model = compiled(pair_net, keras.optimizers.Adam(0.01), dtype="float64")
    third = [(v, np.full(v.shape, 1.0 / 3.0)) for v in model.trainable_variables]
    model.assign_weights(third)
    model.fit(GraphLoader(make_graphs(2, sizes=(3,)), 2), epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(weights_of(model), weights_of(loaded), strict=True):
        assert theirs.dtype == np.float64
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (ours, theirs)))


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "file"])
def test_copies_of_a_preset_refuse_what_the_preset_does(pair_net, tmp_path, how):
    model = as_preset(pair_net())
    if how == "pickle":
        copied = pickle.loads(pickle.dumps(model))
    elif how == "deepcopy":
        copied = copy.deepcopy(model)
    else:
        model.save(tmp_path / "model.keras")
        copied = keras.models.load_model(tmp_path / "model.keras")
    assert copied.preset == model.preset
    with pytest.raises(ValueError, match=r"atomic_numbers=\[79\], preset='invented'"):
        copied.predict(with_gold())


def test_fresh_weights_and_trained_ones_are_no_preset(pair_net, tmp_path):
    model = as_preset(compiled(pair_net))
    assert keras.models.clone_model(model).preset is None
    inputs, labels = GraphLoader(make_graphs(2), 2)[0]
    model.train_on_batch(inputs, labels)
    assert model.preset is None
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").preset is None


@pytest.mark.parametrize("dtype", [None, "float32", "float64"])
def test_a_copy_has_the_same_weights_and_shares_nothing(pair_net, dtype):
    model, graphs = as_preset(compiled(pair_net)), make_graphs(3)
    copied = model.copy(dtype)
    assert copied.compute_dtype == (dtype or "float32")
    assert copied.preset == model.preset
    expected = model.predict(graphs)
    np.testing.assert_allclose(copied.predict(graphs)["energy"], expected["energy"], atol=1e-5)
    copied.heads[0].shift = 5.0
    copied.assign_weights([(v, np.zeros(v.shape)) for v in copied.weights])
    np.testing.assert_array_equal(model.predict(graphs)["energy"], expected["energy"])


def test_configs_written_before_are_upgraded(pair_net, tmp_path, monkeypatch):
    """`num_channels` was the name of `num_features` once."""

    class Renamed(pair_net):
        @classmethod
        def upgrade_config(cls, config):
            if "num_channels" in config:
                config["num_features"] = config.pop("num_channels")
            return config

    monkeypatch.setattr(presets, "zoo_folders", lambda: [tmp_path])
    model = Renamed(num_features=6)
    old = model.get_config()
    old["num_channels"] = old.pop("num_features")
    assert Renamed.from_config(old).num_features == 6
    assert "num_channels" in old  # what was given stays as it is
    assert Renamed.from_config(model.get_config()).num_features == 6

    model.save_to_preset(tmp_path / "renamed/old")
    path = tmp_path / "renamed/old/config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"config": old}))
    with pytest.raises(ValueError, match=r"config\.json' is damaged: its SHA-256"):
        Renamed.from_preset("old")
    path = path.with_name("metadata.json")  # in which earlier versions wrote no digest
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in metadata.items() if k != "config_sha256"}))
    assert Renamed.from_preset("old").num_features == 6
    assert Renamed.from_preset("old", cutoff=4.0).cutoff == 4.0


def test_a_base_loads_the_presets_of_what_is_derived_from_it(pair_net, tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "zoo_folders", lambda: [tmp_path])
    pair_net(num_features=6).save_to_preset(tmp_path / "pairnet/small")
    for name in ("pairnet/small", tmp_path / "pairnet/small"):
        assert type(ForceField.from_preset(name)).__name__ == "PairNet"
    with pytest.raises(ValueError, match=r"exists as \['pairnet/small'\]"):
        ForceField.from_preset("small")


def test_ports_are_found_beside_the_model_and_its_bases(pair_net, monkeypatch):
    def build(model_class, hyperparameters, weights, **kwargs):
        model = model_class(num_features=hyperparameters["width"], **kwargs)
        model.embedding.set_weights([weights["table"]])
        return model

    package, port = types.ModuleType("invented"), types.ModuleType("invented.port")
    package.__path__, port.build = [], build
    port.__spec__ = importlib.machinery.ModuleSpec("invented.port", None)
    monkeypatch.setitem(sys.modules, "invented", package)
    monkeypatch.setitem(sys.modules, "invented.port", port)

    class Ported(pair_net):
        __module__ = "invented.model"

    class Derived(Ported):
        __module__ = "elsewhere"

    for owner in (Ported, Derived):
        model = owner.from_port({"width": 3}, {"table": np.ones((119, 3))}, cutoff=4.0)
        assert type(model) is owner
        assert model.cutoff == 4.0
        np.testing.assert_array_equal(model.embedding.get_weights()[0], 1.0)
    with pytest.raises(NotImplementedError, match=r"PairNet.*`port`"):
        pair_net.from_port({}, {})
