"""The dipole moment."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Graph, Tensor
from keras_mlff.heads.head import Head
from keras_mlff.ops import geometry, safe, segment
from keras_mlff.quantities import Quantity


@keras.saving.register_keras_serializable("keras_mlff")
class DipoleHead(Head):
    """Sums atomic dipoles and charges times positions: `(num_graphs, 3)`, e·Å, and the norm.

    Positions count from the center of nuclear charge. An architecture without vector features
    predicts charges alone.

    Args:
        name: Key of the vector.
        unit: Unit of the vector, `"e·Å"`.
        scale: e·Å, unit of the network's numbers.
        norm_name: Key of the norm; `name` and `_norm` where `None`. QM9 calls it `mu`.

    Reference: Tao et al., 2023 (CMRET), https://arxiv.org/abs/2308.10752; PaiNN, https://arxiv.org/abs/2102.03150
    """

    num_vectors = 1
    use_bias = False

    def __init__(
        self,
        name: str = "dipole",
        unit: str = "e·Å",
        scale: float = 1.0,
        norm_name: str | None = None,
    ) -> None:
        super().__init__(name, unit, scale)
        self.norm_name = norm_name or f"{name}_norm"

    @property
    def outputs(self) -> tuple[Quantity, ...]:
        return (
            Quantity(self.name, "structure", (3,), self.unit),
            Quantity(self.norm_name, "structure", (), self.unit),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.name, self.norm_name)

    def __call__(self, graph: Graph, scalars: Tensor, vectors: Tensor | None) -> dict[str, Any]:
        dipole = segment.sum_over_atoms(atomic_moments(graph, scalars, vectors), graph)
        dipole = dipole * self.scale
        return {self.name: dipole, self.norm_name: safe.norm(dipole)}


def centered_positions(graph: Graph) -> Tensor:
    """Computes positions from each graph's center of nuclear charge: (num_atoms, 3), Å."""
    centers = ops.take(geometry.charge_centers(graph), graph["graph_ids"], axis=0)
    return graph["positions"] - centers


def atomic_moments(graph: Graph, scalars: Tensor, vectors: Tensor | None) -> Tensor:
    """Computes each atom's vector plus its charge times its position: (num_atoms, 3)."""
    moments = scalars * centered_positions(graph)
    return moments if vectors is None else moments + vectors[:, :, 0]
