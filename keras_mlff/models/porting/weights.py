"""Weights of reference programs, by name, for the layers of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array


def fit(array: Array, shape: Sequence[int], name: str) -> Array:
    """Gives an array the shape of a variable, which may differ in axes of length one alone.

    Raises:
        ValueError: If other axes differ, as those of a transposed matrix do.
    """
    if [size for size in array.shape if size > 1] != [size for size in shape if size > 1]:
        raise ValueError(
            f"The weight '{name}' has shape {array.shape}, the network expects {tuple(shape)}. "
            "Check the hyper-parameters, and that matrices are not transposed."
        )
    return array.reshape(tuple(shape))


def by_element(values: Any) -> dict[int, float]:
    """Reads values by atomic number from a list that begins at padding, element 0.

    What is beyond the table of elements is never asked for.
    """
    known = np.ravel(values)[: MAX_ATOMIC_NUMBER + 1]
    return {number: float(value) for number, value in enumerate(known) if number > 0}


def only_readout(model: Any) -> Any:
    """Gives the readout of a network whose weights have one.

    Raises:
        ValueError: If its heads have several.
    """
    if len(model.readouts) != 1:
        raise ValueError(
            "The weights have one readout. Received: `heads` with "
            f"{len(model.readouts)}. Pass one head, or heads that share a `readout`."
        )
    return model.readouts[0]


class PortedWeights:
    """Arrays of a reference program by name; knows which were never used.

    Call `assign` and `dense` for every layer, then `check_all_used` and
    `model.assign_weights(reader.values)`.

    Args:
        weights: Arrays by that program's names, a prefix `w/` allowed.
    """

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.weights = {key.removeprefix("w/"): np.asarray(array) for key, array in weights.items()}
        self.used: set[str] = set()
        self.values: list[tuple[Any, Array]] = []

    def array(self, name: str) -> Array:
        """Gives one array, which counts as used."""
        if name not in self.weights:
            raise ValueError(
                f"The weight '{name}' is missing. Received: {sorted(self.weights)[:8]} ... "
                "Check that hyper-parameters and weights belong together."
            )
        self.used.add(name)
        return self.weights[name]

    def assign(self, variable: Any, *names: str) -> None:
        """Assigns arrays to one variable; several stand side by side in it."""
        values = [self.array(name) for name in names]
        if len({value.shape[:-1] for value in values}) > 1:
            raise ValueError(
                f"The weights {names} stand side by side, so all but their last axes are equal. "
                f"Received: shapes {[value.shape for value in values]}. Check that matrices are "
                "not transposed."
            )
        joined = np.concatenate(values, axis=-1) if len(values) > 1 else values[0]
        self.values.append((variable, fit(joined, variable.shape, " + ".join(names))))

    def dense(self, layer: Any, *names: str) -> None:
        """Assigns one Dense layer; several names stand side by side in it."""
        self.assign(layer.kernel, *(self._pick(name, "W") for name in names))
        if layer.use_bias:
            self.assign(layer.bias, *(f"{name}.b" for name in names))

    def _pick(self, name: str, suffix: str) -> str:
        # maps without a bias may be listed by their bare name
        return name if name in self.weights else f"{name}.{suffix}"

    def check_all_used(self) -> None:
        """Refuses weights that the network has no place for."""
        unused = sorted(set(self.weights) - self.used)
        if unused:
            raise ValueError(
                f"{len(unused)} weights have no place in the network, such as {unused[:5]}. "
                "Check that hyper-parameters and weights belong together."
            )
