"""`fit`, `evaluate`, `predict` and saving do what Keras users expect, with correct numbers."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.backend.common import dtypes

from keras_mlff import backend, fit, heads, presets
from keras_mlff.graph import join, structure
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.budget import Budget, choose_budget
from keras_mlff.packing.loader import GraphLoader

BACKEND = keras.backend.backend()
REFERENCES = {1: -13.6, 6: -1036.25, 8: -2041.75}


def make_graphs(count, sizes=(1, 3, 4, 6), **labels):
    """Makes structures of several sizes with energies near the sums of their references."""
    random = np.random.default_rng(2)
    graphs = []
    for index in range(count):
        num_atoms = sizes[index % len(sizes)]
        numbers = random.choice([1, 6, 8], num_atoms)
        graph = structure(
            random.normal(size=(num_atoms, 3)) * 1.5,
            numbers,
            energy=sum(REFERENCES[z] for z in numbers.tolist()) + random.normal(),
            forces=random.normal(size=(num_atoms, 3)),
            **{key: make(random) for key, make in labels.items()},
        )
        graphs.append(add_edges(graph, 5.0))
    return graphs


def compiled(pair_net, optimizer=None, jit_compile=BACKEND == "jax", **kwargs):
    keras.utils.set_random_seed(1)
    model = pair_net(heads=[heads.EnergyHead(references=REFERENCES, scale=2.0)], **kwargs)
    model.compile(
        optimizer or keras.optimizers.SGD(0.0),
        loss={"energy": "mse", "forces": "mse"},
        loss_weights={"energy": 0.2, "forces": 0.8},
        metrics={"energy": ["mae", "rmse"], "forces": "mae"},
        jit_compile=jit_compile,  # tracing alone takes TensorFlow less time than XLA saves here
    )
    return model


def expected_logs(model, graphs):
    """Computes the numbers of `evaluate` from those of `predict`."""
    predicted = model.predict(graphs)
    energy = predicted["energy"] - np.concatenate([graph["energy"] for graph in graphs])
    forces = predicted["forces"] - np.concatenate([graph["forces"] for graph in graphs])
    parts = {"energy_loss": np.mean(energy**2), "forces_loss": np.mean(forces**2)}
    return {
        "loss": 0.2 * parts["energy_loss"] + 0.8 * parts["forces_loss"],
        **parts,
        "energy_mae": np.mean(np.abs(energy)),
        "energy_rmse": np.sqrt(np.mean(energy**2)),
        "forces_mae": np.mean(np.abs(forces)),
    }


def assert_logs(actual, expected):
    assert set(actual) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(actual[key], value, rtol=2e-5, err_msg=key)


def weights_of(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.weights]


# ----- the numbers of fit, evaluate and predict


def test_evaluate_counts_each_graph_and_each_atom_once(pair_net):
    """Seven structures of four sizes in batches of three: the last batch is ragged."""
    model, graphs = compiled(pair_net), make_graphs(7)
    expected = expected_logs(model, graphs)
    loader = GraphLoader(graphs, batch_size=3)
    assert len(loader) > 1
    assert_logs(model.evaluate(loader, verbose=0, return_dict=True), expected)
    logs = model.evaluate(graphs, batch_size=7, verbose=0, return_dict=True)
    assert_logs(logs, expected)
    assert next(iter(logs)) == "loss"
    values = model.evaluate(loader, verbose=0)
    np.testing.assert_allclose(values, [logs[key] for key in logs], rtol=1e-4)
    np.testing.assert_allclose(values[0], expected["loss"], rtol=2e-5)


def test_fit_reports_what_evaluate_does(pair_net):
    """With a learning rate of zero an epoch must report the same numbers."""
    model, graphs = compiled(pair_net), make_graphs(7)
    expected = expected_logs(model, graphs)
    history = model.fit(graphs, batch_size=3, epochs=2, validation_data=graphs, verbose=0).history
    for epoch in range(2):
        here = {key: values[epoch] for key, values in history.items()}
        assert_logs({k: v for k, v in here.items() if not k.startswith("val_")}, expected)
        assert_logs(
            {k.removeprefix("val_"): v for k, v in here.items() if k.startswith("val_")}, expected
        )


def test_a_single_loss_is_a_number(pair_net):
    model = pair_net()
    model.compile("sgd", loss={"energy": "mae"})
    assert isinstance(model.evaluate(make_graphs(3), verbose=0), float)


def test_predict_keeps_the_order_and_drops_the_padding(pair_net):
    model, graphs = compiled(pair_net), make_graphs(9)
    together = model.predict(graphs, batch_size=4)
    budget = choose_budget(graphs, 4)
    alone = [model.predict(GraphLoader([graph], budget=budget)) for graph in graphs]
    for key in ("energy", "forces", "atomic_energies"):
        np.testing.assert_allclose(
            together[key], np.concatenate([item[key] for item in alone]), rtol=1e-5, atol=1e-6
        )
    assert together["energy"].dtype == np.float64


def test_predict_takes_structures_graphs_and_joined_graphs(pair_net):
    model, graphs = compiled(pair_net), make_graphs(4)
    bare = [structure(graph["positions"], graph["atomic_numbers"], energy=0.0) for graph in graphs]
    first = model.predict(graphs)
    for other in (model.predict(bare), model.predict(join(graphs))):
        for key, value in first.items():
            np.testing.assert_allclose(other[key], value, rtol=1e-5, atol=1e-6, err_msg=key)


def test_predict_refuses_a_loader_that_shuffles(pair_net):
    with pytest.raises(ValueError, match="shuffle"):
        compiled(pair_net).predict(GraphLoader(make_graphs(4), 2, shuffle=True))


def test_a_store_of_graphs_is_fed_as_a_list_is(pair_net, tmp_path):
    from keras_mlff.pipeline import store

    model, graphs = compiled(pair_net), make_graphs(5)
    stored = store.make(tmp_path, ("five",), lambda: graphs)
    expected = model.evaluate(graphs, batch_size=3, verbose=0)
    np.testing.assert_allclose(model.evaluate(stored, batch_size=3, verbose=0), expected, rtol=1e-6)
    energies = model.predict(graphs)["energy"]
    np.testing.assert_allclose(model.predict(stored)["energy"], energies, rtol=1e-6)
    history = model.fit(stored, batch_size=3, verbose=0).history
    np.testing.assert_allclose(history["loss"], expected[0], rtol=1e-5)


def test_what_is_no_graph_and_no_loader_is_refused(pair_net):
    model, graphs = compiled(pair_net), make_graphs(2)
    with pytest.raises(TypeError, match=r"Received: generator\. Make a list"):
        model.fit((graph for graph in graphs), verbose=0)
    with pytest.raises(TypeError, match="from_atoms"):
        model.predict(iter(graphs))
    with pytest.raises(TypeError, match="Received: NoneType"):
        model.evaluate(verbose=0)
    with pytest.raises(TypeError, match="a list with ndarray"):
        model.predict([np.zeros((2, 3))])
    with pytest.raises(
        ValueError, match=r"\['atomic_numbers', 'positions'\], without \['atom_mask'"
    ):
        model.predict({"positions": np.zeros((1, 3)), "atomic_numbers": np.asarray([1])})


def test_edges_without_triplets_are_refused_where_they_are_needed(pair_net):
    class AngleNet(pair_net):
        uses_triplets = True

    graphs = make_graphs(2)
    model = compiled(AngleNet)
    for use in (model.predict, model.evaluate, model.fit):
        with pytest.raises(ValueError, match="AngleNet needs triplets"):
            use(graphs, verbose=0)
    model.predict([add_edges(graph, 5.0, triplets=True) for graph in graphs])


# ----- weights of samples


class WithWeights(GraphLoader):
    def __getitem__(self, index):
        return (*super().__getitem__(index), np.ones(self.budget.num_graphs))


def test_weights_of_samples_and_classes_are_refused(pair_net):
    """They would change nothing: the loss weighs every structure alike."""
    model, graphs = compiled(pair_net), make_graphs(4)
    inputs, labels = GraphLoader(graphs, 4)[0]
    zeros = {"energy": np.zeros(4), "forces": np.zeros(len(labels["forces"]))}
    for use in (model.test_on_batch, model.train_on_batch):
        with pytest.raises(ValueError, match=r"Received: sample_weight\. .*loss_weights"):
            use(inputs, labels, sample_weight=zeros)
        with pytest.raises(ValueError, match="Received: sample_weight"):
            use(inputs, labels, zeros)
    for use in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="Received: sample_weight"):
            use(WithWeights(graphs, 4), verbose=0)
        with pytest.raises(ValueError, match="Received: sample_weight"):
            use(graphs, sample_weight=np.ones(4), verbose=0)
    with pytest.raises(ValueError, match="Received: class_weight"):
        model.fit(graphs, class_weight={0: 2.0}, verbose=0)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="other backends unpack batches in NumPy")
def test_a_dataset_with_weights_is_refused_and_one_without_labels_says_so(pair_net):
    import tensorflow as tf

    model = compiled(pair_net)
    inputs, labels = GraphLoader(make_graphs(4), 4)[0]
    weighted = tf.data.Dataset.from_tensors((inputs, labels, np.ones(4)))
    with pytest.raises(ValueError, match="Received: sample_weight"):
        model.fit(weighted, verbose=0)
    with pytest.raises(ValueError, match="no label 'energy'"):
        model.fit(tf.data.Dataset.from_tensors(inputs), verbose=0)


def test_a_single_callback_needs_no_list(pair_net):
    model, graphs = compiled(pair_net, keras.optimizers.Adam(0.01, use_ema=True)), make_graphs(2)
    model.fit(graphs, callbacks=keras.callbacks.TerminateOnNaN(), verbose=0)
    together = keras.callbacks.CallbackList([keras.callbacks.TerminateOnNaN()])
    assert "loss" in model.fit(graphs, callbacks=together, verbose=0).history


def test_single_batches_can_be_trained_and_tested(pair_net):
    model = compiled(pair_net, dtype="float64")
    inputs, labels = GraphLoader(make_graphs(4), 4)[0]
    labels = {**labels, "energy": labels["energy"] - model.heads[0].offsets(inputs)}
    trained = model.train_on_batch(inputs, labels, return_dict=True)
    model.reset_metrics()
    tested = model.test_on_batch(inputs, labels, return_dict=True)
    np.testing.assert_allclose(trained["loss"], tested["loss"], rtol=1e-6)


def test_each_epoch_sees_every_graph_once_in_an_order_of_its_own(pair_net):
    seen = []

    class Watched(GraphLoader):
        def __getitem__(self, index):
            seen.append((self.epoch, index, tuple(self._indices(index))))
            return super().__getitem__(index)

    model = compiled(pair_net)
    loader = Watched(make_graphs(8, sizes=(3,)), 4, shuffle=True)
    model.fit(loader, epochs=3, verbose=0)
    orders = {}
    for epoch, _, indices in dict.fromkeys(seen):
        orders.setdefault(epoch, []).extend(indices)
    for epoch in range(3):
        assert sorted(orders[epoch]) == list(range(8))
    assert len({tuple(orders[epoch]) for epoch in range(3)}) > 1
    assert loader.epoch == 3


def test_large_references_cost_no_precision(pair_net):
    """float32 holds 2e5 eV to 16 meV only: labels lose their references in float64 before."""
    model, graphs = compiled(pair_net), make_graphs(5)
    before = model.evaluate(graphs, verbose=0, return_dict=True)
    model.heads[0].shift = 262144.0
    shifted = [{**graph, "energy": graph["energy"] + 262144.0} for graph in graphs]
    after = model.evaluate(shifted, verbose=0, return_dict=True)
    np.testing.assert_allclose(after["energy_mae"], before["energy_mae"], rtol=1e-6)


# ----- weight averages


@pytest.mark.parametrize("stop_early", [False, True])
def test_averaged_weights_are_what_validation_and_files_see(pair_net, tmp_path, stop_early):
    graphs = make_graphs(6, sizes=(3,))
    optimizer = keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.8)
    model = compiled(pair_net, optimizer)
    path = tmp_path / "last.weights.h5"
    callbacks = [keras.callbacks.ModelCheckpoint(path, save_weights_only=True)]
    if stop_early:
        callbacks.append(keras.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=1))
    history = model.fit(
        graphs, batch_size=2, epochs=4, validation_data=graphs, verbose=0, callbacks=callbacks
    ).history
    assert len(history["loss"]) == (2 if stop_early else 4)
    after = model.evaluate(graphs, batch_size=2, verbose=0, return_dict=True)
    np.testing.assert_allclose(after["loss"], history["val_loss"][-1], rtol=1e-5)
    final = weights_of(model)
    model.load_weights(path)
    for ours, theirs in zip(final, weights_of(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# ----- regularization and devices


def test_factors_of_losses_follow_their_schedule(pair_net):
    """Validation weighs as the end does, and no epoch compiles anew."""
    graphs = make_graphs(8)
    model = compiled(pair_net)
    weights = {"energy": fit.WeightSchedule([(0, 0.5), (2, 2.5)]), "forces": 0.25}
    loss = {"energy": "mse", "forces": "mse"}
    model.compile(keras.optimizers.SGD(0.0), loss, weights, jit_compile=BACKEND == "jax")
    history = model.fit(
        graphs, batch_size=4, epochs=4, validation_data=graphs, verbose=0, shuffle=False
    ).history
    energy, forces = history["energy_loss"], history["forces_loss"]
    expected = [w * energy[0] + 0.25 * forces[0] for w in (0.5, 1.5, 2.5, 2.5)]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(history["val_loss"], [expected[3]] * 4, rtol=1e-5)
    np.testing.assert_allclose(model.evaluate(graphs, batch_size=4)[0], expected[3], rtol=1e-5)
    config = keras.saving.deserialize_keras_object(model.get_compile_config())
    assert config["loss_weights"]["energy"].points == [(0, 0.5), (2, 2.5)]
    with pytest.raises(ValueError, match="ascending"):
        fit.WeightSchedule([(3, 1.0), (0, 2.0)])


def test_clipped_gradients_make_bounded_steps(pair_net):
    model = compiled(pair_net, keras.optimizers.SGD(1.0, global_clipnorm=0.05))
    before = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    model.fit(make_graphs(4), batch_size=4, epochs=1, verbose=0)
    after = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    moved = sum(np.sum((new - old) ** 2) for new, old in zip(after, before, strict=True))
    np.testing.assert_allclose(moved**0.5, 0.05, rtol=1e-3)


def test_penalties_of_layers_are_part_of_the_loss(pair_net):
    model, graphs = compiled(pair_net, penalty=0.5), make_graphs(7)
    kernel = keras.ops.convert_to_numpy(model.dense.kernel)
    expected = expected_logs(model, graphs)
    expected["data_loss"] = expected["loss"]
    expected["loss"] = expected["loss"] + 0.5 * np.sum(kernel**2)
    logs = model.evaluate(graphs, batch_size=3, verbose=0, return_dict=True)
    assert_logs(logs, expected)


REPLICAS = """
import sys
import keras
import numpy as np
import tensorflow as tf

