"""Layers on scalars and vectors that turn with the molecule."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import torch_dense
from keras_mlff.layers.readout import AtomFeatures
from keras_mlff.ops import safe

NORM_MODES = ("smooth", "component_shift")


@keras.saving.register_keras_serializable("keras_mlff")
class GatedBlock(keras.layers.Layer):
    """Mixes scalars with lengths of vectors and gates the vectors with scalars.

    1. Two maps of the vectors without bias, which turn with the molecule: a = v W_u, b = v W_v.
    2. Lengths: n = |b|, over the components of each vector.
    3. Mixing: (s', g) = W_2 SiLU(W_1 [s, n] + b_1) + b_2.
    4. Gates: v' = a * g.

    Args:
        num_features: Width of scalars and vectors.
        norm_mode: How lengths are measured: `"smooth"` is sqrt(|b|² + 1e-12) - 1e-6, whose gradient
            is zero where b is; `"component_shift"` is the |b + 1e-8| of the authors' program of
            CMRET, which depends slightly on orientation.

    Raises:
        ValueError: If `norm_mode` is unknown.

    Reference: Tao et al., 2023 (CMRET), https://arxiv.org/abs/2308.10752; the gated equivariant
    block of PaiNN, figure 3 of https://arxiv.org/abs/2102.03150
    """

    def __init__(self, num_features: int, norm_mode: str = "smooth", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if norm_mode not in NORM_MODES:
            raise ValueError(
                f"Unknown norm_mode. Received: '{norm_mode}'. Choose one of {NORM_MODES}."
            )
        self.num_features, self.norm_mode = num_features, norm_mode
        # the maps to the new vectors and to their lengths, side by side
        self.vector_maps = torch_dense(2 * num_features, num_features, use_bias=False)
        self.hidden = torch_dense(num_features, 2 * num_features, activation="silu")
        self.outputs = torch_dense(2 * num_features, num_features)

    def call(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the steps of the class.

        Call arguments:
            scalars: s, `(num_atoms, num_features)`.
            vectors: v, `(num_atoms, num_components, num_features)`.

        Returns:
            New scalars and new vectors, of the same shapes.
        """
        # 1. Maps of the vectors, side by side
        maps = self.vector_maps(vectors)  # (num_atoms, num_components, 2 * num_features)
        # 2. Lengths
        measured = maps[:, :, self.num_features :]
        if self.norm_mode == "smooth":
            lengths = safe.smooth_norm(measured, axis=1)
        else:
            lengths = safe.norm(measured + 1e-8, axis=1)
        # 3. Mixing
        mixed = self.outputs(self.hidden(ops.concatenate([scalars, lengths], axis=-1)))
        # 4. Gates
        gates = mixed[:, None, self.num_features :]
        return mixed[:, : self.num_features], maps[:, :, : self.num_features] * gates


@keras.saving.register_keras_serializable("keras_mlff")
class GatedReadout(keras.layers.Layer):
    """Reads scalars and vectors of each atom through gated blocks and linear maps.

    Components of vectors beyond x, y, z take part in the blocks and are left out at the end.

    Args:
        num_features: Width of what is read.
        num_blocks: Number of gated blocks before the linear maps.
        num_scalars: Scalars per atom that the head asks for.
        num_vectors: Vectors per atom that the head asks for; 0 leaves them out.
        use_bias: Whether the map to scalars has a bias; the one to vectors has none.
        norm_mode: How lengths are measured, see `GatedBlock`.

    Call arguments:
        features: Scalars `(num_atoms, num_features)` and vectors `(num_atoms, 3 or more,
            num_features)`.

    Call returns:
        Scalars `(num_atoms, num_scalars)` and vectors `(num_atoms, 3, num_vectors)`, `None` if
        there are none.

    Reference: Tao et al., 2023 (CMRET), https://arxiv.org/abs/2308.10752
    """

    def __init__(
        self,
        num_features: int,
        num_blocks: int,
        num_scalars: int,
        num_vectors: int,
        use_bias: bool = True,
        norm_mode: str = "smooth",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.blocks = [GatedBlock(num_features, norm_mode) for _ in range(num_blocks)]
        self.output_scalars = torch_dense(num_scalars, num_features, use_bias=use_bias)
        self.output_vectors = None
        if num_vectors:
            self.output_vectors = torch_dense(num_vectors, num_features, use_bias=False)

    def call(self, features: AtomFeatures) -> AtomFeatures:
        scalars: Tensor = features.scalars
        vectors: Tensor = features.vectors
        for block in self.blocks:
            scalars, vectors = block(scalars, vectors)
        if self.output_vectors is None:
            return AtomFeatures(self.output_scalars(scalars))
        return AtomFeatures(self.output_scalars(scalars), self.output_vectors(vectors[:, :3]))
