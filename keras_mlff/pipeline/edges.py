"""Structures -> graphs, in memory or in a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keras_mlff.graph import Graph
from keras_mlff.neighbors import add_edges
from keras_mlff.pipeline import store


def with_edges(
    structures: Sequence[Graph],
    cutoff: float,
    use_triplets: bool = False,
    cache_dir: str | Path | None = None,
) -> Sequence[Graph]:
    """Adds edges to structures, or takes them from an earlier run.

    Args:
        structures: Without edges.
        cutoff: Å.
        use_triplets: Whether the model needs `triplet_in` and `triplet_out`.
        cache_dir: Folder of stores, which several processes may share; see `GraphStore`. A store
            is named after everything the graphs depend on: cutoff, structures, labels and the code
            that finds neighbors. `None` keeps all graphs in memory.
    """
    if cache_dir is None:
        return [add_edges(structure, cutoff, use_triplets) for structure in structures]
    return store.make(
        cache_dir,
        ("structures", store.contents(structures), float(cutoff), use_triplets),
        lambda: (add_edges(structure, cutoff, use_triplets) for structure in structures),
    )