device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, sys.argv[1])
import conftest
from keras_mlff.graph import structure
from keras_mlff.neighbors import add_edges
from keras_mlff.packing import Budget, inputs_and_labels, pack

random = np.random.default_rng(0)
graphs = []
for n in (1, 3, 2, 4, 2):  # one replica gets three graphs, the other two
    labels = {"energy": random.normal(), "forces": random.normal(size=(n, 3))}
    graphs.append(add_edges(structure(random.normal(size=(n, 3)), [6] * n, **labels), 5.0))

results = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = conftest.PairNet(penalty=0.3)
        losses = {"energy": "mse", "forces": "mse"}
        watched = {"energy": "mae"}
        model.compile(keras.optimizers.SGD(1.0), losses, metrics=watched, jit_compile=False)
    parts = [graphs[:3], graphs[3:]] if results else [graphs]
    budget = Budget(3, 8, 32, 0, 4) if results else Budget(6, 16, 64, 0, 4)
    batches = [inputs_and_labels(pack(part, budget)) for part in parts]
    before = [np.array(v) for v in model.trainable_variables]

    @tf.function
    def step():
        def replica():
            index = tf.distribute.get_replica_context().replica_id_in_sync_group
            chosen = tf.nest.map_structure(lambda *x: tf.gather(tf.stack(x), index), *batches)
            model.train_step(chosen)
        strategy.run(replica)

    step()
    changes = [np.array(v) - b for v, b in zip(model.trainable_variables, before)]
    logs = {key: float(np.array(value)) for key, value in model._objective[0].logs().items()}
    results.append((changes, logs))
