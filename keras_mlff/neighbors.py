"""Edges of graphs: neighbors with and without periodic images, and pairs of edges.

`add_edges` is what most programs need, and `GraphSpec` says which edges a model reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from keras_mlff.graph import Array, Graph, check_search, count
from keras_mlff.graph.cells import complete_cell
from keras_mlff.graph.far_pairs import with_long_edges

# Candidate pairs (atoms times atoms and images), from which vesin is faster where it is installed
# (it imports torch for a second), and above which NumPy needs too much memory
_VESIN_FROM = 40_000
_NUMPY_UP_TO = 10_000_000
_COINCIDENT = 1e-6  # Å: rounding of a lattice translation stays below, every bond above
_MOST_TRIPLETS = 50_000_000


class NeighborList(NamedTuple):
    """Directed edges, sorted by receiver, then sender, then shift; all int32.

    The vector of an edge points from the receiver to the sender:
    `positions[senders] - positions[receivers] + cell_shifts @ cell`, see `edge_vectors`.
    """

    senders: Array  # (num_edges,)
    receivers: Array  # (num_edges,)
    cell_shifts: Array  # (num_edges, 3), 0 along directions that are not periodic


def neighbor_list(
    positions: npt.ArrayLike,
    cutoff: float,
    cell: npt.ArrayLike | None = None,
    pbc: npt.ArrayLike | None = None,
) -> NeighborList:
    """Finds every ordered pair of atoms no further apart than `cutoff`, across periodic images.

    An atom is also a neighbor of its own images. Cells smaller than the cutoff, skewed cells and
    atoms outside of the cell are fine. Large systems need the package vesin.

    Args:
        positions: `(num_atoms, 3)`, Å.
        cutoff: Å, larger than 0; infinite for all pairs of a molecule. Pairs at exactly this
            distance are among them.
        cell: `(3, 3)`, Å; the rows are the lattice vectors. `None` for a molecule. Rows along
            directions that are not periodic are ignored and may be zero.
        pbc: Three booleans, or one for all directions. By default a given cell is periodic in all.

    Returns:
        `senders`, `receivers` `(num_edges,)` and `cell_shifts` `(num_edges, 3)`, all int32.

    Raises:
        ValueError: If the cutoff is not positive, or infinite in a crystal, the periodic lattice
            vectors are linearly dependent, a number is not finite, two atoms are at the same
            place, or the search would not end, see `graph.check_search`.
        ImportError: If the system is too large to search without vesin, which is not installed.
    """
    positions = np.asarray(positions, "float64")
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"`positions` must be (num_atoms, 3). Received: shape {positions.shape}.")
    if not np.isfinite(positions).all():
        atoms = np.flatnonzero(~np.isfinite(positions).all(axis=1))[:10].tolist()
        raise ValueError(f"`positions` must be finite. Received: NaN or inf at atoms {atoms}.")
    periodic, lattice = complete_cell(cell, pbc)
    if not cutoff > 0.0 or (cutoff == np.inf and periodic.any()):
        raise ValueError(
            "`cutoff` must be a positive length in Å, and finite in a crystal, whose pairs have no "
            f"end. Received: {cutoff}."
        )
    inverse = np.linalg.inv(lattice)
    # Slightly more than asked for: the last cut is made below, in the same way for both searches.
    radius = cutoff * (1 + 1e-6) + 2 * _COINCIDENT
    reach = np.where(periodic, radius * np.linalg.norm(inverse, axis=0), 0.0)  # in lattice vectors
    check_search(positions, cutoff, lattice, periodic)
    num_candidates = len(positions) ** 2 * np.prod(1 + 2 * reach)
    searched = num_candidates > _VESIN_FROM and cutoff < np.inf
    vesin = _import_vesin(num_candidates) if searched else None

    cells_away = np.where(periodic, np.floor(positions @ inverse), 0.0)  # (num_atoms, 3)
    wrapped = positions - cells_away @ lattice
    if vesin is not None:
        found = _search_with_vesin(vesin, wrapped, radius, lattice, periodic)
    elif periodic.any():
        found = _search_images(wrapped, radius, lattice, reach)
    else:
        found = _search_pairs(wrapped, radius)
    senders, receivers, shifts = found
    vectors = _vectors(wrapped, found, lattice if periodic.any() else None)
    if periodic.any():
        moves = cells_away.astype("int32")
        # the same for all edges of a pair of atoms, so the order stays
        shifts = shifts + np.take(moves, receivers, axis=0) - np.take(moves, senders, axis=0)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    if (lengths < _COINCIDENT).any():
        first = np.flatnonzero(lengths < _COINCIDENT)[0]
        raise ValueError(
            "Two atoms are at the same place, so the direction between them is undefined. "
            f"Received: atoms {receivers[first]} and {senders[first]}, the latter moved by "
            f"{shifts[first].tolist()} lattice vectors. Remove one of them."
        )
    inside = lengths <= cutoff
    if inside.all():
        return NeighborList(senders, receivers, shifts)
    return NeighborList(senders[inside], receivers[inside], shifts[inside])


@dataclasses.dataclass(frozen=True)
class GraphSpec:
    """Says which edges a model reads; `model.graph_spec` is that of a model.

    Args:
        cutoff: Distance in Å up to which atoms are neighbors; infinite for all pairs of a molecule.
        triplets: Whether pairs of edges that share an atom are read too. Defaults to False.
        long_range_cutoff: Distance in Å up to which far pairs are read; `None` for none.

    Raises:
        ValueError: If a cutoff is not positive.

    Example:
        >>> from keras_mlff.graph import structure
        >>> water = structure([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]], [8, 1, 1])
        >>> len(GraphSpec(cutoff=1.2).add_edges(water)["senders"])
        4
    """

    cutoff: float
    triplets: bool = False
    long_range_cutoff: float | None = None

    def __post_init__(self) -> None:
        if not self.cutoff > 0.0 or not (self.long_range_cutoff or 1.0) > 0.0:
            raise ValueError(f"A cutoff is a length in Å above 0. Received: {self}.")

    @classmethod
    def of(cls, model_or_spec: Any) -> GraphSpec:
        """Returns the specification of a model, or the one that was given itself.

        Args:
            model_or_spec: A model, which has a `graph_spec`, or a `GraphSpec`.

        Raises:
            TypeError: If it is neither.
        """
        spec = getattr(model_or_spec, "graph_spec", model_or_spec)
        if not isinstance(spec, cls):
            raise TypeError(
                "The edges of a graph are those of a model or of a `GraphSpec`. Received: "
                f"{model_or_spec!r}. Pass the model, or `neighbors.GraphSpec(cutoff=5.0)`."
            )
        return spec

    def add_edges(self, structure: Graph) -> Graph:
        """Returns a copy of a structure with the edges of this specification; see `add_edges`."""
        graph, far = add_edges(structure, self.cutoff, self.triplets), self.long_range_cutoff
        return graph if far is None else with_long_edges(graph, _neighbors_of(structure, far))


def add_edges(graph: Graph, cutoff: float, triplets: bool = False) -> Graph:
    """Returns a copy of a structure with edges between all atoms no further apart than `cutoff`.

    Args:
        graph: A single structure, without padding. Edges it already has are replaced.
        cutoff: Distance in Å, larger than 0; infinite for all pairs of a molecule.
        triplets: Whether to add `triplet_in`, `triplet_out` and `triplet_mask` too, for models
            that use angles. Defaults to False.

    Raises:
        ValueError: If the graph holds several structures or padding; see also `neighbor_list`.
    """
    if count(graph, "structure") != 1 or not graph["atom_mask"].all():
        raise ValueError(
            "Edges are added to one structure at a time, before joining and padding. Received: "
            f"{count(graph, 'structure')} structures, {np.sum(~graph['atom_mask'])} padding atoms."
        )
    return with_edge_list(graph, _neighbors_of(graph, cutoff), triplets)


def _neighbors_of(graph: Graph, cutoff: float) -> NeighborList:
    cell, pbc = (graph["cell"][0], graph["pbc"][0]) if "cell" in graph else (None, None)
    return neighbor_list(graph["positions"], cutoff, cell, pbc)


def with_edge_list(graph: Graph, edges: NeighborList, triplets: bool = False) -> Graph:
    """Returns a copy of a structure with given edges.

    Args:
        graph: A single structure, without padding. Edges it already has are replaced.
        edges: Edges sorted by receiver, such as those of `neighbor_list`.
        triplets: Whether to add pairs of edges that share an atom too. Defaults to False.
    """
    complete = {key: value for key, value in graph.items() if not key.startswith("triplet_")}
    complete["senders"], complete["receivers"] = edges.senders, edges.receivers
    complete["edge_mask"] = np.ones(len(edges.senders), "bool")
    if "cell" in graph:
        complete["cell_shifts"] = edges.cell_shifts.astype(graph["positions"].dtype)
    if triplets:
        complete |= _triplet_keys(edges)
    return complete


def edge_vectors(graph: Mapping[str, Any], edges: NeighborList | None = None) -> Array:
    """Computes the vector of each edge in NumPy; `ops.geometry.edge_vectors` is for networks.

    Args:
        graph: A structure, or, with edges of its own, a graph of one structure.
        edges: The edges; those of the graph where `None`.

    Returns:
        `(num_edges, 3)`, Å, from the receiver to the sender, across cell boundaries.
    """
    if edges is None:
        shifts = graph["cell_shifts"] if "cell" in graph else np.zeros((len(graph["senders"]), 3))
        edges = NeighborList(graph["senders"], graph["receivers"], shifts)
    cell = graph["cell"][0] if "cell" in graph else None
    return _vectors(graph["positions"], edges, cell)


def _vectors(positions: Array, edges: NeighborList, cell: Array | None) -> Array:
    senders, receivers, shifts = edges
    vectors = np.take(positions, senders, axis=0) - np.take(positions, receivers, axis=0)
    return vectors if cell is None else vectors + shifts.astype("float64") @ cell


def triplets(
    senders: Array, receivers: Array, cell_shifts: Array | None = None
) -> tuple[Array, Array]:
    """Pairs every edge j -> i with the edges k -> j, except for the way back from i itself.

    Args:
        senders: `(num_edges,)`.
        receivers: `(num_edges,)`, sorted.
        cell_shifts: `(num_edges, 3)`, or `None` without periodic images. An image of i is not i,
            so the edge from it is kept.

    Returns:
        `triplet_in`, the index of the edge k -> j, and `triplet_out`, of the edge j -> i. Both
        `(num_triplets,)`, int32, sorted by `triplet_out`, then `triplet_in`.

    Raises:
        ValueError: If the edges are not sorted by receiver, or their pairs are too many.
    """
    if (receivers[1:] < receivers[:-1]).any():
        raise ValueError("Edges must be sorted by receiver, as `neighbor_list` returns them.")
    num_atoms = max(senders.max(initial=-1), receivers.max(initial=-1)) + 1
    num_incoming = np.bincount(receivers, minlength=num_atoms)  # (num_atoms,)
    first_incoming = np.cumsum(num_incoming) - num_incoming

    num_partners = num_incoming[senders]  # (num_edges,)
    if num_partners.sum() > _MOST_TRIPLETS:
        raise ValueError(
            f"No model could read so many pairs of edges. Received: {len(senders)} edges of "
            f"{num_atoms} atoms with {num_partners.sum()} pairs; {_MOST_TRIPLETS} at most."
        )
    triplet_out = np.repeat(np.arange(len(senders)), num_partners)
    first_triplet = np.cumsum(num_partners) - num_partners
    triplet_in = np.arange(len(triplet_out)) + np.repeat(
        first_incoming[senders] - first_triplet, num_partners
    )
    back = senders[triplet_in] == receivers[triplet_out]
    if cell_shifts is not None:
        back &= (cell_shifts[triplet_in] + cell_shifts[triplet_out] == 0).all(axis=1)
    return triplet_in[~back].astype("int32"), triplet_out[~back].astype("int32")


def _triplet_keys(edges: NeighborList) -> dict[str, Array]:
    triplet_in, triplet_out = triplets(*edges)
    mask = np.ones(len(triplet_in), "bool")
    return {"triplet_in": triplet_in, "triplet_out": triplet_out, "triplet_mask": mask}


def _import_vesin(num_candidates: float) -> ModuleType | None:
    try:
        import vesin
    except ImportError as error:
        if num_candidates > _NUMPY_UP_TO:
            raise ImportError(
                "Neighbors in a system of this size are searched by the package vesin, which is "
                f"not installed. Received: {num_candidates:.1e} pairs of atoms and images to "
                "compare. Install it with `pip install keras-mlff[md]`."
            ) from error
        return None
    return cast("ModuleType", vesin)


def _search_pairs(positions: Array, radius: float) -> NeighborList:
    """Compares all atoms of a molecule with each other."""
    vectors = positions[None] - positions[:, None]  # (receiver, sender, 3)
    near = np.einsum("ijk,ijk->ij", vectors, vectors) < radius * radius
    np.fill_diagonal(near, False)
    receivers, senders = near.nonzero()
    shifts = np.zeros((len(senders), 3), "int32")
    return NeighborList(senders.astype("int32"), receivers.astype("int32"), shifts)


def _search_images(positions: Array, radius: float, lattice: Array, reach: Array) -> NeighborList:
    """Compares all atoms, which are inside the cell, with every image in reach of the cell."""
    num_images = np.ceil(reach).astype("int32")  # in the positive and the negative direction
    grid = np.indices((2 * num_images + 1).tolist()).reshape(3, -1).T.astype("int32") - num_images
    fractional = positions @ np.linalg.inv(lattice)
    images = fractional[:, None] + grid  # (num_atoms, num_shifts, 3)
    low = fractional.min(axis=0, initial=0) - reach
    high = fractional.max(axis=0, initial=0) + reach
    senders, shifts = ((images >= low) & (images <= high)).all(axis=2).nonzero()

    vectors = (images[senders, shifts] - fractional[:, None]) @ lattice  # (receiver, image, 3)
    near = np.einsum("ijk,ijk->ij", vectors, vectors) < radius * radius
    receivers, image = near.nonzero()
    senders, shifts = senders[image], grid[shifts[image]]
    other = (senders != receivers) | shifts.any(axis=1)
    return NeighborList(
        senders[other].astype("int32"), receivers[other].astype("int32"), shifts[other]
    )


def _search_with_vesin(
    vesin: ModuleType, positions: Array, radius: float, lattice: Array, periodic: Array
) -> NeighborList:
    """Lets vesin's cell lists do it; its pair (i, j, S) is our receiver, sender and shift."""
    # vesin (0.6.2) takes minutes for some slabs and wires, so they get a box that is periodic in
    # all directions, with vacuum along the open ones; pairs across it are dropped.
    points, box = positions.copy(), lattice.copy()
    vacuum = 2 * radius if periodic.any() else 0.0
    for axis in np.flatnonzero(~periodic):
        along = positions @ lattice[axis]
        closed = _close_gaps(along, 2 * radius)
        points += np.outer(closed - along, lattice[axis])
        box[axis] *= max(np.ptp(closed) + vacuum, radius)
    heights = 1 / np.linalg.norm(np.linalg.inv(box), axis=0)
    search = vesin.NeighborList(cutoff=_safe_radius(heights, radius), full_list=True)
    pairs, shifts = search.compute(points, box, bool(periodic.any()), quantities="PS")
    real = ~shifts[:, ~periodic].any(axis=1)
    pairs, shifts = pairs[real], shifts[real]
    # One number per edge sorts four times faster than five columns.
    key = pairs[:, 0].astype("int64") * len(positions) + pairs[:, 1].astype("int64")
    for column in shifts.T:
        low, high = column.min(initial=0), column.max(initial=0)
        key = key * (int(high) - int(low) + 1) + (column - low)
    by_key = np.argsort(key)
    receivers, senders = pairs[by_key].astype("int32").T.copy()
    return NeighborList(senders, receivers, shifts[by_key])


def _close_gaps(coordinates: Array, largest: float) -> Array:
    """Shortens the empty stretches between atoms, so that a lost atom costs no bins."""
    order = np.argsort(coordinates)
    excess = np.maximum(np.diff(coordinates[order]) - largest, 0.0)
    closed = coordinates.copy()
    closed[order[1:]] -= np.cumsum(excess)
    return closed


def _safe_radius(heights: Array, radius: float) -> float:
    """Enlarges the radius where vesin (0.6.2) would divide by zero and end the process.

    It scales its bins down to 100,000, which leaves none across the thin side of a flat system.
    """
    while True:
        bins = np.maximum(heights / radius, 1.0)
        scale = np.cbrt(1e5 / bins.prod())
        if scale >= 1 or bins.min() * scale > 4:
            return radius
        radius *= 1.25
