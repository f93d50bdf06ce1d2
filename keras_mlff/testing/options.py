"""Checks of what the base class adds to any architecture: repulsion, charge, elements, offsets."""

from __future__ import annotations

import json

import keras
import numpy as np

from keras_mlff.graph import structure
from keras_mlff.layers.element_affine import ElementAffine
from keras_mlff.layers.zbl import ZBLRepulsion
from keras_mlff.testing.checks import Checks, NotApplicable
from keras_mlff.testing.structures import molecule, moved
from keras_mlff.testing.subject import Subject, assert_same, copy_weights

check = Checks()


@check(costly=True)
def repulsion_of_nuclei_is_added(subject: Subject) -> None:
    """With `zbl=True` the energy has the screened repulsion of close nuclei besides."""
    pair = [structure([[0.0, 0.0, 0.0], [0.6, 0.2, 0.1]], [8, 6])]
    repelling = subject.predict(pair, subject.build(zbl=True))[0]["energy"]
    inputs, _ = subject.batch(pair)
    expected = np.sum(keras.ops.convert_to_numpy(ZBLRepulsion(1.0)(inputs)))
    added = repelling - subject.predict(pair)[0]["energy"]
    np.testing.assert_allclose(added, expected, rtol=1e-6)  # this layer alone is in float32


@check(costly=True)
def elements_can_have_factors_and_terms(subject: Subject) -> None:
    """With `element_affine=True` atomic energies are scaled and shifted for each element."""
    if subject.model.long_range is not None:
        raise NotApplicable("factors are of what the network says alone, without far pairs")
    affine = subject.build(element_affine=True)
    own = affine.element_affine
    assert own is not None
    copy_weights(subject.model, affine, own.weights)
    structures = [molecule(5, seed=6)]
    numbers = structures[0]["atomic_numbers"]
    plain = subject.predict(structures)[0]
    ones = np.ones(own.factors.shape)
    fresh = ElementAffine()
    fresh.build()
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(fresh.factors), ones)
    affine.assign_weights([(own.factors, ones), (own.terms, 0.0 * ones)])
    assert_same(subject.predict(structures, affine)[0], plain)
    random = np.random.default_rng(3)
    factors, terms = random.normal(size=(2, *own.terms.shape))
    affine.assign_weights([(own.factors, factors), (own.terms, terms)])
    (head,) = affine.heads
    atomic = plain["atomic_energies"] * factors[numbers] + head.scale * terms[numbers]
    found = subject.predict(structures, affine)[0]
    np.testing.assert_allclose(found["atomic_energies"], atomic, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found["energy"], atomic.sum(), rtol=1e-10)
    again = type(affine).from_config(json.loads(json.dumps(affine.get_config())))
    assert [w.shape for w in again.weights] == [w.shape for w in affine.weights]


@check(costly=True)
def charge_and_spin_can_be_told(subject: Subject) -> None:
    """Each state has its own energy and forces; a neutral singlet has those of the bare model."""
    informed = subject.build(charge_spin=True)
    assert informed.charge_spin is not None
    copy_weights(subject.model, informed, informed.charge_spin.weights)
    start = molecule(5, seed=6)
    states = [
        start | {"total_charge": np.asarray([charge]), "spin_multiplicity": np.asarray([spin])}
        for charge, spin in [(0.0, 1), (1.0, 1), (-1.0, 1), (0.0, 2)]
    ]
    step = 1e-4
    line = np.random.default_rng(2).normal(size=start["positions"].shape)
    displaced = [
        moved(state, positions=start["positions"] + sign * step * line)
        for state in states
        for sign in (1, -1)
    ]
    together = subject.predict(states + displaced, informed)
    here, there = together[: len(states)], together[len(states) :]
    assert_same(here[0], subject.predict(states[:1])[0])
    for index in range(len(states)):
        for other in here[:index]:
            assert abs(here[index]["energy"] - other["energy"]) > 1e-6
            assert np.abs(here[index]["forces"] - other["forces"]).max() > 1e-6
        slope = (there[2 * index]["energy"] - there[2 * index + 1]["energy"]) / (2 * step)
        along = -np.sum(here[index]["forces"] * line)
        np.testing.assert_allclose(along, slope, rtol=1e-5, atol=1e-6)
    assert_same(subject.predict(states[1:2], informed)[0], here[1])
    assert not informed.is_size_consistent
    again = type(informed).from_config(json.loads(json.dumps(informed.get_config())))
    assert [w.shape for w in again.weights] == [w.shape for w in informed.weights]


@check()
def energies_of_free_atoms_are_added_exactly(subject: Subject) -> None:
    """References and shift are added in float64 and change no force."""
    structures = [molecule(n, seed=n) for n in (1, 5, 9)]
    before = subject.predict(structures)
    references = {1: -13.6, 6: -1036.25, 7: -1485.5, 8: -2041.75, 17: -12520.125}
    head = next(head for head in subject.model.heads if head.name == "energy")
    head.references, head.shift = references, 0.5
    try:
        after = subject.predict(structures)
    finally:
        head.references, head.shift = {}, 0.0
    for graph, old, new in zip(structures, before, after, strict=True):
        table = np.asarray([references[z] for z in graph["atomic_numbers"].tolist()])
        np.testing.assert_allclose(new["energy"], old["energy"] + table.sum() + 0.5, rtol=1e-14)
        atomic = old["atomic_energies"] + table
        np.testing.assert_allclose(new["atomic_energies"], atomic, rtol=1e-14)
        np.testing.assert_array_equal(new["forces"], old["forces"])


@check()
def every_element_has_an_energy(subject: Subject) -> None:
    """Elements 1 to 118 have finite energies and forces."""
    pairs = [structure([[0.0, 0.0, 0.0], [0.0, 0.3, 1.6]], [number, 6]) for number in range(1, 119)]
    predicted = subject.predict(pairs)
    assert np.all(np.isfinite([item["energy"] for item in predicted]))
    assert np.all(np.isfinite([item["forces"] for item in predicted]))


@check(costly=True)
def float32_agrees_with_float64(subject: Subject) -> None:
    """Forces come in the model's precision, energies always in float64, and both agree."""
    single = subject.build(dtype="float32")
    single.set_weights(subject.model.get_weights())
    structures = [molecule(n, seed=n) for n in (1, 5, 9)]
    pairs = zip(subject.predict(structures, single), subject.predict(structures), strict=True)
    for got, expected in pairs:
        assert got["forces"].dtype == np.float32
        assert got["energy"].dtype == np.float64
        # 1e-7 per operation, some hundred operations
        assert_same(got, expected, rtol=1e-4, atol=2e-5)
