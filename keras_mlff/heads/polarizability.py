"""The polarizability tensor."""

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
from keras_mlff.quantities import Quantity


@keras.saving.register_keras_serializable("keras_mlff")
class PolarizabilityHead(Head):
    """Sums s_i I + V_i (x) R_i + R_i (x) V_i: `(num_graphs, 3, 3)`, Å³, and its Frobenius norm.

    Positions count from the center of nuclear charge.

    Args:
        name: Key of the tensor.
        unit: Unit of the tensor, `"Å³"`.
        scale: Å³, unit of the network's numbers.
        isotropic_name: Key of a third of the trace; `name` and `_isotropic` where `None`. QM9
            calls it `alpha`.

    Reference: Tao et al., 2023 (CMRET), https://arxiv.org/abs/2308.10752
    """

    num_vectors = 1
    use_bias = False

    def __init__(
        self,
        name: str = "polarizability",
        unit: str = "Å³",
        scale: float = 1.0,
        isotropic_name: str | None = None,
    ) -> None:
        super().__init__(name, unit, scale)
        self.isotropic_name = isotropic_name or f"{name}_isotropic"

    @property
    def outputs(self) -> tuple[Quantity, ...]:
        return (
            Quantity(self.name, "structure", (3, 3), self.unit),
            Quantity(self.isotropic_name, "structure", (), self.unit),
            Quantity(f"{self.name}_norm", "structure", (), self.unit),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(quantity.name for quantity in self.outputs)

    def extent(self, graph: Mapping[str, Any]) -> float:
        return float(np.sum(graph["atom_mask"]))

    def __call__(self, graph: Graph, scalars: Tensor, vectors: Tensor | None) -> dict[str, Any]:
        identity = ops.eye(3, dtype=ops.dtype(scalars))
        atomic = scalars[:, :, None] * identity
        if vectors is not None:
            outer = vectors[:, :, 0][:, :, None] * centered_positions(graph)[:, None, :]
            atomic = atomic + outer + ops.transpose(outer, (0, 2, 1))
        tensor = segment.sum_over_atoms(atomic, graph) * self.scale
        return {
            self.name: tensor,
            f"{self.name}_norm": safe.norm(ops.reshape(tensor, (-1, 9))),
            self.isotropic_name: ops.sum(tensor * identity, axis=(1, 2)) / 3.0,
        }
