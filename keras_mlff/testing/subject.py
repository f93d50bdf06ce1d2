"""An architecture under test: small models of it, and predictions in batches of one shape."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mlff.core.force_field import ForceField
from keras_mlff.graph import Array, Graph, inputs_and_labels, level
from keras_mlff.neighbors import GraphSpec
from keras_mlff.packing.budget import Budget, pack
from keras_mlff.packing.loader import GraphLoader
from keras_mlff.testing.checks import NotApplicable

# float64: 1e-16 per operation, some hundred operations and cancellation between terms of order one
EXACT: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-11}
# one shape for nearly all checks, since compiling takes longer than computing
BUDGET = Budget(
    **{"num_graphs": 32, "num_atoms": 224, "num_edges": 1800, "num_triplets": 12000},
    **{"max_atoms": 12, "num_long_edges": 3000},
)
SMALL = {"num_features": 16, "num_layers": 2, "cutoff": 4.0}


class Subject:
    """Makes the models that the checks of an architecture share, each once.

    Everything is computed in float64, where a broken symmetry cannot hide behind rounding.

    Args:
        architecture: The class, a subclass of `ForceField`.
        arguments: Constructor arguments of a small model; `num_features`, `num_layers` and
            `cutoff` have defaults.
        stored: Folder with the weights and numbers that `write_stored` wrote; `None` where there
            are none, and nothing is compared across backends.
    """

    def __init__(
        self,
        architecture: type[ForceField],
        arguments: Mapping[str, Any] | None = None,
        stored: str | Path | None = None,
    ) -> None:
        self.architecture = architecture
        self.arguments = {**SMALL, **(arguments or {}), "dtype": "float64"}
        self.stored = None if stored is None else Path(stored)

    @functools.cached_property
    def _spec(self) -> GraphSpec:
        far = self.arguments.get("long_range") or {}
        triplets = self.architecture.uses_triplets
        return GraphSpec(self.cutoff, triplets, far.get("cutoff"))

    @property
    def cutoff(self) -> float:
        """Å, the radius within which edges are made."""
        return float(self.arguments["cutoff"])

    def build(self, **arguments: Any) -> ForceField:
        """Makes a model whose weights are all away from their start.

        Args:
            **arguments: Replace those of the subject.
        """
        keras.utils.set_random_seed(7)
        model = self.architecture(**self.arguments | arguments)
        move_weights(model)
        # tracing costs more than it saves here, except on JAX, which compiles each operation
        model.run_eagerly = keras.backend.backend() != "jax"
        return model

    @functools.cached_property
    def model(self) -> ForceField:
        """A model that no check changes."""
        return self.build()

    @functools.cached_property
    def trainee(self) -> ForceField:
        """A model whose training step several checks share, since it is compiled for long."""
        model = self.build()
        model.compile(
            keras.optimizers.Adam(1e-2),
            loss={"energy": "mse", "forces": "mse"},
            jit_compile=keras.backend.backend() == "jax",
        )
        model.run_eagerly = False
        return model

    def edges(self, graph: Graph) -> Graph:
        """Adds edges to a structure, and what else the architecture reads."""
        return graph if "senders" in graph else self._spec.add_edges(graph)

    def predict(
        self, structures: Sequence[Graph], model: ForceField | None = None
    ) -> list[dict[str, Any]]:
        """Predicts structures in batches of one shape.

        Args:
            structures: Any number; edges are added where they are missing.
            model: What predicts, `self.model` by default.

        Returns:
            Predictions by name, of each structure: energy, forces, stress and what belongs to
            atoms. Vectors and tensors of other heads, which turn, are left out.
        """
        graphs = [self.edges(item) for item in structures]
        budget = BUDGET
        if not self.architecture.uses_triplets:
            budget = budget._replace(num_triplets=0)
        loader = GraphLoader(graphs, budget=budget)
        predicted = (model or self.model).predict(loader, domain="ignore")  # they learned nothing
        bounds = np.cumsum([len(graph["positions"]) for graph in graphs])[:-1]
        by_key = {
            key: np.split(value, bounds) if level(key) == "atom" else value
            for key, value in predicted.items()
            if level(key) == "atom" or key in ("energy", "stress")
        }
        return [{key: value[i] for key, value in by_key.items()} for i in range(len(graphs))]

    def batch(self, structures: Sequence[Graph], budget: Budget = BUDGET) -> Any:
        """Packs structures into one batch: inputs and labels."""
        if not self.architecture.uses_triplets:
            budget = budget._replace(num_triplets=0)
        return inputs_and_labels(pack([self.edges(item) for item in structures], budget))

    def need_crystals(self) -> None:
        """Ends a check about crystals where the architecture is for molecules alone.

        Raises:
            NotApplicable: If it is.
        """
        if not self.model.supports_periodic:
            raise NotApplicable("the architecture says that it is for molecules")


def move_weights(model: keras.Model) -> None:
    """Moves all weights off their start, where zeros and ones can hide a mistake."""
    random = np.random.default_rng(5)
    values: list[tuple[Any, Array]] = []
    for variable in model.trainable_variables:
        start = keras.ops.convert_to_numpy(variable)
        spread = 0.1 * max(float(np.std(start)), 0.3)
        values.append((variable, start + random.normal(size=start.shape) * spread))
    model.assign_weights(values)


def copy_weights(source: ForceField, target: ForceField, added: Sequence[Any]) -> None:
    """Gives a model the weights of one that lacks those which an option has added.

    Args:
        source: The model without the option.
        target: The model with it.
        added: The weights of `target` that `source` does not have.
    """
    left_out = {id(weight) for weight in added}
    assert left_out, "the option adds no weights"
    shared = [weight for weight in target.weights if id(weight) not in left_out]
    values = map(keras.ops.convert_to_numpy, source.weights)
    target.assign_weights(list(zip(shared, values, strict=True)))


def assert_same(actual: Mapping[str, Any], expected: Mapping[str, Any], **tolerance: float) -> None:
    """Compares two predictions of one structure, name by name.

    Args:
        actual: What is compared.
        expected: What it is compared with.
        **tolerance: `rtol` and `atol`, where those of `EXACT` do not fit.

    Raises:
        AssertionError: If names differ, or numbers by more than the tolerance.
    """
    assert actual.keys() == expected.keys(), f"{sorted(actual)} and {sorted(expected)}"
    for key, value in expected.items():
        np.testing.assert_allclose(actual[key], value, **EXACT | tolerance, err_msg=key)
