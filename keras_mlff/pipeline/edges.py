"""Neighbor lists of whole data sets, made once and kept on disk."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from keras_mlff import neighbors
from keras_mlff.graph import Array, Graph
from keras_mlff.neighbors import add_edges, triplets


def with_edges(
    structures: Sequence[Graph],
    cutoff: float,
    use_triplets: bool = False,
    cache_dir: str | Path | None = None,
) -> list[Graph]:
    """Adds edges to structures, or takes them from an earlier run.

    Args:
        structures: Without edges.
        cutoff: Å.
        use_triplets: Whether the model needs `triplet_in` and `triplet_out`.
        cache_dir: Folder for neighbor lists, which several processes may share. A file there is
            named after everything the lists depend on: cutoff, positions, cells and the code that
            finds neighbors. `None` keeps nothing.
    """
    if cache_dir is None:
        return [add_edges(structure, cutoff, use_triplets) for structure in structures]
    file = Path(cache_dir) / f"neighbors-{_key(structures, cutoff)}.npz"
    lists = _read(file)
    if lists is None:
        graphs = [add_edges(structure, cutoff) for structure in structures]
        _write(file, graphs)
        lists = _concatenated(graphs)
    return _attached(structures, lists, use_triplets)


def _key(structures: Sequence[Graph], cutoff: float) -> str:
    digest = hashlib.sha256(Path(neighbors.__file__).read_bytes())
    digest.update(np.float64(cutoff).tobytes())
    for structure in structures:
        digest.update(len(structure["positions"]).to_bytes(8, "little"))
        for key in ("positions", "cell", "pbc"):
            if key in structure:
                digest.update(structure[key].tobytes())
    return digest.hexdigest()[:32]


def _concatenated(graphs: Sequence[Graph]) -> dict[str, Array]:
    lists = {
        "num_edges": np.asarray([len(graph["senders"]) for graph in graphs], np.int64),
        "senders": np.concatenate([graph["senders"] for graph in graphs]),
        "receivers": np.concatenate([graph["receivers"] for graph in graphs]),
    }
    shifts = [graph["cell_shifts"] for graph in graphs if "cell_shifts" in graph]
    lists["cell_shifts"] = np.concatenate(shifts or [np.zeros((0, 3))]).astype(np.int32)
    return lists


def _write(file: Path, graphs: Sequence[Graph]) -> None:
    """Writes beside the file and renames, so that nobody ever reads half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=file.parent, suffix=".unfinished")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            np.savez(stream, **_concatenated(graphs))  # type: ignore[arg-type]
        os.replace(unfinished, file)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _read(file: Path) -> dict[str, Array] | None:
    try:
        with file.open("rb") as stream:
            return dict(np.load(stream))
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, zipfile.BadZipFile):  # damaged: made anew
        return None


def _attached(
    structures: Sequence[Graph], lists: dict[str, Array], use_triplets: bool
) -> list[Graph]:
    ends = np.cumsum(lists["num_edges"]).tolist()
    mask = np.ones(len(lists["senders"]), np.bool_)
    graphs, first, first_shift = [], 0, 0
    for structure, end in zip(structures, ends, strict=True):
        graph = cast("Graph", dict(structure))
        graph["senders"] = lists["senders"][first:end]
        graph["receivers"] = lists["receivers"][first:end]
        graph["edge_mask"] = mask[first:end]
        shifts = None
        if "cell" in graph:
            last_shift = first_shift + end - first
            shifts = lists["cell_shifts"][first_shift:last_shift]
            graph["cell_shifts"] = shifts.astype(graph["positions"].dtype)
            first_shift = last_shift
        if use_triplets:
            pairs = triplets(graph["senders"], graph["receivers"], shifts)
            graph["triplet_in"], graph["triplet_out"] = pairs
            graph["triplet_mask"] = np.ones(len(pairs[0]), np.bool_)
        graphs.append(graph)
        first = end
    return graphs
