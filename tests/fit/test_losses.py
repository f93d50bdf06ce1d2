"""Losses and metrics weigh every real graph and atom alike, however they were batched."""

import keras
import numpy as np
import pytest

from keras_mlff.fit.losses import L2Norm, PerAtom
from keras_mlff.fit.objective import Objective
from keras_mlff.graph import inputs_and_labels, join, pad, structure

OUTPUTS = ["energy", "forces", "dipole", "stress"]


def batch(sizes, seed, room=12):
    """Makes a padded batch with labels, and predictions that are nonsense where padded."""
    random = np.random.default_rng(seed)
    graphs = [
        structure(
            random.normal(size=(n, 3)),
            [6] * n,
            energy=random.normal(),
            forces=random.normal(size=(n, 3)),
            dipole=random.normal(size=3),
        )
        for n in sizes
    ]
    graph = pad(join(graphs), num_graphs=5, num_atoms=room, num_edges=0)
    inputs, labels = inputs_and_labels(graph)
    predictions = {}
    for key, value in labels.items():
        mask = inputs["atom_mask" if key == "forces" else "graph_mask"]
        guess = random.normal(size=value.shape)
        guess[~mask] = 1e6
        predictions[key] = guess
    as_tensors = [
        {
            key: keras.ops.convert_to_tensor(
                value.astype("float32") if value.dtype.kind == "f" else value
            )
            for key, value in part.items()
        }
        for part in (inputs, labels, predictions)
    ]
    return as_tensors, (inputs, labels, predictions)


def epoch(objective, batches):
    for metric in objective.all_metrics:
        metric.reset_state()
    losses = []
    for tensors, _ in batches:
        losses.append(float(objective.loss(*tensors)))
        objective.add_regularization([], tensors[0])
        objective.update_metrics(*tensors)
    return losses, {key: float(value) for key, value in objective.logs().items()}


def errors(batches, key, counted="graph_mask"):
    return np.concatenate(
        [(pred[key] - labels[key])[inputs[counted]] for _, (inputs, labels, pred) in batches]
    )


@pytest.fixture(scope="module")
def batches():
    return [batch((1, 3, 2), 0), batch((4,), 1), batch((2, 2, 1, 3, 1), 2)]


def test_epoch_values_are_means_over_graphs_and_atoms(batches):
    """The last batch is not as full as the others; a mean of batch means would be wrong."""
    objective = Objective(
        {"energy": "mse", "forces": "mae", "dipole": "huber"},
        {"energy": 0.2},
        {"energy": ["mae", "rmse"], "forces": "rmse"},
        OUTPUTS,
    )
    _, logs = epoch(objective, batches)
    energy, forces = errors(batches, "energy"), errors(batches, "forces", "atom_mask")
    size = np.abs(errors(batches, "dipole"))
    expected = {
        "energy_loss": np.mean(energy**2),
        "forces_loss": np.mean(np.abs(forces)),
        "dipole_loss": np.mean(np.where(size < 1.0, size**2 / 2.0, size - 0.5)),
        "energy_mae": np.mean(np.abs(energy)),
        "energy_rmse": np.sqrt(np.mean(energy**2)),
        "forces_rmse": np.sqrt(np.mean(forces**2)),
    }
    expected["loss"] = (
        0.2 * expected["energy_loss"] + expected["forces_loss"] + expected["dipole_loss"]
    )
    assert list(logs) == objective.log_names
    assert set(logs) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(logs[key], value, rtol=1e-5, err_msg=key)