(one, first), (two, second) = results
for a, b in zip(one, two):
    assert np.abs(a).max() > 0
    np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)
for key in first:
    np.testing.assert_allclose(second[key], first[key], rtol=1e-5, err_msg=key)
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a strategy of TensorFlow's")
def test_two_devices_make_the_step_of_one():
    """Each graph has the same weight, on whichever device it is, and penalties count once."""
    command = [sys.executable, "-c", REPLICAS, os.path.dirname(__file__)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


# ----- compile


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": {}}, "names a loss"),
        ({"loss": "mse"}, "names a loss"),
        ({"loss": {"enrgy": "mse"}}, "does not predict.*enrgy"),
        ({"loss": {"energy": "mse"}, "metrics": {"dipole": "mae"}}, "does not predict.*dipole"),
        ({"loss": {"energy": "mse"}, "loss_weights": {"forces": 1.0}}, "loss_weights.*forces"),
        ({"loss": {"energy": "no_such_loss"}}, "no_such_loss"),
        ({"loss": {"forces": fit.PerAtom("mse")}}, "PerAtom"),
    ],
)
def test_compile_refuses_what_cannot_work(pair_net, arguments, message):
    with pytest.raises(ValueError, match=message):
        pair_net().compile("sgd", **arguments)


def test_fit_and_evaluate_say_which_label_is_missing(pair_net):
    graphs = [{k: v for k, v in graph.items() if k != "forces"} for graph in make_graphs(3)]
    model = compiled(pair_net)
    model.run_eagerly = BACKEND != "jax"  # which traces sooner than it compiles each operation
    with pytest.raises(ValueError, match="no label 'forces'"):
        model.fit(graphs, verbose=0)


