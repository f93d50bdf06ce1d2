"""What a SavedModel consists of: the network, and the functions around it that clients call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mlff import quantities
from keras_mlff.export.domain import DomainChecks
from keras_mlff.export.search import (
    centered,
    each_once,
    neighbor_list,
    require,
    sensible,
    triplets,
)
from keras_mlff.graph import INPUT_LEVELS, Tensor, has_volume, level
from keras_mlff.models import ForceField
from keras_mlff.quantities import Level

LONG_KEYS = ("long_senders", "long_receivers")  # where the model's terms read far pairs
# what a client gives; masks, the atom table and triplets follow from it
MOLECULE_KEYS = (
    *("positions", "atomic_numbers", "graph_ids", "senders", "receivers"),
    *("total_charge", "spin_multiplicity"),
)
PERIODIC_KEYS = (*MOLECULE_KEYS, "cell", "pbc", "cell_shifts")
_STRUCTURE_KEYS = ("positions", "atomic_numbers", "total_charge", "spin_multiplicity")
AXES: dict[Level, str] = {  # what clients call the first axis of a tensor
    "structure": "num_graphs",
    "atom": "num_atoms",
    "edge": "num_edges",
    "triplet": "num_triplets",
    "long_edge": "num_long_edges",
}
_SHIFTS = ("cell_shifts", "long_cell_shifts")
_ROWS: dict[str, tuple[str | int, ...]] = {
    **dict.fromkeys(_SHIFTS, (3,)),
    "atom_table": ("max_atoms",),
}
_FLOATS = ("positions", "cell", "total_charge", *_SHIFTS)


def _shape(key: str) -> tuple[str | int, ...]:
    """Tells the shape of an input, with the names of sizes that clients choose."""
    quantity = quantities.find(key)
    row = _ROWS.get(key, ()) if quantity is None else quantity.shape
    return (AXES[INPUT_LEVELS[key]], *row)


_SHAPES = {key: _shape(key) for key in INPUT_LEVELS}


def signature_keys(model: ForceField) -> dict[str, tuple[str, ...]]:
    """Lists what each signature takes; crystals are left out where a model cannot have them.

    Args:
        model: The model that is exported.

    Returns:
        The keys of the inputs of `serving_default`, `periodic` and `structure`, by signature.
    """
    far: tuple[str, ...] = () if model.long_range_cutoff is None else LONG_KEYS
    if not model.supports_periodic:
        return {"serving_default": (*MOLECULE_KEYS, *far), "structure": _STRUCTURE_KEYS}
    return {
        "serving_default": (*MOLECULE_KEYS, *far),
        "periodic": (*PERIODIC_KEYS, *far, *(("long_cell_shifts",) if far else ())),
        "structure": (*_STRUCTURE_KEYS, "cell", "pbc"),
    }


class Server(tf.Module):
    """Holds the weights and the functions around the network that a SavedModel consists of.

    Nothing of Keras or of this package is needed to run it. What the heads add outside of the
    network, from `Head.offset_tables`, is part of the graph, in float64.

    Args:
        model: The model that is exported; its weights are copied from the JAX backend, and shared
            on TensorFlow.
    """

    def __init__(self, model: ForceField) -> None:
        super().__init__()
        self._cutoff, self._dtype = model.cutoff, model.compute_dtype
        self._long_cutoff = model.long_range_cutoff
        self._wraps = not model.sees_wrapping
        self._uses_triplets, self._heads = model.uses_triplets, tuple(model.heads)
        self._keys = signature_keys(model)
        self._domain_checks = DomainChecks(model)
        left_out = ["fragment", *([] if self._uses_triplets else ["triplet"])]
        left_out += [] if self._long_cutoff is not None else ["long"]
        keys = [key for key in _SHAPES if not key.startswith(tuple(left_out))]
        periodic = {key: self._spec(key, self._dtype) for key in keys}
        molecule = {
            key: spec for key, spec in periodic.items() if key not in ("cell", "pbc", *_SHIFTS)
        }
        network, self.weights = _network(model)
        self._molecule_network = _function(network, molecule)
        if "periodic" in self._keys:
            self._periodic_network = _function(network, periodic)

    @staticmethod
    def _spec(key: str, float_dtype: str, single: bool = False) -> tf.TensorSpec:
        integers = tf.bool if key.endswith("mask") or key == "pbc" else tf.int32
        shape = [size if isinstance(size, int) else None for size in _SHAPES[key]]
        if single and level(key) == "structure":
            shape = shape[1:]
        return tf.TensorSpec(shape, float_dtype if key in _FLOATS else integers, key)

    def signatures(self) -> dict[str, Any]:
        """Traces the entry points, each for any number of atoms, edges and graphs.

        Returns:
            Concrete functions by the name of the signature.
        """

        def specs(keys: tuple[str, ...], single: bool = False) -> dict[str, tf.TensorSpec]:
            return {key: self._spec(key, "float64", single) for key in keys}

        functions = {}
        for name, keys in self._keys.items():
            single = name == "structure"
            entry = self._structure if single else self._batch
            functions[name] = _function(entry, specs(keys, single))
        return {name: function.get_concrete_function() for name, function in functions.items()}

    def _structure(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predicts one structure, whose neighbors are found here."""
        given = dict(inputs)
        cell, pbc = tf.zeros((3, 3), tf.float64), tf.zeros(3, tf.bool)
        if "cell" in given:
            # as in `graph.structure`, the cell of a molecule does not count
            given["cell"] = tf.where(tf.reduce_any(given["pbc"]), given["cell"], 0.0)
        given = sensible(given, single=True)
        if "cell" in given:
            cell, pbc = given["cell"], given["pbc"]
        # padding is nobody's neighbor and may lie anywhere
        real = tf.cast(tf.where(given["atomic_numbers"] > 0)[:, 0], tf.int32)
        positions = tf.gather(given["positions"], real)
        senders, receivers, shifts = neighbor_list(positions, self._cutoff, cell, pbc)
        senders, receivers = tf.gather(real, senders), tf.gather(real, receivers)
        graph = {key: x if level(key) == "atom" else x[None] for key, x in given.items()}
        graph["graph_ids"] = tf.zeros_like(given["atomic_numbers"])
        graph |= {"senders": senders, "receivers": receivers}
        if "cell" in given:
            graph["cell_shifts"] = tf.cast(shifts, tf.float64)
        if self._long_cutoff is not None:
            found = each_once(*neighbor_list(positions, self._long_cutoff, cell, pbc))
            graph |= {key: tf.gather(real, x) for key, x in zip(LONG_KEYS, found[:2], strict=True)}
            if "cell" in given:
                graph["long_cell_shifts"] = tf.cast(found[2], tf.float64)
        outputs = self._predict(graph)
        return {key: x if level(key) == "atom" else x[0] for key, x in outputs.items()}

    def _batch(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predicts graphs whose edges the client has found."""
        return self._predict(_checked(sensible(inputs, single=False)))

    def _predict(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        numbers = graph["atomic_numbers"]
        real, ids = numbers > 0, graph["graph_ids"]
        filled = require(
            tf.reduce_all(real[:-1] | ~real[1:] | (ids[1:] != ids[:-1])),
            "Padding atoms (number 0) must stand after the real atoms of their graph.",
        )
        with tf.control_dependencies([*self._domain_checks(graph), filled]):
            graph["atomic_numbers"] = tf.identity(numbers)
        graph = centered(_complete(graph, self._uses_triplets), self._wraps)
        rounded = {
            key: tf.cast(x, self._dtype) if key in _FLOATS else x for key, x in graph.items()
        }
        network = self._periodic_network if "cell" in graph else self._molecule_network
        outputs = self._add_offsets(network(rounded), graph)
        if "stress" in outputs:
            filled = has_volume(graph["cell"], tf.experimental.numpy)[:, None, None]
            outputs["stress"] = tf.where(filled, outputs["stress"], np.nan)
        return outputs

    def _add_offsets(
        self, predictions: Mapping[str, Tensor], graph: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Does what `ForceField.add_offsets` does: adds references and shifts in float64.

        Args:
            predictions: What the network gives, by name.
            graph: The completed graph.

        Returns:
            Predictions by name; those with offsets are float64.
        """
        totals = dict(predictions)
        num_graphs = tf.shape(graph["graph_mask"])[0]
        for head in self._heads:
            for key, (table, shift) in head.offset_tables().items():
                if key not in totals:
                    continue
                values = tf.gather(tf.constant(table), graph["atomic_numbers"])
                if level(key) == "atom":
                    offsets = tf.where(graph["atom_mask"], values + shift, 0.0)
                else:
                    values = tf.where(graph["atom_mask"], values, 0.0)
                    sums = tf.math.unsorted_segment_sum(values, graph["graph_ids"], num_graphs)
                    offsets = tf.where(graph["graph_mask"], sums + shift, 0.0)
                totals[key] = tf.cast(totals[key], tf.float64) + offsets
        return totals


def _function(function: Callable[..., Any], specs: dict[str, tf.TensorSpec]) -> Any:
    return tf.function(function, input_signature=[specs], autograph=False)


def _network(model: ForceField) -> tuple[Callable[[Any], Any], list[tf.Variable]]:
    """Makes the network a TensorFlow function of the completed graph, with its variables.

    Returns:
        A function of the inputs by name that returns predictions by name, and the variables that
        a SavedModel must keep.
    """
    if keras.backend.backend() == "tensorflow":
        return lambda inputs: model(inputs, training=False), [v.value for v in model.variables]
    from jax.experimental import jax2tf

    weights = [tf.Variable(np.asarray(v), trainable=False) for v in model.variables]

    def stateless(values: Any, inputs: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values, strict=True))):
            return model(inputs, training=False)

    def network(inputs: Any) -> Any:
        # left alone, jax2tf would give the first axes of atoms, edges and graphs one size
        shapes = {key: f"({', '.join(map(str, _SHAPES[key]))},)" for key in inputs}
        converted = jax2tf.convert(
            stateless,
            polymorphic_shapes=[None, shapes],
            with_gradient=False,
            native_serialization_platforms=("cpu", "cuda"),
        )
        return converted(weights, inputs)

    return network, weights


