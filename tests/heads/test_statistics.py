"""Element references, shifts and scales are what least squares and statistics say."""

import warnings

import numpy as np
import pytest

from keras_mlff.graph import join, pad, structure
from keras_mlff.heads import DipoleHead, EnergyHead, ScalarHead
from keras_mlff.heads.statistics import least_squares

TRUE = {1: -13.6, 6: -1036.25, 8: -2041.75}


def make(numbers, noise=0.0, seed=0, **labels):
    random = np.random.default_rng(seed)
    energy = sum(TRUE[z] for z in numbers) + noise * random.normal()
    positions = random.normal(size=(len(numbers), 3))
    return structure(positions, numbers, energy=energy, **labels)


MOLECULES = [make([8, 1, 1]), make([6, 1, 1, 1, 1]), make([6, 8]), make([6, 8, 8]), make([1, 1])]


def test_sums_of_references_are_recovered():
    found = least_squares(MOLECULES, "energy")
    assert found == pytest.approx(TRUE, rel=1e-10)


def test_joined_and_padded_graphs_count_each_structure():
    joined = [pad(join(MOLECULES[:2]), 4, 12, 0), *MOLECULES[2:4], join(MOLECULES[4:])]
    assert least_squares(joined, "energy") == pytest.approx(TRUE, rel=1e-10)


def test_one_composition_gives_references_that_predict_its_mean():
    graphs = [make([8, 1, 1], noise=1.0, seed=seed) for seed in range(5)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = least_squares(graphs, "energy")
    mean = np.mean([graph["energy"] for graph in graphs])
    np.testing.assert_allclose(found[8] + 2 * found[1], mean, rtol=1e-12)


def test_compositions_that_leave_elements_open_are_reported():
    graphs = [make([8, 1, 1]), make([8, 1, 1] * 2)]
    with pytest.warns(UserWarning, match="determine 1 of 2"):
        least_squares(graphs, "energy")


def test_structures_without_the_label_do_not_count():
    without = structure([[0, 0, 0]], [3])
    unknown = structure([[0, 0, 0]], [4], energy=np.nan)
    found = least_squares(
        [MOLECULES[0], without, *MOLECULES[1:], join([unknown, without])], "energy"
    )
    assert found == pytest.approx(TRUE, rel=1e-10)


def test_a_label_missing_everywhere_is_named():
    with pytest.raises(ValueError, match=r"'energy' need.*2 structures, none"):
        least_squares(
            [structure([[0, 0, 0]], [1]), structure([[0, 0, 0]], [1], energy=None)], "energy"
        )
    with pytest.raises(ValueError, match="no structures"):
        least_squares([], "energy")


def test_the_energy_is_scaled_by_forces_where_there_are_any():
    graphs = [make([8, 1, 1], 1.0, s, forces=np.full((3, 3), s + 1.0)) for s in range(4)]
    head = EnergyHead()
    head.fit_offsets(graphs)
    np.testing.assert_allclose(head.scale, np.sqrt(np.mean([1.0, 4.0, 9.0, 16.0])))
    without = [{k: v for k, v in graph.items() if k != "forces"} for graph in graphs]
    head.fit_offsets(without)
    energies = np.concatenate([graph["energy"] for graph in graphs])
    np.testing.assert_allclose(head.scale, energies.std(), rtol=1e-9)


def test_references_adapt_to_joined_structures_as_to_each():
    moved = [make(g["atomic_numbers"]) for g in MOLECULES]
    predictions = np.concatenate([graph["energy"] for graph in MOLECULES]) - 3.0
    found = []
    for graphs in (moved, [join(moved[:2]), join(moved[2:])]):
        head = EnergyHead(references=dict(TRUE))
        head.adapt_offsets(graphs, predictions)
        found.append(head.references)
    assert found[0] == pytest.approx(found[1], abs=1e-9)
    assert found[0] != pytest.approx(TRUE, abs=1e-3)


def test_rounding_is_no_spread():
    """As many structures as elements: references fit exactly, and 1e-13 is left."""
    head = EnergyHead()
    head.fit_offsets([make([1, 1]), make([8, 1, 1])])
    assert head.scale == 1.0


def test_labels_without_spread_have_the_scale_one():
    head = EnergyHead()
    head.fit_offsets([make([8, 1, 1])] * 3)
    assert head.scale == pytest.approx(1.0, abs=0.0) or head.scale < 1e-9


def test_averages_are_shifted_and_sums_referenced():
    graphs = [make([6, 8], gap=7.0), make([8, 1, 1], gap=9.0)]
    head = ScalarHead("gap", pooling="mean")
    head.fit_offsets(graphs)
    assert (head.references, head.shift, head.scale) == ({}, 8.0, 1.0)
    np.testing.assert_allclose(head.offsets(join(graphs)), [8.0, 8.0])


def test_vectors_have_a_scale_alone():
    graphs = [make([6, 8], dipole=[3.0, 0.0, 0.0]), make([8, 1, 1], dipole=[0.0, 0.0, 3.0])]
    head = DipoleHead()
    head.fit_offsets(graphs)
    np.testing.assert_allclose(head.scale, np.sqrt(3.0))
    assert not head.has_offset