def test_an_error_in_a_step_leaves_a_model_its_weights(pair_net):
    """Keras's JAX trainer takes the weights out of the model while it trains or evaluates."""
    model, graphs = compiled(pair_net), make_graphs(3)
    model.run_eagerly = BACKEND != "jax"
    before = model.predict(graphs)["energy"]
    unlabeled = [{k: v for k, v in graph.items() if k != "forces"} for graph in graphs]
    for use in (model.evaluate, model.fit):
        with pytest.raises(ValueError, match="no label 'forces'"):
            use(unlabeled, verbose=0)
    np.testing.assert_array_equal(model.predict(graphs)["energy"], before)


def test_fit_before_compile_says_what_to_do(pair_net):
    with pytest.raises(ValueError, match="compile"):
        pair_net().fit(make_graphs(2), verbose=0)


def test_a_label_of_the_wrong_width_is_refused(pair_net):
    model = pair_net(heads=[heads.DipoleHead()])
    model.compile("sgd", loss={"dipole": "mse"}, run_eagerly=BACKEND != "jax")
    with pytest.raises(ValueError, match="dipole_norm"):
        make_graphs(2, dipole=lambda random: random.normal())
    graphs = [graph | {"dipole": np.ones(1)} for graph in make_graphs(2)]
    with pytest.raises(ValueError, match="dipole_norm"):
        model.evaluate(graphs, verbose=0)


