"""Adds edges to structures, in memory or in a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_mlff.graph import Graph
from keras_mlff.neighbors import GraphSpec
from keras_mlff.pipeline import store

ModelOrSpec = Any  # a model, which is far above, or a `GraphSpec`


def with_edges(
    structures: Sequence[Graph],
    model_or_spec: ModelOrSpec,
    cache_dir: str | Path | None = None,
) -> Sequence[Graph]:
    """Adds edges to structures, or takes them from an earlier run.

    Args:
        structures: Structures without edges, with or without labels.
        model_or_spec: The model that will read the graphs, or its `neighbors.GraphSpec`.
        cache_dir: Folder of stores, which several processes may share; see `GraphStore`. A store
            is named after everything the graphs depend on: cutoff, structures, labels and the code
            that finds neighbors. `None` keeps all graphs in memory.

    Returns:
        A list of graphs in the order of the structures, or a `GraphStore` of them.

    Example:
        ```python
        graphs = with_edges(datasets.load("ch2", split="train"), model, cache_dir="cache")
        model.fit(packing.GraphLoader(graphs, 32, shuffle=True))
        ```
    """
    spec = GraphSpec.of(model_or_spec)
    if cache_dir is None:
        return [spec.add_edges(structure) for structure in structures]
    return store.make(
        cache_dir,
        ("structures", store.contents(structures), *store.names_of(spec)),
        lambda: (spec.add_edges(structure) for structure in structures),
    )
