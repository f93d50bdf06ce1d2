"""The base of every architecture: energy, forces, stress, training, prediction, presets."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, cast

import keras
import numpy as np
from keras import ops

from keras_mlff import backend
from keras_mlff import presets as preset_store
from keras_mlff.callbacks import AveragedWeights, InputWait, ScheduledWeights
from keras_mlff.graph import (
    ATOM_LABELS,
    INPUT_LEVELS,
    Array,
    Graph,
    dummy_graph,
    inputs_and_labels,
    level,
    split,
)
from keras_mlff.heads import EnergyHead, Head
from keras_mlff.layers import positional_encoding
from keras_mlff.layers import zbl as zbl_layer
from keras_mlff.layers.readout import AtomFeatures, PerceptronReadout
from keras_mlff.losses import Objective, WeightSchedule
from keras_mlff.neighbors import add_edges
from keras_mlff.ops import geometry, segment
from keras_mlff.packing import Batch, GraphLoader
from keras_mlff.references import adapt_offsets, fit_offsets

Tensor = Any
_MAX_COMPILATIONS = 8  # a handful of shapes is a design, more is an accident


@contextlib.contextmanager
def _precision(dtype: Any) -> Iterator[None]:
    """Gives everything inside this precision; the global one is put back."""
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    before = keras.config.dtype_policy()
    double = policy.compute_dtype == "float64"
    with backend.double_precision() if double else contextlib.nullcontext():
        keras.config.set_dtype_policy(policy)
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)


def _in_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a method in the model's precision."""

    @functools.wraps(method)
    def wrapper(self: ForceField, *args: Any, **kwargs: Any) -> Any:
        with _precision(self.dtype_policy):
            return method(self, *args, **kwargs)

    return wrapper


def _load_in_precision(part: Any, model: Any) -> None:
    """Lets `keras.models.load_model`, which fills part by part, keep float64 on every backend."""
    if model.compute_dtype == "float64":
        load = part.load_own_variables

        def load_own_variables(store: Any) -> None:
            with _precision(model.dtype_policy):
                load(store)

        object.__setattr__(part, "load_own_variables", load_own_variables)


class PresetNames:
    """Lists a class's presets when the class is asked: `CMRET.presets`."""

    def __get__(self, instance: Any, owner: type[ForceField]) -> dict[str, preset_store.Preset]:
        return preset_store.available(owner.__name__)


