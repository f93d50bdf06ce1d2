"""One interaction layer of CMRET: filters between neighbors, attention between all atoms."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Graph, Tensor
from keras_mlff.layers.initializers import Normal, Uniform, torch_dense
from keras_mlff.models.cmret.attention import GraphAttention
from keras_mlff.ops import segment


@keras.saving.register_keras_serializable("keras_mlff")
class CMRETInteraction(keras.layers.Layer):
    """Exchanges features between neighbors and between all atoms; replaces scalars and vectors.

    With s_i and v_i the scalars and vectors of atom i, f(d) the envelope, u_ij the unit vector from
    atom j to atom i, and e_ij = f(d_ij) g(d_ij) the radial basis:

    1. Filters: h = SiLU(phi(s)), x_ij = h_i * SiLU(W_self e_ij) f(d_ij) and
       y_ij = h_j * SiLU(W_nbr e_ij) f(d_ij).
    2. Messages: (m_1, m_2, m_3)_ij = f(d_ij) ([x_ij, y_ij] W_mix + b_mix) (eq. 8; the factor
       f(d_ij) is in the authors' program alone, and without it the energy would jump at the
       cutoff).
    3. Attention between all atoms of the graph, whatever their distance: t_i = sum_j A_ij w_j.
    4. Update: (g_1, g_2, g_3)_i = O(s_i + t_i + sum_j m_1,ij), (U_1, U_2, U_3)_i = v_i W_U,
       s_i <- g_1 + g_2 * sum over components of U_1 * U_2,
       v_i <- g_3 * U_3 + (sum_j m_2,ij) * v_i + sum_j m_3,ij u_ij.
    5. Output: the layer adds s_i, and a perceptron of it, to the sum that the readout sees.

    The messages of step 2 are summed over neighbors before they are mixed,
    (sum_j [x_ij, y_ij]) W_mix: the same numbers as the paper's, with products that grow with the
    atoms instead of the edges.

    Args:
        num_features: Width of scalars and vectors.
        num_radial: Width of the radial basis.
        attention: Layer of step 3; `None` leaves it out.
        residual_mlp: Whether step 5 has the perceptron.

    Reference: Tao et al., 2023, eq. 8, https://arxiv.org/abs/2308.10752
    """

    def __init__(
        self,
        num_features: int,
        num_radial: int,
        attention: GraphAttention | None,
        residual_mlp: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_features, self.num_radial = num_features, num_radial
        self.attention = attention
        self.residual_mlp = residual_mlp
        deviation = (1.5 / num_features) ** 0.5
        radial_bound = (6.0 / num_radial) ** 0.5
        uniform = Uniform(-radial_bound, radial_bound)
        # the filters of the atom itself and of its neighbor, side by side
        self.filters = torch_dense(
            2 * num_features, num_radial, activation="silu", kernel_initializer=uniform
        )
        self.phi = torch_dense(
            num_features,
            num_features,
            activation="silu",
            kernel_initializer=Normal(stddev=deviation),
        )
        self.mix = torch_dense(3 * num_features, 2 * num_features)
        self.update = torch_dense(3 * num_features, num_features)
        self.vector_maps = torch_dense(3 * num_features, num_features, use_bias=False)
        if residual_mlp:
            self.residual_1 = torch_dense(
                num_features,
                num_features,
                activation="silu",
                kernel_initializer=Normal(stddev=deviation),
            )
            self.residual_2 = torch_dense(num_features, num_features)

    def build(self, *shapes: Any) -> None:
        """Creates the mixing weights, which `call` uses in parts."""
        self.mix.build((None, 2 * self.num_features))

    def call(
        self,
        scalars: Tensor,
        vectors: Tensor,
        basis: Tensor,
        envelope: Tensor,
        weights: Tensor,
        graph: Graph,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Runs the steps of the class.

        Call arguments:
            scalars: s, `(num_atoms, num_features)`.
            vectors: v, `(num_atoms, num_components, num_features)`: x, y, z and up to two
                components that carry charge and spin.
            basis: e, `(num_edges, num_radial)`.
            envelope: f, `(num_edges, 1)`, zero for padding.
            weights: f times (1, u), `(num_edges, 4)`.
            graph: A batch with edges up to the cutoff.

        Returns:
            New scalars and new vectors, of the same shapes; what the layer adds to the output,
            `(num_atoms, num_features)`; the attention `(num_graphs, num_heads, max_atoms,
            max_atoms)`, `None` without it.
        """
        width = self.num_features
        # 1. Filters, summed over neighbors: component 0 goes to scalars, 1 to 3 to vectors
        hidden = self.phi(scalars)
        filters = self.filters(basis) * envelope  # (num_edges, 2 * width)
        from_neighbors = filters[:, width:] * ops.take(hidden, graph["senders"], axis=0)
        pairs = ops.concatenate([filters[:, :width], from_neighbors], axis=1)
        moments = segment.sum_over_edges(weights[:, :, None] * pairs[:, None, :], graph)
        own = hidden[:, None, :] * moments[:, :, :width]
        moments = ops.concatenate([own, moments[:, :, width:]], axis=2)
        totals = segment.sum_over_edges(weights, graph)  # (num_atoms, 4), for the bias
        # 2. Messages
        kernel, bias = self.mix.kernel, self.mix.bias
        mixed = ops.matmul(moments[:, 0], kernel[:, : 2 * width])
        mixed = mixed + totals[:, :1] * bias[: 2 * width]
        pushed = ops.matmul(moments[:, 1:], kernel[:, 2 * width :])
        pushed = pushed + totals[:, 1:, None] * bias[2 * width :]  # (num_atoms, 3, width)

        # 3. Attention
        attended: Tensor = 0.0
        coefficients = None
        if self.attention is not None:
            attended, coefficients = self.attention(scalars, graph)
        # 4. Update
        gates = self.update(scalars + attended + mixed[:, :width])
        maps = self.vector_maps(vectors)
        products = ops.sum(maps[:, :, :width] * maps[:, :, width : 2 * width], axis=1)
        new_scalars = gates[:, :width] + gates[:, width : 2 * width] * products
        new_vectors = (
            gates[:, None, 2 * width :] * maps[:, :, 2 * width :] + mixed[:, None, width:] * vectors
        )
        # components beyond xyz carry charge and spin: directions do not reach them
        num_constant = vectors.shape[1] - 3
        new_vectors = new_vectors + ops.pad(pushed, ((0, 0), (0, num_constant), (0, 0)))
        # 5. Output
        output = new_scalars
        if self.residual_mlp:
            output = output + self.residual_2(self.residual_1(new_scalars))
        return new_scalars, new_vectors, output, coefficients
