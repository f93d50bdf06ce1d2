"""Weights of the authors' programs, by name, for the layers of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array


def fit(array: Array, shape: Sequence[int], name: str) -> Array:
    """Gives an array the shape of a variable, which may differ in axes of length one alone.

    Args:
        array: A weight of the authors' program.
        shape: Shape of the variable that receives it.
        name: The weight's name there, for the error.

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

    Args:
        values: One number per element, in the order of the atomic numbers from 0 on.

    Returns:
        Values by atomic number, from 1 to at most 118.
    """
    known = np.ravel(values)[: MAX_ATOMIC_NUMBER + 1]
    return {number: float(value) for number, value in enumerate(known) if number > 0}


def only_readout(model: Any) -> Any:
    """Returns the readout of a network whose weights have one.

    Args:
        model: A force field; its heads share one readout.

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
    """The arrays of an authors' program by name, which knows those that were never used.

    Call `assign` and `dense` for every layer, then `check_all_used` and
    `model.assign_weights(reader.values)`.

    Args:
        weights: Arrays by that program's names, a prefix `w/` allowed. Matrices are (in, out).

    Example:
        >>> reader = PortedWeights({"w/out.W": np.ones((2, 1)), "w/out.b": np.zeros(1)})
        >>> reader.array("out.W").shape
        (2, 1)
        >>> reader.used
        {'out.W'}
    """

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.weights = {key.removeprefix("w/"): np.asarray(array) for key, array in weights.items()}
        self.used: set[str] = set()
        self.values: list[tuple[Any, Array]] = []

    def array(self, name: str) -> Array:
        """Returns one array, which counts as used from now on.

        Raises:
            ValueError: If there is no array of that name.
        """
        if name not in self.weights:
            raise ValueError(
                f"The weight '{name}' is missing. Received: {sorted(self.weights)[:8]} ... "
                "Check that hyper-parameters and weights belong together."
            )
        self.used.add(name)
        return self.weights[name]

    def assign(self, variable: Any, *names: str) -> None:
        """Assigns arrays to one variable; several are joined side by side in it.

        Args:
            variable: The variable of this package's network.
            *names: Names of the arrays, in the order of their columns.

        Raises:
            ValueError: If one is missing or the shapes do not fit.
        """
        values = [self.array(name) for name in names]
        if len({value.shape[:-1] for value in values}) > 1:
            raise ValueError(
                f"The weights {names} are joined side by side, so all but the last axes are equal. "
                f"Received: shapes {[value.shape for value in values]}. Check that matrices are "
                "not transposed."
            )
        joined = np.concatenate(values, axis=-1) if len(values) > 1 else values[0]
        self.values.append((variable, fit(joined, variable.shape, " + ".join(names))))

    def dense(self, layer: Any, *names: str) -> None:
        """Assigns kernel and bias of one Dense layer.

        Args:
            layer: The layer, which has been built.
            *names: Names without `.W` and `.b`, in the order of their columns.

        Raises:
            ValueError: If one is missing or the shapes do not fit.
        """
        self.assign(layer.kernel, *(self._pick(name, "W") for name in names))
        if layer.use_bias:
            self.assign(layer.bias, *(f"{name}.b" for name in names))

    def _pick(self, name: str, suffix: str) -> str:
        # maps without a bias may be listed by their bare name
        return name if name in self.weights else f"{name}.{suffix}"

    def check_all_used(self) -> None:
        """Refuses weights that the network has no place for.

        Raises:
            ValueError: If an array was never asked for.
        """
        unused = sorted(set(self.weights) - self.used)
        if unused:
            raise ValueError(
                f"{len(unused)} weights have no place in the network, such as {unused[:5]}. "
                "Check that hyper-parameters and weights belong together."
            )
