"""Starting weights, drawn with NumPy: a seed gives the same ones on every backend.

JAX would compile the drawing of each shape, which takes longer than everything else in making a
model. As in Keras, an initializer draws the same numbers whenever it is called, so that each weight
needs one of its own.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_mlff.graph import Array

_TRUNCATED = 0.87962566103423978  # deviation of what a normal distribution has within ±2


@keras.saving.register_keras_serializable("keras_mlff")
class Uniform(keras.initializers.RandomUniform):
    """Draws evenly between two numbers, as `keras.initializers.RandomUniform` does."""

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Draws an array of a shape; `dtype` defaults to that of the global policy."""
        return _tensor(_random(self).uniform(self.minval, self.maxval, shape), dtype)


@keras.saving.register_keras_serializable("keras_mlff")
class Normal(keras.initializers.RandomNormal):
    """Draws from a normal distribution, as `keras.initializers.RandomNormal` does."""

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Draws an array of a shape; `dtype` defaults to that of the global policy."""
        return _tensor(_random(self).normal(self.mean, self.stddev, shape), dtype)


@keras.saving.register_keras_serializable("keras_mlff")
class Scaled(keras.initializers.VarianceScaling):
    """Draws kernels whose variance is a number over their width.

    It is `keras.initializers.VarianceScaling` for kernels `(..., inputs, outputs)`: axes before the
    last two count kernels, each scaled by itself, which Keras would take for inputs.
    """

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Draws an array of a shape; `dtype` defaults to that of the global policy."""
        fan_in, fan_out = shape[-2:]
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": 0.5 * (fan_in + fan_out)}
        deviation = (self.scale / fans[self.mode]) ** 0.5
        random = _random(self)
        if self.distribution == "uniform":
            limit = 3.0**0.5 * deviation
            return _tensor(random.uniform(-limit, limit, shape), dtype)
        values = random.normal(size=shape)
        if self.distribution == "truncated_normal":
            while np.any(outside := np.abs(values) > 2.0):
                values[outside] = random.normal(size=int(outside.sum()))
            values /= _TRUNCATED
        return _tensor(deviation * values, dtype)


@keras.saving.register_keras_serializable("keras_mlff")
class GlorotOrthogonal(keras.initializers.OrthogonalInitializer):
    """Draws orthogonal matrices, scaled to the variance 2 / (fan_in + fan_out) of their numbers.

    Args:
        num_blocks: How many matrices lie one below the other in the kernel, each with rows of its
            own; the width of one of them counts.
        seed: Seed of the random numbers; drawn from the global one by default.

    Reference: the authors' program of Gasteiger et al., 2020, https://arxiv.org/abs/2003.03123
    """

    def __init__(self, num_blocks: int = 1, seed: Any = None) -> None:
        super().__init__(seed=seed)
        self.num_blocks = num_blocks

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """Draws a kernel `(rows, columns)`."""
        rows, columns = shape
        tall = _random(self).normal(size=(max(shape), min(shape)))
        matrix, triangle = np.linalg.qr(tall)
        matrix *= np.sign(np.diag(triangle))  # or not all rotations would be as likely
        matrix = matrix if rows >= columns else matrix.T
        variance = max(float(matrix.var()), 1e-12)
        fans = rows // self.num_blocks + columns
        return _tensor(matrix * (2.0 / (fans * variance)) ** 0.5, dtype)

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        return {"num_blocks": self.num_blocks, "seed": super().get_config()["seed"]}


def glorot_uniform() -> Scaled:
    """Draws kernels from ±sqrt(6 / (fan_in + fan_out)), the default of Keras."""
    return Scaled(1.0, "fan_avg", "uniform")


def lecun_normal() -> Scaled:
    """Draws kernels of variance 1 / fan_in, the default of Flax."""
    return Scaled(1.0, "fan_in", "truncated_normal")


def fan_in_uniform() -> Scaled:
    """Draws kernels from ±1/sqrt(fan_in), the default of PyTorch's linear layers."""
    return Scaled(1.0 / 3.0, "fan_in", "uniform")


def constants(values: Array) -> Any:
    """Makes an initializer that gives these values, in whatever shape is asked for.

    Args:
        values: As many numbers as the weight has.
    """

    def initializer(shape: Any, dtype: Any = None) -> Any:
        return _tensor(values.reshape(shape), dtype)

    return initializer


def torch_dense(units: int, fan_in: int, use_bias: bool = True, **kwargs: Any) -> Any:
    """Makes a Dense layer that starts as PyTorch's would, its bias included.

    Args:
        units: Width of the output.
        fan_in: Width of the input, which bounds kernel and bias: ±1/sqrt(fan_in).
        use_bias: Whether there is a bias.
        **kwargs: Further arguments of `keras.layers.Dense`, which replace the initializers too.
    """
    bound = fan_in**-0.5
    options: dict[str, Any] = {
        "kernel_initializer": fan_in_uniform(),
        "bias_initializer": Uniform(-bound, bound),
    }
    return keras.layers.Dense(units, use_bias=use_bias, **(options | kwargs))


def _random(initializer: Any) -> np.random.Generator:
    return np.random.default_rng(initializer.seed)


def _tensor(values: Array, dtype: Any) -> Any:
    return keras.ops.convert_to_tensor(values, dtype or keras.config.floatx())