def test_compiling_again_leaves_no_metrics_behind(pair_net):
    model = pair_net()
    for _ in range(3):
        model.compile("sgd", loss={"energy": fit.PerAtom("mae")}, metrics={"energy": "mae"})
    assert len(model.metrics) == 3
    assert len(model.metrics_variables) == 6


# ----- saving


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


def test_a_network_that_ignores_charge_and_spin_says_so(pair_net):
    with pytest.raises(ValueError, match="with_charge_spin"):
        pair_net(charge_spin=True)


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


# ----- presets


def as_preset(model):
    stated = {"elements": [1, 6, 8], "properties": ["energy", "forces"], "seed": 1}
    model.preset = presets.Preset("invented", type(model).__name__, Path("nowhere"), stated)
    return model


def with_gold():
    return [
        {**graph, "atomic_numbers": graph["atomic_numbers"] * 0 + 79} for graph in make_graphs(3)
    ]


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


def test_a_preset_judges_no_unknown_element_however_it_is_fed(pair_net):
    model = as_preset(compiled(pair_net))
    known, unknown = make_graphs(4), with_gold()
    # the first batch is fine: later ones come through other threads
    loader = GraphLoader(known + unknown, batch_size=3)
    message = r"atomic_numbers=\[79\], preset='invented'"
    for use in (model.predict, model.evaluate):
        for data in (known + unknown, loader):
            with pytest.raises(ValueError, match=message):
                use(data, verbose=0)
    model.evaluate(GraphLoader(known, 3), verbose=0)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        one = loader[0]
        signature = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), one)
        dataset = tf.data.Dataset.from_generator(lambda: iter(loader), output_signature=signature)
        with pytest.raises(ValueError, match=message):
            model.evaluate(dataset, verbose=0)