class _Complete(type(keras.Model)):  # type: ignore[misc]
    """Makes constructors keep all arguments, hand their precision down and create all weights.

    Keras records only the arguments that were passed, so a changed default would change saved
    models; and layers made inside would take the global precision instead of the model's.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        with _precision(kwargs.get("dtype")):
            model = super().__call__(*args, **kwargs)
            object.__setattr__(model, "_arguments", _arguments(cls, args, kwargs))
            model.build()
        for layer in model._flatten_layers(include_self=False):
            _load_in_precision(layer, model)
        return model


class ForceField(keras.Model, metaclass=_Complete):
    """Turns a graph into properties; a subclass writes `embed` and, if need be, `make_readout`.

    The base differentiates the energy once, with respect to positions and, where there is a cell,
    a strain. So `fit`, `predict`, export and molecular dynamics see the same forces.

    `model(graph)` is the network alone: its energy leaves the references of the elements out.
    `predict` adds them in float64.

    Args:
        cutoff: Å, radius within which atoms are neighbors.
        heads: What to predict: heads or their configs; an `EnergyHead` where `None`.
        dtype: Precision, `"float32"` or `"float64"`.
        name: Of the Keras model.
        zbl: Whether atoms closer than 1 Å repel each other whatever the network says, or the
            arguments of `keras_mlff.layers.zbl.ZBLRepulsion`: `{"cutoff": 0.8}`.
    """

    built: bool
    uses_triplets: ClassVar[bool] = False
    # what the contract tests hold an architecture to
    is_size_consistent: bool = True  # energies of far fragments add up
    supports_periodic: bool = True  # energies of crystals are defined
    num_continuous_derivatives: ClassVar[int] = 2  # of the energy, where an edge reaches the cutoff
    presets = PresetNames()  # trained models of this class that are at hand, by name

    def __init__(
        self,
        cutoff: float = 5.0,
        heads: Sequence[Head | dict[str, Any]] | None = None,
        dtype: Any = None,
        name: str | None = None,
        zbl: bool | Mapping[str, Any] = False,
    ) -> None:
        super().__init__(dtype=dtype, name=name)
        if cutoff <= 0.0:
            raise ValueError(f"The cutoff is a length in Å above 0. Received: cutoff={cutoff}.")
        self.cutoff = float(cutoff)
        self.heads = _make_heads(heads)
        self.repulsion = zbl_layer.get(zbl, self.cutoff)
        self.preset: preset_store.Preset | None = None
        self.compilations: dict[str, set[Any]] = {"fit": set(), "evaluate": set(), "predict": set()}
        self.jit_compile = backend.COMPILES
        self._objective: list[Objective] = []
        self._recorder: dict[str, Tensor] | None = None

    # What an architecture writes

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        """Computes features of each atom from the graph. Every architecture writes this."""
        raise NotImplementedError(f"{type(self).__name__} must define `embed(graph, training)`.")

    def make_readout(self, head: Head) -> keras.layers.Layer:
        """Makes the layer that turns `AtomFeatures` into the numbers a head asks for.

        It is called with features and gives `AtomFeatures` of `head.num_scalars` scalars and
        `head.num_vectors` vectors per atom. The default is a perceptron of one hidden layer.
        """
        return PerceptronReadout(head.num_scalars, self.num_features, head.use_bias)

    # The network

    def call(self, graph: Graph, training: bool = False) -> dict[str, Tensor]:
        """Computes every property, forces and stress included where there is an energy head."""
        if not any(isinstance(head, EnergyHead) for head in self.heads):
            return self._properties(graph, training)
        periodic = "cell" in graph
        positions = graph["positions"]

        def energy_of(positions: Tensor, strains: Tensor | None = None) -> tuple[Tensor, Any]:
            moved = cast("Graph", {**graph, "positions": positions})
            if strains is not None:
                moved = geometry.strain(moved, positions, strains)
            properties = self._properties(moved, training)
            return properties.pop("energy"), properties

        variables = [positions]
        if periodic:
            variables.append(ops.zeros_like(graph["cell"]))
        (energy, properties), gradients = backend.value_and_gradient(energy_of, variables, training)
        outputs = {"energy": energy, "forces": -gradients[0]}
        if periodic:
            volumes = geometry.volumes(graph["cell"])[:, None, None]
            periodic_cells = volumes > 0.0
            volumes = ops.where(periodic_cells, volumes, ops.ones_like(volumes))
            outputs["stress"] = ops.where(
                periodic_cells, gradients[1] / volumes, ops.zeros_like(gradients[1])
            )
        return outputs | properties

    def _properties(self, graph: Graph, training: bool) -> dict[str, Tensor]:
        features = self.embed(graph, training=training)
        if not isinstance(features, AtomFeatures):
            features = AtomFeatures(features)
        properties: dict[str, Tensor] = {}
        for group, readout in zip(self._head_groups(), self.readouts, strict=True):
            scalars, vectors = readout(features)
            first, width = 0, group[0].num_scalars
            for head in group:
                properties |= head(graph, scalars[:, first : first + width], vectors)
                first += width
        if self.repulsion is not None and "energy" in properties:
            repulsion = self.repulsion(graph)  # (num_atoms,)
            properties["atomic_energies"] = properties["atomic_energies"] + repulsion
            properties["energy"] = properties["energy"] + segment.sum_over_atoms(repulsion, graph)
        return properties

    def _head_groups(self) -> list[list[Head]]:
        """Lists the heads of each readout."""
        groups: dict[Any, list[Head]] = {}
        for index, head in enumerate(self.heads):
            groups.setdefault(head.readout or index, []).append(head)
        return list(groups.values())

    def build(self, input_shape: Any = None) -> None:
        """Creates all weights; the constructor calls it."""
        if self.built:
            return
        self.readouts = [self.make_readout(_joined(group)) for group in self._head_groups()]
        self.built = True  # or Keras would come back here
        inputs, _ = inputs_and_labels(dummy_graph(triplets=self.uses_triplets))
        outputs = self(
            _as_symbols(inputs) if backend.COMPILES else _as_tensors(inputs, self.compute_dtype)
        )
        first = [name for name in ("energy", "forces") if name in outputs]
        self.property_names = first + sorted(outputs.keys() - set(first))

    @property
    def outputs_with_stress(self) -> list[str]:
        """Names of all predictions, `stress` included, which only periodic graphs have."""
        names = list(self.property_names)
        return names if "energy" not in names else [*names, "stress"]

    @_in_precision
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)

    @property
    @_in_precision
    def losses(self) -> list[Tensor]:
        """What layers add to the loss, functions of the weights alone."""
        return super().losses

    @_in_precision
    def predict_on_batch(self, x: Any) -> Any:
        """Predicts one padded batch as it is; `predict` does more."""
        return super().predict_on_batch(x)

    @_in_precision
    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Updates the weights with one padded batch, labels as they are; `fit` does more."""
        return super().train_on_batch(*args, **kwargs)

    @_in_precision
    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Compares one padded batch with its labels as they are; `evaluate` does more."""
        return super().test_on_batch(*args, **kwargs)

    @_in_precision
    def load_weights(self, filepath: Any, **kwargs: Any) -> None:
        """Loads weights as Keras does."""
        super().load_weights(filepath, **kwargs)

    @_in_precision
    def set_weights(self, weights: Sequence[Array]) -> None:
        """Sets all weights, in the order of `get_weights`."""
        super().set_weights(weights)

    @_in_precision
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

    # Training

    @_in_precision
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
        _load_in_precision(self.optimizer, self)
        arguments = {
            "loss": dict(loss or {}),
            "loss_weights": dict(loss_weights or {}),
            "metrics": dict(metrics or {}),
            "jit_compile": jit_compile,  # "auto" means something else on another backend
        }
        # Keras would track metrics among them as state of its own
        object.__setattr__(self, "_compile_arguments", arguments)

    @_in_precision
    def get_compile_config(self) -> dict[str, Any] | None:
        """Lists what `compile` was given, for `save`."""
        if not self.compiled:
            return None
        if not self.optimizer.built:  # or the file would lack what the loaded model expects
            self.optimizer.build(self.trainable_variables)
        arguments = {"optimizer": self.optimizer, **self._compile_arguments}
        return keras.saving.serialize_keras_object(arguments)

    @_in_precision
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

    @_in_precision
    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains as Keras does, on a loader, a tf.data.Dataset, or a list of graphs.

        Args:
            x: `GraphLoader`, dataset of `(inputs, labels)`, or graphs, which are shuffled.
            *args: As in Keras.
            **kwargs: As in Keras; `validation_data` takes what `x` takes. `batch_size` counts
                graphs and is used for lists only.
        """
        batch_size = kwargs.pop("batch_size", None) or 32
        if kwargs.get("validation_data") is not None:
            kwargs["validation_data"] = self._feed(
                kwargs["validation_data"], "evaluate", batch_size
            )
        callbacks = kwargs.get("callbacks")
        if self.compiled and getattr(self.optimizer, "use_ema", False):
            # otherwise validation would see the raw weights, and the result the averaged ones
            kwargs["callbacks"] = _with_averages(callbacks)
        if self._objective and self._objective[0].scheduled:
            kwargs["callbacks"] = [ScheduledWeights(), *(kwargs.get("callbacks") or [])]
        shuffle = kwargs.pop("shuffle", True)
        self.preset = None  # from here on it is another model
        waits = [item for item in callbacks or [] if isinstance(item, InputWait)]
        waited = waits[0].add if waits else None
        data = self._feed(x, "fit", batch_size, shuffle, waited)
        return super().fit(data, *args, shuffle=False, **kwargs)

    @_in_precision
    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Computes loss and metrics on what `fit` takes: a list (loss first), or a dict."""
        if kwargs.pop("_use_cached_eval_dataset", False):  # `fit` validates through here
            return super().evaluate(x, *args, _use_cached_eval_dataset=True, **kwargs)
        self.schedule_loss_weights(None)
        batch_size = kwargs.pop("batch_size", None) or 32
        as_dict = kwargs.pop("return_dict", False)
        logs = super().evaluate(
            self._feed(x, "evaluate", batch_size), *args, return_dict=True, **kwargs
        )
        # Keras would sort the names (JAX does too), and the loss is expected first
        logs = {key: logs[key] for key in self._objective[0].log_names}
        if as_dict:
            return logs
        return list(logs.values()) if len(logs) > 1 else logs["loss"]

    @_in_precision
    def predict(self, x: Any, batch_size: int = 32, verbose: Any = 0) -> dict[str, Array]:
        """Predicts all properties of the real atoms and graphs, in the order given.

        Args:
            x: A graph, a list of graphs or structures, or a loader that does not shuffle.
            batch_size: Graphs per batch, for lists.
            verbose: Accepted as in Keras; nothing is printed.

        Returns:
            NumPy arrays by name; energies and other offset properties are float64 totals.
        """
        loader = self._loader(x, batch_size, shuffle=False)
        if getattr(loader, "shuffle", False) is True:  # a tf.data.Dataset has a method of that name
            raise ValueError(
                "Predictions come in the order of the batches, which this loader shuffles. "
                "Received: a loader with shuffle=True. Make one with shuffle=False."
            )
        parts: list[dict[str, Array]] = []
        for inputs, _ in (_as_numpy(batch) for batch in loader):
            self._count_shapes("predict", inputs)
            predicted = keras.tree.map_structure(np.asarray, self.predict_on_batch(inputs))
            if backend.replicas().total > 1:  # TensorFlow's replicas all predict the same
                predicted = {key: _first_rows(key, predicted[key], inputs) for key in predicted}
            parts.append(self._strip(self.add_offsets(predicted, inputs), inputs))
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    # Offsets: what is added outside of the compiled code

    def add_offsets(
        self, predictions: Mapping[str, Any], inputs: Mapping[str, Any]
    ) -> dict[str, Array]:
        """Adds element references and shifts to predictions of one batch, in float64."""
        totals = {key: np.asarray(value) for key, value in predictions.items()}
        for head in self.heads:
            if head.name in totals and (head.has_offset or head.name == "energy"):
                totals[head.name] = totals[head.name].astype(np.float64) + head.offsets(inputs)
            if "atomic_energies" in totals and isinstance(head, EnergyHead):
                table = head.reference_table()[np.asarray(inputs["atomic_numbers"])]
                totals["atomic_energies"] = totals["atomic_energies"].astype(np.float64) + table
        return totals

    @_in_precision
    def fit_references(self, graphs: Sequence[Graph]) -> None:
        """Sets references, shift and scale of each head from data; call it before training.

        Energies and other sums get least-squares values per element, averages get their mean.
        The scale is the forces' root mean square, or the spread of what remains. Learned tables of
        distances get the range that occurs, unless `distance_encoding` gives one.
        """
        for head in self.heads:
            fit_offsets(head, graphs)
        layers = self._flatten_layers(include_self=False)
        ends = positional_encoding.fit_ranges(list(layers), graphs)
        if ends is not None:  # a saved model must know them
            chosen = positional_encoding.options(self._arguments["distance_encoding"])
            self._arguments["distance_encoding"] = chosen | ends
        self.train_function = self.test_function = self.predict_function = None

    def adapt_references(self, graphs: Sequence[Graph]) -> None:
        """Moves the references of a trained model to another level of theory.

        Energies of two methods differ mostly by a constant per element. Each head that has
        references and a label gets those that, with the network as it is, come closest to the
        labels; other heads, such as dipoles, stay as they are.
        """
        self.preset = None  # from here on it is another model, which may learn other elements
        adapted = [head for head in self.heads if head.name in graphs[0] and head.has_offset]
        predicted = self.predict(list(graphs)) if adapted else {}
        for head in adapted:
            adapt_offsets(head, graphs, predicted[head.name])
        self.train_function = self.test_function = self.predict_function = None

    def freeze(self, *parts: str, keep: str | Sequence[str] = ()) -> list[str]:
        """Keeps `fit` from changing parts of the model; call `compile` afterwards.

        Args:
            *parts: Parts to freeze, by attribute: `"embedding"`, `"interactions"`, `"readouts"`,
                ...; all if none is named.
            keep: Parts that stay trainable: `model.freeze(keep="readouts")` is the usual transfer
                to other molecules.

        Returns:
            The names of all parts that are trainable now.

        Raises:
            ValueError: If the model has no such part.
        """
        kept = {keep} if isinstance(keep, str) else set(keep)
        return self._set_trainable(parts, kept, False)

    def unfreeze(self, *parts: str) -> list[str]:
        """Lets `fit` change parts again, all if none is named; call `compile` afterwards."""
        return self._set_trainable(parts, set(), True)

    def _set_trainable(self, parts: Sequence[str], left_out: set[str], value: bool) -> list[str]:
        owned = self._parts()
        unknown = sorted({*parts, *left_out} - owned.keys())
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no such part. Received: {unknown}. "
                f"Choose from {sorted(owned)}."
            )
        for name in set(parts or owned) - left_out:
            for member in owned[name]:
                member.trainable = value
        self.train_function = None
        return [name for name, members in owned.items() if any(m.trainable for m in members)]

    def _parts(self) -> dict[str, list[Any]]:
        """Lists layers and weights with something to learn by the attribute that holds them."""
        found: dict[str, list[Any]] = {}
        # PyTorch's modules keep their members apart
        for name in {**vars(self), **getattr(self, "_modules", {})}:
            value = getattr(self, name)
            listed = list(value) if isinstance(value, (list, tuple)) else [value]
            members = [
                item
                for item in listed
                if isinstance(item, keras.Variable)
                or (isinstance(item, keras.layers.Layer) and item.weights)
            ]
            if members and not name.startswith("_"):
                found[name] = members
        return found

    # Feeding

    def _feed(
        self,
        x: Any,
        mode: str,
        batch_size: int,
        shuffle: bool = False,
        waited: Callable[[float], None] | None = None,
    ) -> Any:
        if isinstance(x, (list, tuple, dict)):
            # elements that a preset has never seen may be learned, not judged
            x = self._loader(x, batch_size, shuffle, any_element=mode == "fit")
        tables = {
            head.name: (head.reference_table(), head.shift)
            for head in self.heads
            if head.has_offset
        }
        return backend.feed(x, tables, functools.partial(self._count_shapes, mode), waited)

    def _loader(self, x: Any, batch_size: int, shuffle: bool, any_element: bool = False) -> Any:
        if isinstance(x, dict):
            x = [x]
        if not isinstance(x, (list, tuple)):
            return x
        graphs = [
            graph
            if "senders" in graph
            else add_edges(graph, self.cutoff, triplets=self.uses_triplets)
            for graph in x
        ]
        if self.preset is not None and not any_element:
            preset_store.check_elements(graphs, self.preset)
        return GraphLoader(graphs, batch_size, shuffle=shuffle)

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

    def _strip(self, predictions: Mapping[str, Array], inputs: Graph) -> dict[str, Array]:
        masks = {"atom": inputs["atom_mask"], "graph": inputs["graph_mask"]}
        return {key: value[masks[_output_level(key)]] for key, value in predictions.items()}

    # Looking inside

    def record(self, name: str, value: Tensor) -> None:
        """Keeps an intermediate value while `inspect` runs; else does nothing.

        Names that end in `/attention` are coefficients, which `attention` returns; their shape is
        `(num_graphs, max_atoms, max_atoms)` or `(num_graphs, num_heads, max_atoms, max_atoms)`,
        receiver first.
        """
        if self._recorder is not None:
            self._recorder[name] = value

    @_in_precision
    def inspect(self, graph: Graph) -> dict[str, Array]:
        """Returns the intermediate values that the architecture records, by name."""
        inputs, _ = inputs_and_labels(self._loader(graph, 1, shuffle=False).graphs[0])

        def recorded(tensors: Graph) -> dict[str, Tensor]:
            self._recorder = {}
            try:
                self._properties(tensors, training=False)
                return dict(self._recorder)
            finally:
                self._recorder = None

        values = backend.run_once(recorded, _as_tensors(inputs, self.compute_dtype))
        return {key: ops.convert_to_numpy(value) for key, value in values.items()}

    def attention(self, graph: Graph) -> dict[str, Array]:
        """Returns the attention coefficients of one structure, as the network uses them.

        Args:
            graph: A graph or structure; parts of a batch come from `keras_mlff.graph.split`.

        Returns:
            `"layer0"`, ... (GeomAtt: `"stream0/layer0"`, ...) to arrays `(num_atoms, num_atoms)`
            or `(num_heads, num_atoms, num_atoms)`: how much the atom of the row takes from the
            atom of the column.

        Raises:
            ValueError: If the architecture has no attention or the graph is not one structure.
        """
        if int(np.sum(graph["graph_mask"])) != 1:
            raise ValueError(
                "Attention is returned for one structure at a time. Received: "
                f"{int(np.sum(graph['graph_mask']))} structures. "
                "Part a batch with `keras_mlff.graph.split`."
            )
        graph = split(graph)[0]  # without padding
        suffix = "/attention"
        found = {
            key.removesuffix(suffix): value
            for key, value in self.inspect(graph).items()
            if key.endswith(suffix)
        }
        if not found:
            raise ValueError(
                f"{type(self).__name__} as configured has no attention, so there are no "
                "coefficients to return. `inspect(graph)` lists what it does record."
            )
        return {key: value[0] for key, value in found.items()}

    # Saving

    def get_config(self) -> dict[str, Any]:
        """Lists the constructor's arguments, defaults included."""
        # JSON, which presets are stored in, knows no tuples and ranges
        config = {
            key: list(value) if isinstance(value, (tuple, range)) else value
            for key, value in self._arguments.items()
        }
        config["heads"] = [keras.saving.serialize_keras_object(head) for head in self.heads]
        config["dtype"] = self.dtype_policy.name
        config["name"] = self.name
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Makes the model of a config, with fresh weights."""
        return cls(**config)

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Does nothing: the constructor has created the weights that are loaded now."""

    @classmethod
    def from_preset(cls, preset: str, **kwargs: Any) -> Self:
        """Loads a trained model by name (`"ch2"`) or from a folder.

        Args:
            preset: Name within this class, see `presets`, or the path of a preset's folder.
            **kwargs: Replace arguments of the constructor, such as `dtype="float64"`.
        """
        return preset_store.load(cls, preset, **kwargs)

    def save_to_preset(self, folder: str, **metadata: Any) -> None:
        """Writes config, weights and metadata into a folder that `from_preset` reads."""
        preset_store.save(self, folder, **metadata)

    def export(self, *args: Any, **kwargs: Any) -> None:
        """Points to `keras_mlff.export`; what Keras would write knows no forces and no units.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "A force field is exported by `keras_mlff.export.export_saved_model(model, folder)`, "
            "which adds units, element references and the search for neighbors. Keras's own "
            "`export` does not know them."
        )


def _arguments(model: type, args: Any, kwargs: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for owner in reversed(model.__mro__[: model.__mro__.index(ForceField) + 1]):
        for name, parameter in inspect.signature(owner.__init__).parameters.items():  # type: ignore[misc]
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name != "self":
                defaults[name] = parameter.default
    passed = inspect.signature(model.__init__).bind(None, *args, **kwargs).arguments  # type: ignore[misc]
    passed.pop("self", None)
    return defaults | passed.pop("kwargs", {}) | passed


def _make_heads(heads: Sequence[Head | dict[str, Any]] | None) -> list[Head]:
    made = [
        keras.saving.deserialize_keras_object(head) if isinstance(head, dict) else head
        for head in (heads if heads is not None else [EnergyHead()])
    ]
    wrong = [head for head in made if not isinstance(head, Head)]
    if wrong or not made:
        raise TypeError(
            "`heads` is a list of heads, such as [EnergyHead(), DipoleHead()]. "
            f"Received: heads={heads!r}."
        )
    names = [head.name for head in made]
    if len(set(names)) < len(names):
        raise ValueError(f"Each head needs a name of its own. Received: {names}.")
    taken = sorted(set(names) & (INPUT_LEVELS.keys() | {"forces", "stress", "atomic_energies"}))
    if taken:
        raise ValueError(f"These names have a meaning already. Received: heads named {taken}.")
    for head in made:
        if isinstance(head, EnergyHead) != (head.name == "energy"):
            raise ValueError(
                "The name 'energy' belongs to EnergyHead, and it has no other, because its "
                f"gradient is the force. Received: {type(head).__name__}(name='{head.name}'). "
                "Use ScalarHead for other energies."
            )
    return made


def _joined(heads: list[Head]) -> Head:
    """Makes one head that asks for the numbers of all."""
    joined = copy.copy(heads[0])
    if len(heads) > 1:
        joined.num_scalars = sum(head.num_scalars for head in heads)
    return joined


def _as_symbols(inputs: Mapping[str, Any]) -> dict[str, keras.KerasTensor]:
    """Describes inputs by shape alone: tracing them creates weights without computing."""
    return {key: keras.KerasTensor(value.shape, str(value.dtype)) for key, value in inputs.items()}


def _first_rows(key: str, value: Array, inputs: Graph) -> Array:
    per_atom = _output_level(key) == "atom"
    return value[: len(inputs["atom_mask"] if per_atom else inputs["graph_mask"])]


def _output_level(key: str) -> str:
    return "atom" if level(key) == "atom" or key in ATOM_LABELS else "graph"


def _as_tensors(inputs: Mapping[str, Any], dtype: str) -> dict[str, Tensor]:
    return {
        key: ops.convert_to_tensor(value, dtype if value.dtype.kind == "f" else None)
        for key, value in inputs.items()
    }


def _as_numpy(batch: Any) -> Batch:
    inputs, labels = batch if isinstance(batch, tuple) else (batch, {})
    return {key: np.asarray(value) for key, value in inputs.items()}, labels  # type: ignore[return-value]


def _with_averages(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Puts weight averaging first, so that all other callbacks see the averages."""
    listed = list(callbacks or [])
    if any(isinstance(item, (AveragedWeights, keras.callbacks.SwapEMAWeights)) for item in listed):
        return listed
    return [AveragedWeights(), *listed]
