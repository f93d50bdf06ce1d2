"""Force fields as TensorFlow SavedModels, which need neither Keras nor this package to run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from keras_mlff import __version__, backend
from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array, Graph, level, structure
from keras_mlff.heads import EnergyHead
from keras_mlff.models import ForceField
from keras_mlff.neighbors import add_edges
from keras_mlff.packing import GraphLoader

try:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2
except ImportError as error:
    raise ImportError(
        "A SavedModel is written by TensorFlow, which is not installed. "
        "Install it with `pip install keras-mlff[tensorflow]`."
    ) from error

Tensor = Any
FORMAT_VERSION = 1
METADATA = Path("assets.extra", "metadata.json")  # where TensorFlow leaves room for own files
_COINCIDENT = 1e-6  # Å, as in neighbors.py
_UNITS = {
    **{"positions": "Å", "cell": "Å", "total_charge": "e"},
    **{"energy": "eV", "atomic_energies": "eV", "forces": "eV/Å", "stress": "eV/Å³"},
}
# what a client gives; masks, the atom table and triplets follow from it
_MOLECULE_KEYS = (
    *("positions", "atomic_numbers", "graph_ids", "senders", "receivers"),
    *("total_charge", "spin_multiplicity"),
)
_PERIODIC_KEYS = (*_MOLECULE_KEYS, "cell", "pbc", "cell_shifts")
_STRUCTURE_KEYS = (
    *("positions", "atomic_numbers", "cell", "pbc"),
    *("total_charge", "spin_multiplicity"),
)
_SHAPES: dict[str, tuple[str | int, ...]] = {
    "positions": ("num_atoms", 3),
    "atomic_numbers": ("num_atoms",),
    "graph_ids": ("num_atoms",),
    "atom_mask": ("num_atoms",),
    "senders": ("num_edges",),
    "receivers": ("num_edges",),
    "edge_mask": ("num_edges",),
    "cell_shifts": ("num_edges", 3),
    "cell": ("num_graphs", 3, 3),
    "pbc": ("num_graphs", 3),
    "total_charge": ("num_graphs",),
    "spin_multiplicity": ("num_graphs",),
    "graph_mask": ("num_graphs",),
    "atom_table": ("num_graphs", "max_atoms"),
    "triplet_in": ("num_triplets",),
    "triplet_out": ("num_triplets",),
    "triplet_mask": ("num_triplets",),
}
_FLOATS = ("positions", "cell", "cell_shifts", "total_charge")


def export_saved_model(
    model: ForceField, folder: str | os.PathLike[str], tolerance: float | None = None
) -> Path:
    """Writes a SavedModel with forces inside, reloads it and compares it with the model.

    Its signatures take any number of atoms, edges and graphs:

    - `serving_default`: `positions`, `atomic_numbers`, `graph_ids`, `senders`, `receivers`,
      `total_charge` and `spin_multiplicity` of one or many molecules, as in `Graph`.
    - `periodic`: the same and `cell`, `pbc`, `cell_shifts`; gives `stress` too.
    - `structure`: `positions`, `atomic_numbers`, `cell`, `pbc`, `total_charge` and
      `spin_multiplicity` of a single structure, molecule (pbc all False) or crystal. Neighbors
      are found inside by comparing all atoms with all images.

    Floats go in as float64; totals such as the energy come out as float64, references included.
    Units, cutoff, elements and tensor names are written to `assets.extra/metadata.json`.

    Args:
        model: Any force field, on the TensorFlow or the JAX backend.
        folder: Where to; an earlier export there is replaced.
        tolerance: Largest difference to the model, relative to the network's numbers and in
            their unit where these are small; 1e-4 for float32 and 1e-9 for float64 where `None`.

    Returns:
        The folder.

    Raises:
        RuntimeError: On the PyTorch backend, and if the reloaded SavedModel gives other numbers.
        ValueError: If the folder holds something else.

    Example:
        ```python
        export_saved_model(CMRET.from_preset("ch2"), "ch2_saved_model")
        ```
    """
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise RuntimeError(
            "A SavedModel is written from the TensorFlow or the JAX backend. Received: a model on "
            f"the backend '{keras.backend.backend()}'. Save it (`model.save_to_preset(folder)`), "
            "start Python with KERAS_BACKEND=tensorflow, load it there "
            f"(`{type(model).__name__}.from_preset(folder)`) and export it."
        )
    folder = Path(folder)
    if folder.exists() and not (folder / METADATA).is_file() and any(folder.iterdir()):
        raise ValueError(
            f"The folder is not empty and not an export. Received: '{folder}'. Choose another."
        )
    if tolerance is None:
        tolerance = 1e-9 if model.compute_dtype == "float64" else 1e-4
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export_") as name:
        temporary = Path(name, "saved_model")
        _write(model, temporary)
        _compare(model, temporary, tolerance)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    return folder


def neighbor_list(
    positions: Tensor, cutoff: float, cell: Tensor, pbc: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Does in TensorFlow what `neighbors.neighbor_list` does in NumPy, in the same order.

    All atoms are compared with all images in reach: time and memory grow with the square of the
    number of atoms.

    Args:
        positions: `(num_atoms, 3)` float64, Å.
        cutoff: Å.
        cell: `(3, 3)` float64, Å, lattice vectors in rows; rows of open directions are ignored.
        pbc: `(3,)` bool.

    Returns:
        `senders`, `receivers` `(num_edges,)` and `cell_shifts` `(num_edges, 3)`, all int32.
    """
    num_atoms = tf.shape(positions)[0]
    lattice = tf.where(pbc[:, None], cell, 0.0)
    open_directions = tf.linalg.diag(tf.where(pbc, tf.zeros(3, tf.float64), 1.0))
    gram = tf.matmul(lattice, lattice, transpose_b=True) + open_directions
    scale = tf.sqrt(tf.linalg.diag_part(gram))
    units = gram / tf.maximum(scale[:, None] * scale, 1e-300)
    independent = _require(
        tf.linalg.det(units) > 1e-12,
        "The lattice vectors along periodic directions must be linearly independent and longer "
        "than zero. Give pbc = False for a molecule.",
    )
    with tf.control_dependencies([independent]):
        gram = tf.identity(gram)
    # columns dual to the periodic lattice vectors, zero for open directions
    dual = tf.matmul(lattice, tf.linalg.inv(gram), transpose_a=True)
    cells_away = tf.floor(tf.matmul(positions, dual))  # (num_atoms, 3)
    wrapped = positions - tf.matmul(cells_away, lattice)
    fractional = tf.matmul(wrapped, dual)

    reach = cutoff * (1.0 + 1e-6) * tf.norm(dual, axis=0)  # in lattice vectors
    images = tf.cast(tf.math.ceil(reach), tf.int32)
    axes = [tf.range(-images[axis], images[axis] + 1) for axis in range(3)]
    grid = tf.reshape(tf.stack(tf.meshgrid(*axes, indexing="ij"), axis=-1), (-1, 3))
    places = fractional[:, None] + tf.cast(grid, tf.float64)  # (num_atoms, num_shifts, 3)
    low, high = tf.reduce_min(fractional, axis=0) - reach, tf.reduce_max(fractional, axis=0) + reach
    candidates = tf.where(tf.reduce_all((places >= low) & (places <= high), axis=2))
    senders = tf.cast(candidates[:, 0], tf.int32)
    shifts = tf.gather(grid, candidates[:, 1])

    moved = tf.gather(wrapped, senders) + tf.matmul(tf.cast(shifts, tf.float64), lattice)
    vectors = moved - wrapped[:, None]  # (receiver, candidate, 3)
    lengths = tf.sqrt(tf.reduce_sum(tf.square(vectors), axis=2))
    itself = (senders == tf.range(num_atoms)[:, None]) & tf.reduce_all(shifts == 0, axis=1)
    apart = _require(
        tf.reduce_all(itself | (lengths > _COINCIDENT)), "Two atoms are at the same place."
    )
    with tf.control_dependencies([apart]):
        pairs = tf.where((lengths < cutoff) & ~itself)
    receivers = tf.cast(pairs[:, 0], tf.int32)
    senders, shifts = tf.gather(senders, pairs[:, 1]), tf.gather(shifts, pairs[:, 1])
    moves = tf.cast(cells_away, tf.int32)
    return senders, receivers, shifts + tf.gather(moves, receivers) - tf.gather(moves, senders)