# ----- heads and references


def test_several_heads_learn_at_once(pair_net):
    model = pair_net(
        heads=[
            heads.EnergyHead(),
            heads.DipoleHead(),
            heads.PolarizabilityHead(),
            heads.SpatialExtentHead(),
            heads.ScalarHead("gap", pooling="mean"),
            heads.ScalarHead("capacity"),
        ]
    )
    graphs = make_graphs(5, gap=lambda random: random.normal())
    predicted = model.predict(graphs)
    assert predicted["dipole"].shape == (5, 3)
    assert predicted["polarizability"].shape == (5, 3, 3)
    assert model.property_names[:2] == ["energy", "forces"]
    assert set(predicted) == set(model.property_names)
    # heads without a label stay as they are, on every backend
    model.compile(keras.optimizers.SGD(0.1), loss={"energy": "mse", "gap": "mse"})
    before = weights_of(model)
    model.fit(graphs, epochs=1, verbose=0)
    changed = [
        not np.array_equal(old, new) for old, new in zip(before, weights_of(model), strict=True)
    ]
    assert any(changed)
    assert not all(changed)


def test_averages_do_not_grow_with_the_molecule(pair_net):
    model = pair_net(
        heads=[heads.ScalarHead("mean", pooling="mean"), heads.ScalarHead("total", pooling="sum")]
    )
    one = structure([[0.0, 0.0, 0.0]], [6])
    three = structure([[0.0, 0.0, 0.0], [90.0, 0.0, 0.0], [0.0, 90.0, 0.0]], [6, 6, 6])
    predicted = model.predict([one, three])
    np.testing.assert_allclose(predicted["mean"][1], predicted["mean"][0], rtol=1e-6)
    np.testing.assert_allclose(predicted["total"][1], 3 * predicted["total"][0], rtol=1e-6)


def test_a_model_without_energy_has_no_forces(pair_net):
    model = pair_net(heads=[heads.DipoleHead()])
    assert set(model.predict(make_graphs(2))) == {"dipole", "dipole_norm"}
    model.compile(keras.optimizers.Adam(0.01), loss={"dipole_norm": "mse"})
    graphs = make_graphs(4, dipole_norm=lambda random: abs(random.normal()))
    history = model.fit(graphs, epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ([], TypeError),
        (["energy"], TypeError),
        ([heads.EnergyHead(), heads.EnergyHead()], ValueError),
        ([heads.EnergyHead(name="atomization")], ValueError),
        ([heads.EnergyHead(), heads.ScalarHead("forces")], ValueError),
        ([heads.ScalarHead("positions")], ValueError),
    ],
)
def test_heads_that_cannot_work_are_refused(pair_net, given, error):
    with pytest.raises(error, match="Received"):
        pair_net(heads=given)


def test_references_are_fitted_and_scales_follow(pair_net):
    graphs = make_graphs(12, gap=lambda random: 7.0 + random.normal())
    model = pair_net(heads=[heads.EnergyHead(), heads.ScalarHead("gap", pooling="mean")])
    model.compile("sgd", loss={"energy": "mae"}, metrics={"energy": "mae"})
    before = model.evaluate(graphs, verbose=0, return_dict=True)["energy_mae"]
    model.fit_offsets(graphs)
    energy, gap = model.heads
    for element, value in REFERENCES.items():
        assert abs(energy.references[element] - value) < 2.0
    forces = np.concatenate([graph["forces"].ravel() for graph in graphs])
    np.testing.assert_allclose(energy.scale, np.sqrt(np.mean(forces**2)))
    assert gap.references == {}
    np.testing.assert_allclose(gap.shift, np.mean([graph["gap"] for graph in graphs]))
    after = model.evaluate(graphs, verbose=0, return_dict=True)["energy_mae"]
    assert after < 10.0 < before
    predicted = model.predict(graphs)
    errors = predicted["energy"] - np.concatenate([graph["energy"] for graph in graphs])
    np.testing.assert_allclose(np.mean(np.abs(errors)), after, rtol=1e-5)
    # a change of scale must reach code that was compiled before
    energy_before = predicted["energy"] - energy.offsets(join(graphs))
    energy.scale *= 2.0
    model.fit_offsets(graphs)
    again = pair_net.from_config(model.get_config())
    assert again.heads[0].references == energy.references
    assert np.all(np.isfinite(energy_before))


