"""Factors of losses that change from epoch to epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mlff.graph import Tensor


@keras.saving.register_keras_serializable("keras_mlff")
class WeightSchedule:
    """Factor of a loss that changes from epoch to epoch, linearly between given points.

    Validation always weighs as the last point does, so that its loss can be compared between
    epochs. Within an epoch the factor stays.

    Args:
        points: Pairs of epoch (from 0) and factor, epochs ascending.

    Example:
        >>> WeightSchedule([(0, 0.1), (100, 0.1), (200, 1.0)]).at(150)
        0.55
    """

    def __init__(self, points: Sequence[tuple[int, float]]) -> None:
        self.points = [(int(epoch), float(weight)) for epoch, weight in points]
        epochs = [epoch for epoch, _ in self.points]
        if not epochs or epochs != sorted(set(epochs)):
            raise ValueError(
                "A schedule is a list of (epoch, weight), its epochs ascending. "
                f"Received: points={points}."
            )

    def at(self, epoch: int) -> float:
        """Computes the factor of an epoch."""
        epochs, weights = np.asarray(self.points).T
        return float(np.interp(epoch, epochs, weights))

    @property
    def last(self) -> float:
        """The factor in the end."""
        return self.points[-1][1]

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments."""
        return {"points": [list(point) for point in self.points]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WeightSchedule:
        """Makes the schedule of a config."""
        return cls(**config)


class ScheduledWeight(keras.metrics.Metric):
    """Holds the factor of this epoch where compiled steps read it anew: beside the metrics."""

    def __init__(self, schedule: WeightSchedule, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schedule = schedule
        start = keras.initializers.Constant(schedule.at(0))
        self.value = self.add_variable((), start, aggregation="mean", name="value")

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def reset_state(self) -> None:
        """Does nothing: epochs begin with the factor that they are given."""

    def result(self) -> Tensor:
        """Returns the factor."""
        return ops.convert_to_tensor(self.value)


class ScheduledWeights(keras.callbacks.Callback):
    """Sets the factors of losses that have a `WeightSchedule`; `fit` adds it by itself.

    Validation weighs as the last epoch does.
    """

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Sets the epoch's factors."""
        self._epoch = epoch
        self.model.schedule_loss_weights(epoch)

    def on_test_begin(self, logs: Any = None) -> None:
        """Sets the factors of the end."""
        self.model.schedule_loss_weights(None)

    def on_test_end(self, logs: Any = None) -> None:
        """Goes on with the epoch's factors."""
        self.model.schedule_loss_weights(self._epoch)
