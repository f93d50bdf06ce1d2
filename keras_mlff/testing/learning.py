"""Checks of training: finite steps, true gradients, and frames that are learned by heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mlff.graph import Graph
from keras_mlff.packing.budget import Budget
from keras_mlff.testing.checks import Checks
from keras_mlff.testing.structures import crystal, molecule, moved, symmetric_molecules
from keras_mlff.testing.subject import Subject

check = Checks()
_BUDGET = Budget(6, 32, 200, 1600, 12, num_long_edges=100)


def _labeled_batch(subject: Subject, structures: Sequence[Graph]) -> Any:
    """Labels structures with what an unrelated function gives, in one shape."""
    graphs = []
    for item in structures:
        positions = item["positions"] - item["positions"].mean(axis=0)
        energy = 0.05 * np.sum(positions**2)
        labels = {"energy": np.asarray([energy]), "forces": -0.1 * positions}
        graphs.append({**item, **labels})
    return subject.batch(graphs, _BUDGET)


@check()
def training_on_symmetric_molecules_stays_finite(subject: Subject) -> None:
    """The gradient of a force loss differentiates roots and angles twice, also where they are 0."""
    trainee = subject.trainee
    start = trainee.get_weights()
    inputs, labels = _labeled_batch(subject, list(symmetric_molecules().values()))
    for _ in range(2):
        logs = trainee.train_on_batch(inputs, labels, return_dict=True)
        assert np.isfinite(logs["loss"])
    for variable in trainee.trainable_variables:
        assert np.all(np.isfinite(keras.ops.convert_to_numpy(variable))), variable.path
    trainee.set_weights(start)


@check()
def four_frames_can_be_learned_by_heart(subject: Subject) -> None:
    """Eighty steps on four frames, at most, take the loss to less than a fifth."""
    trainee = subject.trainee
    start = trainee.get_weights()
    frames = [molecule(5, seed=4)]
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(size=(5, 3)) * 0.1
        frames.append(moved(frames[0], positions=frames[0]["positions"] + noise))
    inputs, labels = _labeled_batch(subject, frames)
    first, lowest = np.inf, np.inf
    for step in range(80):
        trainee.reset_metrics()
        loss = trainee.train_on_batch(inputs, labels, return_dict=True)["loss"]
        first, lowest = (loss if step == 0 else first), min(loss, lowest)
        if lowest < 0.2 * first:
            break
    trainee.set_weights(start)
    assert lowest < 0.2 * first, f"from {first} to {lowest}"


@check(costly=True)
def weights_learn_from_stress_by_its_gradient(subject: Subject) -> None:
    """What one step of size one subtracts is the slope of the loss, along a random direction."""
    subject.need_crystals()
    model = subject.build()
    graphs = [subject.edges(crystal())]
    target = np.diag([0.2, -0.1, 0.3]) + 0.05
    labeled = [{**graph, "stress": target[None]} for graph in graphs]
    model.compile(keras.optimizers.SGD(1.0), loss={"stress": "mse"}, jit_compile=False)
    model.run_eagerly = True
    variables = model.trainable_variables
    start = [keras.ops.convert_to_numpy(variable) for variable in variables]
    random = np.random.default_rng(8)
    direction = [random.normal(size=array.shape) * 0.1 for array in start]

    def loss_at(step: float) -> float:
        there = [array + step * change for array, change in zip(start, direction, strict=True)]
        model.assign_weights(list(zip(variables, there, strict=True)))
        return float(np.mean((model.predict(graphs)["stress"][0] - target) ** 2))

    step = 1e-5
    slope = (loss_at(step) - loss_at(-step)) / (2 * step)
    loss_at(0.0)
    model.train_on_batch(*subject.batch(labeled))
    after = [keras.ops.convert_to_numpy(variable) for variable in variables]
    gradient = sum(np.sum((a - b) * d) for a, b, d in zip(start, after, direction, strict=True))
    assert abs(slope) > 1e-8, "a stress that does not depend on the weights proves nothing"
    np.testing.assert_allclose(gradient, slope, rtol=1e-5)