# ----- compilations


def test_shapes_are_counted_and_a_surplus_is_reported(pair_net):
    model, graphs = compiled(pair_net), make_graphs(1, sizes=(3,))
    for extra in range(8):
        model._count_shapes(
            "predict", GraphLoader(graphs, budget=Budget(1, 3 + extra, 6, 0, 3))[0][0]
        )
    assert len(model.compilations["predict"]) == 8
    surplus = GraphLoader(graphs, budget=Budget(1, 20, 6, 0, 3))[0][0]
    if model.jit_compile:
        with pytest.warns(UserWarning, match="9 different batch shapes"):
            model._count_shapes("predict", surplus)


def test_an_epoch_compiles_once(pair_net):
    model, graphs = compiled(pair_net, jit_compile="auto"), make_graphs(12)
    model.fit(graphs, batch_size=3, epochs=2, validation_data=graphs, verbose=0)
    assert {mode: len(shapes) for mode, shapes in model.compilations.items()} == {
        "fit": 1,
        "evaluate": 1,
        "predict": 0,
    }


# ----- global settings


def test_a_float64_model_changes_no_global_setting(pair_net):
    before = keras.config.floatx(), keras.config.dtype_policy().name
    model = pair_net(dtype="float64")
    predicted = model.predict(make_graphs(2))
    assert predicted["forces"].dtype == np.float64
    assert (keras.config.floatx(), keras.config.dtype_policy().name) == before
    assert "float32" in str(keras.ops.convert_to_tensor(np.ones(2, "float32")).dtype)


@pytest.mark.parametrize(
    "dtype", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "int32", "float", 3]
)
def test_precisions_that_cannot_hold_an_energy_are_refused(pair_net, dtype):
    with pytest.raises(ValueError, match=f"`dtype`: {dtype!r}. Pass dtype='float32'"):
        pair_net(dtype=dtype)


def test_a_global_half_precision_is_refused_unless_the_model_has_its_own(pair_net):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.raises(ValueError, match=r"global policy.*'mixed_bfloat16'"):
            pair_net()
        forces = pair_net(dtype="float32").predict(make_graphs(2))["forces"]
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
    assert forces.dtype == np.float32
    assert np.all(np.isfinite(forces))


def test_a_thread_computes_in_float64_while_it_asks_for_it_and_others_as_before():
    """Two blocks overlap; the one that opened first closes first."""
    table, before = dtypes.BIT64_TO_BIT32_DTYPE, keras.backend.result_type("float64", "float64")
    opened, closed = threading.Barrier(3), threading.Barrier(3)
    found = {}

    def first():
        with backend.double_precision():
            opened.wait(30)
        found["first after"] = keras.backend.result_type("float64", "float64")
        closed.wait(30)

    def second():
        with backend.double_precision():
            opened.wait(30)
            closed.wait(30)
            found["second inside"] = keras.backend.result_type("float64", "float64")

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    opened.wait(30)
    found["main"] = keras.backend.result_type("float64", "float64")
    closed.wait(30)
    for thread in threads:
        thread.join()
    assert found == {"first after": before, "second inside": "float64", "main": before}
    assert dtypes.BIT64_TO_BIT32_DTYPE is table
    assert keras.backend.result_type("float64", "float64") == before


