"""Stores of graphs: folders that are written as a stream and read by memory map.

A batch is packed from the arrays of a store without making its graphs one by one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from keras_mlff import graph as graph_module
from keras_mlff import neighbors, quantities, saving
from keras_mlff.graph import (
    INPUT_LEVELS,
    LEVELS,
    MASKS,
    POINTS_AT,
    Array,
    Graph,
    count,
    level,
    with_periodic_keys,
)
from keras_mlff.graph.keys import COUNTED_BY
from keras_mlff.neighbors import GraphSpec
from keras_mlff.packing.budget import Budget
from keras_mlff.pipeline.columns import Column
from keras_mlff.pipeline.seals import check_seal, seal

_VERSION = 2  # of the folder's layout; the first had no checksums
_ABOUT = "about.json"
# what follows from the rest
_DERIVED = frozenset(
    {"graph_ids", "atom_mask", "edge_mask", "graph_mask", "triplet_mask", "long_edge_mask"}
    | {"atom_table"}
)
_SHIFTS = ("cell_shifts", "long_cell_shifts")
_STORED_AS = dict.fromkeys(_SHIFTS, np.dtype(np.int32))  # whole numbers


class GraphStore(Sequence[Graph]):
    """Graphs with edges in the files of a folder; memory holds their sizes alone.

    An array of each key holds the rows of all graphs one after the other. The operating system
    keeps in memory what fits and is used. A label that only some of the graphs have is NaN in the
    others.

    Args:
        folder: A folder that `make` has written.
        verify: Whether every file is read and compared with its checksum, about 1 GB in a second,
            which the first epoch then need not read from the disk. Defaults to True.

    Raises:
        ValueError: If the folder is not complete, or a file in it is damaged.
        PermissionError: If this user may not read it.
    """

    def __init__(self, folder: str | Path, verify: bool = True) -> None:
        self.folder = Path(folder)
        try:
            about = json.loads((self.folder / _ABOUT).read_text(encoding="utf-8"))
            if about["version"] not in (1, _VERSION):
                raise ValueError(f"layout {about['version']}")
            if verify and about["version"] > 1:
                check_seal(self.folder)
            for name, size in about["bytes"].items():
                if (self.folder / name).stat().st_size != size:
                    raise ValueError(f"{name} is cut off")
            for quantity in about.get("quantities", ()):  # another process may have registered it
                quantities.declare(quantities.Quantity(**quantity))
            sizes = np.load(self.folder / "sizes.npy")
            # stores that were written before graphs could have far pairs
            self.sizes: Array = np.pad(sizes, ((0, 0), (0, len(LEVELS) - sizes.shape[1])))
            self._arrays: dict[str, Array] = {
                key: np.asarray(np.load(self.folder / f"{key}.npy", mmap_mode="r"))
                for key in about["keys"]
            }
        except PermissionError as error:  # nothing is wrong with the graphs
            raise PermissionError(
                f"The graphs in '{folder}' belong to another user and cannot be read ({error}). "
                f"Ask for `chmod -R a+rX '{folder}'`, or choose another cache_dir."
            ) from error
        except Exception as error:  # readers of damaged files raise whatever they stumble over
            raise ValueError(
                f"'{folder}' holds no graphs, or only a part of them ({error}). Remove it."
            ) from error
        self._starts = {
            what: np.concatenate([[0], np.cumsum(self.sizes[:, column], dtype=np.int64)])
            for column, what in enumerate(LEVELS)
        }
        self._periodic = "cell" in self._arrays
        self.labels = [key for key in self._arrays if key not in INPUT_LEVELS]

    def __reduce__(self) -> tuple[type[GraphStore], tuple[Path, bool]]:
        return GraphStore, (self.folder, False)  # a copy would hold all the arrays

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Graph: ...
    @overload
    def __getitem__(self, index: slice) -> list[Graph]: ...
    def __getitem__(self, index: int | slice) -> Graph | list[Graph]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are {len(self)} graphs. Received: index={index}.")
        index %= len(self)
        _, num_atoms, num_edges, num_triplets, num_long_edges = self.sizes[index].tolist()
        graph: dict[str, Array] = {
            "graph_ids": np.zeros(num_atoms, np.int32),
            "atom_mask": np.ones(num_atoms, np.bool_),
            "edge_mask": np.ones(num_edges, np.bool_),
            "graph_mask": np.ones(1, np.bool_),
            "atom_table": np.arange(num_atoms, dtype=np.int32)[None],
        }
        if "triplet_in" in self._arrays:
            graph["triplet_mask"] = np.ones(num_triplets, np.bool_)
        if "long_senders" in self._arrays:
            graph["long_edge_mask"] = np.ones(num_long_edges, np.bool_)
        for key, array in self._arrays.items():
            starts = self._starts[level(key)]
            graph[key] = array[starts[index] : starts[index + 1]]
        if self._periodic:
            if graph["pbc"].any():
                for key in graph.keys() & _SHIFTS:
                    graph[key] = graph[key].astype(graph["positions"].dtype)
            else:  # a molecule among crystals
                for key in graph_module.PERIODIC_KEYS:
                    graph.pop(key, None)
        return graph

    @property
    def bytes_per_graph(self) -> float:
        """The mean size of a graph on disk, in bytes."""
        return sum(array.nbytes for array in self._arrays.values()) / len(self)

    def pack(self, indices: Sequence[int] | Array, budget: Budget) -> Graph:
        """Joins graphs and pads them to the budget; gives what `packing.pack` gives.

        Args:
            indices: Numbers of the graphs, in the order in which they stand in the batch.
            budget: The sizes that the batch is padded to.

        Raises:
            ValueError: If they do not fit.
        """
        chosen = np.asarray(indices, np.int64)
        table = self.sizes[chosen]
        totals = table.sum(axis=0)
        if np.any(totals > budget.room) or table[:, 1].max() > budget.max_atoms:
            raise ValueError(
                f"The graphs do not fit. Received: (graphs, atoms, edges, triplets, far pairs) = "
                f"{totals.tolist()}, largest {table[:, 1].max()} atoms; the budget is {budget}."
            )
        room = dict(zip(LEVELS, budget.room.tolist(), strict=True))
        ends = np.cumsum(table, axis=0)
        firsts = ends - table  # of each graph in the batch, (num_chosen, 5)
        rows, numbers = {}, {}
        for column, what in enumerate(LEVELS):
            numbers[what] = np.repeat(np.arange(len(chosen)), table[:, column])
            # the place in the store minus the place in the batch is the same for a whole graph
            shifts = self._starts[what][chosen] - firsts[:, column]
            rows[what] = np.arange(totals[column]) + shifts[numbers[what]]
        packed: dict[str, Array] = {}
        for key, array in self._arrays.items():
            what = level(key)
            dtype = self._arrays["positions"].dtype if key in _SHIFTS else array.dtype
            padded = np.zeros((room[what], *array.shape[1:]), dtype)
            taken = padded[: len(rows[what])]
            taken[...] = array[rows[what]]
            packed[key] = padded
            if key in POINTS_AT:
                column = LEVELS.index(POINTS_AT[key])
                taken += firsts[numbers[what], column].astype(np.int32)
                padded[len(taken) :] = room[POINTS_AT[key]] - 1
            elif key == "spin_multiplicity":
                padded[len(taken) :] = 1
        packed["graph_ids"] = np.full(budget.num_atoms, budget.num_graphs - 1, np.int32)
        packed["graph_ids"][: len(numbers["atom"])] = numbers["atom"]
        for what in LEVELS:
            if COUNTED_BY[what] not in (*self._arrays, "graph_mask"):
                continue
            packed[MASKS[what]] = np.arange(room[what]) < len(rows[what])
        places = np.arange(budget.max_atoms, dtype=np.int32)
        packed["atom_table"] = np.full((budget.num_graphs, budget.max_atoms), -1, np.int32)
        packed["atom_table"][: len(chosen)] = np.where(
            places < table[:, 1:2], places + firsts[:, 1:2], -1
        )
        return packed


class Subset(Sequence[Graph]):
    """Some graphs of a store, in an order of their own, such as those of a split.

    Args:
        store: The store, of which nothing is copied.
        indices: Numbers of its graphs.
    """

    def __init__(self, store: GraphStore, indices: Sequence[int] | Array) -> None:
        self.store, self.indices = store, np.asarray(indices, np.int64)
        self.sizes: Array = store.sizes[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Graph: ...
    @overload
    def __getitem__(self, index: slice) -> list[Graph]: ...
    def __getitem__(self, index: int | slice) -> Graph | list[Graph]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        return self.store[int(self.indices[index])]

    def pack(self, indices: Sequence[int] | Array, budget: Budget) -> Graph:
        """Joins graphs and pads them to the budget."""
        return self.store.pack(self.indices[np.asarray(indices, np.int64)], budget)


def make(
    cache_dir: str | Path, key: Sequence[Any], graphs: Callable[[], Iterable[Graph]]
) -> GraphStore:
    """Opens the store of a key, or writes it; several processes and users may do so at a time.

    Args:
        cache_dir: Folder of stores.
        key: Everything that the graphs depend on, beside the code: strings, numbers, bytes.
        graphs: Gives the graphs with edges one by one, if they are needed.

    Raises:
        ValueError: If the graphs have different keys, or there is none.
        PermissionError: If another user's store cannot be read, or is damaged and cannot be moved.
    """
    folder = Path(cache_dir) / f"graphs-{_digest(key)}"
    with contextlib.suppress(ValueError):
        return GraphStore(folder)
    with saving.unfinished_folder(folder) as unfinished:
        (unfinished / "graphs").mkdir()
        _write(unfinished / "graphs", graphs())
        if not _put(unfinished / "graphs", folder):
            _move_away(folder, unfinished / "damaged")
            _put(unfinished / "graphs", folder)
        return GraphStore(folder, verify=False)


def names_of(spec: GraphSpec) -> tuple[float, bool, float | None]:
    """Lists what a store's name says of the edges in it."""
    return float(spec.cutoff), spec.triplets, spec.long_range_cutoff


