"""`fit` and `evaluate` do what Keras users expect, with correct numbers."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mlff import fit, heads
from keras_mlff.packing.loader import GraphLoader
from tests.core.pair_net import assert_logs, compiled, expected_logs, make_graphs, weights_of

BACKEND = keras.backend.backend()


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


def test_a_model_with_averaged_weights_is_fitted_again(pair_net):
    """The averages that `fit` leaves behind must not share memory with the weights (JAX)."""
    model = compiled(pair_net, keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9))
    first = model.fit(make_graphs(4), epochs=1, verbose=0).history["loss"][0]
    second = model.fit(make_graphs(4), epochs=20, verbose=0).history["loss"][-1]
    assert second < first


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
from tests.core.pair_net import PairNet
from keras_mlff.graph import inputs_and_labels, structure
from keras_mlff.neighbors import add_edges
from keras_mlff.packing import Budget, pack

random = np.random.default_rng(0)
graphs = []
for n in (1, 3, 2, 4, 2):  # one replica gets three graphs, the other two
    labels = {"energy": random.normal(), "forces": random.normal(size=(n, 3))}
    graphs.append(add_edges(structure(random.normal(size=(n, 3)), [6] * n, **labels), 5.0))

results = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = PairNet(penalty=0.3)
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
    logs = {key: float(np.array(value)) for key, value in model.objective.logs().items()}
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
    command = [sys.executable, "-c", REPLICAS, str(Path(__file__).parents[2])]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


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
    graphs = [graph | {"dipole": np.ones(1)} for graph in make_graphs(2)]
    with pytest.raises(ValueError, match="dipole_norm"):
        model.evaluate(graphs, verbose=0)


def test_compiling_again_leaves_no_metrics_behind(pair_net):
    model = pair_net()
    for _ in range(3):
        model.compile("sgd", loss={"energy": fit.PerAtom("mae")}, metrics={"energy": "mae"})
    assert len(model.metrics) == 3
    assert len(model.metrics_variables) == 6


def test_what_keras_offers_and_force_fields_do_not_is_named(pair_net):
    model = compiled(pair_net)
    for wrong in ({"steps_per_execution": 2}, {"weighted_metrics": ["mae"]}):
        with pytest.raises(TypeError, match=f"does not support.*{next(iter(wrong))}"):
            model.compile("sgd", loss={"energy": "mse"}, **wrong)
    with pytest.raises(ValueError, match=r"validation_split\. Give `validation_data`"):
        model.fit(make_graphs(4), validation_split=0.25)
    for call in (model.fit, model.predict, model.evaluate, model.fit_offsets, model.adapt_offsets):
        with pytest.raises(ValueError, match="an empty list"):
            call([])
