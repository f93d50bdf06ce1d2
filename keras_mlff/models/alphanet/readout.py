"""From features and the complex state of each atom to what heads ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import torch_dense
from keras_mlff.layers.readout import AtomFeatures


@keras.saving.register_keras_serializable("keras_mlff")
class AlphaNetReadout(keras.layers.Layer):
    """Reads scalars from features and the complex state, and vectors from vectors (step 7).

    e_i = W s_i + W' [Re Phi_i, Im Phi_i] / n_P, both linear, with n_P complex numbers in the state.
    There is no hidden layer, so `keras_mlff.layers.readout.PerceptronReadout` does not fit.

    Args:
        num_scalars: How many numbers each atom gets.
        num_vectors: How many vectors each atom gets.
        num_features: Width of the features.
        state_features: Width of the complex state; 0 for a network without it.
        use_bias: Whether scalars have a bias.
        record: Keeps intermediate values, see `ForceField.record`.
    """

    def __init__(
        self,
        num_scalars: int,
        num_vectors: int,
        num_features: int,
        state_features: int,
        use_bias: bool,
        record: Callable[[str, Tensor], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_features, self.state_features = num_features, state_features
        self.record = record
        self.from_features = torch_dense(num_scalars, num_features, use_bias=use_bias)
        self.from_state = None
        if state_features:
            self.from_state = torch_dense(num_scalars, 2 * state_features, use_bias=use_bias)
        self.from_vectors = None
        if num_vectors:
            self.from_vectors = torch_dense(num_vectors, num_features, use_bias=False)

    def call(self, features: AtomFeatures) -> AtomFeatures:
        """Computes the numbers of each atom.

        Call arguments:
            features: Scalars `(num_atoms, num_features + 2 * state_features)`, the state last, and
                vectors `(num_atoms, 3, num_features)`.

        Returns:
            Scalars `(num_atoms, num_scalars)` and, if any are asked for, vectors
            `(num_atoms, 3, num_vectors)`.
        """
        scalars = self.from_features(features.scalars[:, : self.num_features])
        self.record("readout/features", scalars)
        if self.from_state is not None:
            phases = self.from_state(features.scalars[:, self.num_features :])
            self.record("readout/state", phases)
            scalars = scalars + phases / self.state_features
        if self.from_vectors is None:
            return AtomFeatures(scalars)
        return AtomFeatures(scalars, self.from_vectors(features.vectors))
