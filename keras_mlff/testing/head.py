"""What every head promises, as a test class and as one call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from keras import ops

from keras_mlff import backend
from keras_mlff.graph import Array, Graph, inputs_and_labels, join, split
from keras_mlff.heads import Head
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.budget import choose_budget, pack
from keras_mlff.testing.checks import CheckReport, Checks, NotApplicable, add_tests, run_checks
from keras_mlff.testing.structures import molecule, moved, rotation
from keras_mlff.testing.subject import EXACT

check = Checks()


class HeadSubject:
    """A head under test, with numbers of atoms that no network had to compute.

    Args:
        head: The head.
    """

    def __init__(self, head: Head) -> None:
        self.head = head
        head.register_outputs()

    def numbers(self, graph: Graph, seed: int = 0) -> tuple[Array, Array]:
        """Draws what a readout would give: scalars, and vectors as the head asks for them.

        Returns:
            `(num_atoms, num_scalars)` and `(num_atoms, 3, num_vectors)`, which depend on nothing
            but the seed.
        """
        random = np.random.default_rng(seed)
        num_atoms = len(graph["positions"])
        scalars = random.normal(size=(num_atoms, self.head.num_scalars))
        return scalars, random.normal(size=(num_atoms, 3, max(self.head.num_vectors, 1)))

    def predict(self, graph: Graph, scalars: Array, vectors: Array) -> dict[str, Array]:
        """Calls the head in float64, without what it adds outside of the network."""
        inputs, _ = inputs_and_labels(graph)
        with backend.double_precision():
            tensors = {key: _as_tensor(value) for key, value in inputs.items()}
            found = self.head(tensors, _as_tensor(scalars), _as_tensor(vectors))
            return {key: np.asarray(ops.convert_to_numpy(value)) for key, value in found.items()}


def _as_tensor(value: Any) -> Any:
    array = np.asarray(value)
    return ops.convert_to_tensor(array, "float64" if array.dtype.kind == "f" else None)


def _graph(structures: Sequence[Graph]) -> Graph:
    return join([add_edges(item, 4.0) for item in structures])


@check()
def the_config_comes_back(subject: HeadSubject) -> None:
    """The config is JSON, and makes a head of the same class, outputs and config."""
    config = json.loads(json.dumps(subject.head.get_config()))
    again = type(subject.head).from_config(config)
    assert again.outputs == subject.head.outputs
    assert json.loads(json.dumps(again.get_config())) == config


@check()
def predictions_are_those_that_outputs_state(subject: HeadSubject) -> None:
    """Each output has the axis and the shape that it states, and nothing else is predicted."""
    graph = _graph([molecule(4), molecule(3, seed=2)])
    found = subject.predict(graph, *subject.numbers(graph))
    outputs = {quantity.name: quantity for quantity in subject.head.outputs}
    assert found.keys() == outputs.keys(), f"predicted {sorted(found)}, stated {sorted(outputs)}"
    for name, quantity in outputs.items():
        rows = 7 if quantity.level == "atom" else 2
        assert found[name].shape == (rows, *quantity.shape), name


@check()
def company_and_padding_change_nothing(subject: HeadSubject) -> None:
    """A structure has the same values alone, among others and in a padded batch."""
    structures = [molecule(4), molecule(3, seed=2)]
    graph = _graph(structures)
    scalars, vectors = subject.numbers(graph)
    together = subject.predict(graph, scalars, vectors)
    graphs = [add_edges(item, 4.0) for item in structures]
    budget = choose_budget(graphs, 2)._replace(num_graphs=4, num_atoms=10)
    spare = [(0, 3), (0, 0)]
    padded = subject.predict(
        pack(graphs, budget), np.pad(scalars, spare), np.pad(vectors, [*spare, (0, 0)])
    )
    for quantity in subject.head.outputs:
        name, per_atom = quantity.name, quantity.level == "atom"
        real = padded[name][: 7 if per_atom else 2]
        np.testing.assert_allclose(real, together[name], **EXACT, err_msg=name)
        assert np.all(np.isfinite(padded[name])), name
        alone = subject.predict(graphs[0], scalars[:4], vectors[:4])[name]
        first = together[name][: 4 if per_atom else 1]
        np.testing.assert_allclose(alone, first, **EXACT, err_msg=name)


@check()
def values_turn_with_the_structure(subject: HeadSubject) -> None:
    """Numbers stay, vectors and tensors turn when positions and atomic vectors do."""
    start = molecule(5)
    graph = _graph([start])
    scalars, vectors = subject.numbers(graph)
    matrix = rotation(4, -1)
    turned = _graph([moved(start, positions=start["positions"] @ matrix)])
    before = subject.predict(graph, scalars, vectors)
    after = subject.predict(turned, scalars, np.einsum("axn,xy->ayn", vectors, matrix))
    for quantity in subject.head.outputs:
        expected = before[quantity.name]
        if quantity.shape == (3,):
            expected = expected @ matrix
        elif quantity.shape == (3, 3):
            expected = matrix.T @ expected @ matrix
        np.testing.assert_allclose(
            after[quantity.name], expected, rtol=1e-9, atol=1e-10, err_msg=quantity.name
        )


@check()
def extensive_values_of_far_copies_add_up(subject: HeadSubject) -> None:
    """Where the head says that it is extensive, two copies far apart have twice the value."""
    if not subject.head.is_extensive:
        raise NotApplicable("the head says that it is not extensive")
    single = molecule(4)
    positions = np.concatenate([single["positions"], single["positions"] + [80.0, 0.0, 0.0]])
    numbers = np.tile(single["atomic_numbers"], 2)
    arrays = {"positions": positions, "atomic_numbers": numbers}
    arrays |= {"graph_ids": np.zeros(8, np.int32), "atom_mask": np.ones(8, bool)}
    double = moved(single, **arrays, atom_table=np.arange(8, dtype=np.int32)[None])
    graph = _graph([single])
    scalars, vectors = subject.numbers(graph)
    name = subject.head.outputs[0].name
    one = subject.predict(graph, scalars, vectors)[name]
    two = subject.predict(_graph([double]), np.tile(scalars, (2, 1)), np.tile(vectors, (2, 1, 1)))
    np.testing.assert_allclose(two[name], 2.0 * one, **EXACT)


@check()
def missing_labels_do_not_count_in_what_is_fitted(subject: HeadSubject) -> None:
    """Offsets and scale of frames with a label are the same among frames without."""
    quantity = subject.head.outputs[0]
    random = np.random.default_rng(6)
    labeled = []
    for seed in range(12):
        frame = molecule(3 + seed % 4, seed=seed)
        rows = len(frame["positions"]) if quantity.level == "atom" else 1
        labeled.append({**frame, quantity.name: random.normal(size=(rows, *quantity.shape)) + 1.0})
    unlabeled = [molecule(4, seed=30 + seed) for seed in range(3)]
    unlabeled.append({**labeled[0], quantity.name: labeled[0][quantity.name] * np.nan})
    first, second = (type(subject.head).from_config(subject.head.get_config()) for _ in "12")
    first.fit_offsets(labeled)
    second.fit_offsets([*unlabeled, *labeled])
    assert np.isfinite(first.scale), "the scale is a positive number"
    assert first.scale > 0.0, "the scale is a positive number"
    assert first.scale == second.scale
    assert first.references == second.references
    assert first.shift == second.shift
    try:
        second.fit_offsets(unlabeled)
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    assert message, "a label that no frame has must be an error"


@check()
def parts_of_predictions_belong_to_their_structures(subject: HeadSubject) -> None:
    """Predictions split by structure as their level says."""
    graph = _graph([molecule(4), molecule(3, seed=2)])
    found = subject.predict(graph, *subject.numbers(graph))
    parts = split({**graph, **found})
    for quantity in subject.head.outputs:
        rows = [len(part[quantity.name]) for part in parts]
        assert rows == ([4, 3] if quantity.level == "atom" else [1, 1]), quantity.name


class HeadTests:
    """The contract of a head as a class of tests, which pytest and unittest collect.

    Attributes:
        head: The head that is tested.

    Example:
        ```python
        from keras_mlff.heads import AtomicHead
        from keras_mlff.testing import HeadTests


        class TestCharges(HeadTests):
            head = AtomicHead("partial_charges", total="total_charge")
        ```
    """

    head: ClassVar[Head]
    thorough: ClassVar[bool] = True

    @classmethod
    def subject(cls) -> HeadSubject:
        """Gives what the tests share."""
        return HeadSubject(cls.head)


add_tests(HeadTests, check)


def check_head(head: Head) -> CheckReport:
    """Runs the contract of a head without a test framework.

    Args:
        head: The head.

    Returns:
        Which promises hold, and which are not made.

    Raises:
        AssertionError: If a promise is broken; the message lists all that are.

    Example:
        >>> from keras_mlff.heads import ScalarHead
        >>> check_head(ScalarHead("gap", pooling="mean")).failed
        {}
    """
    return run_checks(check, HeadSubject(head), thorough=True)
