"""Layers of SO3LR that have weights of each element."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import MAX_ATOMIC_NUMBER, Graph, Tensor
from keras_mlff.layers.initializers import Normal, lecun_normal
from keras_mlff.layers.readout import AtomFeatures
from keras_mlff.ops import groups, safe


@keras.saving.register_keras_serializable("keras_mlff")
class ElementChargeSpinEmbedding(keras.layers.Layer):
    """Shares total charge and unpaired electrons out to the atoms by their elements.

    For each of the two, with psi the charge or the number of unpaired electrons:

    1. An atom weighs softplus(q . k / sqrt(F)), where q is a row of a table of elements and k a
       learned vector, another one for negative psi.
    2. Its share is psi times its weight over the sum of all weights of its structure, or of its
       fragment, where a graph has them.
    3. With e the share times a learned vector, another one for negative psi, its embedding is
       (e + W2 silu(W1 silu(e))) / sqrt(3).

    Neutral singlets get exactly zero. What a fragment has besides its charge is not known, so
    unpaired electrons are those of the structure.

    Args:
        num_elements: Rows of the tables, padding (0) included; heavier elements share the last.

    Reference: Unke et al., 2021 (SpookyNet), eqs. 9 to 11, https://arxiv.org/abs/2105.00304
    """

    def __init__(self, num_elements: int = MAX_ATOMIC_NUMBER + 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_elements = num_elements

    def build(self, features_shape: Any, *shapes: Any) -> None:
        """Creates queries, keys and values of charge and of spin; rows of keys: >= 0, < 0."""
        width = features_shape[-1]
        self.queries, self.keys, self.values = (
            [self.add_weight((rows, width), Normal(stddev=1.0), name=name) for _ in range(2)]
            for name, rows in (("queries", self.num_elements), ("keys", 2), ("values", 2))
        )
        self.maps = [
            [
                keras.layers.Dense(width, use_bias=False, kernel_initializer=lecun_normal())
                for _ in range(2)
            ]
            for _ in range(2)
        ]
        for layer in (*self.maps[0], *self.maps[1]):
            layer.build((None, width))

    def call(self, features: Tensor, graph: Graph) -> Tensor:
        """Computes what to add to the features.

        Call arguments:
            features: `(num_atoms, num_features)`, of which the width is read.
            graph: The batch, with `total_charge` in e and `spin_multiplicity`.

        Returns:
            `(num_atoms, num_features)`.
        """
        dtype = ops.dtype(features)
        unpaired = ops.cast(graph["spin_multiplicity"], dtype) - 1.0
        amounts = (
            groups.charges(graph, dtype),
            groups.Groups(graph["graph_ids"], unpaired),
        )
        parts = [self._embed(place, part, graph) for place, part in enumerate(amounts)]
        return (parts[0] + parts[1]) * 3.0**-0.5

    def _embed(self, place: int, amount: groups.Groups, graph: Graph) -> Tensor:
        """Embeds the shares of charge or of spin: `(num_atoms, num_features)`."""
        queries, keys, values = (each[place] for each in (self.queries, self.keys, self.values))
        numbers = ops.minimum(graph["atomic_numbers"], self.num_elements - 1)
        psi = amount.of_atoms(amount.totals)
        rows = ops.cast(psi < 0.0, "int32")
        scores = ops.take(queries, numbers, axis=0) * ops.take(keys, rows, axis=0)
        weights = ops.softplus(ops.sum(scores, axis=-1) * queries.shape[-1] ** -0.5)
        weights = ops.where(graph["atom_mask"], weights, ops.zeros_like(weights))
        shares = psi * safe.divide(weights, amount.of_atoms(amount.sum(weights)))
        embedded = shares[:, None] * ops.take(values, rows, axis=0)
        first, second = self.maps[place]
        return embedded + second(ops.silu(first(ops.silu(embedded))))


@keras.saving.register_keras_serializable("keras_mlff")
class ElementReadout(keras.layers.Layer):
    """Reads one number of each atom as a product with a learned vector of its element.

    y_i = T[Z_i] . (W2 act(W1 x_i + b1) + b2) / sqrt(width)

    Args:
        width: Width of the product, and of the hidden layer.
        activation: Name of the function act.
    """

    def __init__(self, width: int, activation: str = "silu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.hidden = keras.layers.Dense(
            width, activation=activation, kernel_initializer=lecun_normal()
        )
        self.outputs = keras.layers.Dense(width, kernel_initializer=lecun_normal())

    def build(self, *shapes: Any) -> None:
        """Creates the table `(119, width)`."""
        self.table = self.add_weight(
            (MAX_ATOMIC_NUMBER + 1, self.width), Normal(stddev=self.width**-0.5), name="table"
        )

    def call(self, features: AtomFeatures) -> AtomFeatures:
        rows = ops.take(self.table, features.elements, axis=0)
        products = rows * self.outputs(self.hidden(features.scalars))
        return AtomFeatures(ops.sum(products, axis=-1, keepdims=True) * self.width**-0.5)
