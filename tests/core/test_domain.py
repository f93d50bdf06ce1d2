"""A model answers for what it has learned from, and nothing answers for what cannot be."""

import numpy as np
import pytest

from keras_mlff.core.domain import Domain, Occurrence, check_states
from keras_mlff.graph import structure
from keras_mlff.heads import EnergyHead
from tests.core.pair_net import as_preset, compiled, make_graphs

PLACES = np.asarray([[0, 0, 0], [0, 0.9, 0.6], [0, -0.9, 0.6], [1.5, 0, 0], [0, 0, 2.0]])
CELL = 6.0 * np.eye(3)


def atoms(numbers, charge=0.0, spin=1, cell=None, energy=0.0, **labels):
    positions = PLACES[: len(numbers)]
    return structure(positions, numbers, cell, None, charge, spin, energy=energy, **labels)


CH2, WATER, HYDROGEN = [6, 1, 1], [8, 1, 1], [1, 1]


# ----- states that cannot be


@pytest.mark.parametrize(
    ("numbers", "charge", "spin"),
    [
        (CH2, 0.0, 2),  # even electrons, a doublet
        (CH2, 1.0, 1),  # the spin of an ion was not given
        ([1], 0.0, 5),
        (HYDROGEN, 0.0, 2),
        (CH2, 100.0, 1),  # no electrons
        ([1], 1.0, 1),
        (CH2, -9.0, 2),  # more electrons added than there were
        (CH2, 1e9, 1),
        (CH2, 0.0, 10**9 + 1),
        (CH2, 1e30, 1),
    ],
)
def test_impossible_states_are_refused_whatever_is_asked_for(pair_net, numbers, charge, spin):
    wrong = atoms(numbers, charge, spin)
    message = rf"(?s)Impossible.*spin_multiplicity={spin} of structure 1"
    model = pair_net()
    with pytest.raises(ValueError, match=message):
        model.predict([atoms([6, 6]), wrong], domain="ignore")
    with pytest.raises(ValueError, match="Impossible"):
        compiled(pair_net).fit([wrong | {"forces": np.zeros((len(numbers), 3))}], verbose=0)


@pytest.mark.parametrize(
    ("numbers", "charge", "spin"),
    [
        ([1], 0.0, 2),
        ([1], 0.0, 1),  # nobody has stated a spin
        ([1], -1.0, 1),
        (CH2, 0.0, 3),
        (CH2, 0.0, 7),
        (CH2, 1.0, 2),
        (CH2, 0.25, 1),  # part of an electron has no parity
    ],
)
def test_states_that_can_be_pass(numbers, charge, spin):
    check_states(atoms(numbers, charge, spin))


# ----- what was learned


def test_domains_are_collected_and_joined():
    first = Domain.of([atoms(CH2), atoms(CH2, spin=3), atoms([6, 6])])
    assert first.elements == {1: Occurrence(2, 4, 0, 2), 6: Occurrence(3, 4, 1, 2)}
    assert (first.sizes, first.states, first.periodic) == ((2, 3), ((0.0, 1), (0.0, 3)), (0,))
    assert first.joined(first) == first == Domain().joined(first)
    assert first.joined(first, add=True).elements[6] == Occurrence(6, 8, 1, 2)
    both = first.joined(Domain.of([atoms([8], cell=CELL)]), add=True)
    assert both.elements[6] == Occurrence(3, 4, 0, 2)
    assert (both.sizes, both.periodic, both.num_structures) == ((1, 3), (0, 3), 4)
    assert Domain.from_config(both.to_config()) == both
    # what a preset of before does not say stays unknown
    old = Domain({1: None, 6: None}).joined(first)
    assert (old.elements, old.sizes, old.states) == ({1: None, 6: None}, None, ())
    for wrong in ({"elements": 7}, {"sizes": "all"}, {"elements": {"1": {"atoms": 1}}}):
        with pytest.raises(ValueError, match="Not a domain"):
            Domain.from_config(wrong)


@pytest.fixture(scope="module")
def learned(pair_net):
    """Makes a model that sees charge and spin, and has learned CH2 in two states."""
    model = PairNetWithStates(pair_net)
    model.fit_offsets([atoms(CH2, energy=-1.0), atoms(CH2, spin=3, energy=-2.0)] * 8)
    return model


