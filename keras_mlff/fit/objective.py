"""What `fit` minimizes and watches: losses, their weights and metrics, without padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_mlff import backend, quantities
from keras_mlff.fit.losses import PerAtom, _per_row
from keras_mlff.fit.weight_schedules import ScheduledWeight, WeightSchedule
from keras_mlff.graph import MASKS, Graph, Tensor, is_known
from keras_mlff.ops import geometry, segment

METRIC_NAMES: dict[str, Callable[[], keras.metrics.Metric]] = {
    "mae": lambda: keras.metrics.MeanAbsoluteError(name="mae"),
    "mse": lambda: keras.metrics.MeanSquaredError(name="mse"),
    "rmse": lambda: keras.metrics.RootMeanSquaredError(name="rmse"),
}


class Objective:
    """What `compile` was given: losses, their weights and metrics by name of the property.

    Epoch values are sums over all real structures or atoms that have the label, divided by their
    number, so they do not depend on how the data were cut into batches. Labels may be missing: a
    structure without one takes part with those that it has, and changes nothing else.

    Args:
        loss: Name of a loss or a Keras loss for each property that is learned.
        loss_weights: Factor of each, or its schedule; 1 where not given.
        metrics: Name(s) or Keras metric(s) for each property that is watched.
        outputs: Names that the model predicts.

    Raises:
        ValueError: If a name is not predicted, or no loss is given.
    """

    def __init__(
        self,
        loss: Mapping[str, Any],
        loss_weights: Mapping[str, float | WeightSchedule] | None,
        metrics: Mapping[str, Any] | None,
        outputs: list[str],
    ) -> None:
        if not isinstance(loss, Mapping) or not loss:
            raise ValueError(
                "`loss` names a loss for each property, such as "
                '{"energy": "mse", "forces": "mse"}. '
                f"Received: loss={loss!r}; this model predicts {outputs}."
            )
        for argument, names in (
            ("loss", loss),
            ("loss_weights", loss_weights or {}),
            ("metrics", metrics or {}),
        ):
            unknown = sorted(set(names) - set(outputs))
            if unknown:
                raise ValueError(
                    f"`{argument}` names properties that this model does not predict. "
                    f"Received: {unknown}; it predicts {outputs}. Add heads for more."
                )
        without_loss = sorted(set(loss_weights or {}) - set(loss))
        if without_loss:
            raise ValueError(f"`loss_weights` has {without_loss}, for which `loss` has nothing.")
        wrong = sorted(k for k, v in loss.items() if isinstance(v, PerAtom) and _is_per_atom(k))
        if wrong:
            raise ValueError(
                "PerAtom divides a property of the structure by its number of atoms. "
                f"Received: PerAtom for {wrong}, which each atom has already."
            )
        self.losses = {key: _per_row(value) for key, value in loss.items()}
        self.per_atom = {key for key, value in loss.items() if isinstance(value, PerAtom)}
        self.scheduled: dict[str, ScheduledWeight] = {}
        self.weights: dict[str, Any] = {}  # numbers or variables
        for key in loss:
            weight = (loss_weights or {}).get(key, 1.0)
            if isinstance(weight, WeightSchedule):
                self.scheduled[key] = ScheduledWeight(weight, name=f"{key}_weight")
                self.weights[key] = self.scheduled[key].value
            else:
                self.weights[key] = float(weight)
        self.trackers = {key: keras.metrics.Mean(name=f"{key}_loss") for key in loss}
        # how many rows had a label that is watched without being learned
        self.counts = {
            key: keras.metrics.Sum(name=f"{key}_count") for key in metrics or {} if key not in loss
        }
        self.regularization = keras.metrics.Mean(name="regularization")
        self.has_regularization = False
        self.metrics: dict[str, dict[str, keras.metrics.Metric]] = {}
        for key, given in (metrics or {}).items():
            listed = given if isinstance(given, (list, tuple)) else [given]
            made = [_metric(item) for item in listed]
            self.metrics[key] = {metric.name: metric for metric in made}

    @property
    def all_metrics(self) -> list[keras.metrics.Metric]:
        """Every tracker, in one order."""
        watched = [metric for by_name in self.metrics.values() for metric in by_name.values()]
        trackers = [*self.trackers.values(), self.regularization, *watched]
        return [*trackers, *self.scheduled.values(), *self.counts.values()]

    def loss(
        self, graph: Graph, labels: Mapping[str, Tensor], predictions: Mapping[str, Tensor]
    ) -> Tensor:
        """Computes the weighted loss of a batch and keeps its parts for the epoch's value.

        Each property's part is the mean over the structures, or atoms, of the batch that have the
        label; it is zero where none has. The mean is taken over all replicas together.

        Args:
            graph: Inputs of the batch, whose masks tell padding.
            labels: Labels by name, NaN where missing.
            predictions: What the model predicts, by name.

        Returns:
            A scalar.

        Raises:
            ValueError: If a label or a prediction has no array at all, or if their shapes differ.
        """
        total = 0.0
        for key, function in self.losses.items():
            y_true, y_pred, weights = _rows(key, graph, labels, predictions)
            if key in self.per_atom:
                counts = ops.maximum(segment.count_atoms(graph, ops.dtype(y_pred)), 1.0)[:, None]
                y_true, y_pred = y_true / counts, y_pred / counts
            values = _one_per_row(function(y_true, y_pred), function)
            values = ops.where(weights > 0.0, values, ops.zeros_like(values))
            self.trackers[key].update_state(values, sample_weight=weights)
            # under a distribution strategy the gradients of the replicas are added up
            normalizer = ops.maximum(backend.global_sum(ops.sum(weights)), 1.0)
            total = total + self.weights[key] * ops.sum(values) / normalizer
        return total

    def add_regularization(self, losses: list[Tensor], graph: Graph) -> Tensor:
        """Adds what layers ask for, once per batch.

        Args:
            losses: Penalties of the layers, scalars.
            graph: Inputs of the batch; in the epoch's value each real structure counts the same.

        Returns:
            This replica's part of the sum of the penalties; 0 where there are none.
        """
        self.has_regularization = bool(losses)
        total = sum(losses) if losses else 0.0
        self.regularization.update_state(
            total, sample_weight=ops.sum(ops.cast(graph["graph_mask"], "float32"))
        )
        # each replica of a distribution strategy adds its part
        return total / backend.global_sum(ops.ones_like(total)) if losses else total

    def update_metrics(
        self, graph: Graph, labels: Mapping[str, Tensor], predictions: Mapping[str, Tensor]
    ) -> None:
        """Adds a batch to the metrics; only rows that have the label count.

        Args:
            graph: Inputs of the batch.
            labels: Labels by name, NaN where missing.
            predictions: What the model predicts, by name.
        """
        for key, by_name in self.metrics.items():
            y_true, y_pred, weights = _rows(key, graph, labels, predictions)
            for metric in by_name.values():
                metric.update_state(y_true, y_pred, sample_weight=weights)
            if key in self.counts:
                self.counts[key].update_state(weights)

    def check_labels(self) -> None:
        """Refuses an epoch in which a label was missing everywhere, whose loss would be 0.

        Raises:
            ValueError: If a loss or a metric has had nothing to compare, though there were data.
        """
        seen = {key: tracker.count for key, tracker in self.trackers.items()}
        seen |= {key: counter.total for key, counter in self.counts.items()}
        numbers = {key: float(ops.convert_to_numpy(value)) for key, value in seen.items()}
        absent = sorted(key for key, number in numbers.items() if number == 0.0)
        if absent:
            raise ValueError(_no_label(absent))

    def check_graphs(self, graphs: Sequence[Graph]) -> None:
        """Refuses data in which a label is missing everywhere, before the first step.

        Args:
            graphs: All of the data, in memory.

        Raises:
            ValueError: If a loss or a metric has nothing to compare.
        """
        needed = [*self.losses, *self.counts]
        absent = [key for key in needed if not any(is_known(key, graph).any() for graph in graphs)]
        if absent:
            raise ValueError(_no_label(absent))

    @property
    def log_names(self) -> list[str]:
        """Names of what `logs` reports, in its order."""
        names = ["loss", "data_loss"] if self.has_regularization else ["loss"]
        if len(self.trackers) > 1 or self.has_regularization:
            names += [f"{key}_loss" for key in self.trackers]
        return names + [f"{key}_{name}" for key, made in self.metrics.items() for name in made]

    def logs(self) -> dict[str, Tensor]:
        """Reports the values since the epoch began; `loss` first.

        Where layers add penalties, `data_loss` is what remains without them.
        """
        parts = {key: tracker.result() for key, tracker in self.trackers.items()}
        total = sum(self.weights[key] * value for key, value in parts.items())
        logs = {"loss": total + self.regularization.result()}
        if self.has_regularization:
            logs["data_loss"] = total
        if len(parts) > 1 or self.has_regularization:
            logs |= {f"{key}_loss": value for key, value in parts.items()}
        for key, by_name in self.metrics.items():
            logs |= {f"{key}_{name}": metric.result() for name, metric in by_name.items()}
        return logs


def _no_label(absent: Sequence[str]) -> str:
    return (
        f"The data have no label '{absent[0]}': it is missing in all structures, so that there is "
        f"nothing to compare. Received: no values of {list(absent)}, which the loss or a metric "
        "needs (a stress counts only where the cell has a volume). Give the labels, or leave them "
        "out of compile."
    )


def _is_per_atom(key: str) -> bool:
    return quantities.get(key).level == "atom"


def _rows(
    key: str, graph: Graph, labels: Mapping[str, Tensor], predictions: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Reads label and prediction as rows `(count, size)` with weights `(count,)`.

    Rows that do not count have the weight 0, and zeros for label and prediction: padding, labels
    that are missing (NaN), and what needs a volume where a cell has none. They are set to zero
    before a loss sees them, since a weight of zero does not undo NaN: neither in a sum nor, by the
    chain rule, in a gradient.
    """
    if key not in labels:
        raise ValueError(
            f"The data have no label '{key}', which the loss or a metric needs. "
            f"Received labels: {sorted(labels)}. Give the label or leave '{key}' out of compile."
        )
    if key not in predictions:
        raise ValueError(
            f"'{key}' is predicted for crystals only, and the data have none. Received: structures "
            f"without a cell. Leave '{key}' out of compile, or add crystals."
        )
    quantity = quantities.get(key)
    y_pred = predictions[key]
    mask = graph[MASKS[quantity.level]]
    count = ops.shape(mask)[0]
    y_pred = ops.reshape(y_pred, (count, -1))
    y_true = ops.reshape(ops.cast(labels[key], y_pred.dtype), (count, -1))
    if y_true.shape[-1] != y_pred.shape[-1]:
        raise ValueError(
            f"The label '{key}' has {y_true.shape[-1]} numbers per row, the prediction has "
            f"{y_pred.shape[-1]}. For the length of a vector learn '{key}_norm'."
        )
    counts = ops.logical_and(mask, ops.logical_not(ops.any(ops.isnan(y_true), axis=-1)))
    if quantity.needs_volume and "cell" in graph:
        cells = ops.cast(graph["cell"], y_pred.dtype)
        counts = ops.logical_and(counts, geometry.volumes(cells) > 0.0)
    # before any arithmetic: NaN times zero, of a value or of its gradient, is NaN
    y_true, y_pred = segment.mask(y_true, counts), segment.mask(y_pred, counts)
    return y_true, y_pred, ops.cast(counts, y_pred.dtype)


def _one_per_row(values: Tensor, function: Any) -> Tensor:
    """Refuses means over the batch, in which padding would count."""
    if len(values.shape) != 1:
        raise ValueError(
            "A loss or metric gives one number per structure or atom, such as "
            "`ops.mean(ops.square(y_pred - y_true), axis=-1)`; means over the batch are taken "
            f"afterwards, without padding. Received: {_name(function)}, which gives the shape "
            f"{tuple(values.shape)} for rows (count, size)."
        )
    return values


def _metric(identifier: Any) -> keras.metrics.Metric:
    if isinstance(identifier, str) and identifier in METRIC_NAMES:
        return METRIC_NAMES[identifier]()
    found = keras.metrics.get(identifier)
    if isinstance(found, keras.metrics.Metric):
        return found
    if not callable(found):
        raise ValueError(
            "A metric is a name, a function of (y_true, y_pred) or a Keras metric. Received: "
            f"{identifier!r}."
        )

    def checked(y_true: Tensor, y_pred: Tensor) -> Tensor:
        return _one_per_row(found(y_true, y_pred), found)

    return keras.metrics.MeanMetricWrapper(checked, name=_name(found))


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
