"""Several graphs in one: joined, padded to fixed sizes, and split again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mlff.graph.keys import INPUT_LEVELS, POINTS_AT, Array, Graph, count, level
from keras_mlff.quantities import Level


def join(graphs: Sequence[Graph]) -> Graph:
    """Joins graphs into one: atoms and edges one after the other, indices shifted.

    Molecules and crystals may be joined: a molecule's cell is zero and not periodic. A label that
    some of the graphs lack is NaN there.

    Raises:
        ValueError: If there is no graph, or if something that a model reads, such as the edges, is
            missing in some of them.
    """
    if len(graphs) == 0:
        raise ValueError("There is nothing to join: received an empty list of graphs.")
    periodic = any("cell" in graph for graph in graphs)
    if periodic:
        graphs = [with_periodic_keys(graph) for graph in graphs]
    if any(graph.keys() != graphs[0].keys() for graph in graphs):
        graphs = with_equal_labels(graphs)
    keys = list(graphs[0])
    counts = {
        what: np.cumsum([0] + [count(graph, what) for graph in graphs])
        for what in ("atom", "edge", "structure")
    }
    joined: dict[str, Array] = {}
    for key in keys:
        parts = [graph[key] for graph in graphs]
        if key == "atom_table":
            joined[key] = _join_tables(parts, counts["atom"])
        elif key in POINTS_AT:
            offsets = counts[POINTS_AT[key]][:-1]
            shifts = np.repeat(offsets, [len(part) for part in parts])
            joined[key] = (np.concatenate(parts) + shifts).astype(np.int32)
        else:
            joined[key] = np.concatenate(parts).astype(parts[0].dtype, copy=False)
    return joined


def _join_tables(tables: Sequence[Array], offsets: Array) -> Array:
    width = max(table.shape[1] for table in tables)
    joined = np.full((sum(len(table) for table in tables), width), -1, np.int32)
    row = 0
    for table, offset in zip(tables, offsets, strict=False):
        places = joined[row : row + len(table), : table.shape[1]]
        np.add(table, offset, out=places, where=table >= 0, casting="same_kind")
        row += len(table)
    return joined


def with_equal_labels(graphs: Sequence[Graph]) -> list[Graph]:
    """Gives all graphs the same labels: NaN where a label is missing.

    Raises:
        ValueError: If graphs differ in what a model reads, which cannot be filled in.
    """
    labels: dict[str, Array] = {}  # the first of each
    inputs = {key for key in graphs[0] if key in INPUT_LEVELS}
    for index, graph in enumerate(graphs):
        difference = sorted({key for key in graph if key in INPUT_LEVELS} ^ inputs)
        if difference:
            raise ValueError(
                "Graphs that are joined must have the same inputs. Received: graph 0 and graph "
                f"{index} differ in {difference}. Build the edges of all graphs."
            )
        for key in graph.keys() - inputs:
            labels.setdefault(key, np.asarray(graph[key]))
    order = [key for key in graphs[0] if key in labels]
    order += sorted(labels.keys() - set(order))
    filled = []
    for graph in graphs:
        complete = {key: value for key, value in graph.items() if key in INPUT_LEVELS}
        for key in order:
            found = np.asarray(graph[key]) if key in graph else missing(key, graph, labels[key])
            # whole numbers know no NaN
            complete[key] = found if found.dtype.kind == "f" else found.astype(np.float64)
        filled.append(complete)
    return filled


def missing(key: str, graph: Mapping[str, Any], like: Array) -> Array:
    """Makes the rows of a label that a graph does not have: NaN, of the shape of another graph's.

    Args:
        key: Name of the label, whose level says how many rows there are.
        graph: The graph that lacks it.
        like: The label of another graph, `(count, ...)`.
    """
    dtype = like.dtype if like.dtype.kind == "f" else np.dtype(np.float64)
    return np.full((count(graph, level(key)), *like.shape[1:]), np.nan, dtype)


def with_periodic_keys(graph: Graph) -> Graph:
    """Gives a molecule the keys of a crystal: a cell of zeros that is not periodic.

    Args:
        graph: Molecules, or a graph that has a cell already and is returned as it is.

    Returns:
        A graph with `cell`, `pbc` and, where there are edges, `cell_shifts`.
    """
    if "cell" in graph:
        return graph
    num_graphs = count(graph, "structure")
    extended = dict(graph)
    extended["cell"] = np.zeros((num_graphs, 3, 3))
    extended["pbc"] = np.zeros((num_graphs, 3), np.bool_)
    if "senders" in graph:
        extended["cell_shifts"] = np.zeros((len(graph["senders"]), 3))
    if "long_senders" in graph:
        extended["long_cell_shifts"] = np.zeros((len(graph["long_senders"]), 3))
    return extended


def split(graph: Mapping[str, Any]) -> list[Graph]:
    """Splits a joined graph into its real graphs; padding is dropped.

    Labels and predictions of registered quantities, whose first axis counts structures, atoms or
    edges, are split too.

    Args:
        graph: One or several structures, with or without edges and padding.

    Returns:
        A graph of each real structure, in their order.

    Raises:
        ValueError: If a key is neither an input nor a registered quantity.
    """
    levels: dict[str, Array] = {"atom": np.asarray(graph["graph_ids"])}
    masks: dict[str, Array] = {"atom": np.asarray(graph["atom_mask"])}
    if "senders" in graph:
        levels["edge"] = levels["atom"][np.asarray(graph["receivers"])]
        masks["edge"] = np.asarray(graph["edge_mask"])
    if "long_senders" in graph:
        levels["long_edge"] = levels["atom"][np.asarray(graph["long_receivers"])]
        masks["long_edge"] = np.asarray(graph["long_edge_mask"])
    if "triplet_out" in graph:
        levels["triplet"] = levels["edge"][np.asarray(graph["triplet_out"])]
        masks["triplet"] = np.asarray(graph["triplet_mask"])
    parts: list[Graph] = []
    for index in np.flatnonzero(graph["graph_mask"]):
        rows: dict[str, Array] = {
            what: np.flatnonzero((ids == index) & masks[what]) for what, ids in levels.items()
        }
        rows["structure"] = np.asarray([index])
        part = {key: np.asarray(value)[rows[level(key)]] for key, value in graph.items()}
        for key, target in POINTS_AT.items():
            if key in part and key != "atom_table":
                part[key] = (part[key] - rows[target][:1]).astype(np.int32)
        part["atom_table"] = np.arange(len(rows["atom"]), dtype=np.int32)[None]
        parts.append(part)
    return parts


def pad(
    graph: Graph,
    num_graphs: int,
    num_atoms: int,
    num_edges: int,
    num_triplets: int = 0,
    max_atoms: int | None = None,
    num_long_edges: int = 0,
) -> Graph:
    """Fills a graph up to fixed sizes, so that compiled code meets few shapes.

    Padding atoms have atomic number 0, belong to the last graph and are masked; padding edges
    point from the last atom to itself, so that receivers stay sorted. Labels are padded with zeros.

    Args:
        graph: One or several joined graphs.
        num_graphs: Structures of the padded graph.
        num_atoms: Its atoms.
        num_edges: Its edges.
        num_triplets: Its pairs of edges, where the graph has them. Defaults to 0.
        max_atoms: Width of the atom table, the largest structure's number of atoms. The table keeps
            its width where `None`.
        num_long_edges: Its far pairs, where the graph has them. Defaults to 0.

    Raises:
        ValueError: If the graph is larger than a size; nothing is ever cut off.
    """
    sizes: dict[Level, int] = {
        "structure": num_graphs,
        "atom": num_atoms,
        "edge": num_edges,
        "triplet": num_triplets,
        "long_edge": num_long_edges,
    }
    for what, size in sizes.items():
        if count(graph, what) > size:
            raise ValueError(
                f"The graph does not fit: it has {count(graph, what)} {what}s, the budget has "
                f"{size}. Choose a larger budget (packing.choose_budget) or smaller batches."
            )
    fills: dict[str, float] = {
        "graph_ids": num_graphs - 1,
        **{key: num_atoms - 1 for key, what in POINTS_AT.items() if what == "atom"},
        "spin_multiplicity": 1,
        "atom_table": -1,
        "triplet_in": num_edges - 1,
        "triplet_out": num_edges - 1,
    }
    padded: dict[str, Array] = {}
    for key, value in graph.items():
        array = np.asarray(value)
        shape = [sizes[level(key)], *array.shape[1:]]
        if key == "atom_table" and max_atoms is not None:
            if array.shape[1] > max_atoms:
                raise ValueError(
                    f"A graph has {array.shape[1]} atoms, the budget's largest has {max_atoms}."
                )
            shape[1] = max_atoms
        # not np.pad, which takes longer than all the rest of packing a batch
        padded[key] = np.full(shape, fills.get(key, 0), array.dtype)
        padded[key][tuple(slice(size) for size in array.shape)] = array
    return padded
