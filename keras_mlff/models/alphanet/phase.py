"""Complex numbers of edges and atoms, as pairs of real arrays."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor
from keras_mlff.layers.initializers import Normal, torch_dense
from keras_mlff.ops import safe

PHASES = ("sin", "cos_sin", "atan2")
MODULI = ("smooth", "shifted", "plain")
# of squares: a phase turns around where its number is zero, and takes room for it
_SOFTENING = 1e-2


@keras.saving.register_keras_serializable("keras_mlff")
class PhaseMessage(keras.layers.Layer):
    """Computes phases of each edge from its message (part 3 of step 4).

    With x the message, W its filters and n2 = `chi_outputs`:

    1. psi, complex numbers: a map of x, shared out to heads; a head of ones is put before them.
    2. c_k = sum over heads and numbers of psi K_k / sqrt(floor(C / heads)), k = 1..n2, with a
       complex kernel K.
    3. D_k = (map of gamma_k delta + 1), with gates gamma = silu(MLP(W)) and a learned vector delta.
    4. z = L(sum over k of c_k D_k), the same linear map L for real and imaginary parts.
    5. theta, the phase of z, or its sine.

    Args:
        num_features: C, the width of messages; their filters are 3 C wide.
        num_heads: Heads of the complex map.
        chi_features: Complex numbers in all heads together.
        chi_outputs: Complex numbers that the heads are mixed to.
        num_phases: Phases of each edge.
        phase: `"sin"`, the sine y / sqrt(x² + y² + 0.01) of the phase of z = x + iy; `"cos_sin"`,
            its cosine as well; `"atan2"`, the phase itself, which jumps by 2 pi.
        dropout: Share of the message that is dropped in training.

    Reference: the authors' program; AlphaNet, 2025, https://arxiv.org/abs/2501.07155
    """

    def __init__(
        self,
        num_features: int,
        num_heads: int,
        chi_features: int,
        chi_outputs: int,
        num_phases: int,
        phase: str = "sin",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_features, self.num_heads = num_features, num_heads
        self.chi_features, self.chi_outputs = chi_features, chi_outputs
        self.num_phases, self.phase = num_phases, phase
        self.width = num_phases * (2 if phase == "cos_sin" else 1)
        self.dropout = keras.layers.Dropout(dropout) if dropout > 0.0 else None
        self.heads_map = torch_dense(2 * chi_features, num_features)
        self.gate_hidden = torch_dense(chi_features // 2, 3 * num_features, activation="silu")
        self.gate_output = torch_dense(chi_outputs, chi_features // 2, activation="silu")
        self.diagonal_map = torch_dense(num_phases, num_phases)
        self.phase_map = torch_dense(num_phases, num_phases)

    def build(self, messages_shape: Any, filters_shape: Any, mask_shape: Any) -> None:
        """Creates the complex kernel K, the vector delta and the weights of all maps."""
        shape = (self.num_heads + 1, self.chi_features // self.num_heads, self.chi_outputs)
        self.kernel_real = self.add_weight(
            shape=shape, initializer=Normal(stddev=1.0), name="kernel_real"
        )
        self.kernel_imag = self.add_weight(
            shape=shape, initializer=Normal(stddev=1.0), name="kernel_imag"
        )
        self.diagonal = self.add_weight(
            shape=(self.num_phases,), initializer=Normal(stddev=1.0), name="diagonal"
        )
        self.heads_map.build((None, self.num_features))
        self.gate_hidden.build((None, 3 * self.num_features))
        self.gate_output.build((None, self.chi_features // 2))
        self.diagonal_map.build((None, self.num_phases))
        self.phase_map.build((None, self.num_phases))

    def call(
        self, messages: Tensor, filters: Tensor, mask: Tensor, training: bool = False
    ) -> Tensor:
        """Computes the phases of each edge.

        Call arguments:
            messages: x, `(num_edges, num_features)`.
            filters: W, `(num_edges, 3 * num_features)`.
            mask: `(num_edges,)` bool, false for padding.
            training: Whether to drop a share of the messages.

        Returns:
            `(num_edges, num_phases)`; for `"cos_sin"` twice as many, cosines first.
        """
        # 1. and 2. Real parts come before imaginary parts
        if self.dropout is not None:
            messages = self.dropout(messages, training=training)
        mixed = self._mix(self.heads_map(messages))
        mixed = ops.reshape(mixed, (-1, 2, self.chi_outputs))
        # 3. The diagonal matrix and its map are affine in the gates, so two sums suffice
        gates = self.gate_output(self.gate_hidden(filters))[:, None, :]
        scaled = ops.sum(mixed * gates, axis=-1, keepdims=True)  # (num_edges, 2, 1)
        plain = ops.sum(mixed, axis=-1, keepdims=True)
        constant = ops.sum(self.diagonal_map.kernel, axis=0) + self.diagonal_map.bias
        slope = ops.matmul(self.diagonal[None], self.diagonal_map.kernel)[0]
        # 4. One map for both parts
        numbers = self.phase_map(scaled * slope + plain * constant)  # (num_edges, 2, num_phases)
        real, imaginary = numbers[:, 0], numbers[:, 1]
        # 5. Padding may be zero, where phases have no derivative
        real = ops.where(mask[:, None], real, ops.ones_like(real))
        if self.phase == "atan2":
            return ops.arctan2(imaginary, real)
        modulus = ops.sqrt(ops.square(real) + ops.square(imaginary) + _SOFTENING)
        if self.phase == "sin":
            return imaginary / modulus
        return ops.concatenate([real / modulus, imaginary / modulus], axis=-1)

    def _mix(self, numbers: Tensor) -> Tensor:
        """Multiplies with the complex kernel, whose first head meets ones.

        Args:
            numbers: psi, `(num_edges, 2 * chi_features)`, real parts first.

        Returns:
            c, `(num_edges, 2 * chi_outputs)`, real parts first.
        """
        shape = (self.chi_features, self.chi_outputs)
        real = ops.reshape(self.kernel_real[1:], shape)
        imaginary = ops.reshape(self.kernel_imag[1:], shape)
        kernel = ops.concatenate(
            [
                ops.concatenate([real, imaginary], axis=1),
                ops.concatenate([-imaginary, real], axis=1),
            ],
            axis=0,
        )
        first = ops.concatenate(
            [ops.sum(self.kernel_real[0], axis=0), ops.sum(self.kernel_imag[0], axis=0)], axis=0
        )
        return (ops.matmul(numbers, kernel) + first) * (self.num_features // self.num_heads) ** -0.5


@keras.saving.register_keras_serializable("keras_mlff")
class TemporalConnection(keras.layers.Layer):
    """Turns the complex state of each atom by its features and gives it modulus one (step 5).

    Phi_k <- sum over c and l of T_ckl s_c Phi_l, divided by its modulus, with a complex kernel T.

    Args:
        modulus: What to divide z by: `"smooth"`: sqrt(|z|² + softening · num_features · width);
            `"shifted"`: |z| + epsilon; `"plain"`: |z|.
        epsilon: Added by `"shifted"`.
        softening: Scale of what `"smooth"` adds. Features of size one and new weights make |z|²
            twice num_features times width on average. Where z is zero, it turns around within about
            the square root of the softening; with next to none, forces have spikes there.

    Reference: AlphaNet, 2025, https://arxiv.org/abs/2501.07155, temporal connection
    """

    def __init__(
        self,
        modulus: str = "smooth",
        epsilon: float = 1e-9,
        softening: float = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.modulus, self.epsilon, self.softening = modulus, epsilon, softening

    def build(self, features_shape: Any, state_shape: Any) -> None:
        """Creates the complex kernel T, `(num_features, width, width)`."""
        width = state_shape[-1] // 2
        shape = (features_shape[-1], width, width)
        self.kernel_real = self.add_weight(
            shape=shape, initializer=Normal(stddev=1.0), name="kernel_real"
        )
        self.kernel_imag = self.add_weight(
            shape=shape, initializer=Normal(stddev=1.0), name="kernel_imag"
        )

    def call(self, features: Tensor, state: Tensor) -> Tensor:
        """Computes the new state.

        Call arguments:
            features: s, `(num_atoms, num_features)`.
            state: Phi, `(num_atoms, 2 * width)`, real parts, then imaginary parts.

        Returns:
            The state in the same shape and order.
        """
        num_features, width, _ = self.kernel_real.shape
        flat = (num_features, width * width)
        maps = [
            ops.reshape(
                ops.matmul(features, ops.reshape(kernel, flat)), (-1, width, width)
            )  # (num_atoms, width, width)
            for kernel in (self.kernel_real, self.kernel_imag)
        ]
        old_real, old_imag = state[:, :width, None], state[:, width:, None]
        real = (ops.matmul(maps[0], old_real) - ops.matmul(maps[1], old_imag))[:, :, 0]
        imag = (ops.matmul(maps[0], old_imag) + ops.matmul(maps[1], old_real))[:, :, 0]
        squares = ops.square(real) + ops.square(imag)
        if self.modulus == "smooth":
            modulus = ops.sqrt(squares + self.softening * num_features * width)
        elif self.modulus == "shifted":
            modulus = safe.root(squares) + self.epsilon
        else:
            modulus = safe.root(squares)
        return ops.concatenate([safe.divide(real, modulus), safe.divide(imag, modulus)], axis=1)


def rotate(features: Tensor, rotation: Tensor) -> Tensor:
    """Multiplies features, read as half as many complex numbers, by others of the same width.

    Args:
        features: `(num_atoms, num_features)`, real parts first.
        rotation: omega, `(num_atoms, num_features)`, real parts first.

    Returns:
        The products in the same shape and order.

    Reference: rotary embeddings, Su et al., 2021, https://arxiv.org/abs/2104.09864
    """
    half = features.shape[-1] // 2
    a, b = features[:, :half], features[:, half:]
    c, d = rotation[:, :half], rotation[:, half:]
    return ops.concatenate([a * c - b * d, a * d + b * c], axis=1)
