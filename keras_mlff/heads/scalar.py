"""Any scalar property of a structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff.graph import Array, Graph, Tensor
from keras_mlff.heads import statistics
from keras_mlff.heads.head import Head
from keras_mlff.ops import safe, segment
from keras_mlff.quantities import Quantity


@keras.saving.register_keras_serializable("keras_mlff")
class ScalarHead(Head):
    """Sums (extensive) or averages (intensive) one number per atom: `(num_graphs,)`.

    Args:
        name: Key of the prediction and of its label.
        unit: Unit of the property. That of the registered quantity where empty.
        scale: Unit of the network's numbers.
        references: Value of a single atom by atomic number.
        shift: Added once to each structure, such as the mean of an intensive property.
        pooling: `"sum"` or `"mean"` over atoms.
        readout: Heads that name the same readout share its layers up to the last.

    Raises:
        ValueError: If the pooling is another.
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

    @property
    def outputs(self) -> tuple[Quantity, ...]:
        return (Quantity(self.name, "structure", (), self.unit, extensive=self.is_extensive),)

    @property
    def is_extensive(self) -> bool:
        return self.pooling == "sum"

    def __call__(self, graph: Graph, scalars: Tensor, vectors: Tensor | None) -> dict[str, Any]:
        value = segment.sum_over_atoms(scalars[:, 0] * self.scale, graph)
        if not self.is_extensive:
            value = safe.divide(value, segment.count_atoms(graph, ops.dtype(value)))
        return {self.name: value}

    def fit_offsets(self, graphs: Sequence[Graph]) -> None:
        """Fits references of a sum by least squares, the shift of a mean, and the scale.

        The scale is the spread of what the offsets leave. Structures without the label do not
        count.

        Raises:
            ValueError: If no structure has the label.
        """
        known, values = statistics.labeled(graphs, self.labels)
        if self.is_extensive:
            self.references = statistics.solve(known, values[:, 0], self.name)
            self.shift = 0.0
        else:
            self.references, self.shift = {}, float(values.mean())
        self.scale = statistics.spread(self._rest(known, values[:, 0]))

    def _rest(self, graphs: Sequence[Graph], values: Array) -> Array:
        """Computes what the offsets leave of labels `(len(graphs),)`."""
        rest = values - np.asarray([self.offsets(graph)[0] for graph in graphs])
        # where references fit exactly, as many structures as elements, rounding is left
        rest[np.abs(rest) < 1e-9 * np.abs(values).max()] = 0.0
        return rest
