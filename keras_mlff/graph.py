"""The graph: a plain dict of arrays that every part of the package speaks.

A graph holds the atoms and edges of one or several structures; without edges it is a *structure*.
Labels (`energy`, `forces`, ... or any registered quantity by its own name) are in the same dict.
Padding comes after the real entries and is marked by the masks; it changes no result.

| key | shape and type | meaning |
|---|---|---|
| `positions` | `(num_atoms, 3)` float | Å |
| `atomic_numbers` | `(num_atoms,)` int32 | 0 = padding |
| `graph_ids` | `(num_atoms,)` int32 | the graph of each atom |
| `atom_mask` | `(num_atoms,)` bool | True = real |
| `senders` | `(num_edges,)` int32 | neighbor j |
| `receivers` | `(num_edges,)` int32 | center i, ascending |
| `edge_mask` | `(num_edges,)` bool | True = real |
| `cell_shifts` | `(num_edges, 3)` float | whole numbers; only periodic graphs |
| `cell` | `(num_graphs, 3, 3)` float | Å, lattice vectors in rows; only periodic graphs |
| `pbc` | `(num_graphs, 3)` bool | only periodic graphs |
| `total_charge` | `(num_graphs,)` float | e |
| `spin_multiplicity` | `(num_graphs,)` int32 | 2S+1, 1 = singlet |
| `graph_mask` | `(num_graphs,)` bool | True = real |
| `atom_table` | `(num_graphs, max_atoms)` int32 | the atoms of each graph, -1 = none |
| `triplet_in` | `(num_triplets,)` int32 | edge k -> j; only on request |
| `triplet_out` | `(num_triplets,)` int32 | edge j -> i; only on request |
| `triplet_mask` | `(num_triplets,)` bool | only on request |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_mlff.quantities import Level

Array = npt.NDArray[Any]
Tensor = Any  # an array of whichever backend
MAX_ATOMIC_NUMBER = 118


# Atoms and edges of one or several structures, and labels or predictions beside them, by name.
# `INPUT_LEVELS` lists the keys that a model reads; `keras_mlff.quantities` says what labels mean.
Graph = dict[str, Any]

INPUT_LEVELS: dict[str, Level] = {
    "positions": "atom",
    "atomic_numbers": "atom",
    "graph_ids": "atom",
    "atom_mask": "atom",
    "senders": "edge",
    "receivers": "edge",
    "edge_mask": "edge",
    "cell_shifts": "edge",
    "cell": "structure",
    "pbc": "structure",
    "total_charge": "structure",
    "spin_multiplicity": "structure",
    "graph_mask": "structure",
    "atom_table": "structure",
    "triplet_in": "triplet",
    "triplet_out": "triplet",
    "triplet_mask": "triplet",
}
ATOM_LABELS = frozenset({"forces", "partial_charges", "atomic_energies"})
# what an index key counts: joining adds the number of these that came before
_POINTS_AT: dict[str, Level] = {
    "graph_ids": "structure",
    "senders": "atom",
    "receivers": "atom",
    "atom_table": "atom",
    "triplet_in": "edge",
    "triplet_out": "edge",
}
_COUNTED_BY: dict[Level, str] = {
    "atom": "atomic_numbers",
    "edge": "senders",
    "structure": "graph_mask",
    "triplet": "triplet_in",
}
PERIODIC_KEYS = ("cell", "pbc", "cell_shifts")


def level(key: str) -> Level:
    """Tells what the first axis of a key counts; unknown labels belong to the whole graph."""
    return INPUT_LEVELS.get(key, "atom" if key in ATOM_LABELS else "structure")


def count(graph: Mapping[str, Any], what: Level) -> int:
    """Counts the atoms, edges, graphs or triplets of a graph, padding included."""
    key = _COUNTED_BY[what]
    return len(graph[key]) if key in graph else 0


def inputs_and_labels(graph: Mapping[str, Any]) -> tuple[Graph, dict[str, Array]]:
    """Parts a graph into what a model reads and what it is compared with."""
    inputs = {key: value for key, value in graph.items() if key in INPUT_LEVELS}
    labels = {key: value for key, value in graph.items() if key not in INPUT_LEVELS}
    return inputs, labels


def structure(
    positions: npt.ArrayLike,
    atomic_numbers: npt.ArrayLike,
    cell: npt.ArrayLike | None = None,
    pbc: npt.ArrayLike | None = None,
    total_charge: float = 0.0,
    spin_multiplicity: int = 1,
    **labels: npt.ArrayLike,
) -> Graph:
    """Checks and casts one structure, the graph that has no edges yet.

    Args:
        positions: `(num_atoms, 3)`, Å.
        atomic_numbers: `(num_atoms,)`, 1..118.
        cell: `(3, 3)`, Å, lattice vectors in rows; `None` for a molecule.
        pbc: One or three bools; all True where only `cell` is given.
        total_charge: e.
        spin_multiplicity: 2S+1, at least 1.
        **labels: Known values by name: `energy` in eV, `forces` `(num_atoms, 3)` in eV/Å,
            `stress` `(3, 3)` in eV/Å³, `dipole` `(3,)` in e·Å, any other property per structure.

    Raises:
        ValueError: If a shape, an element or a value (NaN, infinite) is not usable.

    Example:
        >>> water = structure([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]], [8, 1, 1])
        >>> water["atomic_numbers"]
        array([8, 1, 1], dtype=int32)
    """
    numbers = np.asarray(atomic_numbers)
    coordinates = np.array(positions, np.float64)  # a copy: ASE changes its arrays in place
    if numbers.ndim != 1 or len(numbers) == 0 or coordinates.shape != (len(numbers), 3):
        raise ValueError(
            "A structure needs atomic_numbers (num_atoms,) and positions (num_atoms, 3) with at "
            f"least one atom. Received: atomic_numbers.shape={numbers.shape}, "
            f"positions.shape={coordinates.shape}."
        )
    if not np.issubdtype(numbers.dtype, np.integer) or np.any(
        (numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)
    ):
        raise ValueError(
            "Atomic numbers must be integers from 1 to 118 (0 is padding). "
            f"Received: atomic_numbers={np.unique(numbers).tolist()}."
        )
    if np.ndim(total_charge) or np.ndim(spin_multiplicity):
        raise ValueError(
            "Total charge and spin multiplicity are one number each. "
            f"Received: total_charge={total_charge!r}, spin_multiplicity={spin_multiplicity!r}."
        )
    if spin_multiplicity != int(spin_multiplicity) or spin_multiplicity < 1:
        raise ValueError(
            "The spin multiplicity is 2S+1, an integer of at least 1 (1 = singlet). "
            f"Received: spin_multiplicity={spin_multiplicity}."
        )
    num_atoms = len(numbers)
    graph: dict[str, Array] = {
        "positions": coordinates,
        "atomic_numbers": numbers.astype(np.int32),
        "graph_ids": np.zeros(num_atoms, np.int32),
        "atom_mask": np.ones(num_atoms, np.bool_),
        "total_charge": np.asarray([total_charge], np.float64),
        "spin_multiplicity": np.asarray([spin_multiplicity], np.int32),
        "graph_mask": np.ones(1, np.bool_),
        "atom_table": np.arange(num_atoms, dtype=np.int32)[None],
    }
    periodic = np.any(np.asarray(pbc)) if pbc is not None else cell is not None
    if periodic:
        if cell is None:
            raise ValueError(
                f"A periodic structure needs a cell. Received: pbc={pbc!r}, cell=None."
            )
        lattice = np.array(cell, np.float64)
        if lattice.shape == (3,):
            lattice = np.diag(lattice)
        if lattice.shape != (3, 3):
            raise ValueError(
                "The cell holds the lattice vectors in rows, (3, 3), or three box lengths, (3,). "
                f"Received: cell.shape={lattice.shape}."
            )
        directions = np.ones(3, np.bool_) if pbc is None else np.asarray(pbc, np.bool_)
        graph["cell"] = lattice[None]
        graph["pbc"] = np.broadcast_to(directions, (3,)).copy()[None]
    for key, value in labels.items():
        label = np.array(value, np.float64)
        if level(key) == "structure":
            label = label[None] if label.shape[:1] != (1,) or key == "stress" else label
        elif label.shape[:1] != (num_atoms,):
            raise ValueError(
                f"The label '{key}' belongs to atoms, so its first axis must count them. "
                f"Received: {key}.shape={label.shape} for {num_atoms} atoms."
            )
        graph[key] = label
    for key, shape in (("forces", (3,)), ("stress", (3, 3)), ("energy", ())):
        if key in graph and graph[key].shape[1:] != shape:
            expected = (num_atoms, *shape) if key == "forces" else shape
            raise ValueError(
                f"The label '{key}' of a structure of {num_atoms} atoms has the shape {expected}. "
                f"Received: {np.shape(labels[key])}."
            )
    for key, value in graph.items():
        if np.issubdtype(value.dtype, np.floating) and not np.all(np.isfinite(value)):
            raise ValueError(
                f"'{key}' holds NaN or infinite values, first at index "
                f"{np.argwhere(~np.isfinite(value))[0].tolist()}. Remove the structure or mend it."
            )
    return graph


def join(graphs: Sequence[Graph]) -> Graph:
    """Joins graphs into one: atoms and edges one after the other, indices shifted.

    Molecules and crystals may stand together: a molecule's cell is zero and not periodic.

    Raises:
        ValueError: If there is no graph or if a label or the edges are missing in some of them.
    """
    if len(graphs) == 0:
        raise ValueError("There is nothing to join: received an empty list of graphs.")
    periodic = any("cell" in graph for graph in graphs)
    if periodic:
        graphs = [with_periodic_keys(graph) for graph in graphs]
    keys = list(graphs[0])
    for index, graph in enumerate(graphs):
        if graph.keys() != graphs[0].keys():
            difference = sorted(set(graph) ^ set(keys))
            raise ValueError(
                "Graphs that are joined must have the same keys. Received: graph 0 and graph "
                f"{index} differ in {difference}. Give the missing labels (or drop them from all) "
                "and build the edges of all graphs."
            )
    counts = {
        what: np.cumsum([0] + [count(graph, what) for graph in graphs])
        for what in ("atom", "edge", "structure")
    }
    joined: dict[str, Array] = {}
    for key in keys:
        parts = [graph[key] for graph in graphs]
        if key == "atom_table":
            joined[key] = _join_tables(parts, counts["atom"])
        elif key in _POINTS_AT:
            offsets = counts[_POINTS_AT[key]][:-1]
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


def with_periodic_keys(graph: Graph) -> Graph:
    """Gives a molecule the keys of a crystal: a cell of zeros that is not periodic."""
    if "cell" in graph:
        return graph
    num_graphs = count(graph, "structure")
    extended = dict(graph)
    extended["cell"] = np.zeros((num_graphs, 3, 3))
    extended["pbc"] = np.zeros((num_graphs, 3), np.bool_)
    if "senders" in graph:
        extended["cell_shifts"] = np.zeros((len(graph["senders"]), 3))
    return extended


def split(graph: Mapping[str, Any]) -> list[Graph]:
    """Parts a joined graph into its real graphs; padding is dropped.

    Predictions under further keys (atoms or graphs along the first axis) are parted too.
    """
    levels: dict[str, Array] = {"atom": np.asarray(graph["graph_ids"])}
    masks: dict[str, Array] = {"atom": np.asarray(graph["atom_mask"])}
    if "senders" in graph:
        levels["edge"] = levels["atom"][np.asarray(graph["receivers"])]
        masks["edge"] = np.asarray(graph["edge_mask"])
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
        for key, target in _POINTS_AT.items():
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
) -> Graph:
    """Fills a graph up to fixed sizes, so that compiled code meets few shapes.

    Padding atoms have atomic number 0, belong to the last graph and are masked; padding edges
    point from the last atom to itself, so that receivers stay sorted.

    Raises:
        ValueError: If the graph is larger than a size; nothing is ever cut off.
    """
    sizes: dict[Level, int] = {
        "structure": num_graphs,
        "atom": num_atoms,
        "edge": num_edges,
        "triplet": num_triplets,
    }
    for what, size in sizes.items():
        if count(graph, what) > size:
            raise ValueError(
                f"The graph does not fit: it has {count(graph, what)} {what}s, the budget has "
                f"{size}. Choose a larger budget (packing.choose_budget) or smaller batches."
            )
    fills: dict[str, float] = {
        "graph_ids": num_graphs - 1,
        "senders": num_atoms - 1,
        "receivers": num_atoms - 1,
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


def dummy_graph(periodic: bool = False, triplets: bool = False) -> Graph:
    """Makes a small graph of every key a model may read; weights are created from it."""
    graph = structure(
        positions=[[0.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 1.0, 0.2]],
        atomic_numbers=[8, 1, 1],
        cell=np.eye(3) * 20.0 if periodic else None,
    )
    graph["receivers"] = np.asarray([0, 0, 1, 1, 2, 2], np.int32)
    graph["senders"] = np.asarray([1, 2, 0, 2, 0, 1], np.int32)
    graph["edge_mask"] = np.ones(6, np.bool_)
    if periodic:
        graph["cell_shifts"] = np.zeros((6, 3))
    if triplets:
        graph["triplet_in"] = np.asarray([3, 5, 1, 4, 0, 2], np.int32)
        graph["triplet_out"] = np.asarray([0, 1, 2, 3, 4, 5], np.int32)
        graph["triplet_mask"] = np.ones(6, np.bool_)
    return graph


def elements(graphs: Iterable[Graph]) -> list[int]:
    """Lists the atomic numbers that occur, ascending, padding left out."""
    found: set[int] = set()
    for graph in graphs:
        found.update(np.unique(graph["atomic_numbers"]).tolist())
    return sorted(found - {0})
