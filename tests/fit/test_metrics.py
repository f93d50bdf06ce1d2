"""Errors are those that a hand can work out."""

import numpy as np
import pytest

from keras_mlff.fit.metrics import errors, s2ef
from keras_mlff.graph import structure


@pytest.fixture
def surfaces():
    """Two structures; of the first, the second atom is held."""
    first = structure(
        [[0, 0, 0], [0, 0, 2.0]], [29, 8], energy=-3.0, forces=[[1.0, 0, 0], [0, 5.0, 0]]
    )
    second = structure([[0, 0, 0]], [29], energy=2.0, forces=[[0, 0.01, 0]])
    return [first, second], [np.asarray([0, 1]), np.asarray([0])]


def test_oc20_counts_free_atoms_only(surfaces):
    structures, fixed = surfaces
    predictions = {
        "energy": np.asarray([-2.9, 2.01]),
        "forces": np.asarray([[1.0, 1.0, 0.0], [7.0, 7.0, 7.0], [0.0, 0.03, 0.0]]),
    }
    found = s2ef(structures, predictions, fixed)
    assert found.energy_mae == pytest.approx((0.1 + 0.01) / 2)
    assert found.force_mae == pytest.approx((1.0 + 0.02) / 6)
    assert found.force_cosine == pytest.approx((0.5**0.5 + 1.0) / 2)
    assert found.efwt == 0.5  # only the second is within 0.02 eV and 0.03 eV/Å

    every = s2ef(structures, predictions)
    assert every.force_mae == pytest.approx((1.0 + 7.0 + 2.0 + 7.0 + 0.02) / 9)
    assert every.force_cosine == pytest.approx((0.5**0.5 + 3**-0.5 + 1.0) / 3)


@pytest.mark.parametrize(("energy", "force"), [(0.021, 0.0), (0.0, 0.031)])
def test_one_error_beyond_its_threshold_is_enough(surfaces, energy, force):
    structures, _ = surfaces
    predictions = {
        "energy": np.asarray([-3.0, 2.0 + energy]),
        "forces": np.concatenate([graph["forces"] for graph in structures]),
    }
    predictions["forces"][2, 2] -= force
    assert s2ef(structures, predictions).efwt == 0.5


def test_masks_of_another_size_are_refused(surfaces):
    structures, fixed = surfaces
    predictions = {"energy": np.zeros(2), "forces": np.zeros((3, 3))}
    with pytest.raises(ValueError, match="3 atoms"):
        s2ef(structures, predictions, fixed[:1])
    with pytest.raises(ValueError, match="no structures"):
        s2ef([], predictions)


def test_energies_are_also_compared_per_atom(surfaces):
    structures, _ = surfaces
    found = errors(structures, {"energy": np.asarray([-2.0, 2.5])})
    assert found["energy"].mae == 0.75
    assert found["energy_per_atom"].mae == 0.5
    assert found["energy"].largest == 1.0


def test_missing_energies_and_forces_do_not_count_for_oc20(surfaces):
    structures, fixed = surfaces
    third = structure([[0, 0, 0]], [29], energy=1.0)
    fourth = structure([[0, 0, 0]], [29], energy=None, forces=[[0.0, 0.0, 1.0]])
    predictions = {
        "energy": np.asarray([-2.9, 2.01, 1.2, 7.0]),
        "forces": np.zeros((5, 3)),
    }
    found = s2ef([*structures, third, fourth], predictions, [*fixed, [0], [0]])
    assert found.energy_mae == pytest.approx((0.1 + 0.01 + 0.2) / 3)
    assert found.force_mae == pytest.approx((1.0 + 0.01 + 1.0) / 9)
    assert found.efwt == 0.5
    with pytest.raises(ValueError, match="need energies"):
        s2ef([fourth], {"energy": np.zeros(1), "forces": np.zeros((1, 3))})


def test_what_is_missing_is_not_compared(surfaces):
    structures, _ = surfaces
    unknown = structure([[0, 0, 0], [0, 0, 1]], [29, 8], forces=[[0.0, 0.0, 1.0], [np.nan] * 3])
    predictions = {"energy": np.asarray([-2.0, 2.5, 99.0]), "forces": np.zeros((5, 3))}
    found = errors([*structures, unknown], predictions)
    assert found["energy"].mae == 0.75
    assert found["energy_per_atom"].mae == 0.5
    assert found["forces"].num_values == 12
    assert found["forces"].mae == pytest.approx((1.0 + 5.0 + 0.01 + 1.0) / 12)
    with pytest.raises(ValueError, match="nothing to compare"):
        errors([unknown], {"energy": np.zeros(1)})
