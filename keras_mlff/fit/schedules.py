"""Learning rates over the steps of a training."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mlff.graph import Tensor


@keras.saving.register_keras_serializable("keras_mlff")
class TriangularCycles(keras.optimizers.schedules.LearningRateSchedule):
    """Rises and falls linearly, once in each half of the training.

    The first half goes 1e-6 -> 1e-4 -> 1e-6, the second 1e-8 -> 1e-6 -> 1e-8, as CMRET was
    trained. A rise takes 100,000 steps, the fall the rest of the half; where half the training is
    shorter than 200,000 steps, the rise is 20 % of it.

    Args:
        total_steps: Steps of the whole training.
        bounds: Lowest and highest rate of each half.
        rise_steps: Steps of a rise.

    Reference: Tao et al., 2023 (CMRET), https://arxiv.org/abs/2308.10752
    """

    def __init__(
        self,
        total_steps: int,
        bounds: tuple[tuple[float, float], ...] = ((1e-6, 1e-4), (1e-8, 1e-6)),
        rise_steps: int = 100_000,
    ) -> None:
        self.total_steps, self.bounds, self.rise_steps = total_steps, bounds, rise_steps

    def __call__(self, step: Tensor) -> Tensor:
        length = self.total_steps / len(self.bounds)
        rise = self.rise_steps if length >= 2 * self.rise_steps else 0.2 * length
        step = ops.cast(step, "float32")
        cycle = ops.minimum(ops.floor(step / length), len(self.bounds) - 1)
        position = step - cycle * length
        height = ops.minimum(position / rise, (length - position) / (length - rise))
        rate = 0.0
        for index, (lowest, highest) in enumerate(self.bounds):
            here = ops.cast(ops.equal(cycle, index), "float32")
            rate = rate + here * (lowest + (highest - lowest) * ops.maximum(height, 0.0))
        return rate

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        return {
            "total_steps": self.total_steps,
            "bounds": self.bounds,
            "rise_steps": self.rise_steps,
        }


def warmup_cosine(
    peak: float, total_steps: int, warmup_steps: int = 500, final_fraction: float = 0.0
) -> keras.optimizers.schedules.CosineDecay:
    """Rises linearly to `peak`, then falls along a cosine to `final_fraction` of it."""
    warmup_steps = min(warmup_steps, total_steps // 10)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak * 1e-2,
        warmup_target=peak,
        warmup_steps=warmup_steps,
        decay_steps=total_steps - warmup_steps,
        alpha=final_fraction,
    )
