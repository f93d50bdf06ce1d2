"""Neighbor lists against a search that knows no tricks, and the two searches against each other."""

import itertools
import sys
import tracemalloc
import types

import numpy as np
import pytest

from keras_mlff import graph, neighbors
from keras_mlff.graph import structure
from keras_mlff.neighbors import GraphSpec, add_edges, edge_vectors, neighbor_list, triplets

SKEWED = [[3.0, 0.0, 0.0], [2.4, 3.1, 0.0], [-1.7, 1.2, 2.9]]
CUBE = np.eye(3) * 4.0
# name: number of atoms, cutoff, cell, pbc
SYSTEMS = {
    "no cell": (12, 2.5, None, None),
    "no neighbors": (3, 1e-3, None, None),
    "single atom": (1, 5.0, None, None),
    "dummy cell": (12, 2.5, np.eye(3), False),
    "zero cell": (12, 2.5, np.zeros((3, 3)), [False, False, False]),
    "one-atom cell": (1, 6.1, np.eye(3) * 2.5, True),
    "box lengths": (6, 2.5, [4.0, 5.0, 6.0], None),
    "cutoff over half the box": (6, 3.0, CUBE, None),
    "cutoff over the box": (4, 6.5, CUBE, None),
    "skewed cell": (5, 4.0, SKEWED, True),
    "left-handed cell": (5, 3.0, np.asarray(SKEWED)[[1, 0, 2]], True),
    "slab": (8, 3.0, CUBE, [True, True, False]),
    "slab, zero vector": (8, 3.0, np.diag([4.0, 4.0, 0.0]), [True, True, False]),
    "slab, open x": (8, 3.0, np.diag([0.1, 4.0, 4.0]), [False, True, True]),
    "tilted slab": (8, 3.0, [[3.0, 0, 3.0], [0, 4.0, 0], [1.0, 0, 1.0]], [True, True, False]),
    "wire": (8, 3.0, [[0, 0, 0], [0, 0, 0], [0, 0, 2.8]], [False, False, True]),
    "diagonal wire": (8, 3.0, [[2.0, 2.0, 2.0], [0, 0, 0], [0, 0, 0]], [True, False, False]),
}


def invent_positions(num_atoms, cell, pbc, seed=0):
    """Atoms spread over 4 Å, unwrapped: some several cells away along periodic directions."""
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0.0, 4.0, (num_atoms, 3))
    if cell is not None:
        lattice = np.diag(cell) if np.ndim(cell) == 1 else np.asarray(cell)
        periodic = np.broadcast_to(True if pbc is None else pbc, 3)
        positions += (rng.integers(-4, 5, (num_atoms, 3)) * periodic) @ lattice
    return positions


def search_all(positions, cutoff, cell, pbc):
    """Tries every pair of atoms with every image that could be near: rows (i, j, shift)."""
    periodic, lattice = np.zeros(3, bool), np.zeros((3, 3))
    if cell is not None:
        periodic = np.broadcast_to(True if pbc is None else pbc, 3)
        lattice = np.diag(cell) if np.ndim(cell) == 1 else np.asarray(cell, float)
    ranges = [range(-14, 15) if flag else [0] for flag in periodic]
    rows = []
    for shift in itertools.product(*ranges):
        vectors = positions[None] - positions[:, None] + np.asarray(shift) @ lattice
        for i, j in np.argwhere(np.linalg.norm(vectors, axis=2) <= cutoff):
            if i != j or any(shift):
                rows.append((i, j, *shift))
    return sorted(rows)


def as_rows(edges):
    return list(zip(edges.receivers, edges.senders, *edges.cell_shifts.T, strict=True))


@pytest.fixture(params=["numpy", "vesin"])
def search(request, monkeypatch):
    """Makes `neighbor_list` take one of its two ways, whatever the size."""
    if request.param == "vesin":
        pytest.importorskip("vesin")
    limit = -1 if request.param == "vesin" else np.inf
    monkeypatch.setattr(neighbors, "_VESIN_FROM", limit)
    return request.param