def test_models_of_both_precisions_run_beside_each_other(pair_net):
    models = [pair_net(dtype=dtype) for dtype in ("float64", "float32", "float64")]
    # each its own weights, and 1 / 3 is another number in float32
    for model in models:
        model.assign_weights([(v, np.full(v.shape, 1.0 / 3.0)) for v in model.variables])
    graphs = make_graphs(3)
    expected = [model.predict(graphs) for model in models]

    def differences(number):
        results = [models[number].predict(graphs)["forces"] for _ in range(20)]
        return [np.max(np.abs(result - expected[number]["forces"])) for result in results]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(3) as pool:
            found = np.asarray(list(pool.map(differences, range(3))))
    finally:
        sys.setswitchinterval(interval)
    # sums of several threads differ in their last bits
    assert np.all(found[[0, 2]] < 1e-13)
    assert np.all(found[1] < 1e-5)


X64 = """
import sys
sys.path.insert(0, sys.argv[1])
import conftest
from keras_mlff.graph import structure
model = conftest.PairNet()
predicted = model.predict(structure([[0, 0, 0], [0, 0, 1.0]], [1, 8]))
assert str(predicted["forces"].dtype) == "float32", predicted["forces"].dtype
model.compile("adam", loss={"energy": "mse", "forces": "mse"})
graph = structure([[0, 0, 0], [0, 0, 1.0]], [1, 8], energy=1.0, forces=[[0, 0, 1], [0, 0, -1]])
model.fit([graph], epochs=2, verbose=0)
assert {str(v.value.dtype) for v in model.trainable_variables} == {"float32"}
"""


@pytest.mark.skipif(BACKEND != "jax", reason="a setting of JAX's")
def test_float32_stays_float32_where_jax_allows_float64():
    command = [sys.executable, "-c", X64, os.path.dirname(__file__)]
    environment = os.environ | {"JAX_ENABLE_X64": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]


def test_references_adapt_to_another_level_of_theory(pair_net):
    """A constant per element and atom is taken up whole; the network's part stays."""
    model = compiled(pair_net)
    graphs = make_graphs(12)
    predicted = model.predict(graphs)["energy"]
    shifts = {1: 0.7, 6: -20.0, 8: 3.0}
    moved = [
        {**graph, "energy": energy[None] + sum(shifts[z] for z in graph["atomic_numbers"].tolist())}
        for graph, energy in zip(graphs, predicted, strict=True)
    ]
    model.adapt_offsets(moved)
    after = model.predict(graphs)["energy"]
    np.testing.assert_allclose(after, np.concatenate([g["energy"] for g in moved]), atol=1e-4)
    for number, shift in shifts.items():
        assert abs(model.heads[0].references[number] - REFERENCES[number] - shift) < 1e-4


def test_heads_without_labels_keep_their_references(pair_net):
    model = compiled(pair_net)
    before = dict(model.heads[0].references)
    model.adapt_offsets([{k: v for k, v in g.items() if k != "energy"} for g in make_graphs(2)])
    assert model.heads[0].references == before


def test_frozen_parts_stay_as_they_are(pair_net):
    """Only what is kept changes in training."""
    model = compiled(pair_net, keras.optimizers.Adam(0.01))
    names = set(model.freeze())
    assert names == set()
    assert set(model.unfreeze()) == {"embedding", "dense", "readouts"}
    assert model.freeze(keep="readouts") == ["readouts"]
    model.compile("adam", loss={"energy": "mse"}, jit_compile=BACKEND == "jax")
    learned = {variable.path for variable in model.trainable_variables}
    before = {v.path: keras.ops.convert_to_numpy(v) for v in model.variables}
    model.fit(make_graphs(4), epochs=1, verbose=0)
    for variable in model.variables:
        value = keras.ops.convert_to_numpy(variable)
        if variable.path in learned:
            assert np.any(value != before[variable.path]), variable.path
        elif "optimizer" not in variable.path:
            np.testing.assert_array_equal(value, before[variable.path], err_msg=variable.path)


def test_freezing_an_unknown_part_lists_the_parts(pair_net):
    with pytest.raises(ValueError, match="readouts"):
        compiled(pair_net).freeze("head")


def test_a_model_with_averaged_weights_is_fitted_again(pair_net):
    """The averages that `fit` leaves behind must not share memory with the weights (JAX)."""
    model = compiled(pair_net, keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9))
    first = model.fit(make_graphs(4), epochs=1, verbose=0).history["loss"][0]
    second = model.fit(make_graphs(4), epochs=20, verbose=0).history["loss"][-1]
    assert second < first
