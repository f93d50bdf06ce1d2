"""Graphs are joined, parted and padded without losing or mixing anything."""

import numpy as np
import pytest

from keras_mlff.graph import (
    INPUT_LEVELS,
    count,
    dummy_graph,
    elements,
    inputs_and_labels,
    is_known,
    join,
    pad,
    split,
    structure,
)
from keras_mlff.neighbors import add_edges


def make(num_atoms, seed=0, periodic=False, triplets=False, **labels):
    random = np.random.default_rng(seed)
    graph = structure(
        random.normal(size=(num_atoms, 3)),
        random.choice([1, 6, 8], num_atoms),
        cell=np.eye(3) * 6.0 if periodic else None,
        **labels,
    )
    return add_edges(graph, 3.0, triplets=triplets)


def assert_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(actual[key], value, err_msg=key)
        assert actual[key].dtype == value.dtype, key


def test_a_structure_has_every_key_in_its_dtype():
    graph = structure([[0, 0, 0], [0, 0, 1]], [1, 8], energy=-2, forces=np.zeros((2, 3)))
    assert graph["positions"].dtype == np.float64
    assert graph["atomic_numbers"].dtype == np.int32
    assert graph["total_charge"].tolist() == [0.0]
    assert graph["spin_multiplicity"].tolist() == [1]
    assert graph["energy"].tolist() == [-2.0]
    assert "cell" not in graph
    assert [count(graph, level) for level in ("structure", "atom", "edge", "triplet")] == [
        1,
        2,
        0,
        0,
    ]


def test_a_structure_is_a_copy_of_what_it_is_made_of():
    """ASE changes its positions in place."""
    place, forces, cell = np.zeros((1, 3)), np.ones((1, 3)), np.eye(3)
    graph = structure(place, [6], cell=cell, forces=forces)
    for array in (place, forces, cell):
        array += 1.0
    assert graph["positions"].sum() == 0.0
    assert graph["forces"].sum() == graph["cell"].sum() == 3.0


def test_a_cell_without_periodic_directions_is_no_cell():
    assert "cell" not in structure([[0, 0, 0]], [1], cell=np.eye(3), pbc=False)


def test_box_lengths_are_a_cell():
    graph = structure([[0, 0, 0]], [1], cell=[3.0, 4.0, 5.0], pbc=[True, False, True])
    np.testing.assert_array_equal(graph["cell"], np.diag([3.0, 4.0, 5.0])[None])
    assert graph["pbc"].tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions": [], "atomic_numbers": []}, "at least one atom"),
        ({"positions": [[0, 0, 0]], "atomic_numbers": [1, 1]}, "positions.shape"),
        ({"positions": [[0, 0]], "atomic_numbers": [1]}, "positions.shape"),
        ({"positions": [[0, 0, 0]], "atomic_numbers": [0]}, "0 is padding"),
        ({"positions": [[0, 0, 0]], "atomic_numbers": [119]}, "118"),
        ({"positions": [[0, 0, 0]], "atomic_numbers": [1.0]}, "integers"),
        ({"positions": [[0, 0, np.nan]], "atomic_numbers": [1]}, "positions.*NaN"),
        ({"spin_multiplicity": 0}, "2S\\+1"),
        ({"spin_multiplicity": 1.5}, "2S\\+1"),
        ({"total_charge": np.array([1.0])}, "one number each"),
        ({"spin_multiplicity": np.array([1, 2])}, "one number each"),
        ({"pbc": True}, "needs a cell"),
        ({"cell": np.eye(2)}, "cell.shape"),
        ({"forces": np.zeros((2, 3))}, "forces.*atoms"),
        ({"forces": np.zeros((1, 2))}, "forces.*shape"),
        ({"energy": [1.0, 2.0]}, "energy.*shape"),
        ({"energy": np.inf}, "energy.*infinite"),
        ({"total_charge": np.nan}, "total_charge=nan"),
        ({"forces": 1.0}, "forces.*atoms"),
        ({"stress": np.zeros(6)}, "stress.*shape"),
        ({"forces": [[0.0, np.nan, 0.0]]}, "forces.*NaN beside numbers"),
        ({"dipole": [np.nan, 0.0, 1.0]}, "dipole.*NaN beside numbers"),
        ({"partial_charges": [[0.1]]}, "partial_charges.*shape"),
        # of one atom and of one structure alike: it is the name that tells
        ({"spin_densities": [0.1]}, r"register\('spin_densities', level='atom'"),
    ],
)
def test_a_structure_that_cannot_be_right_is_refused(arguments, message):
    given = {"positions": [[0, 0, 0]], "atomic_numbers": [1]} | arguments
    with pytest.raises(ValueError, match=message):
        structure(**given)


@pytest.mark.parametrize("periodic", [False, True])
def test_splitting_undoes_joining_and_padding(periodic):
    parts = [
        make(
            n,
            seed=n,
            periodic=periodic,
            triplets=True,
            energy=float(n),
            forces=np.ones((n, 3)) * n,
            dipole=[n, 0, 0],
        )
        for n in (3, 1, 4)
    ]
    joined = join(parts)
    assert np.all(np.diff(joined["receivers"]) >= 0)
    assert np.all(np.diff(joined["graph_ids"]) >= 0)
    padded = pad(joined, 5, 11, 90, 300, max_atoms=7)
    for whole in (joined, padded):
        for got, expected in zip(split(whole), parts, strict=True):
            assert_equal(got, expected)