@pytest.mark.parametrize("name", SYSTEMS)
def test_edges_are_those_of_the_exhaustive_search_in_order(name, search):
    num_atoms, cutoff, cell, pbc = SYSTEMS[name]
    positions = invent_positions(num_atoms, cell, pbc)

    edges = neighbor_list(positions, cutoff, cell, pbc)

    assert as_rows(edges) == search_all(positions, cutoff, cell, pbc)
    assert [array.dtype for array in edges] == [np.int32] * 3
    assert edges.cell_shifts.shape == (len(edges.senders), 3)


@pytest.mark.parametrize("seed", range(6))
def test_both_searches_agree_on_random_cells(seed, monkeypatch):
    pytest.importorskip("vesin")
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(4, 15, 3)) + rng.normal(size=(3, 3))
    cell = cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    pbc = [[True] * 3, [True, True, False], [False, False, True]][seed % 3]
    positions = rng.uniform(-1, 2, (80, 3)) @ cell
    results = []
    for limit in (-1, np.inf):
        monkeypatch.setattr(neighbors, "_VESIN_FROM", limit)
        results.append(neighbor_list(positions, 4.0, cell, pbc))

    assert len(results[0].senders) > 50
    for by_vesin, by_numpy in zip(*results, strict=True):
        np.testing.assert_array_equal(by_vesin, by_numpy)


def test_every_edge_has_its_reverse_even_at_exactly_the_cutoff(search):
    """The shells of a crystal: rounding must not keep i -> j and lose j -> i."""
    cell = 3.61 * (1 - np.eye(3)) / 2  # fcc
    edges = neighbor_list(np.zeros((1, 3)), 3.61, cell)
    shifts = {tuple(shift) for shift in edges.cell_shifts}

    assert len(shifts) in (12, 18)  # without or with the shell at the cutoff itself
    assert shifts == {tuple(-shift) for shift in edges.cell_shifts}


def test_pairs_at_exactly_the_cutoff_are_found(search):
    positions = [[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]

    assert len(neighbor_list(positions, 2.0).senders) == 2
    assert len(neighbor_list(positions, np.nextafter(2.0, 1.0)).senders) == 0


def test_vectors_point_from_receiver_to_sender(search):
    """Across the boundary the atom at 3.5 stands 1 Å to the left of that at 0.5."""
    edges = neighbor_list([[0.5, 0.0, 0.0], [3.5, 0.0, 0.0]], 1.5, CUBE)

    assert as_rows(edges) == [(0, 1, -1, 0, 0), (1, 0, 1, 0, 0)]


@pytest.mark.parametrize("pbc", [None, [True, True, False], [True, False, True]])
def test_lost_atoms_change_nothing(pbc, search):
    """As in an exploding simulation; a flat, wide system once made vesin end the process."""
    positions = np.random.default_rng(0).uniform(0, 4, (30, 3))
    cell = None if pbc is None else CUBE
    lost = np.asarray([[1e9, 1.0, -1e9], [2e7, 3.0, 3e8]])
    if pbc is not None:
        lost[:, pbc] = [[1.0, 3.0], [3.0, 1.0]]

    before = neighbor_list(positions, 2.0, cell, pbc)
    after = neighbor_list(np.concatenate([positions, lost]), 2.0, cell, pbc)

    near = (after.senders < 30) & (after.receivers < 30)
    for expected, array in zip(before, after, strict=True):
        np.testing.assert_array_equal(array[near], expected)


@pytest.mark.parametrize("pbc", [True, [True, True, False]])
def test_wide_flat_boxes_are_searched(pbc, monkeypatch):
    """There vesin alone ends the process; see `_safe_radius`."""
    pytest.importorskip("vesin")
    positions = np.random.default_rng(0).uniform(0, 1, (60, 3)) * [1000.0, 1000.0, 1.5]
    positions[:30, :2] /= 500.0
    results = []
    for limit in (-1, np.inf):
        monkeypatch.setattr(neighbors, "_VESIN_FROM", limit)
        results.append(neighbor_list(positions, 1.0, [1000.0, 1000.0, 1.5], pbc))

    assert len(results[0].senders) > 50
    assert as_rows(results[0]) == as_rows(results[1])


def test_no_atoms_have_no_edges():
    for cell in (None, CUBE):
        assert len(neighbor_list(np.zeros((0, 3)), 5.0, cell).senders) == 0


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.nan])
def test_cutoffs_must_be_positive(cutoff):
    with pytest.raises(ValueError, match="`cutoff` must be a positive"):
        neighbor_list(np.zeros((1, 3)), cutoff)


