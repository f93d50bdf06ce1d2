"""One structure, checked: positions, elements, cell and labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keras_mlff import quantities
from keras_mlff.graph.keys import MAX_ATOMIC_NUMBER, Array, Graph
from keras_mlff.graph.stated import charge_and_spin

FARTHEST = 1e9  # Å; float64 resolves 1e-7 Å there


def structure(
    positions: npt.ArrayLike,
    atomic_numbers: npt.ArrayLike,
    cell: npt.ArrayLike | None = None,
    pbc: npt.ArrayLike | None = None,
    total_charge: float | None = 0.0,
    spin_multiplicity: float | None = 1,
    fragments: npt.ArrayLike | None = None,
    fragment_charges: Sequence[float] | None = None,
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
        fragments: `(num_atoms,)`, a number for each molecule of the system, whose atoms stand
            together; models of partial charges then keep the charge of each. Whole systems where
            `None`.
        fragment_charges: e, the charge of each fragment in the order in which they occur; zero
            where `None`.
        **labels: Known values by the names of `keras_mlff.quantities`, in their shapes and units:
            `energy` in eV, `forces` `(num_atoms, 3)` in eV/Å, `stress` `(3, 3)` in eV/Å³, and so
            on. What is not known is `None`, or NaN: a whole value of the structure, or all numbers
            of single atoms.

    Returns:
        The graph of one structure, whose arrays have an axis for structures or for atoms first.
        Labels are float64.

    Raises:
        ValueError: If a shape or an element is not usable, if a number is infinite or NaN where
            that cannot mean a missing label, if an atom is 10⁹ Å from the origin, or if a label is
            not a registered quantity.

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
    state = charge_and_spin({"total_charge": total_charge, "spin_multiplicity": spin_multiplicity})
    charge, num_atoms = state.get("total_charge", 0.0), len(numbers)
    graph: dict[str, Array] = {
        "positions": coordinates,
        "atomic_numbers": numbers.astype(np.int32),
        "graph_ids": np.zeros(num_atoms, np.int32),
        "atom_mask": np.ones(num_atoms, np.bool_),
        "total_charge": np.asarray([charge], np.float64),
        "spin_multiplicity": np.asarray([state.get("spin_multiplicity", 1)], np.int32),
        "graph_mask": np.ones(1, np.bool_),
        "atom_table": np.arange(num_atoms, dtype=np.int32)[None],
    }
    if fragments is not None or fragment_charges is not None:
        graph |= _fragments(fragments, fragment_charges, num_atoms, charge)
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
    for key, array in graph.items():
        if np.issubdtype(array.dtype, np.floating) and not np.all(np.isfinite(array)):
            raise ValueError(
                f"'{key}' holds NaN or infinite values, first at index "
                f"{np.argwhere(~np.isfinite(array))[0].tolist()}. Remove the structure or mend it."
            )
    if np.abs(coordinates).max() > FARTHEST:
        raise ValueError(
            "An atom lies so far from the origin that float64 rounds distances between atoms. "
            f"Received: a coordinate of {np.abs(coordinates).max():.3g} Å; {FARTHEST:.0e} Å at "
            "most. Move the structure to the origin, or check the unit of lengths."
        )
    for key, value in labels.items():
        if value is not None:
            graph[key] = _label(quantities.get(key), value, num_atoms)
    return graph


def _fragments(
    fragments: npt.ArrayLike | None,
    charges: Sequence[float] | None,
    num_atoms: int,
    total_charge: float,
) -> dict[str, Array]:
    """Numbers the fragment of each atom by its first atom, and gives atoms its charge."""
    numbers = np.asarray(fragments)
    if fragments is None or numbers.shape != (num_atoms,) or numbers.dtype.kind not in "iu":
        raise ValueError(
            "`fragments` has a whole number for each atom, that of its molecule. Received: "
            f"fragments of shape {numbers.shape} and dtype {numbers.dtype} for {num_atoms} atoms."
        )
    firsts = np.flatnonzero(np.concatenate([[True], numbers[1:] != numbers[:-1]]))
    known = np.zeros(len(firsts)) if charges is None else np.asarray(charges, np.float64)
    if len(np.unique(numbers)) != len(firsts):
        raise ValueError(
            "The atoms of a fragment stand together, one molecule after the other. "
            f"Received: fragments={numbers.tolist()}. Sort the atoms."
        )
    if known.shape != firsts.shape or abs(known.sum() - total_charge) > 1e-6:
        raise ValueError(
            f"{len(firsts)} fragments have as many charges, which add up to the total charge of "
            f"{total_charge:g} e. Received: fragment_charges={known.tolist()}."
        )
    sizes = np.diff(np.append(firsts, num_atoms))
    return {
        "fragments": np.repeat(firsts, sizes).astype(np.int32),
        "fragment_charges": np.repeat(known, sizes),
    }


def _label(quantity: quantities.Quantity, value: npt.ArrayLike, num_atoms: int) -> Array:
    """Checks a label of one structure and casts it to `(1, *shape)` or `(num_atoms, *shape)`."""
    label = np.array(value, np.float64)
    name, shape = quantity.name, quantity.shape
    if quantity.level == "edge":
        raise ValueError(
            f"'{name}' belongs to edges, which a structure does not have yet. Add it to the graph "
            f"that `neighbors.add_edges` returns: graph['{name}'] = values of (num_edges, ...)."
        )
    if quantity.level == "atom":
        if label.shape[:1] != (num_atoms,):
            raise ValueError(
                f"The label '{name}' belongs to atoms, so its first axis must count them. "
                f"Received: {name}.shape={label.shape} for {num_atoms} atoms."
            )
        expected = (num_atoms, *shape)
    else:
        expected = (1, *shape)
        if label.shape == shape:
            label = label[None]
    if label.shape != expected:
        raise ValueError(
            f"The label '{name}' of a structure of {num_atoms} atoms has the shape "
            f"{expected if quantity.level == 'atom' else shape}. Received: {np.shape(value)}."
            + (
                f" Its length is the label '{name}_norm'."
                if quantities.find(f"{name}_norm")
                else ""
            )
        )
    wrong = np.isinf(label)
    if not wrong.any():
        absent = np.isnan(label)
        rows = absent.reshape(len(label), -1)
        # a row that is NaN throughout is missing
        wrong = absent & ~rows.all(axis=1).reshape(-1, *(1,) * len(shape))
    if wrong.any():
        raise ValueError(
            f"The label '{name}' holds infinite values, or NaN beside numbers, first at index "
            f"{np.argwhere(wrong)[0].tolist()}. NaN alone means that "
            f"{'an atom' if quantity.level == 'atom' else 'a structure'} has no such label. "
            "Remove the structure or mend it."
        )
    return label


def dummy_graph(periodic: bool = False, triplets: bool = False, long_edges: bool = False) -> Graph:
    """Makes a small graph of every key a model may read; weights are created from it.

    Args:
        periodic: Whether it has a cell.
        triplets: Whether it has pairs of edges.
        long_edges: Whether it has far pairs.

    Returns:
        A water molecule, or three atoms in a large cell, with all edges.
    """
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
    if long_edges:
        graph["long_receivers"] = np.asarray([0, 0, 1], np.int32)
        graph["long_senders"] = np.asarray([1, 2, 2], np.int32)
        graph["long_edge_mask"] = np.ones(3, np.bool_)
        if periodic:
            graph["long_cell_shifts"] = np.zeros((3, 3))
    if triplets:
        graph["triplet_in"] = np.asarray([3, 5, 1, 4, 0, 2], np.int32)
        graph["triplet_out"] = np.asarray([0, 1, 2, 3, 4, 5], np.int32)
        graph["triplet_mask"] = np.ones(6, np.bool_)
    return graph
