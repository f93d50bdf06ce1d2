"""Elements described by how many electrons each of their subshells holds."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array, Tensor
from keras_mlff.layers.initializers import torch_dense

# in filling order
SUBSHELLS = (
    "1s", "2s", "2p", "3s", "3p", "4s", "3d", "4p", "5s", "4d", "5p", "6s",
    "4f", "5d", "6p", "7s", "5f", "6d", "7p", "6f", "7d", "7f",
)  # fmt: skip
CONFIGURATIONS = ("aufbau", "ground_state")
_CAPACITY = {"s": 2, "p": 6, "d": 10, "f": 14}
# ground states that depart from the filling order: electrons moved into a subshell (NIST)
_EXCEPTIONS: dict[int, dict[str, int]] = {
    24: {"4s": -1, "3d": 1},
    29: {"4s": -1, "3d": 1},
    41: {"5s": -1, "4d": 1},
    42: {"5s": -1, "4d": 1},
    44: {"5s": -1, "4d": 1},
    45: {"5s": -1, "4d": 1},
    46: {"5s": -2, "4d": 2},
    47: {"5s": -1, "4d": 1},
    57: {"4f": -1, "5d": 1},
    58: {"4f": -1, "5d": 1},
    64: {"4f": -1, "5d": 1},
    78: {"6s": -1, "5d": 1},
    79: {"6s": -1, "5d": 1},
    89: {"5f": -1, "6d": 1},
    90: {"5f": -2, "6d": 2},
    91: {"5f": -1, "6d": 1},
    92: {"5f": -1, "6d": 1},
    93: {"5f": -1, "6d": 1},
    96: {"5f": -1, "6d": 1},
    103: {"6d": -1, "7p": 1},
}


def electron_configurations(kind: str = "aufbau") -> Array:
    """Tabulates how many electrons each subshell of each element holds.

    Args:
        kind: `"aufbau"` fills the subshells in order, as the authors' program does for all
            elements; `"ground_state"` has the exceptions (Cr 3d5 4s1, Cu 3d10 4s1, ...), as the
            paper's words have it.

    Returns:
        `(119, 22)` int64 by atomic number and by subshell in the order of `SUBSHELLS`. Row 0, that
        of padding, is empty; row Z sums to Z.

    Raises:
        ValueError: If the kind is unknown.

    Example:
        >>> dict(zip(SUBSHELLS, electron_configurations()[8].tolist()))["2p"]
        4
    """
    if kind not in CONFIGURATIONS:
        raise ValueError(f"The configuration is 'aufbau' or 'ground_state'. Received: '{kind}'.")
    table = np.zeros((MAX_ATOMIC_NUMBER + 1, len(SUBSHELLS)), np.int64)
    for number in range(1, MAX_ATOMIC_NUMBER + 1):
        left = number
        for column, subshell in enumerate(SUBSHELLS):
            table[number, column] = min(left, _CAPACITY[subshell[-1]])
            left -= table[number, column]
        if kind == "ground_state":
            for subshell, moved in _EXCEPTIONS.get(number, {}).items():
                table[number, SUBSHELLS.index(subshell)] += moved
    return table


@keras.saving.register_keras_serializable("keras_mlff")
class ElectronConfigurationEmbedding(keras.layers.Layer):
    """Maps the electrons per subshell of each atom linearly to features.

    s_i = W C(Z_i) + b, with C the table of `electron_configurations`.

    Args:
        num_features: Width of the features.
        kind: Which table to take, `"aufbau"` or `"ground_state"`.

    Call arguments:
        atomic_numbers: Z, `(num_atoms,)`, 0 for padding.

    Call returns:
        Features `(num_atoms, num_features)`.

    Reference: Tao et al., 2023 (CMRET), https://arxiv.org/abs/2308.10752
    """

    def __init__(self, num_features: int, kind: str = "aufbau", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = electron_configurations(kind).astype("float32")  # whole numbers: exact
        self.dense = torch_dense(num_features, len(SUBSHELLS))

    def call(self, atomic_numbers: Tensor) -> Tensor:
        table = ops.convert_to_tensor(self.table, dtype=self.compute_dtype)
        return self.dense(ops.take(table, atomic_numbers, axis=0))
