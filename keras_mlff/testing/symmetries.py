"""Checks of symmetry: turned, shifted, renumbered and repeated structures."""

from __future__ import annotations

import keras
import numpy as np

from keras_mlff import backend
from keras_mlff.core.construction import precision
from keras_mlff.core.inspection import as_tensors
from keras_mlff.graph import structure
from keras_mlff.testing.checks import Checks
from keras_mlff.testing.structures import crystal, molecule, moved, rotation, symmetric_molecules
from keras_mlff.testing.subject import EXACT, Subject, assert_same

check = Checks()


@check()
def forces_turn_with_the_molecule(subject: Subject) -> None:
    """An orthogonal matrix on the positions gives the same matrix on the forces."""
    matrices = [rotation(seed, sign) for seed in range(3) for sign in (1, -1)]
    matrices.append(np.diag([1.0, 1.0, -1.0]))
    for charge, multiplicity in [(0.0, 1), (1.0, 2), (-1.0, 4)]:
        start = molecule(total_charge=charge, spin_multiplicity=multiplicity)
        turned = [moved(start, positions=start["positions"] @ matrix) for matrix in matrices]
        before, *after = subject.predict([start, *turned])
        assert np.abs(before["forces"]).max() > 1e-5, "a model without forces proves nothing"
        for matrix, got in zip(matrices, after, strict=True):
            assert_same(got, before | {"forces": before["forces"] @ matrix})


@check()
def only_relative_positions_matter(subject: Subject) -> None:
    """A shift of the whole molecule changes nothing, though predictions would center it."""
    start = molecule()
    shifted = moved(start, positions=start["positions"] + [12.0, -7.5, 3.25])
    inputs, _ = subject.batch([shifted, start])
    with precision(subject.model.dtype_policy):
        tensors = as_tensors(inputs, subject.model.compute_dtype)
        values = backend.run_once(subject.model, tensors)
    energies, forces = (keras.ops.convert_to_numpy(values[key]) for key in ("energy", "forces"))
    np.testing.assert_allclose(*energies[:2], **EXACT)
    np.testing.assert_allclose(forces[:7], forces[7:14], **EXACT)


@check()
def the_order_of_atoms_does_not_matter(subject: Subject) -> None:
    """Renumbered atoms have the same numbers each."""
    start = molecule()
    order = np.random.default_rng(3).permutation(7)
    arrays = {key: start[key][order] for key in ("positions", "atomic_numbers")}
    before, after = subject.predict([start, moved(start, **arrays)])
    expected = {key: value[order] for key, value in before.items() if value.ndim > 0}
    assert_same(after, before | expected)


@check()
def crystals_turn_shift_and_wrap(subject: Subject) -> None:
    """One lattice has many descriptions, all with the same energy, forces and stress."""
    subject.need_crystals()
    start = crystal()
    matrix, cell = rotation(2, -1), start["cell"]
    wraps = np.asarray([[0, 0, 0], [1, -2, 0], [0, 0, 3], [-1, 0, 0]])
    turned = moved(start, positions=start["positions"] @ matrix, cell=cell @ matrix)
    shifted = moved(start, positions=start["positions"] + [1.7, -0.4, 2.2])
    wrapped = moved(start, positions=start["positions"] + wraps @ cell[0])
    # the same lattice, described by other vectors
    sheared = moved(start, cell=np.asarray([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ cell)
    before, after, *same = subject.predict([start, turned, shifted, wrapped, sheared])
    for got in same:
        assert_same(got, before)
    stress = matrix.T @ before["stress"] @ matrix
    assert_same(after, before | {"forces": before["forces"] @ matrix, "stress": stress})


@check()
def a_supercell_has_twice_the_energy(subject: Subject) -> None:
    """Two cells as one have twice the energy, the same forces and the same stress."""
    subject.need_crystals()
    start = crystal()
    cell = start["cell"].copy()
    positions = np.concatenate([start["positions"], start["positions"] + cell[0, 2]])
    cell[:, 2] *= 2.0
    double = structure(positions, np.tile(start["atomic_numbers"], 2), cell=cell[0])
    single, both = subject.predict([start, double])
    np.testing.assert_allclose(both["energy"], 2.0 * single["energy"], **EXACT)
    np.testing.assert_allclose(both["forces"], np.tile(single["forces"], (2, 1)), **EXACT)
    np.testing.assert_allclose(both["stress"], single["stress"], **EXACT)


@check()
def cells_may_be_smaller_than_the_cutoff_and_wires_wrap(subject: Subject) -> None:
    """Atoms see their own images, and along periodic directions alone."""
    subject.need_crystals()
    cell = np.asarray([[2.7, 0.0, 0.0], [0.6, 2.6, 0.0], [0.3, -0.5, 2.8]])
    small = structure([[0.1, 0.2, 0.3]], [13], cell=cell)
    doubled = structure(
        [[0.1, 0.2, 0.3], [2.8, 0.2, 0.3]], [13, 13], cell=cell * np.asarray([[2], [1], [1]])
    )
    wire = crystal([True, False, False])
    wraps = np.asarray([[0], [2], [-1], [1]]) * wire["cell"][0, 0]
    wrapped = moved(wire, positions=wire["positions"] + wraps)
    single, double, start, got = subject.predict([small, doubled, wire, wrapped])
    np.testing.assert_allclose(double["energy"], 2.0 * single["energy"], **EXACT)
    np.testing.assert_allclose(double["stress"], single["stress"], **EXACT)
    np.testing.assert_allclose(single["forces"], 0.0, atol=1e-11)
    assert_same(got, start)


@check()
def symmetric_molecules_have_symmetric_forces(subject: Subject) -> None:
    """Forces that symmetry forbids vanish, and no prediction is NaN where angles are degenerate."""
    molecules = symmetric_molecules()
    predicted = dict(zip(molecules, subject.predict(list(molecules.values())), strict=True))
    for label, item in predicted.items():
        assert all(np.all(np.isfinite(value)) for value in item.values()), label
        np.testing.assert_allclose(item["forces"].sum(axis=0), 0.0, atol=1e-10, err_msg=label)
    # by symmetry the carbons of CO2 and methane feel nothing, and linear molecules no bending
    np.testing.assert_allclose(predicted["CO2"]["forces"][0], 0.0, atol=1e-10)
    np.testing.assert_allclose(predicted["CO2"]["forces"][:, 1:], 0.0, atol=1e-10)
    np.testing.assert_allclose(predicted["N2"]["forces"][:, :2], 0.0, atol=1e-10)
    np.testing.assert_allclose(predicted["methane"]["forces"][0], 0.0, atol=1e-10)
    np.testing.assert_allclose(predicted["benzene"]["forces"][:, 2], 0.0, atol=1e-10)
    lengths = np.linalg.norm(predicted["benzene"]["forces"], axis=1).reshape(2, 6)
    np.testing.assert_allclose(lengths, lengths[:, :1] * np.ones(6), atol=1e-9)
