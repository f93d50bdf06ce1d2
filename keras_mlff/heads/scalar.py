"""Any scalar property of a structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Graph, Tensor
from keras_mlff.heads.head import Head
from keras_mlff.ops import safe, segment


@keras.saving.register_keras_serializable("keras_mlff")
class ScalarHead(Head):
    """Sums (extensive) or averages (intensive) one number per atom: (num_graphs,).

    Args:
        name: Key of the prediction and of its label.
        unit: For display.
        scale: Unit of the network's numbers.
        references: Value of a single atom by atomic number.
        shift: Added once to each structure, such as the mean of an intensive property.
        pooling: `"sum"` or `"mean"` over atoms.
        readout: See `Head`.
    """

    def __init__(
        self,
        name: str,
        unit: str = "",
        scale: float = 1.0,
        references: Mapping[int, float] | None = None,
        shift: float = 0.0,
        pooling: str = "sum",
        readout: str = "",
    ) -> None:
        super().__init__(name, unit, scale, references, shift, readout)
        if pooling not in ("sum", "mean"):
            raise ValueError(f"Pooling is 'sum' or 'mean'. Received: pooling='{pooling}'.")
        self.pooling = pooling

    def __call__(self, graph: Graph, scalars: Tensor, vectors: Tensor | None) -> dict[str, Any]:
        value = segment.sum_over_atoms(scalars[:, 0] * self.scale, graph)
        if self.pooling == "mean":
            value = safe.divide(value, segment.count_atoms(graph, ops.dtype(value)))
        return {self.name: value}
