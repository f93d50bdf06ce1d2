"""Force fields as TensorFlow SavedModels, which need neither Keras nor this package to run."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_mlff import __version__, backend, quantities, saving
from keras_mlff.export.domain import learned_numbers
from keras_mlff.export.server import AXES, Server, signature_keys
from keras_mlff.graph import Array, Graph, level, structure
from keras_mlff.models import ForceField
from keras_mlff.packing.loader import GraphLoader

FORMAT_VERSION = 1
METADATA = Path("assets.extra", "metadata.json")  # where TensorFlow leaves room for own files
# what an export consists of; whatever else is there belongs to the user
_OWN = ("saved_model.pb", "fingerprint.pb", "variables/variables.*", METADATA.as_posix())


def export_saved_model(
    model: ForceField, folder: str | os.PathLike[str], tolerance: float | None = None
) -> Path:
    """Writes a SavedModel with forces inside, reloads it and compares it with the model.

    Its signatures take any number of atoms, edges and graphs:

    - `serving_default`: `positions`, `atomic_numbers`, `graph_ids`, `senders`, `receivers`,
      `total_charge` and `spin_multiplicity` of one or many molecules, as in `Graph`.
    - `periodic`: the same and `cell`, `pbc`, `cell_shifts`; gives `stress` too. Left out where
      the architecture is for molecules only.
    - Both also take `long_senders`, `long_receivers` (and `long_cell_shifts`) where the model has
      long-range terms: pairs up to `long_range_cutoff`, each once, ascending by receiver.
    - `structure`: `positions`, `atomic_numbers`, `total_charge`, `spin_multiplicity` and, unless
      for molecules only, `cell` and `pbc` (all False for a molecule) of a single structure.
      Neighbors are found inside by comparing all atoms with all images.

    Floats go in as float64; totals such as the energy come out as float64, references included.
    Everything the heads predict comes out, by the names of `keras_mlff.quantities`. Level, shape
    and unit of each, cutoff, elements and tensor names are in `assets.extra/metadata.json`.

    Args:
        model: Any force field, on the TensorFlow or the JAX backend.
        folder: Where to; links are followed, and an earlier export there is replaced once the new
            one is complete. Other files in it stay.
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
    folder = Path(folder).expanduser().resolve()
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
        _replace(folder, temporary)
    return folder


def _replace(folder: Path, complete: Path) -> None:
    """Puts a complete export in the place of another, whose foreign files it takes over."""
    if not folder.exists():
        os.replace(complete, folder)
        return

    def replaced(directory: str, names: list[str]) -> list[str]:
        paths = {name: Path(directory, name).relative_to(folder).as_posix() for name in names}
        return [name for name in names if any(fnmatch.fnmatch(paths[name], own) for own in _OWN)]

    shutil.copytree(
        folder, complete, symlinks=True, ignore=replaced, copy_function=_link, dirs_exist_ok=True
    )
    saving.exchange(complete, folder)


def _link(source: str, target: str) -> None:
    """Gives a file a second name, or copies it where the disk knows no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _write(model: ForceField, folder: Path) -> None:
    double = model.compute_dtype == "float64"
    with backend.double_precision() if double else contextlib.nullcontext():
        server = Server(model)
        tf.saved_model.save(server, str(folder), server.signatures())
    saving.write_json(folder / METADATA, _metadata(model, folder))


def _metadata(model: ForceField, folder: Path) -> dict[str, Any]:
    """Collects what a client needs to know and cannot ask a SavedModel for."""
    units = {quantity.name: quantity.unit for head in model.heads for quantity in head.outputs}

    def describe(tensors: Any) -> dict[str, dict[str, Any]]:
        described = {}
        for key, tensor in sorted(tensors.items()):
            sizes = [axis.size if axis.size >= 0 else None for axis in tensor.tensor_shape.dim]
            described[key] = {
                "tensor": tensor.name,
                "dtype": tf.dtypes.as_dtype(tensor.dtype).name,
                "shape": [AXES[level(key)] if size is None else size for size in sizes],
                "level": level(key),
                "unit": quantities.unit(key) or units.get(key, ""),
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
        "cutoff": _finite(model.cutoff),
        "long_range_cutoff": _finite(model.long_range_cutoff),  # of `long_senders`, each pair once
        "elements": sorted(model.domain.elements) or None,
        "domain": model.domain.to_config(),
        "trained_properties": list(preset.properties) if preset is not None else None,
        "signatures": {
            name: {
                "inputs": describe(signatures[name].inputs),
                "outputs": describe(signatures[name].outputs),
            }
            for name in signature_keys(model)
        },
    }


def _finite(cutoff: float | None) -> float | None:
    """Gives a cutoff that JSON can hold; `None` stands for all pairs too."""
    return None if cutoff is None or not np.isfinite(cutoff) else cutoff


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
    signature_inputs = signature_keys(model)
    for name, graphs in (("serving_default", molecules), ("periodic", [crystal])):
        if name not in signature_inputs:
            continue
        edges = [model.graph_spec.add_edges(graph) for graph in graphs]
        inputs, _ = GraphLoader(edges, len(edges))[0]
        network = keras.tree.map_structure(keras.ops.convert_to_numpy, evaluate(inputs))
        expected = model.add_offsets(network, inputs)
        # references are not what may differ, but they are large
        allowed = {key: tolerance * (1.0 + np.max(np.abs(x))) for key, x in network.items()}
        keys = signature_inputs[name]
        _compare_one(signatures[name], keys, inputs, expected, allowed)

        molecule: dict[str, Array] = {
            "cell": np.zeros((1, 3, 3)),
            "pbc": np.zeros((1, 3), np.bool_),
        }
        single = molecule | graphs[0]
        sizes = {"atom": len(graphs[0]["positions"]), "structure": 1}
        first = {key: x[: sizes[level(key)]] for key, x in expected.items()}
        _compare_one(signatures["structure"], signature_inputs["structure"], single, first, allowed)


def _compare_one(
    signature: Any,
    keys: tuple[str, ...],
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    allowed: Mapping[str, float],
) -> None:
    single = "graph_ids" not in keys

    def takes(key: str) -> Array:
        return inputs[key][0] if single and level(key) == "structure" else inputs[key]

    served = signature(**{key: tf.constant(takes(key)) for key in keys})
    for key, values in expected.items():
        result = served[key].numpy()
        if single and level(key) == "structure":
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
    positions = np.asarray(
        [[0.0, 0.1, 0.0], [1.1, 0.0, 0.1], [-0.4, 1.0, 0.2], [-0.3, -0.6, 0.9], [0.2, -0.5, -1.0]]
    )
    cell = np.asarray([[3.6, 0.1, 0.0], [0.4, 3.4, 0.2], [-0.3, 0.5, 3.8]])
    made = []
    for size, box in ((5, None), (3, None), (5, cell)):
        numbers, charge, spin = learned_numbers(model, size)
        made.append(structure(positions[:size], numbers, box, None, charge, spin))
    return made[:2], made[2]
