"""Starting weights that several papers share."""

from __future__ import annotations

from typing import Any

import keras


def fan_in_uniform() -> keras.initializers.Initializer:
    """Draws kernels from ±1/sqrt(fan_in), the default of PyTorch's linear layers."""
    return keras.initializers.VarianceScaling(1.0 / 3.0, "fan_in", "uniform")


def torch_dense(units: int, fan_in: int, use_bias: bool = True, **kwargs: Any) -> Any:
    """Makes a Dense layer that starts as PyTorch's would, its bias included."""
    bound = fan_in**-0.5
    options: dict[str, Any] = {
        "kernel_initializer": fan_in_uniform(),
        "bias_initializer": keras.initializers.RandomUniform(-bound, bound),
    }
    return keras.layers.Dense(units, use_bias=use_bias, **(options | kwargs))


@keras.saving.register_keras_serializable("keras_mlff")
class GlorotOrthogonal(keras.initializers.Initializer):
    """Draws orthogonal matrices, scaled to the variance 2 / (fan_in + fan_out) of their numbers.

    Args:
        num_blocks: Matrices that stand one below the other in the kernel, each with its own rows.
        seed: Of the random numbers.

    Reference: Gasteiger et al., 2020, https://arxiv.org/abs/2003.03123, in the authors' program
    """

    def __init__(self, num_blocks: int = 1, seed: Any = None) -> None:
        self.num_blocks, self.seed = num_blocks, seed
        self.orthogonal = keras.initializers.Orthogonal(seed=seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        rows = shape[0] // self.num_blocks
        matrix = self.orthogonal(shape, dtype=dtype)
        variance = keras.ops.maximum(keras.ops.var(matrix), 1e-12)
        return matrix * keras.ops.sqrt(2.0 / ((rows + shape[1]) * variance))

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        return {"num_blocks": self.num_blocks, "seed": self.seed}
