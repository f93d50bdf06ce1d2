"""Checks of derivatives: forces and stress against differences, continuity at the cutoff."""

from __future__ import annotations

import numpy as np

from keras_mlff.graph import Graph, structure
from keras_mlff.testing.checks import Checks
from keras_mlff.testing.structures import crystal, molecule, moved
from keras_mlff.testing.subject import Subject

check = Checks()


@check()
def forces_are_minus_the_gradient(subject: Subject) -> None:
    """Forces of a molecule equal central differences of the energy."""
    _compare_forces(subject, molecule(5))


@check()
def forces_in_a_crystal_are_minus_the_gradient(subject: Subject) -> None:
    """Forces of a crystal equal central differences of the energy."""
    subject.need_crystals()
    _compare_forces(subject, crystal())


def _compare_forces(subject: Subject, start: Graph) -> None:
    step = 1e-4  # error: step² times the third derivative, and 1e-16 / step
    base = start["positions"]
    displaced = []
    for place in np.ndindex(base.shape):
        for sign in (1, -1):
            positions = base.copy()
            positions[place] += sign * step
            displaced.append(moved(start, positions=positions))
    here, *there = subject.predict([start, *displaced])
    energies = np.asarray([item["energy"] for item in there]).reshape(*base.shape, 2)
    forces = -(energies[..., 0] - energies[..., 1]) / (2 * step)
    # a small component is the difference of large ones
    atol = 1e-7 + 1e-6 * np.abs(forces).max()
    np.testing.assert_allclose(here["forces"], forces, rtol=1e-5, atol=atol)


@check()
def stress_is_the_gradient_by_strain(subject: Subject) -> None:
    """Stress is positive when stretched, symmetric, and the slope of the energy by each strain."""
    subject.need_crystals()
    for pbc in (True, [True, False, True]):
        _compare_stress(subject, crystal(pbc))


def _compare_stress(subject: Subject, start: Graph) -> None:
    step = 1e-5
    pairs = [(i, j) for i in range(3) for j in range(i + 1)]
    strained = []
    for i, j in pairs:
        for sign in (1, -1):
            matrix = np.eye(3)
            matrix[i, j] += sign * step / 2  # both elements of a shear are strained at once
            matrix[j, i] += sign * step / 2
            strained.append(
                moved(start, positions=start["positions"] @ matrix, cell=start["cell"] @ matrix)
            )
    here, *there = subject.predict([start, *strained])
    energies = np.asarray([item["energy"] for item in there]).reshape(-1, 2)
    slopes = (energies[:, 0] - energies[:, 1]) / (2 * step)
    volume = abs(np.linalg.det(start["cell"][0]))
    assert np.abs(here["stress"]).max() > 1e-6, "a model without stress proves nothing"
    np.testing.assert_allclose(here["stress"], here["stress"].T, rtol=1e-12, atol=1e-15)
    for (i, j), slope in zip(pairs, slopes, strict=True):
        np.testing.assert_allclose(here["stress"][i, j], slope / volume, rtol=1e-5, atol=1e-9)


@check()
def nothing_jumps_at_the_cutoff(subject: Subject) -> None:
    """An atom leaves the reach of the others; energy, forces, and more if promised, go on."""
    base = np.asarray([[0.0, 0.0, 0.0], [-0.9, 0.4, 0.1], [subject.cutoff, 0.0, 0.0]])
    step = 1e-4
    # twice two points on each side, and a stretch that shows what a change looks like
    offsets = np.asarray([-2 * step, -1e-9, 1e-9, 2 * step, -1.2, -0.8, -0.4])
    scan = [
        structure(np.add(base, [[0, 0, 0], [0, 0, 0], [offset, 0, 0]]), [6, 1, 8])
        for offset in offsets
    ]
    predicted = subject.predict(scan)
    energies = np.asarray([item["energy"] for item in predicted])
    forces = np.asarray([item["forces"] for item in predicted])
    assert np.ptp(energies) > 1e-5, "the scan must see an interaction"
    assert abs(energies[2] - energies[1]) < 1e-8 * np.ptp(energies) + 1e-12
    assert np.abs(forces[2] - forces[1]).max() < 1e-7 * np.abs(forces).max() + 1e-11
    if subject.model.num_continuous_derivatives >= 2:
        left = (forces[1] - forces[0]) / (2 * step)
        right = (forces[3] - forces[2]) / (2 * step)
        slopes = np.abs(np.diff(forces[4:], axis=0)).max() / 0.4
        assert np.abs(left - right).max() < 0.05 * slopes + 1e-9
