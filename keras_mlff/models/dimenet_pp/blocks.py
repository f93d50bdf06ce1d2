"""The blocks of DimeNet++: interaction, output and residual layers."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff import backend
from keras_mlff.graph import Graph, Tensor
from keras_mlff.layers.initializers import GlorotOrthogonal
from keras_mlff.ops import segment


@keras.saving.register_keras_serializable("keras_mlff")
class DimeNetInteraction(keras.layers.Layer):
    """One interaction block: the edges k -> j update the edge j -> i.

    With m_ji the message of an edge, e_RBF its radial basis and a_SBF the basis of distance and
    angle of two edges:

    1. What is sent: SiLU(W_down (SiLU(W_kj m_kj + b))), narrower than the messages.
    2. Meeting: each triplet takes what its edge k -> j sends times maps of a_SBF, and the edge
       j -> i sums over its triplets (the sum of eq. 4; DimeNet++ has this product in the place of
       DimeNet's bilinear layer).
    3. What is received: SiLU(W_up ...), times maps of e_RBF of the edge j -> i.
    4. Update: SiLU(W_ji m_ji + b) plus that, through residual layers, is added to m_ji; further
       residual layers follow.

    Args:
        num_features: Width of the messages.
        interaction_features: Width of what is sent.
        basis_features: Width between the two maps of each basis.
        num_before_skip: Number of residual layers before the skip connection of step 4.
        num_after_skip: Number of residual layers after it.
        radial_factor: `"ji"` scales what is received, step 3; `"kj"` what is sent, step 1, by the
            basis of the other edge, as the authors' program does.

    Reference: Gasteiger et al., 2020, https://arxiv.org/abs/2011.14115; eq. 4 of
    https://arxiv.org/abs/2003.03123
    """

    def __init__(
        self,
        num_features: int,
        interaction_features: int,
        basis_features: int,
        num_before_skip: int,
        num_after_skip: int,
        radial_factor: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.radial_factor = radial_factor
        self.rbf_1, self.rbf_2 = linear(basis_features), linear(num_features)
        self.sbf_1, self.sbf_2 = linear(basis_features), linear(interaction_features)
        self.own, self.other = dense(num_features), dense(num_features)
        self.down = dense(interaction_features, use_bias=False)
        self.up = dense(num_features, use_bias=False)
        self.before = [DimeNetResidual(num_features) for _ in range(num_before_skip)]
        self.skip = dense(num_features)
        self.after = [DimeNetResidual(num_features) for _ in range(num_after_skip)]

    def call(
        self, messages: Tensor, edge_basis: Tensor, triplet_basis: Tensor, graph: Graph
    ) -> Tensor:
        """Runs the steps of the class.

        Call arguments:
            messages: m, `(num_edges, num_features)`.
            edge_basis: e_RBF, `(num_edges, n)`.
            triplet_basis: a_SBF, `(num_triplets, m)`.
            graph: A batch with edges and triplets.

        Returns:
            New messages `(num_edges, num_features)`.
        """
        radial = self.rbf_2(self.rbf_1(edge_basis))
        # 1. What is sent
        sent = self.other(messages)
        if self.radial_factor == "kj":
            sent = sent * radial
        sent = self.down(sent)
        # 2. Meeting
        met = ops.take(sent, graph["triplet_in"], axis=0) * self.sbf_2(self.sbf_1(triplet_basis))
        met = segment.mask(met, graph["triplet_mask"])
        num_edges = ops.shape(messages)[0]
        # 3. What is received
        received = self.up(backend.segment_sum(met, graph["triplet_out"], num_edges))
        if self.radial_factor == "ji":
            received = received * radial
        # 4. Update
        update = self.own(messages) + received
        for layer in self.before:
            update = layer(update)
        messages = messages + self.skip(update)
        for layer in self.after:
            messages = layer(messages)
        return messages


@keras.saving.register_keras_serializable("keras_mlff")
class DimeNetOutput(keras.layers.Layer):
    """Sums the messages of an atom's edges, times maps of their distances, and transforms the sum.

    t_i = dense layers (W_up sum_j (W_rbf e_RBF,ji) * m_ji): the output block but for its last map,
    which is the readout's.

    Args:
        num_features: Width of the messages.
        output_features: Width of the result.
        num_dense: Number of dense layers.

    Reference: Gasteiger et al., 2020, the output block of https://arxiv.org/abs/2011.14115
    """

    def __init__(
        self, num_features: int, output_features: int, num_dense: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.rbf = linear(num_features)
        self.up = linear(output_features)
        self.dense = [dense(output_features) for _ in range(num_dense)]

    def call(self, messages: Tensor, edge_basis: Tensor, graph: Graph) -> Tensor:
        """Computes the features of the atoms.

        Call arguments:
            messages: m, `(num_edges, num_features)`.
            edge_basis: e_RBF, `(num_edges, n)`.
            graph: A batch with edges.

        Returns:
            t, `(num_atoms, output_features)`.
        """
        features = self.up(segment.sum_over_edges(self.rbf(edge_basis) * messages, graph))
        for layer in self.dense:
            features = layer(features)
        return features


@keras.saving.register_keras_serializable("keras_mlff")
class DimeNetResidual(keras.layers.Layer):
    """Adds two dense layers of its input to it: x + SiLU(W_2 SiLU(W_1 x + b_1) + b_2).

    Args:
        num_features: Width of input and output.

    Call arguments:
        inputs: `(..., num_features)`.

    Call returns:
        `(..., num_features)`.
    """

    def __init__(self, num_features: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense_1, self.dense_2 = dense(num_features), dense(num_features)

    def call(self, inputs: Tensor) -> Tensor:
        return inputs + self.dense_2(self.dense_1(inputs))


def dense(units: int, use_bias: bool = True, activated: bool = True) -> Any:
    """Makes a dense layer as all of DimeNet++: SiLU, a Glorot orthogonal kernel, bias from zero.

    Args:
        units: Width of the output.
        use_bias: Whether the layer has a bias.
        activated: Whether the layer has the activation.
    """
    return keras.layers.Dense(
        units,
        activation="silu" if activated else None,
        use_bias=use_bias,
        kernel_initializer=GlorotOrthogonal(),
    )


def linear(units: int, num_blocks: int = 1) -> Any:
    """Makes a linear map without bias.

    Args:
        units: Width of the output.
        num_blocks: Parts of the input that are mapped as if each had a kernel of its own, for the
            start of the weights.
    """
    return keras.layers.Dense(
        units, use_bias=False, kernel_initializer=GlorotOrthogonal(num_blocks)
    )