def _complete(graph: dict[str, Tensor], uses_triplets: bool) -> dict[str, Tensor]:
    """Adds what follows from the client's keys: one padding edge, masks, table, triplets.

    Args:
        graph: What the client gave, checked; it is completed in place.
        uses_triplets: Whether the network reads pairs of edges.

    Returns:
        The graph with every key that the network reads.
    """
    # JAX compiles for sizes above zero, and a lone atom has no edge
    last = tf.shape(graph["atomic_numbers"])[0] - 1
    graph["atom_mask"] = graph["atomic_numbers"] > 0
    for prefix in ("", "long_") if "long_senders" in graph else ("",):
        senders, receivers = f"{prefix}senders", f"{prefix}receivers"
        for key in (senders, receivers):
            graph[key] = tf.concat([graph[key], last[None]], axis=0)
        moved = graph[senders] != graph[receivers]
        if f"{prefix}cell_shifts" in graph:
            shifts = tf.pad(graph[f"{prefix}cell_shifts"], [[0, 1], [0, 0]])
            graph[f"{prefix}cell_shifts"] = shifts
            moved |= tf.reduce_any(shifts != 0.0, axis=1)
        for key in (senders, receivers):
            moved &= tf.gather(graph["atom_mask"], graph[key])
        graph[f"{prefix}edge_mask"] = moved

    num_graphs = tf.shape(graph["total_charge"])[0]
    ids = graph["graph_ids"]
    sizes = tf.math.unsorted_segment_sum(tf.cast(graph["atom_mask"], tf.int32), ids, num_graphs)
    places = tf.math.unsorted_segment_sum(tf.ones_like(ids), ids, num_graphs)
    graph["graph_mask"] = sizes > 0
    columns = tf.range(tf.maximum(tf.reduce_max(sizes), 1))
    table = tf.cumsum(places, exclusive=True)[:, None] + columns
    graph["atom_table"] = tf.where(columns < sizes[:, None], table, -1)
    if uses_triplets:
        shifts = graph.get("cell_shifts", tf.zeros((tf.size(graph["senders"]), 3), tf.float64))
        incoming, outgoing = triplets(graph["senders"], graph["receivers"], shifts)
        real = tf.gather(graph["edge_mask"], incoming) & tf.gather(graph["edge_mask"], outgoing)
        padding = tf.size(graph["senders"]) - 1
        for key, index in (("triplet_in", incoming), ("triplet_out", outgoing)):
            kept = tf.boolean_mask(index, real)
            graph[key] = tf.concat([kept, padding[None]], axis=0)
        graph["triplet_mask"] = tf.range(tf.size(graph["triplet_in"])) < tf.size(kept)
    return graph


def _checked(graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Refuses indices that would give wrong numbers or, on a GPU, go unnoticed."""
    num_atoms = tf.shape(graph["atomic_numbers"])[0]
    sizes = {"graph_ids": tf.shape(graph["total_charge"])[0]}
    checks = []
    far = LONG_KEYS if "long_senders" in graph else ()
    for key in ("graph_ids", "senders", "receivers", *far):
        index, size = graph[key], sizes.get(key, num_atoms)
        inside = tf.reduce_all((index >= 0) & (index < size))
        checks.append(require(inside, f"`{key}` must count from 0 and stay below what it counts."))
        if not key.endswith("senders"):
            ascending = tf.reduce_all(index[1:] >= index[:-1])
            checks.append(require(ascending, f"`{key}` must ascend."))
    with tf.control_dependencies(checks):
        return {key: tf.identity(x) for key, x in graph.items()}
