"""Training and evaluation: losses and metrics by property, the steps of Keras, exact weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_mlff import backend
from keras_mlff.backend import keras_private
from keras_mlff.core.construction import Complete, in_precision, load_in_precision
from keras_mlff.core.domain import Domain
from keras_mlff.core.feeding import Feeding
from keras_mlff.core.results import Learner
from keras_mlff.fit.averages import AveragedWeights
from keras_mlff.fit.logs import InputWait
from keras_mlff.fit.objective import Objective
from keras_mlff.fit.weight_schedules import ScheduledWeights, WeightSchedule
from keras_mlff.graph import Array, Graph, Tensor
from keras_mlff.packing.loader import refuse_weights


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """What `compile` was given, and what was made of it; Keras tracks no variables in here."""

    objective: Objective
    arguments: dict[str, Any]


class Training(Feeding, keras_private.TrainerHooks, keras.Model, metaclass=Complete):
    """Trains and evaluates on graphs, whatever the network.

    The loss of a property counts each structure or each atom once, wherever the batches end;
    padding has no weight. `keras_mlff.fit.objective` computes it, and `keras_mlff.backend` holds
    the steps.
    """

    raw_weights: Any
    _is_fitting: bool

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        super().__init__(dtype=dtype, name=name)
        self.jit_compile = backend.COMPILES
        self._compiled: _Compiled | None = None

    @property
    def outputs_with_stress(self) -> list[str]:
        """Names of all predictions that can have a loss."""
        raise NotImplementedError

    @in_precision
    def compile(
        self,
        optimizer: Any = "adam",
        loss: Mapping[str, Any] | None = None,
        loss_weights: Mapping[str, float | WeightSchedule] | None = None,
        metrics: Mapping[str, Any] | None = None,
        run_eagerly: bool = False,
        jit_compile: bool | str = "auto",
        **others: Any,
    ) -> None:
        """Sets what `fit` minimizes and watches.

        Args:
            optimizer: A Keras optimizer or its name. Defaults to `"adam"`.
            loss: A loss for each property that is learned, such as
                `{"energy": "mse", "forces": "mse"}`. See `keras_mlff.fit.losses`.
            loss_weights: A factor for each loss, or its `keras_mlff.fit.WeightSchedule`; 1 where
                none is given.
            metrics: One or several metrics for each property that is watched, such as
                `{"energy": "mae", "forces": ["mae", "rmse"]}`.
            run_eagerly: Whether steps run operation by operation, for debugging. Defaults to
                False.
            jit_compile: Whether XLA compiles the steps. `"auto"`, the default, compiles them on
                TensorFlow and JAX, unless several TensorFlow devices share a step.
            **others: Further arguments of Keras's `compile`, which are refused.

        Raises:
            ValueError: If a name is not predicted, or no loss is given.
            TypeError: If there are further arguments.

        Example:
            ```python
            model.compile(
                keras.optimizers.Adam(1e-3),
                loss={"energy": "mse", "forces": "mse"},
                loss_weights={"energy": 0.2, "forces": 0.8},
                metrics={"energy": "mae", "forces": "mae"},
            )
            ```
        """
        if others:
            raise TypeError(
                "A force field does not support these arguments of `compile`, since each batch is "
                f"a step and every structure has one weight. Received: {sorted(others)}."
            )
        jit = jit_compile
        if jit == "auto":
            jit = backend.COMPILES and not run_eagerly and backend.replicas().can_compile
        objective = Objective(loss or {}, loss_weights, metrics, self.outputs_with_stress)
        arguments = {
            "loss": dict(loss or {}),
            "loss_weights": dict(loss_weights or {}),
            "metrics": dict(metrics or {}),
            "jit_compile": jit_compile,  # "auto" means something else on another backend
        }
        self._compiled = _Compiled(objective, arguments)
        self.raw_weights = None  # of another optimizer
        super().compile(optimizer=optimizer, run_eagerly=run_eagerly, jit_compile=jit)
        load_in_precision(self.optimizer, self)

    @property
    def objective(self) -> Objective:
        """Losses, their weights and metrics, as `compile` has made them.

        Raises:
            ValueError: If the model was not compiled.
        """
        if self._compiled is None:
            raise ValueError("Call `compile(optimizer, loss=...)` before `fit` or `evaluate`.")
        return self._compiled.objective

    def check_labels(self, graphs: Sequence[Graph]) -> None:
        """Refuses graphs none of which has a label that is learned or watched.

        Raises:
            ValueError: If there is such a label.
        """
        if self._compiled is not None:
            self.objective.check_graphs(graphs)

    @property
    def loss_arguments(self) -> dict[str, Any]:
        """The losses and weights that `compile` was given, by the names of its arguments."""
        if self._compiled is None:
            return {}
        return {key: self._compiled.arguments[key] for key in ("loss", "loss_weights")}

    @in_precision
    def get_compile_config(self) -> dict[str, Any] | None:
        """Lists what `compile` was given, for `save`; `None` where it was not called."""
        if not self.compiled or self._compiled is None:
            return None
        if not self.optimizer.built:  # or the file would lack what the loaded model expects
            self.optimizer.build(self.trainable_variables)
        arguments = {"optimizer": self.optimizer, **self._compiled.arguments}
        return keras.saving.serialize_keras_object(arguments)

    @in_precision
    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as a saved model was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def schedule_loss_weights(self, epoch: int | None) -> None:
        """Sets the factors of losses that have a schedule.

        Args:
            epoch: Number of the epoch, from 0, whose factors are set; `None` sets the last ones.
        """
        if self._compiled is None:
            return
        for weight in self.objective.scheduled.values():
            schedule = weight.schedule
            value = schedule.last if epoch is None else schedule.at(epoch)
            self.assign_weights([(weight.value, np.asarray(value, np.float32))])

    # What Keras asks a model for while it trains

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All trackers that an epoch resets."""
        return [] if self._compiled is None else self.objective.all_metrics

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Computes the loss of a batch, a scalar; padding has no weight."""
        loss = self.objective.loss(x, y, y_pred)
        return loss + self.objective.add_regularization(self.losses, x)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Tensor]:
        """Adds a batch to the metrics and reports their values since the epoch began."""
        self.objective.update_metrics(x, y, y_pred)
        return self.objective.logs()

    def get_metrics_result(self) -> dict[str, Any]:
        """Reports the metrics of an epoch; Keras calls it, for all replicas together."""
        if self._compiled is None:
            return {}
        self.objective.check_labels()
        return {key: float(value) for key, value in self.objective.logs().items()}

    def train_step(self, *args: Any) -> Any:
        """Updates the weights with one batch; see `keras_mlff.backend`."""
        return backend.train_step(self, *args)

    def test_step(self, *args: Any) -> Any:
        """Compares one batch with its labels; see `keras_mlff.backend`."""
        return backend.test_step(self, *args)

    def predict_step(self, *args: Any) -> Any:
        """Predicts one batch; see `keras_mlff.backend`."""
        return backend.predict_step(self, *args)

    # What users call

    @in_precision
    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains as Keras does, on structures, graphs, a loader or a tf.data.Dataset.

        A model that was a preset is none from here on, and may learn other elements: its domain is
        widened by that of the data, which the first epoch collects. Where the optimizer averages
        weights, the model holds the averages afterwards, and another `fit` goes on from the raw
        weights, which its files hold too.

        Args:
            x: A list of structures or graphs with labels, which are shuffled; a
                `keras_mlff.packing.GraphLoader` or another loader with a length; or a
                `tf.data.Dataset` of `(inputs, labels)`.
            *args: As in Keras.
            **kwargs: As in Keras. `validation_data` takes what `x` takes. `batch_size` counts
                structures, is used for lists only, and defaults to 32.

        Returns:
            Keras's history; `history.history` maps names of logs to a value per epoch.

        Raises:
            TypeError: If the data are none of these.
            ValueError: If samples or classes are weighted, a label is missing, a state is
                impossible, or the data are to be split here.
        """
        self.check_hooks()
        _refuse_weights(kwargs)
        if kwargs.pop("validation_split", 0.0):
            raise ValueError(
                "Structures are split before they are packed into batches. Received: "
                "validation_split. Give `validation_data`, such as a part of the list."
            )
        batch_size = kwargs.pop("batch_size", None) or 32
        callbacks = self._complete_callbacks(kwargs.pop("callbacks", None))
        waits = [item for item in callbacks if isinstance(item, InputWait)]
        shuffle = kwargs.pop("shuffle", True)
        preset, self.preset = self.preset, None
        try:
            feed = self.make_feed("fit", add_wait=waits[0].add if waits else None)
            feed.learn = Learner(self)
            data = self.prepare_data(x, feed, batch_size, shuffle)
            feed.learn.num_batches = len(data)
            if kwargs.get("validation_data") is not None:
                kwargs["validation_data"] = self.prepare_data(
                    kwargs["validation_data"], self.make_feed("evaluate", "ignore"), batch_size
                )
        except BaseException:
            self.preset = preset  # nothing was learned
            raise
        if callbacks:
            kwargs["callbacks"] = callbacks
        self._is_fitting = True
        try:
            with feed.original_errors():
                return super().fit(data, *args, shuffle=False, **kwargs)
        finally:
            self._is_fitting = False

    def _complete_callbacks(self, given: Any) -> list[keras.callbacks.Callback]:
        """Adds the callbacks that optimizer and loss weights need, and introduces them."""
        callbacks = _as_list(given)
        if self.compiled and getattr(self.optimizer, "use_ema", False):
            swapping = [cb for cb in callbacks if isinstance(cb, keras.callbacks.SwapEMAWeights)]
            restoring = [cb for cb in callbacks if isinstance(cb, keras.callbacks.BackupAndRestore)]
            if swapping and restoring:
                raise ValueError(
                    "BackupAndRestore would restore averages in place of the weights. Received: "
                    "SwapEMAWeights beside it. Leave SwapEMAWeights out, `fit` averages by itself, "
                    "or use `keras_mlff.train(..., resume=True)`."
                )
            # or validation would see the raw weights, and the result the averaged ones; before all
            # callbacks, so that they see the averages, but those that restore a training
            averages = [cb for cb in callbacks if isinstance(cb, AveragedWeights)]
            if not swapping:
                averages = averages or [AveragedWeights()]
            first = [*restoring, *averages]
            callbacks = [*first, *(cb for cb in callbacks if cb not in first)]
        if self._compiled is not None and self.objective.scheduled:
            callbacks = [ScheduledWeights(), *callbacks]
        return callbacks

    @in_precision
    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Computes loss and metrics on whatever `fit` takes.

        Args:
            x: Labeled data, see `fit`; their order stays.
            *args: As in Keras.
            **kwargs: As in Keras. `batch_size` counts structures, is used for lists only, and
                defaults to 32. `domain` says what happens to structures unlike those that the
                model has learned from, see `predict`.

        Returns:
            The loss and, if there are more, all further values in a list, the loss first; with
            `return_dict=True` all values by name.

        Raises:
            ValueError: If a label is missing, samples are weighted, or a structure is refused.
        """
        if keras_private.is_validation(kwargs):
            return keras_private.validate(super().evaluate, x, *args, **kwargs)
        self.check_hooks()
        _refuse_weights(kwargs)
        self.schedule_loss_weights(None)
        batch_size = kwargs.pop("batch_size", None) or 32
        as_dict = kwargs.pop("return_dict", False)
        feed = self.make_feed("evaluate", kwargs.pop("domain", None))
        with feed.original_errors():
            data = self.prepare_data(x, feed, batch_size)
            try:
                logs = super().evaluate(data, *args, return_dict=True, **kwargs)
            except BaseException:
                keras_private.return_weights(self)  # Keras's `fit` does it, its `evaluate` does not
                raise
        # Keras would sort the names (JAX does too), and the loss is expected first
        logs = {key: logs[key] for key in self.objective.log_names}
        if as_dict:
            return logs
        return list(logs.values()) if len(logs) > 1 else logs["loss"]

    @in_precision
    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Updates the weights with one padded batch, labels as they are; `fit` does more."""
        _refuse_weights(kwargs)
        inputs = args[0] if args else kwargs["x"]
        self.check_possible(inputs)
        self.preset = None  # from here on it is another model
        self.learn_domain(self.domain.joined(Domain.of([inputs])))
        return super().train_on_batch(*args, **kwargs)

    @in_precision
    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Compares one padded batch with its labels as they are; `evaluate` does more."""
        _refuse_weights(kwargs)
        return super().test_on_batch(*args, **kwargs)

    @in_precision
    def assign_weights(self, values: Sequence[tuple[Any, Array]]) -> None:
        """Assigns arrays to variables of this model in its own precision.

        On JAX, `variable.assign` outside of the model would round float64 to float32.

        Args:
            values: Pairs of a variable and an array of the same shape.

        Raises:
            ValueError: If a shape differs.
        """
        for variable, value in values:
            if tuple(variable.shape) != tuple(value.shape):
                raise ValueError(
                    f"The weight '{variable.path}' has shape {tuple(variable.shape)}. "
                    f"Received: an array of shape {tuple(value.shape)}."
                )
            variable.assign(value)


def _refuse_weights(arguments: Mapping[str, Any]) -> None:
    refuse_weights(**{key: arguments.get(key) for key in ("sample_weight", "class_weight")})


def _as_list(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Lists callbacks, which Keras takes singly and as a `CallbackList` too."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return list(keras.tree.flatten(callbacks)) if callbacks else []
