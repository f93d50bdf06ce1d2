"""Total charge and spin as features of the atoms, for any architecture."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Graph, Tensor
from keras_mlff.layers.initializers import Normal, lecun_normal
from keras_mlff.ops import safe, segment


@keras.saving.register_keras_serializable("keras_mlff")
class ChargeSpinEmbedding(keras.layers.Layer):
    """Shares total charge and unpaired electrons out to the atoms and embeds each share.

    For each of the two, with psi the charge or the number of unpaired electrons:

    1. An atom weighs softplus(q . k / sqrt(F)), where q is a linear map of its features and k a
       learned vector, another one for negative psi.
    2. Its share is psi times its weight over the sum of all weights.
    3. The share times a learned vector, another one for negative psi, is its embedding.

    Both embeddings are added, and a perceptron without biases of the sum is added to it.
    Neutral singlets get exactly zero. Shares depend on all atoms of the structure: with it, charged
    fragments that are far apart do not have exactly the sum of their energies.

    Reference: Unke et al., 2021 (SpookyNet), eqs. 9 to 11, https://arxiv.org/abs/2105.00304
    """

    def build(self, features_shape: Any, *shapes: Any) -> None:
        """Creates keys and values `(4, num_features)`: charge and spin, negative and positive."""
        width = features_shape[-1]
        self.keys = self.add_weight((4, width), Normal(stddev=1.0), name="keys")
        self.values = self.add_weight((4, width), Normal(stddev=1.0), name="values")
        self.query = keras.layers.Dense(2 * width, kernel_initializer=lecun_normal())
        # without biases: zero stays zero
        self.hidden = keras.layers.Dense(
            width, use_bias=False, activation="silu", kernel_initializer=lecun_normal()
        )
        self.outputs = keras.layers.Dense(width, use_bias=False, kernel_initializer=lecun_normal())
        for layer in (self.query, self.hidden, self.outputs):
            layer.build((None, width))

    def call(self, features: Tensor, graph: Graph) -> Tensor:
        """Computes what to add to the features.

        Call arguments:
            features: `(num_atoms, num_features)`.
            graph: The batch, with `total_charge` in e and `spin_multiplicity`.

        Returns:
            `(num_atoms, num_features)`.
        """
        dtype, width = features.dtype, features.shape[-1]
        charge = ops.cast(graph["total_charge"], dtype)
        unpaired = ops.cast(graph["spin_multiplicity"], dtype) - 1.0
        queries = self.query(features)
        shared = ops.zeros_like(features)
        for place, amount in enumerate((charge, unpaired)):
            signs = ops.cast(amount > 0.0, "int32") + 2 * place  # (num_graphs,)
            rows = ops.take(signs, graph["graph_ids"], axis=0)
            scores = queries[:, place * width : (place + 1) * width] * ops.take(
                self.keys, rows, axis=0
            )
            weights = ops.softplus(ops.sum(scores, axis=-1) * width**-0.5)
            weights = segment.mask(weights, graph["atom_mask"])
            rates = safe.divide(amount, segment.sum_over_atoms(weights, graph))
            shares = weights * ops.take(rates, graph["graph_ids"], axis=0)
            shared = shared + shares[:, None] * ops.take(self.values, rows, axis=0)
        return shared + self.outputs(self.hidden(shared))