def test_splitting_parts_the_graph_of_a_single_structure():
    graph = make(3)
    assert_equal(split(graph)[0], graph)


def test_joining_joined_graphs_equals_joining_at_once():
    parts = [make(n, seed=n, triplets=True) for n in (2, 3, 1)]
    assert_equal(join([join(parts[:2]), parts[2]]), join(parts))


def test_molecules_and_crystals_join():
    molecule, crystal = make(2), make(3, periodic=True)
    joined = join([molecule, crystal])
    np.testing.assert_array_equal(joined["cell"][0], np.zeros((3, 3)))
    assert not joined["pbc"][0].any()
    assert len(joined["cell_shifts"]) == len(joined["senders"])


def test_joining_says_what_differs():
    with pytest.raises(ValueError, match="senders"):
        join([make(2), structure([[0, 0, 0]], [1])])
    with pytest.raises(ValueError, match="empty"):
        join([])


def test_padding_is_marked_and_points_to_valid_places():
    graph = pad(join([make(3), make(2)]), 2, 9, 20, max_atoms=4)
    assert graph["atom_mask"].sum() == 5
    assert graph["graph_mask"].all()
    for key, limit in (("senders", 9), ("receivers", 9), ("graph_ids", 2)):
        assert graph[key].min() >= 0
        assert graph[key].max() < limit
        assert graph[key].dtype == np.int32
    assert np.all(np.diff(graph["receivers"]) >= 0)
    assert np.all(graph["atomic_numbers"][5:] == 0)


def test_nothing_is_cut_off():
    graph = make(3)
    for sizes in ((0, 9, 9), (1, 2, 9), (1, 9, 1)):
        with pytest.raises(ValueError, match="does not fit"):
            pad(graph, *sizes)
    with pytest.raises(ValueError, match="largest"):
        pad(graph, 1, 9, 9, max_atoms=2)


def test_inputs_and_labels_are_told_apart():
    inputs, labels = inputs_and_labels(make(2, energy=1.0, homo=-5.0))
    assert set(labels) == {"energy", "homo"}
    assert set(inputs) <= set(INPUT_LEVELS)


def test_the_dummy_graph_is_a_graph():
    for periodic in (False, True):
        graph = dummy_graph(periodic, triplets=True)
        again = add_edges(
            {
                k: v
                for k, v in graph.items()
                if k
                in (
                    "positions",
                    "atom_mask",
                    "graph_mask",
                    "atomic_numbers",
                    "graph_ids",
                    "cell",
                    "pbc",
                )
            },
            5.0,
            triplets=True,
        )
        for key in ("senders", "receivers"):
            np.testing.assert_array_equal(graph[key], again[key])
        ours, theirs = (
            sorted(zip(g["triplet_in"].tolist(), g["triplet_out"].tolist(), strict=True))
            for g in (graph, again)
        )
        assert ours == theirs


def test_elements_leave_padding_out():
    assert elements([pad(make(4, seed=1), 1, 9, 30)]) == elements([make(4, seed=1)])


def test_missing_labels_are_nan_and_none_is_left_out():
    graph = structure(
        np.eye(3),
        [8, 1, 1],
        energy=np.nan,
        forces=None,
        partial_charges=[0.1, np.nan, 0.2],
        stress=np.full((3, 3), np.nan),
    )
    assert "forces" not in graph
    assert np.isnan(graph["energy"]).tolist() == [True]
    assert is_known("partial_charges", graph).tolist() == [True, False, True]
    assert not is_known("stress", graph).any()
    assert not is_known("forces", graph).any()


def test_a_stress_is_known_where_the_cell_has_a_volume():
    stress = np.zeros((3, 3))
    molecule = structure([[0, 0, 0]], [1], stress=stress)
    crystal = structure([[0, 0, 0]], [1], cell=np.eye(3), stress=stress)
    chain = structure([[0, 0, 0]], [1], np.diag([2.0, 0, 0]), [True, False, False], stress=stress)
    joined = pad(join([molecule, crystal, chain]), 4, 4, 0)
    assert is_known("stress", joined).tolist() == [False, True, False, False]
    assert not is_known("stress", molecule).any()


def test_joining_fills_missing_labels():
    first, second = make(2, energy=1.0), make(3, seed=1, forces=np.ones((3, 3)))
    joined = join([first, second])
    np.testing.assert_array_equal(joined["energy"], [1.0, np.nan])
    assert np.isnan(joined["forces"][:2]).all()
    assert (joined["forces"][2:] == 1.0).all()
    parts = split(pad(joined, 3, 7, 30))
    assert is_known("energy", parts[0]).all()
    assert not is_known("energy", parts[1]).any()


def test_unregistered_keys_have_no_axis():
    with pytest.raises(ValueError, match="not a registered quantity"):
        split({**make(2), "spin_densities": np.zeros(2)})