def test_an_infinite_cutoff_finds_all_pairs_of_a_molecule():
    positions = 1e3 * np.random.default_rng(0).normal(size=(210, 3))  # vesin's, were it finite
    edges = neighbor_list(positions, np.inf)
    expected = [(j, i) for i in range(210) for j in range(210) if i != j]
    assert list(zip(edges.senders, edges.receivers, strict=True)) == expected
    with pytest.raises(ValueError, match="finite in a crystal"):
        neighbor_list(positions, np.inf, CUBE)


def test_positions_must_be_finite():
    positions = np.zeros((4, 3))
    positions[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN or inf at atoms \[2\]"):
        neighbor_list(positions, 5.0)


def test_positions_must_have_three_columns():
    with pytest.raises(ValueError, match=r"shape \(4, 2\)"):
        neighbor_list(np.zeros((4, 2)), 5.0)


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (np.zeros((3, 3)), None),
        (np.diag([3.0, 3.0, 0.0]), True),
        ([[3.0, 0, 0], [6.0, 0, 0], [0, 0, 3.0]], [True, True, False]),
        ([[1.0, 1, 0], [0, 1, 1], [1, 2, 1]], True),
    ],
    ids=["zero", "zero length", "parallel", "in one plane"],
)
def test_periodic_lattice_vectors_must_span_their_directions(cell, pbc):
    with pytest.raises(ValueError, match="linearly independent"):
        neighbor_list(np.zeros((1, 3)), 5.0, cell, pbc)


def test_periodic_directions_need_a_cell():
    with pytest.raises(ValueError, match=r"need a `cell`.*pbc=\[True, False, False\]"):
        neighbor_list(np.zeros((1, 3)), 5.0, None, [True, False, False])


def test_cells_must_hold_three_vectors():
    with pytest.raises(ValueError, match="three finite lattice vectors"):
        neighbor_list(np.zeros((1, 3)), 5.0, np.eye(2))


def test_atoms_at_the_same_place_are_named(search):
    with pytest.raises(ValueError, match="atoms 1 and 2, the latter moved by"):
        neighbor_list([[0, 0, 0], [1.0, 1, 1], [1.0, 1, 1]], 5.0)
    with pytest.raises(ValueError, match=r"atoms 0 and 1, .* \[0, 0, -1\] lattice"):
        neighbor_list([[0.1, 0, 0], [0.1, 0, 4.0]], 1.0, CUBE)


def test_without_vesin_small_systems_work_and_large_ones_name_the_extra(monkeypatch):
    positions = np.random.default_rng(0).uniform(0, 10, (300, 3))
    expected = neighbor_list(positions, 2.0)
    monkeypatch.setitem(sys.modules, "vesin", None)  # importing it now raises ImportError

    np.testing.assert_array_equal(neighbor_list(positions, 2.0).senders, expected.senders)
    monkeypatch.setattr(neighbors, "_NUMPY_UP_TO", 80_000)
    with pytest.raises(ImportError, match=r"pip install keras-mlff\[md\]"):
        neighbor_list(positions, 2.0)


