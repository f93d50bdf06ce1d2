"""Graphs are packed into few batches of one size, each graph once, in an order that repeats."""

import time
from itertools import chain, combinations

import numpy as np
import pytest

from keras_mlff.graph import centered, count, join, pad, split, structure
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.budget import Budget, choose_budget, pack, plan, sizes
from keras_mlff.packing.feed import Feed, FeedLoader
from keras_mlff.packing.loader import GraphLoader
from keras_mlff.packing.offsets import element_sums


def make(num_atoms, seed=0, cutoff=2.0):
    random = np.random.default_rng(seed)
    numbers = random.choice([1, 6, 8], num_atoms)
    positions = random.normal(size=(num_atoms, 3)) * 1.5
    return add_edges(structure(positions, numbers, energy=float(seed)), cutoff)


@pytest.fixture(scope="module")
def mixed():
    random = np.random.default_rng(1)
    return [make(int(n), seed=i) for i, n in enumerate(random.integers(1, 20, 60))]


def energies(loader):
    """Reads which graphs the batches of an epoch hold: each has its number as energy."""
    return [[int(part["energy"][0]) for part in split(x | y)] for x, y in loader]


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_graph_comes_once_and_every_batch_has_one_shape(mixed, shuffle):
    loader = GraphLoader(mixed, batch_size=8, shuffle=shuffle)
    shapes = {tuple((k, v.shape, v.dtype) for k, v in (x | y).items()) for x, y in loader}
    assert len(shapes) == 1
    found = energies(loader)
    assert len(found) == len(loader)
    assert sorted(chain.from_iterable(found)) == list(range(60))
    if not shuffle:
        assert list(chain.from_iterable(found)) == list(range(60))


def test_structures_of_one_size_fill_batches_of_the_size_asked_for():
    """Also where the number of edges is no multiple of anything."""
    graphs = [make(3, seed=i, cutoff=50.0) for i in range(20)]  # 6 edges each
    loader = GraphLoader(graphs, batch_size=5, shuffle=True)
    assert [len(batch) for batch in energies(loader)] == [5] * 4
    assert loader.fill_rate == 1.0


def test_structures_of_one_size_with_different_edges_fill_batches_too():
    graphs = [make(9, seed=i, cutoff=3.0) for i in range(40)]
    assert len({count(graph, "edge") for graph in graphs}) > 3
    loader = GraphLoader(graphs, batch_size=5, shuffle=True)
    assert len(loader) == 8


def test_the_order_depends_on_seed_and_epoch_alone(mixed):
    loader = GraphLoader(mixed, batch_size=8, shuffle=True, seed=3)
    first = energies(loader)
    assert energies(loader) == first
    loader.on_epoch_end()
    second = energies(loader)
    assert second != first
    resumed = GraphLoader(mixed, batch_size=8, shuffle=True, seed=3)
    resumed.epoch = 1
    assert energies(resumed) == second
    assert energies(GraphLoader(mixed, batch_size=8, shuffle=True, seed=4)) != first


def test_graphs_of_one_size_change_places():
    loader = GraphLoader([make(3, seed=i) for i in range(24)], batch_size=4, shuffle=True)
    companions = []
    for _ in range(3):
        companions.append({frozenset(batch) for batch in energies(loader)})
        loader.on_epoch_end()
    assert companions[0] != companions[1] != companions[2]


def test_graphs_of_different_sizes_change_company():
    """No two have the same size, so that none can take the very place of another."""
    graphs = [make(n, seed=n, cutoff=50.0) for n in range(5, 65)]  # n (n - 1) edges
    loader = GraphLoader(graphs, batch_size=8, shuffle=True)
    pairs, num_batches = [], len(loader)
    for _ in range(3):
        batches = energies(loader)
        assert len(batches) == num_batches
        assert sorted(chain.from_iterable(batches)) == list(range(5, 65))
        pairs.append({frozenset(two) for batch in batches for two in combinations(batch, 2)})
        loader.on_epoch_end()
    for epoch in (1, 2):
        assert len(pairs[epoch - 1] & pairs[epoch]) < 0.5 * len(pairs[epoch])


def test_mixed_sizes_waste_little_room():
    random = np.random.default_rng(0)
    count_atoms = random.integers(5, 20, 400)
    graphs = [make(int(n), seed=i, cutoff=4.0) for i, n in enumerate(count_atoms)]
    loader = GraphLoader(graphs, batch_size=16, shuffle=True)
    assert loader.fill_rate > 0.9


def test_a_plan_respects_every_limit():
    table = np.random.default_rng(0).integers(1, 9, size=(200, 5))
    table[:, 0] = 1
    budget = Budget(5, 24, 20, 22, 8, num_long_edges=21)
    batches = plan(table, budget)
    assert sorted(chain.from_iterable(batches)) == list(range(200))
    for batch in batches:
        assert np.all(table[batch].sum(axis=0) <= budget.room)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_graph_larger_than_the_budget_is_named(mixed, shuffle):
    with pytest.raises(ValueError, match="larger than the budget"):
        GraphLoader(mixed, budget=Budget(4, 10, 100, 0, 10), shuffle=shuffle)


def test_impossible_requests_are_refused(mixed):
    with pytest.raises(ValueError, match="batch_size=0"):
        choose_budget(mixed, 0)
    with pytest.raises(ValueError, match="empty"):
        choose_budget([], 4)
    with pytest.raises(ValueError, match="no edges"):
        GraphLoader([structure([[0, 0, 0]], [1])])