def triplets(senders: Tensor, receivers: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Does in TensorFlow what `neighbors.triplets` does in NumPy, in the same order."""
    num_atoms = tf.reduce_max(tf.concat([senders, receivers, [-1]], axis=0)) + 1
    incoming = tf.math.unsorted_segment_sum(tf.ones_like(receivers), receivers, num_atoms)
    partners = tf.gather(incoming, senders)  # (num_edges,)
    before = tf.gather(tf.cumsum(incoming, exclusive=True), senders)
    triplet_out = tf.repeat(tf.range(tf.size(senders)), partners)
    start = tf.repeat(before - tf.cumsum(partners, exclusive=True), partners)
    triplet_in = tf.range(tf.size(triplet_out)) + start
    back = tf.gather(senders, triplet_in) == tf.gather(receivers, triplet_out)
    moved = tf.gather(shifts, triplet_in) + tf.gather(shifts, triplet_out) != 0
    keep = ~back | tf.reduce_any(moved, axis=1)
    return tf.boolean_mask(triplet_in, keep), tf.boolean_mask(triplet_out, keep)


# Writing


class _Server(tf.Module):
    """Holds the weights and the functions around the network that a SavedModel consists of."""

    def __init__(self, model: ForceField) -> None:
        super().__init__()
        self._cutoff, self._dtype = model.cutoff, model.compute_dtype
        self._uses_triplets, self._heads = model.uses_triplets, tuple(model.heads)
        known = model.preset.elements if model.preset is not None else ()
        table = np.zeros(MAX_ATOMIC_NUMBER + 1, np.bool_)
        table[[0, *known] if known else slice(None)] = True
        self._known = table
        keys = [key for key in _SHAPES if self._uses_triplets or not key.startswith("triplet")]
        periodic = {key: self._spec(key, self._dtype) for key in keys}
        molecule = {
            key: spec for key, spec in periodic.items() if key not in ("cell", "pbc", "cell_shifts")
        }
        network, self.weights = _network(model)
        self._molecule_network = _function(network, molecule)
        self._periodic_network = _function(network, periodic)

    @staticmethod
    def _spec(key: str, float_dtype: str, single: bool = False) -> tf.TensorSpec:
        integers = tf.bool if key.endswith("mask") or key == "pbc" else tf.int32
        shape = [size if isinstance(size, int) else None for size in _SHAPES[key]]
        if single and level(key) == "graph":
            shape = shape[1:]
        return tf.TensorSpec(shape, float_dtype if key in _FLOATS else integers, key)

    def signatures(self) -> dict[str, Any]:
        """Traces the entry points."""

        def specs(keys: tuple[str, ...], single: bool = False) -> dict[str, tf.TensorSpec]:
            return {key: self._spec(key, "float64", single) for key in keys}

        functions = {
            "serving_default": _function(self._batch, specs(_MOLECULE_KEYS)),
            "periodic": _function(self._batch, specs(_PERIODIC_KEYS)),
            "structure": _function(self._structure, specs(_STRUCTURE_KEYS, single=True)),
        }
        return {name: function.get_concrete_function() for name, function in functions.items()}

    def _structure(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predicts one structure, whose neighbors are found here."""
        given = dict(inputs)
        # as in `graph.structure`, the cell of a molecule does not count
        given["cell"] = tf.where(tf.reduce_any(given["pbc"]), given["cell"], 0.0)
        senders, receivers, shifts = neighbor_list(
            given["positions"], self._cutoff, given["cell"], given["pbc"]
        )
        graph = {key: x if level(key) == "atom" else x[None] for key, x in given.items()}
        graph["graph_ids"] = tf.zeros_like(given["atomic_numbers"])
        graph |= {"senders": senders, "receivers": receivers}
        graph["cell_shifts"] = tf.cast(shifts, tf.float64)
        outputs = self._predict(graph)
        return {key: x if level(key) == "atom" else x[0] for key, x in outputs.items()}

    def _batch(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predicts graphs whose edges the client has found."""
        return self._predict(_checked(inputs))

    def _predict(self, graph: dict[str, Tensor]) -> dict[str, Tensor]:
        numbers = graph["atomic_numbers"]
        known = _require(
            tf.reduce_all(tf.gather(self._known, tf.clip_by_value(numbers, 0, MAX_ATOMIC_NUMBER)))
            & tf.reduce_all((numbers >= 0) & (numbers <= MAX_ATOMIC_NUMBER)),
            "The model was not trained on an element that it was given. It knows the atomic "
            f"numbers {np.flatnonzero(self._known)[1:].tolist()}.",
        )
        with tf.control_dependencies([known]):
            graph["atomic_numbers"] = tf.identity(numbers)
        graph = _complete(graph, self._uses_triplets)
        rounded = {
            key: tf.cast(x, self._dtype) if key in _FLOATS else x for key, x in graph.items()
        }
        network = self._periodic_network if "cell" in graph else self._molecule_network
        return self._add_offsets(network(rounded), graph)

    def _add_offsets(
        self, predictions: Mapping[str, Tensor], graph: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Does what `ForceField.add_offsets` does: adds references in float64."""
        totals = dict(predictions)
        num_graphs = tf.shape(graph["graph_mask"])[0]
        for head in self._heads:
            values = tf.gather(tf.constant(head.reference_table()), graph["atomic_numbers"])
            values = tf.where(graph["atom_mask"], values, 0.0)
            if head.name in totals and (head.has_offset or head.name == "energy"):
                sums = tf.math.unsorted_segment_sum(values, graph["graph_ids"], num_graphs)
                sums = tf.where(graph["graph_mask"], sums + head.shift, 0.0)
                totals[head.name] = tf.cast(totals[head.name], tf.float64) + sums
            if "atomic_energies" in totals and isinstance(head, EnergyHead):
                totals["atomic_energies"] = tf.cast(totals["atomic_energies"], tf.float64) + values
        return totals


def _function(function: Callable[..., Any], specs: dict[str, tf.TensorSpec]) -> Any:
    return tf.function(function, input_signature=[specs], autograph=False)


def _network(model: ForceField) -> tuple[Callable[[Any], Any], list[tf.Variable]]:
    """Makes the network a TensorFlow function of the completed graph, with its variables."""
    if keras.backend.backend() == "tensorflow":
        return lambda inputs: model(inputs, training=False), [v.value for v in model.variables]
    from jax.experimental import jax2tf

    weights = [tf.Variable(np.asarray(v), trainable=False) for v in model.variables]

    def stateless(values: Any, inputs: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values, strict=True))):
            return model(inputs, training=False)

    def network(inputs: Any) -> Any:
        # left alone, jax2tf would give the first axes of atoms, edges and graphs one size
        shapes = {key: f"({', '.join(map(str, _SHAPES[key]))},)" for key in inputs}
        converted = jax2tf.convert(
            stateless,
            polymorphic_shapes=[None, shapes],
            with_gradient=False,
            native_serialization_platforms=("cpu", "cuda"),
        )
        return converted(weights, inputs)

    return network, weights