def search_all_triplets(edges):
    """Every pair of edges k -> j, j -> i where k, or its image, is not i."""
    rows = as_rows(edges)
    return [
        (kj, ji)
        for ji, (i, j, *shift_ji) in enumerate(rows)
        for kj, (j_too, k, *shift_kj) in enumerate(rows)
        if j == j_too and (k != i or np.any(np.add(shift_kj, shift_ji)))
    ]


@pytest.mark.parametrize("name", ["no cell", "single atom", "one-atom cell", "skewed cell", "wire"])
def test_triplets_are_those_of_the_exhaustive_search_in_order(name):
    num_atoms, cutoff, cell, pbc = SYSTEMS[name]
    edges = neighbor_list(invent_positions(num_atoms, cell, pbc), min(cutoff, 3.0), cell, pbc)

    triplet_in, triplet_out = triplets(*edges)

    assert list(zip(triplet_in, triplet_out, strict=True)) == search_all_triplets(edges)
    assert triplet_in.dtype == triplet_out.dtype == np.int32


def test_no_edges_have_no_triplets():
    nothing = np.zeros(0, np.int32)
    assert [len(array) for array in triplets(nothing, nothing)] == [0, 0]


def test_triplets_without_shifts_are_those_of_a_molecule():
    edges = neighbor_list(invent_positions(9, None, None), 2.5)
    for without, with_shifts in zip(triplets(*edges[:2]), triplets(*edges), strict=True):
        np.testing.assert_array_equal(without, with_shifts)


@pytest.mark.parametrize("num_atoms", [1000, 4000])
def test_triplets_take_memory_of_edges_times_neighbors(num_atoms):
    """A chain of atoms, each with 12 neighbors: arrays of atoms cubed would be 8 GB and more."""
    places = np.arange(num_atoms)
    offsets = np.asarray([*range(-6, 0), *range(1, 7)])
    receivers = np.repeat(places, 12)
    senders = receivers + np.tile(offsets, num_atoms)
    kept = (senders >= 0) & (senders < num_atoms)
    senders, receivers = senders[kept], receivers[kept]
    tracemalloc.start()
    found, _ = triplets(senders, receivers)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) <= len(senders) * 11
    assert peak < 60 * len(senders) * 12  # some integers of eight bytes for each


def test_triplets_need_sorted_edges():
    with pytest.raises(ValueError, match="sorted by receiver"):
        triplets(np.asarray([0, 1]), np.asarray([1, 0]))


def test_edges_are_added_to_a_copy_of_a_molecule():
    molecule = graph.structure(invent_positions(6, None, None), [6, 1, 1, 1, 1, 8], energy=-1.0)
    before = set(molecule)

    result = add_edges(molecule, 2.5)

    assert set(molecule) == before
    assert set(result) - before == {"senders", "receivers", "edge_mask"}
    np.testing.assert_array_equal(result["senders"], neighbor_list(molecule["positions"], 2.5)[0])
    assert result["edge_mask"].all()
    assert len(result["edge_mask"]) == len(result["senders"])


def test_periodic_structures_get_shifts_of_the_dtype_of_the_positions():
    crystal = graph.structure([[0.0, 0, 0]], [29], cell=3.61 * (1 - np.eye(3)) / 2)

    result = add_edges(crystal, 2.6, triplets=True)

    assert result["cell_shifts"].shape == (12, 3)
    assert result["cell_shifts"].dtype == result["positions"].dtype
    assert len(result["triplet_in"]) == 12 * 11
    assert result["triplet_mask"].all()
    assert set(result) <= set(graph.INPUT_LEVELS)


def test_molecules_split_from_a_batch_with_crystals_keep_their_edges():
    """There they carry a zero cell that is not periodic."""
    molecule = graph.structure(invent_positions(4, None, None), [6, 1, 1, 1])
    crystal = graph.structure([[0.0, 0, 0]], [29], cell=CUBE)
    split = graph.split(graph.join([molecule, crystal]))[0]

    result = add_edges(split, 2.5)

    np.testing.assert_array_equal(result["senders"], add_edges(molecule, 2.5)["senders"])
    assert not result["cell_shifts"].any()