def PairNetWithStates(pair_net):  # noqa: N802 - reads like a class
    class Charged(pair_net):
        def embed(self, graph, training=False):
            features = super().embed(graph, training)
            return features._replace(scalars=self.with_charge_spin(features.scalars, graph))

    return Charged(charge_spin=True)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (atoms(WATER), r"atomic_numbers=\[8\], Charged, which knows \[1, 6\]"),
        (atoms(CH2, 0.0, 5), r"not learned: \[\(0.0, 5\)\], learned were \[\(0.0, 1\), \(0.0, 3\)"),
        (atoms(CH2, -1.0, 2), r"not learned: \[\(-1.0, 2\)\]"),
        (atoms(CH2, cell=CELL), r"periodic directions.*: \[3\], learned were \[0\]"),
    ],
)
def test_what_was_not_learned_is_refused(learned, other, message):
    for policy in (None, "refuse"):
        with pytest.raises(ValueError, match=rf"(?s){message}.*\(structure 1\)"):
            learned.predict([atoms(CH2), other], domain=policy)
    with pytest.raises(UserWarning, match=message):
        learned.copy().predict(other, domain="warn")
    assert np.all(np.isfinite(learned.predict(other, domain="ignore")["energy"]))


def test_sizes_and_compositions_are_told_once(learned):
    model, larger = learned.copy(), atoms([6, 6, 1, 1])
    with pytest.raises(UserWarning, match=r"numbers of atoms.*\[4\].*element 6.*\[2\]"):
        model.predict(larger)
    model.predict(larger)
    with pytest.raises(ValueError, match="numbers of atoms"):
        model.predict(larger, domain="refuse")
    with pytest.raises(ValueError, match="Received: 'all'"):
        model.predict(larger, domain="all")


def test_elements_that_few_structures_had_are_told(pair_net):
    model = pair_net(heads=[EnergyHead(references={1: 1.0, 6: 1.0, 8: 1.0})])
    model.learn_domain(Domain.of([atoms(CH2)] * 30 + [atoms(WATER)]))
    with pytest.raises(UserWarning, match="element 8, which 1 of 31 structures had"):
        model.predict(atoms(WATER))


def test_models_that_do_not_see_charge_and_spin_say_so(pair_net):
    model = pair_net()
    with pytest.raises(UserWarning, match=r"does not see.*\[\(1.0, 2\)\]"):
        model.predict(atoms(CH2, 1.0, 2))
    model.predict(atoms(CH2, 1.0, 2))  # once
    with pytest.raises(UserWarning, match=r"cannot tell apart.*\(0.0, 1\), \(0.0, 3\)"):
        model.fit_offsets([atoms(CH2), atoms(CH2, spin=3)])
    model.predict(atoms(CH2, spin=3))  # it was learned, for what it is worth


def test_training_widens_the_domain_and_counts_each_structure_once(pair_net):
    graphs = make_graphs(6)
    model = as_preset(compiled(pair_net))
    assert list(model.domain.elements) == [1, 6, 8]
    model.preset, model.domain = None, Domain()
    model.fit(graphs, batch_size=2, epochs=2, verbose=0)
    assert model.domain.joined(Domain.of(graphs)).elements == Domain.of(graphs).elements
    assert model.domain.num_structures == 6
    forces = max(np.abs(graph["forces"]).max() for graph in graphs)
    assert model.domain.largest["forces"] == pytest.approx(forces, rel=1e-6)
    model.adapt_offsets([atoms([79, 79], energy=1.0)])
    assert list(model.domain.elements) == [1, 6, 8, 79]


# ----- numbers without meaning


@pytest.mark.parametrize(
    ("value", "said"),
    [(np.nan, "NaN or infinite"), (np.inf, "NaN or"), (1e6, "far beyond"), (1e17, "far beyond")],
)
def test_numbers_without_meaning_are_no_results(pair_net, monkeypatch, value, said):
    model = pair_net()
    model.learn_domain(Domain(largest={"forces": 10.0}))
    original = model.predict_on_batch

    def broken(inputs):
        predicted = {key: np.array(np.asarray(x)) for key, x in original(inputs).items()}
        predicted["forces"][3] = value
        return predicted

    monkeypatch.setattr(model, "predict_on_batch", broken)
    place = r"structure 1, atoms 1 \(element 6\) of 2"
    with pytest.raises(FloatingPointError, match=rf"{said}.*\['forces'\].*{place}"):
        model.predict([atoms([6, 8]), atoms([8, 6])])
    if value == 1e6:
        model.predict([atoms([6, 8]), atoms([8, 6])], domain="ignore")