def _complete(graph: dict[str, Tensor], uses_triplets: bool) -> dict[str, Tensor]:
    """Adds what follows from the client's keys: one padding edge, masks, table, triplets."""
    # JAX compiles for sizes above zero, and a lone atom has no edge
    last = tf.shape(graph["atomic_numbers"])[0] - 1
    for key in ("senders", "receivers"):
        graph[key] = tf.concat([graph[key], last[None]], axis=0)
    shifts = tf.zeros((tf.size(graph["senders"]), 3), tf.float64)
    if "cell_shifts" in graph:
        shifts = graph["cell_shifts"] = tf.pad(graph["cell_shifts"], [[0, 1], [0, 0]])
    graph["atom_mask"] = graph["atomic_numbers"] > 0
    moved = (graph["senders"] != graph["receivers"]) | tf.reduce_any(shifts != 0.0, axis=1)
    graph["edge_mask"] = moved & tf.gather(graph["atom_mask"], graph["receivers"])

    num_graphs = tf.shape(graph["total_charge"])[0]
    ids = graph["graph_ids"]
    sizes = tf.math.unsorted_segment_sum(tf.cast(graph["atom_mask"], tf.int32), ids, num_graphs)
    places = tf.math.unsorted_segment_sum(tf.ones_like(ids), ids, num_graphs)
    graph["graph_mask"] = sizes > 0
    columns = tf.range(tf.maximum(tf.reduce_max(sizes), 1))
    table = tf.cumsum(places, exclusive=True)[:, None] + columns
    graph["atom_table"] = tf.where(columns < sizes[:, None], table, -1)
    if uses_triplets:
        incoming, outgoing = triplets(graph["senders"], graph["receivers"], shifts)
        real = tf.gather(graph["edge_mask"], incoming) & tf.gather(graph["edge_mask"], outgoing)
        padding = tf.size(graph["senders"]) - 1
        for key, index in (("triplet_in", incoming), ("triplet_out", outgoing)):
            kept = tf.boolean_mask(index, real)
            graph[key] = tf.concat([kept, padding[None]], axis=0)
        graph["triplet_mask"] = tf.range(tf.size(graph["triplet_in"])) < tf.size(kept)
    return graph