def test_new_edges_replace_old_triplets():
    result = add_edges(graph.dummy_graph(triplets=True), 0.95)

    assert len(result["senders"]) == 2
    assert "triplet_in" not in result


def test_only_single_structures_get_edges():
    molecule = graph.structure([[0.0, 0, 0]], [1])
    with pytest.raises(ValueError, match="2 structures, 0 padding atoms"):
        add_edges(graph.join([molecule, molecule]), 5.0)
    with pytest.raises(ValueError, match="1 structures, 2 padding atoms"):
        add_edges(graph.pad(molecule, num_graphs=1, num_atoms=3, num_edges=0), 5.0)


# Specifications of edges


def test_a_specification_makes_the_edges_of_add_edges():
    structures = [make_crystal(), structure([[0, 0, 0], [0, 0, 1.1], [0, 1.0, 0]], [8, 1, 1])]
    for item in structures:
        for angles in (False, True):
            expected = add_edges(item, 3.0, angles)
            found = GraphSpec(3.0, angles).add_edges(item)
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_a_specification_is_that_of_a_model_or_itself():
    spec = GraphSpec(4.0)
    assert GraphSpec.of(spec) is spec
    assert GraphSpec.of(types.SimpleNamespace(graph_spec=spec)) is spec
    with pytest.raises(TypeError, match=r"Received: 4\.0\. Pass the model"):
        GraphSpec.of(4.0)
    with pytest.raises(ValueError, match="cutoff=0"):
        GraphSpec(0.0)


def test_vectors_of_edges_are_those_of_positions_and_shifts():
    graph = add_edges(make_crystal(), 4.0)
    shifts = graph["cell_shifts"] @ graph["cell"][0]
    expected = (
        graph["positions"][graph["senders"]] - graph["positions"][graph["receivers"]] + shifts
    )
    np.testing.assert_allclose(edge_vectors(graph), expected, atol=1e-12)
    assert np.linalg.norm(edge_vectors(graph), axis=1).max() <= 4.0


def make_crystal():
    cell = np.asarray([[4.0, 0.0, 0.0], [0.5, 4.0, 0.0], [0.0, 0.3, 5.0]])
    return structure([[0.0, 0.0, 0.0], [1.1, 0.9, 0.3]], [11, 17], cell=cell)


@pytest.mark.parametrize(
    ("positions", "cell", "pbc", "reason"),
    [
        ([[0, 0, 0]], [[4, 0, 0], [0, 4, 0], [0, 0, 1e-4]], True, "atoms per Å³"),
        ([[0, 0, 0]], np.eye(3) * 0.5, True, "atoms per Å³"),
        ([[0, 0, 0]], np.eye(3) * 0.5, [True, True, False], "atoms per Å³"),
        ([[0, 0, 0]], [[9e4, 0, 0], [9e4, 1, 0], [0, 0, 1e-3]], True, "images within 5 Å"),
        (
            np.arange(3.0)[:, None] * [1.2e10, 0, 0],
            np.eye(3) * 4,
            True,
            "cells from the origin to an atom",
        ),
    ],
)
def test_a_search_that_would_not_end_is_refused_with_the_estimate(positions, cell, pbc, reason):
    with pytest.raises(ValueError, match=rf"[\d.e+]+ {reason} \([\d,.]+ at most\)"):
        neighbor_list(positions, 5.0, cell, pbc)


def test_more_triplets_than_a_model_could_read_are_refused():
    atoms = np.repeat(np.arange(400), 399)
    others = np.concatenate([np.delete(np.arange(400), i) for i in range(400)])
    with pytest.raises(ValueError, match="63680400 pairs; 50000000 at most"):
        triplets(others, atoms)
