"""Checks of batches: company, padding and loneliness change nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_mlff.graph import Graph, inputs_and_labels, join, pad, split, structure
from keras_mlff.packing.budget import sizes
from keras_mlff.testing.checks import Checks, NotApplicable
from keras_mlff.testing.structures import crystal, molecule, moved, symmetric_molecules
from keras_mlff.testing.subject import EXACT, Subject, assert_same

check = Checks()


@check()
def company_changes_nothing(subject: Subject) -> None:
    """A structure has the same numbers alone and among others."""
    structures = [molecule(n, seed=n) for n in (1, 2, 3, 7, 12)]
    structures += list(symmetric_molecules().values())
    together = subject.predict(structures)
    for alone, expected in zip(structures, together, strict=True):
        assert_same(subject.predict([alone])[0], expected)


@check()
def molecules_are_the_same_among_crystals(subject: Subject) -> None:
    """A molecule in a batch with crystals has its own numbers, and no stress."""
    subject.need_crystals()
    molecules = [molecule(5, seed=2), molecule(1, seed=3)]
    mixed = subject.predict([molecules[0], crystal(), molecules[1], crystal([True, True, False])])
    for got, expected in zip(mixed[::2], subject.predict(molecules), strict=True):
        assert np.isnan(got.pop("stress")).all()
        assert_same(got, expected)


def _packed(
    graphs: Sequence[Graph],
    num_graphs: int = 0,
    num_atoms: int = 0,
    num_edges: int = 0,
    num_triplets: int = 0,
    max_atoms: int = 0,
    num_long_edges: int = 0,
) -> Graph:
    """Packs graphs into exactly their sizes, plus what is asked for."""
    total = sizes(graphs).sum(axis=0)
    largest = max(len(graph["positions"]) for graph in graphs)
    return pad(
        join(graphs),
        num_graphs=int(total[0]) + num_graphs,
        num_atoms=int(total[1]) + num_atoms,
        num_edges=int(total[2]) + num_edges,
        num_triplets=int(total[3]) + num_triplets,
        max_atoms=largest + max_atoms,
        num_long_edges=int(total[4]) + num_long_edges,
    )


@check()
def padding_changes_nothing(subject: Subject) -> None:
    """Whichever entries are padding, the real ones have the same numbers and none is NaN."""
    structures = [molecule(n, seed=n) for n in (2, 6, 4)]
    expected = subject.predict(structures)
    graphs = [subject.edges(item) for item in structures]
    triplets = 4 if subject.architecture.uses_triplets else 0
    for batch in (
        _packed(graphs),  # no padding at all
        # no spare graph: padding atoms belong to a real one
        _packed(
            graphs,
            num_atoms=3,
            num_edges=5,
            num_triplets=triplets,
            max_atoms=2,
            num_long_edges=4,
        ),
        # no spare atom: padding edges point at a real one
        _packed(graphs, num_graphs=1, num_edges=5, num_triplets=triplets),
    ):
        inputs, _ = inputs_and_labels(batch)
        raw = {
            key: np.asarray(value) for key, value in subject.model.predict_on_batch(inputs).items()
        }
        for key in expected[0]:
            value = raw[key]
            assert np.all(np.isfinite(value)), key
            real = np.concatenate([np.atleast_1d(item[key]) for item in expected])
            np.testing.assert_allclose(value[: len(real)], real, **EXACT, err_msg=key)
        np.testing.assert_array_equal(raw["forces"][12:], 0.0)


@check(costly=True)
def attention_follows_the_order_of_atoms_and_ignores_company(subject: Subject) -> None:
    """Coefficients belong to pairs of atoms; where there is no attention, asking is an error."""
    model = subject.model
    graph = subject.edges(molecule(6))
    if not model.has_attention:
        message = ""
        try:
            model.attention(graph)
        except ValueError as error:
            message = str(error)
        assert "has no attention" in message, f"has_attention is False, but: {message!r}"
        return
    order = np.asarray([3, 0, 5, 1, 4, 2])
    shuffled = moved(graph, **{k: graph[k][order] for k in ("positions", "atomic_numbers")})
    both = split(join([subject.edges(molecule(3, seed=6)), graph]))[1]
    expected, turned = model.attention(graph), model.attention(subject.edges(shuffled))
    beside = model.attention(both)
    assert expected, "has_attention is True, and attention(graph) gives nothing"
    for name, coefficients in expected.items():
        assert coefficients.shape[-2:] == (6, 6), name
        assert np.abs(coefficients).max() > 0.0, name
        permuted = coefficients[..., order, :][..., order]
        np.testing.assert_allclose(turned[name], permuted, **EXACT, err_msg=name)
        np.testing.assert_allclose(beside[name], coefficients, **EXACT, err_msg=name)


@check()
def an_atom_alone_in_its_batch_has_no_forces(subject: Subject) -> None:
    """The batch has no edge at all."""
    predicted = subject.model.predict(structure([[0.3, -0.1, 2.0]], [8]))
    np.testing.assert_array_equal(predicted["forces"], np.zeros((1, 3)))
    expected = subject.predict([structure([[0.0, 0.0, 0.0]], [8])])[0]
    np.testing.assert_allclose(predicted["energy"][0], expected["energy"], **EXACT)


@check()
def energies_of_far_copies_add_up(subject: Subject) -> None:
    """Two copies 100 Å apart have twice the energy and the same forces."""
    if not subject.model.is_size_consistent:
        raise NotApplicable("the architecture says that they do not")
    single = molecule(5)
    positions = np.concatenate([single["positions"], single["positions"] + [100.0, 0.0, 0.0]])
    double = structure(positions, np.tile(single["atomic_numbers"], 2))
    first, both = subject.predict([single, double])
    np.testing.assert_allclose(both["energy"], 2.0 * first["energy"], **EXACT)
    np.testing.assert_allclose(both["forces"], np.tile(first["forces"], (2, 1)), **EXACT)
