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

    Args:
        num_features: Width of scalars and vectors.
        norm_mode: `"smooth"`: sqrt(|b|² + 1e-12) - 1e-6; `"component_shift"`: the reference
            program's |b + 1e-8|, which depends slightly on orientation.

    Reference: Tao et al., 2023 (CMRET), https://arxiv.org/abs/2308.10752; PaiNN, https://arxiv.org/abs/2102.03150
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
        maps = self.vector_maps(vectors)  # (num_atoms, num_components, 2 * num_features)
        measured = maps[:, :, self.num_features :]
        if self.norm_mode == "smooth":
            lengths = safe.smooth_norm(measured, axis=1)
        else:
            lengths = safe.norm(measured + 1e-8, axis=1)
        mixed = self.outputs(self.hidden(ops.concatenate([scalars, lengths], axis=-1)))
        gates = mixed[:, None, self.num_features :]
        return mixed[:, : self.num_features], maps[:, :, : self.num_features] * gates


@keras.saving.register_keras_serializable("keras_mlff")
class GatedReadout(keras.layers.Layer):
    """Reads scalars and vectors of each atom through gated blocks.

    Components of vectors beyond x, y, z take part in the blocks and are left out at the end.
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