def test_the_loss_of_a_batch_is_the_weighted_mean_over_its_graphs_and_atoms(batches):
    learned = {"energy": "mse", "forces": "mae"}
    losses, _ = epoch(Objective(learned, {"energy": 0.2}, None, OUTPUTS), batches)
    for loss, one in zip(losses, batches, strict=True):
        energy, forces = errors([one], "energy"), errors([one], "forces", "atom_mask")
        expected = 0.2 * np.mean(energy**2) + np.mean(np.abs(forces))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_per_atom_divides_by_the_number_of_real_atoms(batches):
    counts = np.concatenate(
        [
            np.bincount(x["graph_ids"][x["atom_mask"]], minlength=5)[x["graph_mask"]]
            for _, (x, _, _) in batches
        ]
    )
    energy = errors(batches, "energy") / counts
    for loss, expected in (("mae", np.abs(energy)), ("mse", energy**2)):
        _, logs = epoch(Objective({"energy": PerAtom(loss)}, None, None, OUTPUTS), batches)
        np.testing.assert_allclose(logs["loss"], expected.mean(), rtol=1e-5)


def test_l2_norm_is_the_mean_length(batches):
    _, logs = epoch(Objective({"forces": L2Norm()}, None, None, OUTPUTS), batches)
    lengths = np.linalg.norm(errors(batches, "forces", "atom_mask"), axis=1)
    np.testing.assert_allclose(logs["loss"], lengths.mean(), rtol=1e-5)


def test_a_batch_of_padding_alone_has_no_loss():
    (inputs, labels, predictions), _ = batch((1,), 0)
    for key in ("atom_mask", "graph_mask"):
        inputs[key] = keras.ops.zeros_like(inputs[key])
    objective = Objective({"energy": "mse", "forces": L2Norm()}, None, None, OUTPUTS)
    assert float(objective.loss(inputs, labels, predictions)) == 0.0


def test_labels_that_are_nan_where_padded_do_no_harm(batches):
    (inputs, labels, predictions), (host, host_labels, _) = batches[0]
    spoiled = np.where(host["graph_mask"], host_labels["energy"], np.nan).astype("float32")
    labels = {**labels, "energy": keras.ops.convert_to_tensor(spoiled)}
    objective = Objective({"energy": "mse"}, None, {"energy": "mae"}, OUTPUTS)
    assert np.isfinite(float(objective.loss(inputs, labels, predictions)))


@pytest.mark.parametrize("loss", [PerAtom("mse"), PerAtom(keras.losses.LogCosh()), L2Norm()])
def test_losses_survive_being_saved(loss, batches):
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    key = "energy" if isinstance(loss, PerAtom) else "forces"
    first, second = (
        epoch(Objective({key: one}, None, None, OUTPUTS), batches)[1] for one in (loss, again)
    )
    assert first == second


def mean_error(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_pred - y_true), axis=-1)


def test_functions_are_metrics_as_their_names_are(batches):
    watched = {"energy": ["mae", mean_error], "forces": mean_error}
    objective = Objective({"energy": mean_error}, None, watched, OUTPUTS)
    _, logs = epoch(objective, batches)
    assert logs["energy_mean_error"] == pytest.approx(logs["energy_mae"], rel=1e-6)
    assert logs["loss"] == pytest.approx(logs["energy_mae"], rel=1e-6)
    expected = np.mean(np.abs(errors(batches, "forces", "atom_mask")))
    assert logs["forces_mean_error"] == pytest.approx(expected, rel=1e-5)


def test_functions_that_average_over_padding_are_refused(batches):
    def of_the_batch(y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_pred - y_true))

    tensors, _ = batches[0]
    objective = Objective({"energy": of_the_batch}, None, {"forces": of_the_batch}, OUTPUTS)
    with pytest.raises(ValueError, match=r"one number per structure or atom.*of_the_batch"):
        objective.loss(*tensors)
    with pytest.raises(ValueError, match=r"one number per structure or atom.*of_the_batch"):
        objective.update_metrics(*tensors)


def test_errors_name_what_is_known():
    with pytest.raises(ValueError, match=r"'homo'.*predicts \['energy'"):
        Objective({"homo": "mse"}, None, None, OUTPUTS)
    (inputs, labels, predictions), _ = batch((1,), 0)
    labels = {key: value for key, value in labels.items() if key != "forces"}
    objective = Objective({"forces": "mse"}, None, None, OUTPUTS)
    with pytest.raises(ValueError, match=r"no label 'forces'.*\['dipole', 'energy'\]"):
        objective.loss(inputs, labels, predictions)
