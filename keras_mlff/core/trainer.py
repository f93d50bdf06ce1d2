"""What makes a force field trainable: loss, metrics, steps, feeding of graphs, exact weights."""

from __future__ import annotations

import contextlib
import functools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import keras
import numpy as np

from keras_mlff import backend, saving
from keras_mlff import presets as preset_store
from keras_mlff.core.construction import Complete, in_precision, load_in_precision
from keras_mlff.fit.averages import AveragedWeights
from keras_mlff.fit.logs import InputWait
from keras_mlff.fit.objective import Objective
from keras_mlff.fit.weight_schedules import ScheduledWeights, WeightSchedule
from keras_mlff.graph import Array, Graph, Tensor, structure
from keras_mlff.heads import Head, collection
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.budget import Packable
from keras_mlff.packing.loader import GraphLoader, refuse_weights

_STRUCTURE_KEYS = frozenset(structure([[0.0, 0.0, 0.0]], [1]))
_PRESET = "preset.json"  # beside the weights in Keras's files
_MAX_COMPILATIONS = 8  # a handful of shapes is a design, more is an accident


class Trainer(keras.Model, metaclass=Complete):
    """Trains and evaluates on graphs, whatever the network; `ForceField` adds the network."""

    uses_triplets: ClassVar[bool]
    cutoff: float
    heads: list[Head]

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        super().__init__(dtype=dtype, name=name)
        self.preset: preset_store.Preset | None = None
        self.compilations: dict[str, set[Any]] = {"fit": set(), "evaluate": set(), "predict": set()}
        self.jit_compile = backend.COMPILES
        self._objective: list[Objective] = []

    @property
    def outputs_with_stress(self) -> list[str]:
        """Names of all that can have a loss."""
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
    ) -> None:
        """Sets what `fit` minimizes.

        Args:
            optimizer: Keras optimizer or its name.
            loss: A loss per property, `{"energy": "mse", "forces": "mse"}`.
            loss_weights: A factor per property, or its `losses.WeightSchedule`.
            metrics: One or several per property, `{"energy": "mae", "forces": ["mae", "rmse"]}`.
            run_eagerly: For debugging.
            jit_compile: Whether to compile by XLA; `"auto"` does on TensorFlow and JAX.
        """
        jit = jit_compile
        if jit == "auto":
            jit = backend.COMPILES and not run_eagerly and backend.replicas().can_compile
        objective = Objective(loss or {}, loss_weights, metrics, self.outputs_with_stress)
        self._objective[:] = [objective]
        super().compile(optimizer=optimizer, run_eagerly=run_eagerly, jit_compile=jit)
        load_in_precision(self.optimizer, self)
        arguments = {
            "loss": dict(loss or {}),
            "loss_weights": dict(loss_weights or {}),
            "metrics": dict(metrics or {}),
            "jit_compile": jit_compile,  # "auto" means something else on another backend
        }
        # Keras would track metrics among them as state of its own
        object.__setattr__(self, "_compile_arguments", arguments)

    @property
    def loss_arguments(self) -> dict[str, Any]:
        """The losses and weights that `compile` was given."""
        return {key: self._compile_arguments[key] for key in ("loss", "loss_weights")}

    @in_precision
    def get_compile_config(self) -> dict[str, Any] | None:
        """Lists what `compile` was given, for `save`."""
        if not self.compiled:
            return None
        if not self.optimizer.built:  # or the file would lack what the loaded model expects
            self.optimizer.build(self.trainable_variables)
        arguments = {"optimizer": self.optimizer, **self._compile_arguments}
        return keras.saving.serialize_keras_object(arguments)

    @in_precision
    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as a saved model was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def schedule_loss_weights(self, epoch: int | None) -> None:
        """Sets the factors that have a schedule to those of an epoch; `None` is the end."""
        for objective in self._objective:
            for weight in objective.scheduled.values():
                schedule = weight.schedule
                value = schedule.last if epoch is None else schedule.at(epoch)
                self.assign_weights([(weight.value, np.asarray(value, np.float32))])

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All trackers that an epoch resets."""
        return [metric for objective in self._objective for metric in objective.all_metrics]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Computes the loss of a batch; padding has no weight."""
        if not self._objective:
            raise ValueError("Call `compile(optimizer, loss=...)` before `fit` or `evaluate`.")
        objective = self._objective[0]
        loss = objective.loss(x, y, y_pred)
        return loss + objective.add_regularization(self.losses, x)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Tensor]:
        """Adds a batch to the metrics and reports them."""
        self._objective[0].update_metrics(x, y, y_pred)
        return self._objective[0].logs()

    def get_metrics_result(self) -> dict[str, Any]:
        """Reports the metrics of an epoch; Keras calls it, for all replicas together."""
        if not self._objective:
            return {}
        self._objective[0].check_labels()
        return {key: float(value) for key, value in self._objective[0].logs().items()}

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Creates what the optimizer keeps; Keras would average the replicas' first batches."""
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    def train_step(self, *args: Any) -> Any:
        """Updates the weights with one batch; see `keras_mlff.backend`."""
        return backend.train_step(self, *args)

    def test_step(self, *args: Any) -> Any:
        """Compares one batch with its labels; see `keras_mlff.backend`."""
        return backend.test_step(self, *args)

    def predict_step(self, *args: Any) -> Any:
        """Predicts one batch; see `keras_mlff.backend`."""
        return backend.predict_step(self, *args)

    @in_precision
    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains as Keras does, on a loader, a tf.data.Dataset, or a list of graphs.

        Args:
            x: `GraphLoader`, dataset of `(inputs, labels)`, or graphs, which are shuffled.
            *args: As in Keras.
            **kwargs: As in Keras; `validation_data` takes what `x` takes. `batch_size` counts
                graphs and is used for lists only.
        """
        _refuse_weights(kwargs)
        batch_size = kwargs.pop("batch_size", None) or 32
        callbacks = _listed(kwargs.pop("callbacks", None))
        waits = [item for item in callbacks if isinstance(item, InputWait)]
        if self.compiled and getattr(self.optimizer, "use_ema", False):
            # otherwise validation would see the raw weights, and the result the averaged ones
            callbacks = _with_averages(callbacks)
        if self._objective and self._objective[0].scheduled:
            callbacks = [ScheduledWeights(), *callbacks]
        shuffle = kwargs.pop("shuffle", True)
        preset, self.preset = self.preset, None  # from here on it is another model
        try:
            data = self._feed(x, "fit", batch_size, shuffle, waits[0].add if waits else None)
            if kwargs.get("validation_data") is not None:
                validation = kwargs["validation_data"]
                kwargs["validation_data"] = self._feed(validation, "evaluate", batch_size)
        except BaseException:
            self.preset = preset
            raise
        if callbacks:
            kwargs["callbacks"] = callbacks
        return super().fit(data, *args, shuffle=False, **kwargs)

    @in_precision
    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Computes loss and metrics on what `fit` takes: a list (loss first), or a dict."""
        if kwargs.pop("_use_cached_eval_dataset", False):  # `fit` validates through here
            return super().evaluate(x, *args, _use_cached_eval_dataset=True, **kwargs)
        _refuse_weights(kwargs)
        self.schedule_loss_weights(None)
        batch_size = kwargs.pop("batch_size", None) or 32
        as_dict = kwargs.pop("return_dict", False)
        check = None if self.preset is None else _ElementCheck(self.preset)
        with contextlib.nullcontext() if check is None else check.reported():
            data = self._feed(x, "evaluate", batch_size, check=check)
            try:
                logs = super().evaluate(data, *args, return_dict=True, **kwargs)
            except BaseException:
                if keras.backend.backend() == "jax":  # `fit` of Keras does it, `evaluate` does not
                    self.jax_state_sync()
                raise
        # Keras would sort the names (JAX does too), and the loss is expected first
        logs = {key: logs[key] for key in self._objective[0].log_names}
        if as_dict:
            return logs
        return list(logs.values()) if len(logs) > 1 else logs["loss"]

    def _get_jax_state(self, purge_model_variables: bool = False, **parts: bool) -> Any:
        """Keeps what Keras's JAX trainer takes out of the variables, which it may give back.

        Else an error in the first step, such as a missing label, would leave a model without
        weights.
        """
        state = super()._get_jax_state(purge_model_variables=purge_model_variables, **parts)
        if purge_model_variables:
            kinds = ("trainable", "non_trainable", "optimizer", "metrics")  # in their order
            taken = [f"{kind}_variables" for kind in kinds if parts.get(f"{kind}_variables")]
            self._jax_state = dict(zip(taken, state, strict=True))
        return state

    @in_precision
    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Updates the weights with one padded batch, labels as they are; `fit` does more."""
        _refuse_weights(kwargs)
        self.preset = None  # from here on it is another model
        return super().train_on_batch(*args, **kwargs)

    @in_precision
    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Compares one padded batch with its labels as they are; `evaluate` does more."""
        _refuse_weights(kwargs)
        return super().test_on_batch(*args, **kwargs)

    @in_precision
    def assign_weights(self, values: Sequence[tuple[Any, Array]]) -> None:
        """Assigns arrays to variables of this model, shapes checked.

        On JAX, `variable.assign` outside of the model would round float64 to float32.
        """
        for variable, value in values:
            if tuple(variable.shape) != tuple(value.shape):
                raise ValueError(
                    f"The weight '{variable.path}' has shape {tuple(variable.shape)}. "
                    f"Received: an array of shape {tuple(value.shape)}."
                )
            variable.assign(value)

    # The preset, in Keras's files and in pickles, whose weights are those of the preset

    def save_assets(self, folder: str) -> None:
        """Writes what is known of the preset; Keras calls it."""
        if self.preset is not None:
            stated = {**vars(self.preset), "folder": str(self.preset.folder)}
            saving.write_json(Path(folder, _PRESET), stated)

    def load_assets(self, folder: str) -> None:
        """Reads what `save_assets` wrote; Keras calls it."""
        path = Path(folder, _PRESET)
        if path.is_file():
            stated = json.loads(path.read_text(encoding="utf-8"))
            self.preset = preset_store.Preset(**stated | {"folder": Path(stated["folder"])})

    # Feeding

    def _feed(
        self,
        x: Any,
        mode: str,
        batch_size: int,
        shuffle: bool = False,
        waited: Callable[[float], None] | None = None,
        check: Callable[[Graph], None] | None = None,
    ) -> Any:
        x = self._loader(x, batch_size, shuffle)
        if not hasattr(x, "__len__") or isinstance(x, (str, np.ndarray)):
            raise TypeError(_no_data(x))
        if self._objective and isinstance(x, GraphLoader) and isinstance(x.graphs, list):
            self._objective[0].check_graphs(x.graphs)
        tables = collection.offset_tables(self.heads)
        see = functools.partial(self._see, mode)
        return backend.feed(x, tables, see, waited, check)

    def _loader(self, x: Any, batch_size: int, shuffle: bool) -> Any:
        if isinstance(x, dict):
            x = [x]
        if isinstance(x, Packable):
            return GraphLoader(cast("Sequence[Graph]", x), batch_size, shuffle=shuffle)
        if hasattr(x, "get_positions") or isinstance(x, Iterator):
            raise TypeError(_no_data(x))
        if not isinstance(x, (list, tuple)):
            return x
        graphs = [self._with_edges(graph) for graph in x]
        if self.preset is not None:
            preset_store.check_elements(graphs, self.preset)
        return GraphLoader(graphs, batch_size, shuffle=shuffle)

    def _with_edges(self, graph: Any) -> Graph:
        if not isinstance(graph, Mapping):
            raise TypeError(
                "A list holds graphs or structures, as `keras_mlff.graph.structure(positions, "
                "atomic_numbers)` and `keras_mlff.datasets.from_atoms` make them. Received: a list "
                f"with {type(graph).__name__}."
            )
        missing = sorted(_STRUCTURE_KEYS - graph.keys())
        if missing:
            raise ValueError(
                f"A graph has more keys than these. Received: {sorted(graph)}, without {missing}. "
                "`keras_mlff.graph.structure(positions, atomic_numbers)` makes them all."
            )
        found: Graph = dict(graph)
        if "senders" not in graph:
            return add_edges(found, self.cutoff, triplets=self.uses_triplets)
        return found

    def _see(self, mode: str, inputs: Mapping[str, Any]) -> None:
        """Looks at the keys and shapes of a batch before it is used."""
        if self.uses_triplets and "triplet_in" not in inputs:
            raise ValueError(
                f"{type(self).__name__} needs triplets, the pairs of edges that share an atom. "
                f"Received: a batch with {sorted(inputs)}. Make its graphs by "
                "`neighbors.add_edges(structure, model.cutoff, triplets=True)`."
            )
        self._count_shapes(mode, inputs)

    def _count_shapes(self, mode: str, inputs: Mapping[str, Any]) -> None:
        """Counts the shapes seen, each of which is compiled once, and warns of a surplus."""
        shapes = tuple(sorted((key, tuple(value.shape)) for key, value in inputs.items()))
        seen = self.compilations[mode]
        if shapes in seen:
            return
        seen.add(shapes)
        if len(seen) == _MAX_COMPILATIONS + 1 and self.jit_compile:
            warnings.warn(
                f"`{mode}` has met {len(seen)} different batch shapes, and each is compiled anew. "
                "Pack graphs into one budget (GraphLoader, or predict on a list).",
                stacklevel=2,
            )