def _checked(graph: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Refuses indices that would give wrong numbers or, on a GPU, go unnoticed."""
    num_atoms = tf.shape(graph["atomic_numbers"])[0]
    sizes = {"graph_ids": tf.shape(graph["total_charge"])[0]}
    checks = []
    for key in ("graph_ids", "senders", "receivers"):
        index, size = graph[key], sizes.get(key, num_atoms)
        inside = tf.reduce_all((index >= 0) & (index < size))
        checks.append(_require(inside, f"`{key}` must count from 0 and stay below what it counts."))
        if key != "senders":
            ascending = tf.reduce_all(index[1:] >= index[:-1])
            checks.append(_require(ascending, f"`{key}` must ascend."))
    with tf.control_dependencies(checks):
        return {key: tf.identity(x) for key, x in graph.items()}


def _require(condition: Tensor, message: str) -> Any:
    return tf.debugging.Assert(condition, [message])


def _write(model: ForceField, folder: Path) -> None:
    double = model.compute_dtype == "float64"
    with backend.double_precision() if double else contextlib.nullcontext():
        server = _Server(model)
        tf.saved_model.save(server, str(folder), server.signatures())
    (folder / METADATA).parent.mkdir()
    text = json.dumps(_metadata(model, folder), indent=1, ensure_ascii=False)
    (folder / METADATA).write_text(text + "\n", encoding="utf-8")


def _metadata(model: ForceField, folder: Path) -> dict[str, Any]:
    """Collects what a client needs to know and cannot ask a SavedModel for."""
    units: dict[str, str] = {}
    for head in model.heads:
        units |= dict.fromkeys(head.labels, head.unit)
    units |= _UNITS

    def describe(tensors: Any) -> dict[str, dict[str, Any]]:
        described = {}
        for key, tensor in sorted(tensors.items()):
            sizes = [axis.size if axis.size >= 0 else None for axis in tensor.tensor_shape.dim]
            described[key] = {
                "tensor": tensor.name,
                "dtype": tf.dtypes.as_dtype(tensor.dtype).name,
                "shape": [f"num_{level(key)}s" if size is None else size for size in sizes],
                "unit": units.get(key, ""),
            }
        return described

    proto = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    signatures = proto.meta_graphs[0].signature_def
    preset = model.preset
    return {
        "format_version": FORMAT_VERSION,
        "keras_mlff_version": __version__,
        "architecture": type(model).__name__,
        "preset": preset.name if preset is not None else None,
        "written_by": keras.backend.backend(),
        "dtype": model.compute_dtype,
        "cutoff": model.cutoff,
        "elements": list(preset.elements) if preset is not None else None,
        "trained_properties": list(preset.properties) if preset is not None else None,
        "signatures": {
            name: {
                "inputs": describe(signatures[name].inputs),
                "outputs": describe(signatures[name].outputs),
            }
            for name in ("serving_default", "periodic", "structure")
        },
    }


# Reading back


def _compare(model: ForceField, folder: Path, tolerance: float) -> None:
    """Compares a SavedModel with the model that it was written from.

    Raises:
        RuntimeError: If a number differs, or if there is none.
    """
    signatures = tf.saved_model.load(str(folder)).signatures
    molecules, crystal = _test_structures(model)
    # for a single batch, compiling takes longer on TensorFlow, and not compiling on JAX
    evaluate = model if keras.backend.backend() == "tensorflow" else model.predict_on_batch
    for name, graphs in (("serving_default", molecules), ("periodic", [crystal])):
        edges = [add_edges(graph, model.cutoff, triplets=model.uses_triplets) for graph in graphs]
        inputs, _ = GraphLoader(edges, len(edges))[0]
        network = keras.tree.map_structure(keras.ops.convert_to_numpy, evaluate(inputs))
        expected = model.add_offsets(network, inputs)
        # references are not what may differ, but they are large
        allowed = {key: tolerance * (1.0 + np.max(np.abs(x))) for key, x in network.items()}
        keys = _MOLECULE_KEYS if name == "serving_default" else _PERIODIC_KEYS
        _compare_one(signatures[name], keys, cast("dict[str, Array]", inputs), expected, allowed)

        molecule: dict[str, Array] = {
            "cell": np.zeros((1, 3, 3)),
            "pbc": np.zeros((1, 3), np.bool_),
        }
        single = molecule | cast("dict[str, Array]", graphs[0])
        sizes = {"atom": len(graphs[0]["positions"]), "graph": 1}
        first = {key: x[: sizes[level(key)]] for key, x in expected.items()}
        _compare_one(signatures["structure"], _STRUCTURE_KEYS, single, first, allowed)


def _compare_one(
    signature: Any,
    keys: tuple[str, ...],
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    allowed: Mapping[str, float],
) -> None:
    single = "graph_ids" not in keys

    def takes(key: str) -> Array:
        return inputs[key][0] if single and level(key) == "graph" else inputs[key]

    served = signature(**{key: tf.constant(takes(key)) for key in keys})
    for key, values in expected.items():
        result = served[key].numpy()
        if single and level(key) == "graph":
            result = result[None]
        if not np.all(np.abs(result - values) <= allowed[key]):
            raise RuntimeError(
                "The SavedModel was written and loaded again, and now it gives other numbers than "
                f"the model. Received: '{key}' = {result.tolist()} instead of {values.tolist()}, "
                f"which may differ by {allowed[key]:.1e}. Nothing was kept. If the network's "
                "numbers are finite, please report this with the versions of TensorFlow and JAX."
            )


def _test_structures(model: ForceField) -> tuple[list[Graph], Graph]:
    """Makes two molecules and a crystal whose cell is smaller than most cutoffs."""
    known = model.preset.elements if model.preset is not None else ()
    known = known or tuple(sorted({z for head in model.heads for z in head.references}))
    numbers = np.resize(np.asarray(known or (6, 1, 8), np.int32), 5)
    positions = np.asarray(
        [[0.0, 0.1, 0.0], [1.1, 0.0, 0.1], [-0.4, 1.0, 0.2], [-0.3, -0.6, 0.9], [0.2, -0.5, -1.0]]
    )
    cell = np.asarray([[3.6, 0.1, 0.0], [0.4, 3.4, 0.2], [-0.3, 0.5, 3.8]])
    molecules = [structure(positions[:size], numbers[:size]) for size in (5, 3)]
    return molecules, structure(positions, numbers, cell=cell)
