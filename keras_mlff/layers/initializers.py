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
