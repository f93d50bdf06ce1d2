"""What was fitted to data and lies beside the weights: it travels with them everywhere."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from keras_mlff.backend import keras_private
from keras_mlff.core.construction import in_precision
from keras_mlff.core.domain import Domain
from keras_mlff.fit.averages import RawWeights
from keras_mlff.graph import Array
from keras_mlff.heads import Head
from keras_mlff.layers.encoding import PositionalEncoding, parse_encoding

_STATE, _RAW = "fitted_state", "raw_weights"  # beside the variables in Keras's files


class Weights(list[Array]):
    """The list that `get_weights` returns, and the fitted state that belongs to it."""

    state: dict[str, Any]


class FittedState:
    """Lets references, shift and scale of heads, ranges of tables and the domain follow weights.

    They are part of every file that Keras writes of weights, as JSON, whose numbers are float64 on
    every backend, and of the list that `get_weights` returns. Raw weights that averages have
    replaced are part of the files too, so that training goes on from them.
    """

    heads: list[Head]
    arguments: Any
    domain: Domain
    preset: Any
    raw_weights: RawWeights | None = None
    _has_loaded_state: bool = False
    _is_fitting: bool = False

    @property
    def fitted_state(self) -> dict[str, Any]:
        """What changes predictions and lies beside the weights, as JSON knows it."""
        return {
            "heads": {head.name: head.fitted for head in self.heads},
            "ranges": [[table.x_min, table.x_max] for table in self._tables],
            "domain": self.domain.to_config(),
        }

    @property
    def _tables(self) -> list[PositionalEncoding]:
        layers = keras_private.layers_inside(self)
        return [layer for layer in layers if isinstance(layer, PositionalEncoding)]

    def set_fitted_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `fitted_state` of a model with the same heads has listed.

        Raises:
            ValueError: If the heads or the tables are others.
        """
        names, tables = [head.name for head in self.heads], self._tables
        if set(state["heads"]) != set(names) or len(state["ranges"]) != len(tables):
            raise ValueError(
                "The weights belong to a model with other heads or tables of distances. Received: "
                f"heads {sorted(state['heads'])}, {len(state['ranges'])} tables; this model has "
                f"{names}, {len(tables)}. Make the model with the arguments of then."
            )
        self.domain = Domain.from_config(state["domain"])
        now = self.fitted_state
        if state["heads"] == now["heads"] and state["ranges"] == now["ranges"]:
            return
        if self._is_fitting:
            raise ValueError(
                "A training that has begun cannot go on with other references, scales or ranges. "
                f"Received: {state['heads']}; this model has {now['heads']}. Call `fit_offsets` on "
                "the same data before, or use `keras_mlff.train(..., resume=True)`."
            )
        for head in self.heads:
            head.fitted = state["heads"][head.name]
        before = {(table.x_min, table.x_max) for table in tables}
        for table, ends in zip(tables, state["ranges"], strict=True):
            table.set_range(*ends)
        ends = {(t.x_min, t.x_max) for t in tables if t.quantity == "distance"}
        if len(ends) == 1 and not ends <= before:  # a config must know them
            chosen = parse_encoding(self.arguments["distance_encoding"])
            x_min, x_max = ends.pop()
            self.arguments["distance_encoding"] = chosen | {"x_min": x_min, "x_max": x_max}
        keras_private.forget_compiled_functions(self)

    # Lists

    def get_weights(self: Any) -> Weights:
        """Returns the values of all weights, NumPy arrays in the order of `weights`.

        The list brings the fitted state to the `set_weights` of another model.
        """
        weights = Weights(super().get_weights())  # type: ignore[misc]
        weights.state = self.fitted_state
        return weights

    @in_precision
    def set_weights(self: Any, weights: Sequence[Array]) -> None:
        """Sets all weights, arrays in the order of `get_weights`.

        Args:
            weights: What `get_weights` has returned, whose fitted state comes along. Arrays in
                another list leave the model's own in place, with a warning where it has none.
        """
        if isinstance(weights, Weights):
            self.set_fitted_state(weights.state)
        elif not any(head.is_fitted for head in self.heads):
            warnings.warn(_without_state("The list of arrays", self.heads), stacklevel=2)
        super().set_weights(weights)  # type: ignore[misc]
        self.preset = None

    # Files

    def save_own_variables(self, store: Any) -> None:
        """Writes what belongs to the model as a whole; Keras calls it."""
        super().save_own_variables(store)  # type: ignore[misc]
        store[_STATE] = _as_bytes(self.fitted_state)
        if self.raw_weights is not None:
            for index, array in enumerate(self.raw_weights.arrays):
                store[f"{_RAW}{index}"] = array

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` wrote; Keras calls it, before the layers."""
        keys = set(store.keys())
        self._has_loaded_state = _STATE in keys
        if self._has_loaded_state:
            self.set_fitted_state(json.loads(np.asarray(store[_STATE]).tobytes()))
        count = sum(key.startswith(_RAW) for key in keys)
        arrays = [np.asarray(store[f"{_RAW}{index}"]) for index in range(count)]
        self.raw_weights = RawWeights(arrays) if arrays else None

    def load_weights(self: Any, filepath: Any, **kwargs: Any) -> None:
        """Loads weights as Keras does, and the fitted state with them.

        Files of earlier versions hold none; the model keeps its own, with a warning.

        Args:
            filepath: A file that `save_weights` or `save` has written.
            **kwargs: As in Keras.

        Raises:
            ValueError: If the file does not hold the weights of this model.
        """
        if not self.read_weights(filepath, **kwargs):
            warnings.warn(_without_state(f"'{filepath}'", self.heads), stacklevel=2)

    @in_precision
    def read_weights(self: Any, filepath: Any, **kwargs: Any) -> bool:
        """Does what `load_weights` does without the warning.

        Returns:
            Whether the file held the fitted state.
        """
        self._has_loaded_state = False
        try:
            super().load_weights(filepath, **kwargs)  # type: ignore[misc]
        except (ValueError, KeyError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(
                f"The file does not hold the weights of this model. Received: '{filepath}'; "
                f"{_fault_of(filepath) or ' '.join(str(error).split())}"
            ) from error
        self.preset = None
        return self._has_loaded_state

    # Checkpoints of Orbax, and loops of one's own on JAX

    def get_state_tree(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Returns all variables as Keras does, and the fitted state, bytes of JSON, with them."""
        tree = super().get_state_tree(*args, **kwargs)  # type: ignore[misc]
        return {**tree, _STATE: _as_bytes(self.fitted_state)}

    def set_state_tree(self: Any, state_tree: Mapping[str, Any]) -> None:
        """Sets all variables as Keras does, and the fitted state where the tree has one.

        Raises:
            ValueError: If the variables have other names than those of this model.
        """
        tree = dict(state_tree)
        state = tree.pop(_STATE, None)
        paths = {variable.path for variable in self.trainable_variables}
        strange = sorted(_paths(tree.get("trainable_variables", {})) - paths)
        if strange:  # Keras would pass over them
            raise ValueError(
                "The tree belongs to a model whose layers have other names. Received: "
                f"'{strange[0]}', ...; this model has '{min(paths)}', .... Names count what a "
                "process has made: begin with keras.utils.clear_session(), or use files."
            )
        if state is None:
            warnings.warn(_without_state("The tree", self.heads), stacklevel=2)
        else:
            self.set_fitted_state(json.loads(np.asarray(state).tobytes()))
        super().set_state_tree(tree)  # type: ignore[misc]


def _paths(tree: Mapping[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in tree.items():
        path = prefix + key
        found |= _paths(value, f"{path}/") if isinstance(value, Mapping) else {path}
    return found


def _as_bytes(state: Mapping[str, Any]) -> Array:
    return np.frombuffer(json.dumps(state).encode(), np.uint8).copy()  # PyTorch wants to write


def _without_state(what: str, heads: Sequence[Head]) -> str:
    kept = {head.name: head.fitted for head in heads}
    return (
        f"{what} holds weights without what was fitted beside them (references, shift and scale "
        f"of heads, ranges of tables, the domain), so that the model keeps its own: {kept}. If "
        "these are not those of the training, all predictions are wrong: take a file that "
        "`save`, `save_weights` or `save_to_preset` of this version writes, or set them by "
        "`fit_offsets(training_data)` first."
    )


def _fault_of(path: Any) -> str:
    """Says what a file of HDF5 has that no file of weights has; nothing where it is as usual."""
    if not str(path).endswith(".h5"):
        return ""
    found: list[str] = []

    def look(group: Any) -> None:
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                found.append(f"'{group.name}/{name}' is a link to elsewhere")
            elif isinstance(group[name], h5py.Group):
                look(group[name])
            elif group[name].is_virtual or group[name].external:
                found.append(f"'{group[name].name}' keeps its numbers in another file")

    try:
        with h5py.File(Path(path), "r") as file:
            look(file)
    except (OSError, KeyError, RuntimeError) as error:
        found.append(f"it is damaged ({error})")
    return "; ".join(found)