def _put(finished: Path, folder: Path) -> bool:
    """Gives a store its name, unless another process was faster; False where a damaged one is."""
    try:
        os.rename(finished, folder)  # at once: nobody ever reads half of it
    except OSError:
        if not folder.exists():
            raise
        try:
            GraphStore(folder)
        except ValueError:
            return False
    return True


def _move_away(folder: Path, target: Path) -> None:
    """Makes room for a store, since a folder cannot be replaced."""
    try:
        os.rename(folder, target)
    except FileNotFoundError:  # another process was faster
        return
    except OSError as error:
        raise PermissionError(
            f"The graphs in '{folder}' are damaged, and this user cannot move them away ({error}). "
            "Ask their owner to remove the folder, or choose another cache_dir."
        ) from error


def _digest(key: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    code = [*sorted(Path(str(graph_module.__file__)).parent.glob("*.py")), neighbors.__file__]
    for path in code:
        digest.update(Path(str(path)).read_bytes())
    for part in (_VERSION, *key):
        data = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def _write(folder: Path, graphs: Iterable[Graph]) -> None:
    columns: dict[str, Column] = {}
    with contextlib.ExitStack() as stack:

        def add_column(key: str, sample: Array) -> Column:
            columns[key] = Column(folder / f"{key}.npy", sample, _STORED_AS.get(key))
            stack.callback(columns[key].close)
            return columns[key]

        sizes = add_column("sizes", np.zeros((0, len(LEVELS)), np.int64))
        totals = np.zeros(len(LEVELS), np.int64)
        for index, graph in enumerate(graphs):
            kept = {key: value for key, value in graph.items() if key not in _DERIVED}
            if count(graph, "structure") != 1 or not np.all(graph["atom_mask"]):
                raise ValueError(f"Graph {index} is not a single graph without padding.")
            if index == 0:
                for key, value in kept.items():
                    add_column(key, value)
            if "cell" in kept and "cell" not in columns:  # the first crystal among molecules
                for key in sorted(kept.keys() & graph_module.PERIODIC_KEYS):
                    what = LEVELS.index(level(key))
                    add_column(key, kept[key]).append_filling(0.0, int(totals[what]))
            if "cell" in columns and "cell" not in kept:
                extended = with_periodic_keys(graph)
                kept |= {key: extended[key] for key in extended.keys() & graph_module.PERIODIC_KEYS}
            for key in kept.keys() - columns.keys() - INPUT_LEVELS.keys():  # of the ones before
                what = LEVELS.index(level(key))
                add_column(key, kept[key]).append_filling(np.nan, int(totals[what]))
            lacking = columns.keys() - kept.keys() - {"sizes"}
            unlike = sorted((kept.keys() - columns.keys()) | (lacking & INPUT_LEVELS.keys()))
            if unlike:
                raise ValueError(
                    "Graphs that are stored together must have the same inputs. Received: graph 0 "
                    f"and graph {index} differ in {unlike}."
                )
            size = np.asarray([[count(graph, what) for what in LEVELS]], np.int64)
            totals += size[0]
            sizes.append(size)
            for key, value in kept.items():
                columns[key].append(value)
            for key in lacking:
                columns[key].append_filling(np.nan, count(graph, level(key)))
        if sizes.num_rows == 0:
            raise ValueError("There are no graphs to store. Received: nothing.")
    names = [f"{key}.npy" for key in columns]
    about = {
        "version": _VERSION,
        "keys": [key for key in columns if key != "sizes"],
        "quantities": [
            quantities.to_config(quantities.get(key))
            for key in columns
            if quantities.find(key) is not None and not quantities.is_built_in(key)
        ],
        "bytes": {name: (folder / name).stat().st_size for name in names},
    }
    saving.write_json(folder / _ABOUT, about)
    seal(folder)


def contents(structures: Iterable[Graph]) -> bytes:
    """Digests structures, as part of a key: all inputs and labels, their types and shapes.

    Args:
        structures: Structures without edges, which follow from them.

    Returns:
        32 bytes.
    """
    digest = hashlib.sha256()
    for structure in structures:
        for key, value in sorted(structure.items()):
            if key not in _DERIVED:
                digest.update(f"{key}{value.dtype}{value.shape}".encode())
                digest.update(np.ascontiguousarray(value).tobytes())
    return digest.digest()
