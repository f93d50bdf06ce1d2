"""The base of every architecture: energy, forces, stress, prediction, presets."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from keras_mlff import backend
from keras_mlff import presets as preset_store
from keras_mlff.core import freezing
from keras_mlff.core.construction import in_precision
from keras_mlff.core.trainer import Trainer
from keras_mlff.graph import (
    Array,
    Graph,
    Tensor,
    dummy_graph,
    inputs_and_labels,
    is_known,
    level,
    split,
)
from keras_mlff.heads import AtomNumbers, Head, collection
from keras_mlff.layers import zbl as zbl_layer
from keras_mlff.layers.charge_spin import ChargeSpinEmbedding
from keras_mlff.layers.element_affine import ElementAffine
from keras_mlff.layers.encoding import fit_ranges, parse_encoding
from keras_mlff.layers.readout import AtomFeatures, PerceptronReadout
from keras_mlff.ops import geometry, segment


class PresetNames:
    """Lists a class's presets when the class is asked: `CMRET.presets`."""

    def __get__(self, instance: Any, owner: type[ForceField]) -> dict[str, preset_store.Preset]:
        return preset_store.available(owner.__name__)


class ForceField(Trainer):
    """Turns a graph into properties; a subclass writes `embed` and, if need be, `make_readout`.

    The base differentiates the energy once, with respect to positions and, where there is a cell,
    a strain. So `fit`, `predict`, export and molecular dynamics see the same forces.

    `model(graph)` is the network alone: its energy leaves the references of the elements out.
    `predict` adds them in float64.

    Args:
        cutoff: Å, radius within which atoms are neighbors.
        heads: What to predict: heads or their configs; an `EnergyHead` where `None`.
        dtype: Precision, `"float32"` or `"float64"`; the global policy where `None`.
        name: Of the Keras model.
        zbl: Whether atoms closer than 1 Å repel each other whatever the network says, or the
            arguments of `keras_mlff.layers.zbl.ZBLRepulsion`: `{"cutoff": 0.8}`.
        charge_spin: Whether total charge and spin take part, see
            `keras_mlff.layers.charge_spin.ChargeSpinEmbedding`.
        element_affine: Whether atomic energies have a learned factor and term for each element,
            beside the fixed ones of the head.
    """

    built: bool
    uses_triplets: ClassVar[bool] = False
    # what the contract tests hold an architecture to
    is_size_consistent: bool = True  # energies of far fragments add up
    supports_periodic: bool = True  # energies of crystals are defined
    sees_all_pairs: bool = False  # of a molecule, whatever the cutoff
    has_attention: bool = True  # coefficients that `attention` returns
    num_continuous_derivatives: int = 2  # of the energy, where an edge reaches the cutoff
    presets = PresetNames()  # trained models of this class that are at hand, by name

    def __init__(
        self,
        cutoff: float = 5.0,
        heads: Sequence[Head | dict[str, Any]] | None = None,
        dtype: Any = None,
        name: str | None = None,
        zbl: bool | Mapping[str, Any] = False,
        charge_spin: bool = False,
        element_affine: bool = False,
    ) -> None:
        super().__init__(dtype=dtype, name=name)
        if cutoff <= 0.0:
            raise ValueError(f"The cutoff is a length in Å above 0. Received: cutoff={cutoff}.")
        if not isinstance(charge_spin, bool):
            raise TypeError(
                "`charge_spin` says whether the model knows total charge and spin, True or False. "
                f"Received: charge_spin={charge_spin!r}. CMRET's way of its paper is chosen by "
                "`charge_spin_channels`."
            )
        self.cutoff = float(cutoff)
        self.heads = collection.make(heads)
        self.repulsion = zbl_layer.get(zbl, self.cutoff)
        self.charge_spin = ChargeSpinEmbedding() if charge_spin else None
        self.element_affine = ElementAffine() if element_affine else None
        self._recorder: dict[str, Tensor] | None = None

    # What an architecture writes

    def embed(self, graph: Graph, training: bool = False) -> AtomFeatures:
        """Computes features of each atom from the graph. Every architecture writes this."""
        raise NotImplementedError(f"{type(self).__name__} must define `embed(graph, training)`.")

    def with_charge_spin(self, features: Tensor, graph: Graph) -> Tensor:
        """Adds total charge and spin to features of the atoms, if the model is to know them.

        Every `embed` calls it once, on the first features `(num_atoms, n)`.
        """
        if self.charge_spin is None:
            return features
        return features + self.charge_spin(features, graph)

    def make_readout(self, numbers: AtomNumbers) -> keras.layers.Layer:
        """Makes the layer that turns `AtomFeatures` into the numbers that heads ask for.

        It is called with features and gives `AtomFeatures` of `numbers.num_scalars` scalars and
        `numbers.num_vectors` vectors per atom. The default is a perceptron of one hidden layer.
        """
        return PerceptronReadout(numbers.num_scalars, self.num_features, numbers.use_bias)

    def encode_distances(self, distances: Tensor) -> list[Tensor]:
        """Computes what each layer makes of distances alone, for `keras-mlff analyze encoding`.

        Args:
            distances: `(n,)`, Å, above 0.

        Returns:
            `(n, width)` of each layer, or of all where they share it; by default the radial basis.
        """
        if not hasattr(self, "radial_basis"):
            raise NotImplementedError(
                f"{type(self).__name__} must define `encode_distances(distances)`."
            )
        return [self.radial_basis(distances)]

    @property
    def encoding_range(self) -> float:
        """Largest distance in Å of which the model makes something: `encode_distances` ends here.

        It is the cutoff, except in architectures that see all pairs of a molecule.
        """
        return self.cutoff

    # The network

    def call(self, graph: Graph, training: bool = False) -> dict[str, Tensor]:
        """Computes every property, forces and stress included where there is an energy head."""
        if not any(head.is_differentiated for head in self.heads):
            return self._properties(graph, training)
        periodic = "cell" in graph
        positions = graph["positions"]

        def energy_of(positions: Tensor, strains: Tensor | None = None) -> tuple[Tensor, Any]:
            moved = {**graph, "positions": positions}
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
        affine = self.element_affine
        transform = None if affine is None else lambda numbers: affine(numbers, graph)
        for group, readout in zip(collection.grouped(self.heads), self.readouts, strict=True):
            scalars, vectors = readout(features)
            properties |= collection.properties(group, graph, scalars, vectors, transform)
        if self.repulsion is not None and "energy" in properties:
            repulsion = self.repulsion(graph)  # (num_atoms,)
            properties["atomic_energies"] = properties["atomic_energies"] + repulsion
            properties["energy"] = properties["energy"] + segment.sum_over_atoms(repulsion, graph)
        return properties

    def build(self, input_shape: Any = None) -> None:
        """Creates all weights; the constructor calls it."""
        if self.built:
            return
        self.readouts = [
            self.make_readout(collection.numbers_of(group))
            for group in collection.grouped(self.heads)
        ]
        self.built = True  # or Keras would come back here
        inputs, _ = inputs_and_labels(dummy_graph(triplets=self.uses_triplets))
        # without forces, whose graph takes long to trace and has no weights of its own
        if backend.RUNS_EAGERLY:
            properties = self._properties(_as_tensors(inputs, self.compute_dtype), False)
        else:
            properties = _Properties(self).compute_output_spec(_as_symbols(inputs))
        if self.charge_spin is not None:
            self.is_size_consistent = False
            if not self.charge_spin.built:
                raise ValueError(
                    f"{type(self).__name__} does not let charge and spin in. Received: "
                    "charge_spin=True. Its `embed` must call `self.with_charge_spin`."
                )
        first = ["energy", "forces"] if "energy" in properties else []
        self.property_names = first + sorted(properties.keys() - set(first))

    @property
    def outputs_with_stress(self) -> list[str]:
        """Names of all predictions, `stress` included, which only periodic graphs have."""
        names = list(self.property_names)
        return names if "energy" not in names else [*names, "stress"]

    @in_precision
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)

    @property
    @in_precision
    def losses(self) -> list[Tensor]:
        """What layers add to the loss, functions of the weights alone."""
        return super().losses

    @in_precision
    def predict_on_batch(self, x: Any) -> Any:
        """Predicts one padded batch as it is; `predict` does more."""
        return super().predict_on_batch(x)

    @in_precision
    def load_weights(self, filepath: Any, **kwargs: Any) -> None:
        """Loads weights as Keras does."""
        super().load_weights(filepath, **kwargs)

    @in_precision
    def set_weights(self, weights: Sequence[Array]) -> None:
        """Sets all weights, in the order of `get_weights`."""
        super().set_weights(weights)

    @in_precision
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
        for inputs in (_as_numpy(batch) for batch in loader):
            self._see("predict", inputs)
            if self.preset is not None:
                preset_store.check_elements([inputs], self.preset)
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
        return collection.add_offsets(self.heads, predictions, inputs)

    @in_precision
    def fit_offsets(self, graphs: Sequence[Graph]) -> None:
        """Sets references, shift and scale of each head from data; call it before training.

        Energies and other sums get least-squares values per element, averages get their mean, and
        scalars of atoms the mean of each element. The scale is the forces' root mean square, or
        the spread of what remains. Structures and atoms without a label do not count. Learned
        tables of distances get the range that occurs, unless `distance_encoding` gives one.

        Args:
            graphs: Structures with labels, usually those of training.

        Raises:
            ValueError: If a head's label is missing in all structures.
        """
        for head in self.heads:
            head.fit_offsets(graphs)
        layers = self._flatten_layers(include_self=False)
        ends = fit_ranges(list(layers), graphs)
        if ends is not None:  # a saved model must know them
            chosen = parse_encoding(self._arguments["distance_encoding"])
            self._arguments["distance_encoding"] = chosen | ends
        self.train_function = self.test_function = self.predict_function = None

    def adapt_offsets(self, graphs: Sequence[Graph]) -> None:
        """Moves the references of a trained model to another level of theory.

        Energies of two methods differ mostly by a constant per element. Each head that has
        references and a label gets those that, with the network as it is, come closest to the
        labels; other heads, such as dipoles, stay as they are.

        Args:
            graphs: Structures with labels of the other method; those without do not count.
        """
        self.preset = None  # from here on it is another model, which may learn other elements
        adapted = [
            head
            for head in self.heads
            if head.has_offset and any(is_known(head.name, graph).any() for graph in graphs)
        ]
        predicted = self.predict(list(graphs)) if adapted else {}
        for head in adapted:
            head.adapt_offsets(graphs, predicted[head.name])
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
        self.train_function = None
        return freezing.set_trainable(self, parts, kept, False)

    def unfreeze(self, *parts: str) -> list[str]:
        """Lets `fit` change parts again, all if none is named; call `compile` afterwards."""
        self.train_function = None
        return freezing.set_trainable(self, parts, (), True)

    def _strip(self, predictions: Mapping[str, Array], inputs: Graph) -> dict[str, Array]:
        masks = {"atom": inputs["atom_mask"], "structure": inputs["graph_mask"]}
        return {key: value[masks[level(key)]] for key, value in predictions.items()}

    # Looking inside

    def record(self, name: str, value: Tensor) -> None:
        """Keeps an intermediate value while `inspect` runs; else does nothing.

        Names that end in `/attention` are coefficients, which `attention` returns; their shape is
        `(num_graphs, max_atoms, max_atoms)` or `(num_graphs, num_heads, max_atoms, max_atoms)`,
        receiver first.
        """
        if self._recorder is not None:
            self._recorder[name] = value

    @in_precision
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
        return cls(**cls.upgrade_config(dict(config)))

    @classmethod
    def upgrade_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Turns a config that an earlier version wrote into the constructor's arguments of today.

        Architectures whose arguments have changed override it; a config of today stays as it is.

        Args:
            config: What `get_config` returned when the model was saved.
        """
        return config

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Does nothing: the constructor has created the weights that are loaded now."""

    @classmethod
    def from_port(
        cls, hyperparameters: Mapping[str, Any], weights: Mapping[str, Array], **kwargs: Any
    ) -> Self:
        """Builds the network of the authors' program, with the weights trained there.

        The module `port` beside the architecture's own does it; its function `build` documents the
        names of hyper-parameters and weights.

        Args:
            hyperparameters: The settings of the authors' program by that program's names.
            weights: Arrays by the names that `build` documents. Matrices are (in, out).
            **kwargs: Replace arguments of the constructor, such as `dtype="float32"`.

        Raises:
            NotImplementedError: If there is no port for the architecture.
            ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
        """
        package = cls.__module__.rpartition(".")[0]
        if not package or importlib.util.find_spec(f"{package}.port") is None:
            raise NotImplementedError(
                f"{cls.__name__} has no port, so it cannot read weights of another program. "
                f"Received: a class of the module '{cls.__module__}', which has no `port` beside "
                "it. Write one with a function `build(model_class, hyperparameters, weights)`."
            )
        port = importlib.import_module(f"{package}.port")
        model: Self = port.build(cls, hyperparameters, weights, **kwargs)
        return model

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


class _Properties(keras.Operation):
    """What of a model can be traced without computing."""

    def __init__(self, model: ForceField) -> None:
        super().__init__()
        self.model = model

    def call(self, graph: Graph) -> dict[str, Tensor]:
        return self.model._properties(graph, training=False)


def _as_symbols(inputs: Mapping[str, Any]) -> dict[str, keras.KerasTensor]:
    """Describes inputs by shape alone: tracing them creates weights without computing."""
    return {key: keras.KerasTensor(value.shape, str(value.dtype)) for key, value in inputs.items()}


def _first_rows(key: str, value: Array, inputs: Graph) -> Array:
    per_atom = level(key) == "atom"
    return value[: len(inputs["atom_mask"] if per_atom else inputs["graph_mask"])]


def _as_tensors(inputs: Mapping[str, Any], dtype: str) -> dict[str, Tensor]:
    return {
        key: ops.convert_to_tensor(value, dtype if value.dtype.kind == "f" else None)
        for key, value in inputs.items()
    }


def _as_numpy(batch: Any) -> Graph:
    inputs, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
    return {key: np.asarray(value) for key, value in inputs.items()}
