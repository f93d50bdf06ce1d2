"""The electronic spatial extent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff.graph import Graph, Tensor
from keras_mlff.heads.dipole import centered_positions
from keras_mlff.heads.head import Head
from keras_mlff.ops import safe, segment


@keras.saving.register_keras_serializable("keras_mlff")
class SpatialExtentHead(Head):
    """Sums s_i |R_i|² over atoms: (num_graphs,), the <R²> of QM9.

    Positions count from the center of nuclear charge. The paper prints the distance without the
    square, its program squares; `squared=False` follows the print.

    Reference: Tao et al., 2023 (CMRET), https://arxiv.org/abs/2308.10752, eq. 12
    """

    use_bias = False

    def __init__(
        self,
        name: str = "spatial_extent",
        unit: str = "Å²",
        scale: float = 1.0,
        squared: bool = True,
    ) -> None:
        super().__init__(name, unit, scale)
        self.squared = squared

    def extent(self, graph: Mapping[str, Any]) -> float:
        offsets = graph["positions"] - np.average(
            graph["positions"], axis=0, weights=graph["atomic_numbers"]
        )
        return float(np.sum(np.linalg.norm(offsets, axis=1) ** (2 if self.squared else 1)))

    def __call__(self, graph: Graph, scalars: Tensor, vectors: Tensor | None) -> dict[str, Any]:
        offsets = centered_positions(graph)
        distances = ops.sum(ops.square(offsets), axis=-1) if self.squared else safe.norm(offsets)
        return {self.name: segment.sum_over_atoms(scalars[:, 0] * distances, graph) * self.scale}

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        return {
            "name": self.name,
            "unit": self.unit,
            "scale": self.scale,
            "squared": self.squared,
        }