def test_the_budget_holds_the_largest_graph(mixed):
    budget = choose_budget(mixed, 1)
    assert np.all(sizes(mixed).max(axis=0) <= budget.room)
    pack([max(mixed, key=lambda graph: count(graph, "atom"))], budget)


def test_joined_graphs_fit_into_their_budget(mixed):
    loader = GraphLoader([join(mixed[:5]), mixed[5]], batch_size=2)
    assert sum(len(split(x | y)) for x, y in loader) == 6


def test_the_fingerprint_knows_every_graph(mixed):
    names = {GraphLoader(mixed, 8).fingerprint() for _ in range(2)}
    other = [*mixed[:-1], {**mixed[-1], "energy": mixed[-1]["energy"] + 1e-9}]
    assert len(names | {GraphLoader(other, 8).fingerprint()}) == 2


def test_lone_atoms_make_a_batch():
    graphs = [make(1, seed=i) for i in range(3)]
    assert choose_budget(graphs, 2) == Budget(2, 2, 1, 1, 1)
    assert energies(GraphLoader(graphs, 2)) == [[0, 1], [2]]


def test_sums_over_elements_leave_padding_out():
    graphs = [make(3, seed=1), make(2, seed=2)]
    table = np.arange(119) * 1000.25
    table[0] = 7.0
    expected = [table[graph["atomic_numbers"]].sum() + 0.5 for graph in graphs]
    inputs = pack(graphs, Budget(4, 9, 40, 0, 4))
    sums = element_sums(inputs, table, 0.5)
    assert sums.dtype == np.float64
    np.testing.assert_allclose(sums, [*expected, 0.0, 0.0], rtol=1e-15)
    # padding atoms that have no padding graph to belong to
    full = pad(pack(graphs, Budget(2, 5, 40, 0, 4)), 2, 9, 40)
    np.testing.assert_allclose(element_sums(full, table, 0.5), expected, rtol=1e-15)


def test_offsets_leave_labels_in_float64():
    graphs = [make(2, seed=i) for i in range(4)]
    seen = []
    table = np.zeros(119)
    table[[1, 6, 8]] = 1e6
    offset = FeedLoader(GraphLoader(graphs, 2), Feed({"energy": (table, 0.25)}, seen.append))
    labels = np.concatenate([labels["energy"] for _, labels in (offset[i] for i in range(2))])
    np.testing.assert_array_equal(labels, np.arange(4) - 2e6 - 0.25)
    assert len(seen) == 2


def test_a_plan_of_many_graphs_takes_seconds_and_wastes_little():
    """QM9's sizes: 3 to 29 atoms, 18 on average."""
    random = np.random.default_rng(0)
    atoms = random.normal(18.0, 3.0, 50_000).round().clip(3, 29).astype(int)
    edges = np.minimum(
        atoms * (atoms - 1), (atoms * random.uniform(11, 15, len(atoms))).astype(int)
    )
    none = np.zeros_like(atoms)
    table = np.stack([np.ones_like(atoms), atoms, edges, none, none], axis=1)

    class Sizes(list):
        sizes = table

        def pack(self, indices, budget):
            raise NotImplementedError

    start = time.process_time()
    loader = GraphLoader(Sizes([None] * len(table)), batch_size=32, shuffle=True)
    orders = [np.concatenate([loader._indices(i) for i in range(len(loader))]) for _ in range(2)]
    assert time.process_time() - start < 5.0  # 0.6 s on one core of 2024
    assert loader.fill_rate > 0.95
    assert sorted(orders[0]) == list(range(len(table)))


def test_molecules_among_crystals_do_not_change_the_keys_of_a_batch():
    crystal = structure(np.zeros((1, 3)), [6], cell=np.eye(3) * 5.0, energy=1.0)
    graphs = [make(2), make(3), add_edges(crystal, 2.0)]
    keys = {frozenset(x) for x, _ in GraphLoader(graphs, batch_size=1)}
    assert len(keys) == 1
    assert "cell" in next(iter(keys))


def test_a_resumed_epoch_leaves_out_what_came_before(mixed):
    loader = GraphLoader(mixed, batch_size=8, shuffle=True, seed=3)
    epochs = []
    for _ in range(2):
        epochs.append(energies(loader))
        loader.on_epoch_end()
    resumed = GraphLoader(mixed, batch_size=8, shuffle=True, seed=3)
    resumed.position = 3
    assert len(resumed) == len(epochs[0]) - 3
    assert energies(resumed) == epochs[0][3:]
    resumed.on_epoch_end()
    assert energies(resumed) == epochs[1]


@pytest.mark.parametrize("ahead", [False, True])
def test_a_thread_that_works_ahead_changes_no_batch(mixed, ahead):
    waits = []
    feed = Feed(add_wait=waits.append)
    loader = FeedLoader(GraphLoader(mixed, 8, shuffle=True), feed, ahead)
    plain = GraphLoader(mixed, 8, shuffle=True)
    first = loader[0]  # Keras looks at it before training begins
    loader.on_epoch_end()
    np.testing.assert_array_equal(first[1]["energy"], plain[0][1]["energy"])
    for _ in range(2):
        for index in range(len(loader)):
            one, (inputs, labels) = loader[index], plain[index]
            other = centered(inputs), labels
            for part in (0, 1):
                for key in one[part]:
                    np.testing.assert_array_equal(one[part][key], other[part][key])
        loader.on_epoch_end()
        plain.on_epoch_end()
    assert len(waits) == 2 * len(plain) + 1
    assert min(waits) > 0.0