def _no_data(x: Any) -> str:
    return (
        "Data are a graph, a list of graphs or structures, a GraphStore, a GraphLoader or another "
        f"loader with a length, or a tf.data.Dataset. Received: {type(x).__name__}. Make a list of "
        "what a generator yields, and structures of ASE's atoms "
        "(`keras_mlff.datasets.from_atoms`)."
    )


class _ElementCheck:
    """Refuses batches with elements that a preset has never seen, and keeps the error."""

    def __init__(self, preset: preset_store.Preset) -> None:
        self.preset = preset
        self.error: ValueError | None = None

    def __call__(self, inputs: Graph) -> None:
        try:
            preset_store.check_elements([inputs], self.preset)
        except ValueError as error:
            self.error = error
            raise

    @contextlib.contextmanager
    def reported(self) -> Iterator[None]:
        """Raises the error again where tf.data has made another one of it."""
        try:
            yield
        except Exception as error:
            if self.error is None or error is self.error:
                raise
            raise self.error from None


def _refuse_weights(arguments: Mapping[str, Any]) -> None:
    refuse_weights(**{key: arguments.get(key) for key in ("sample_weight", "class_weight")})


def _listed(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Lists callbacks, which Keras takes singly and as a `CallbackList` too."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return list(keras.tree.flatten(callbacks)) if callbacks else []


def _with_averages(
    callbacks: list[keras.callbacks.Callback],
) -> list[keras.callbacks.Callback]:
    """Puts weight averaging first, so that all other callbacks see the averages."""
    known = (AveragedWeights, keras.callbacks.SwapEMAWeights)
    if any(isinstance(item, known) for item in callbacks):
        return callbacks
    return [AveragedWeights(), *callbacks]
