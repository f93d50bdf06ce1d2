"""Learning rates over the steps of a training."""

from __future__ import annotations

import math
from collections.abc import Callable
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


@keras.saving.register_keras_serializable("keras_mlff")
class Cosines(keras.optimizers.schedules.LearningRateSchedule):
    """Falls to zero in a third of the training, rises to the start in the next, and falls again.

    So does the rate in the program of EGNN's authors, which steps its scheduler three times in each
    epoch.

    Args:
        start: The rate at the first step.
        num_steps: Steps of the whole training.
    """

    def __init__(self, start: float, num_steps: int) -> None:
        self.start, self.num_steps = start, num_steps

    def __call__(self, step: Tensor) -> Tensor:
        angle = ops.cast(step, "float32") * (3.0 * math.pi / self.num_steps)
        return 0.5 * self.start * (1.0 + ops.cos(angle))

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        return {"start": self.start, "num_steps": self.num_steps}


@keras.saving.register_keras_serializable("keras_mlff")
class WarmupExponential(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from zero, then falls to a hundredth, as DimeNet++ was trained.

    Args:
        start: The rate that an immediate start without a rise would have.
        warmup_steps: Steps of the rise.
        decay_steps: Steps after which a hundredth of `start` is left.
    """

    def __init__(
        self, start: float, warmup_steps: int = 3000, decay_steps: int = 4_000_000
    ) -> None:
        self.start, self.warmup_steps, self.decay_steps = start, warmup_steps, decay_steps

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        rise = ops.minimum(step / self.warmup_steps, 1.0)
        return self.start * rise * ops.power(0.01, step / self.decay_steps)

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        return {
            "start": self.start,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
        }


def make(kind: str, learning_rate: float, total_steps: int, **arguments: Any) -> Any:
    """Makes the learning rate of a training by name, for recipes and the command line.

    Args:
        kind: `"warmup_cosine"`, `"cosine"`, `"constant"`, `"plateau"` (a constant that a callback
            lowers), `"exponential"`, `"triangular"`, `"cosines"`, `"warmup_exponential"`, or a
            class of `keras.optimizers.schedules` by name.
        learning_rate: The start or, with a warm-up, the peak.
        total_steps: Steps of the whole training.
        **arguments: Of the schedule. `decay_steps` below 1 is a share of the training.

    Returns:
        A number or a schedule, which Keras optimizers take.

    Raises:
        ValueError: If there is no such schedule.
    """
    if 0 < arguments.get("decay_steps", 1) < 1:
        arguments["decay_steps"] = max(1, int(arguments["decay_steps"] * total_steps))
    known: dict[str, Callable[..., Any]] = {
        "warmup_cosine": lambda **kwargs: warmup_cosine(
            learning_rate, total_steps, **{"final_fraction": 1e-3} | kwargs
        ),
        "cosine": lambda **kwargs: keras.optimizers.schedules.CosineDecay(
            learning_rate, **{"decay_steps": total_steps} | kwargs
        ),
        "constant": lambda: learning_rate,
        "plateau": lambda **_: learning_rate,
        "exponential": lambda **kwargs: keras.optimizers.schedules.ExponentialDecay(
            learning_rate, **kwargs
        ),
        "triangular": lambda **kwargs: TriangularCycles(total_steps, **kwargs),
        "cosines": lambda: Cosines(learning_rate, total_steps),
        "warmup_exponential": lambda **kwargs: WarmupExponential(learning_rate, **kwargs),
    }
    if kind in known:
        return known[kind](**arguments)
    made = getattr(keras.optimizers.schedules, kind, None)
    if made is None:
        raise ValueError(
            f"There is no such schedule. Received: '{kind}', known are {sorted(known)} and the "
            "classes of keras.optimizers.schedules."
        )
    return made(**arguments)
