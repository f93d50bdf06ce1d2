"""Charges, ratios and the far pairs that interact by them, in any architecture."""

import json
import math

import keras
import numpy as np
import pytest

from keras_mlff.graph import join, split, structure
from keras_mlff.heads import DipoleHead, EnergyHead, HirshfeldHead, PartialChargesHead
from keras_mlff.layers import cutoff as cutoffs
from keras_mlff.models import EGNN
from keras_mlff.neighbors import GraphSpec
from keras_mlff.packing.budget import choose_budget, pack
from keras_mlff.packing.loader import GraphLoader
from keras_mlff.pipeline import store
from keras_mlff.testing import ArchitectureTests
from keras_mlff.testing.structures import crystal, molecule
from tests.models.so3krates.so3lr_formulas import coulomb, dispersion, far_pairs, switch

pytestmark = pytest.mark.once
RATIOS = {1: 0.7, 6: 0.8, 7: 0.9, 8: 1.1, 11: 1.3, 17: 0.95}
HEADS = [
    EnergyHead(),
    PartialChargesHead(scale=0.2, references={1: 0.3, 8: -0.4, 11: 0.5, 17: -0.6}),
    HirshfeldHead(scale=0.1, references=RATIOS),
]
FAR = {"cutoff": 7.0, "electrostatics": True, "dispersion": {"taper": 3.0}}
SMALL = {"num_features": 8, "num_layers": 1, "heads": HEADS, "long_range": FAR}


class TestFarPairs(ArchitectureTests):
    """The contract holds for what is added to the energy."""

    architecture = EGNN
    arguments = SMALL
    thorough = False
    test_every_element_has_an_energy = None  # 40 have a dispersion coefficient


@pytest.fixture(scope="module")
def model():
    model = EGNN(**SMALL, cutoff=4.0, dtype="float64")
    model.run_eagerly = keras.backend.backend() != "jax"
    return model


@pytest.mark.usefixtures("float64")
def test_the_switch_is_that_of_the_formula():
    lengths = np.linspace(0.5, 4.5, 41)
    ours = keras.ops.convert_to_numpy(cutoffs.switch(keras.ops.convert_to_tensor(lengths), 1, 4))
    np.testing.assert_allclose(ours, switch(lengths, 1.0, 4.0), atol=1e-15)


@pytest.mark.parametrize("cutoff", [7.0, math.inf])
def test_terms_are_those_of_the_formulas(model, cutoff):
    """Of molecules and a crystal in one batch; charges and ratios are the model's."""
    options = {"electrostatics": {"damping": 3.0}, "dispersion": True, "cutoff": cutoff}
    model = EGNN(**SMALL | {"long_range": options}, cutoff=4.0, dtype="float64")
    model.run_eagerly = keras.backend.backend() != "jax"
    structures = [molecule(6, seed=2, total_charge=1.0), molecule(1), molecule(4)]
    structures += [] if cutoff == math.inf else [crystal()]
    graph = join([model.graph_spec.add_edges(item) for item in structures])
    recorded = model.inspect(graph)
    predicted = model.predict(structures)
    first = 0
    for item in structures:
        numbers = item["atomic_numbers"]
        rows = slice(first, first + len(numbers))
        first = rows.stop
        pairs = far_pairs(item["positions"], cutoff, item.get("cell", [None])[0])
        charges, ratios = (predicted[name][rows] for name in ("partial_charges", HEADS[2].name))
        np.testing.assert_allclose(charges.sum(), item["total_charge"][0], atol=1e-14)
        expected = coulomb(pairs, charges, cutoff, damping=3.0, codata=2018)
        np.testing.assert_allclose(recorded["electrostatics"][rows], expected, atol=1e-12)
        expected = dispersion(pairs, numbers, ratios, cutoff, codata=2018)
        np.testing.assert_allclose(recorded["dispersion"][rows], expected, atol=1e-14)


def test_far_pairs_stand_once_and_survive_every_container(model, tmp_path):
    structures = [molecule(5), crystal(), molecule(1), molecule(8)]
    graphs = [model.graph_spec.add_edges(item) for item in structures]
    for graph, item in zip(graphs, structures, strict=True):
        cell = item.get("cell", [None])[0]
        assert 2 * len(graph["long_senders"]) == len(far_pairs(item["positions"], 7.0, cell)[0])
        assert np.all(graph["long_receivers"] <= graph["long_senders"])
    expected = model.predict(graphs)
    for number, part in enumerate(split(join(graphs))):
        np.testing.assert_array_equal(part["long_senders"], graphs[number]["long_senders"])
    kept = store.make(tmp_path, ("far",), lambda: iter(graphs))
    budget = choose_budget(graphs, 4)
    packed, stored = pack(graphs, budget), kept.pack(range(4), budget)
    assert packed.keys() == stored.keys()
    for key, value in packed.items():
        np.testing.assert_array_equal(stored[key], value, err_msg=key)
    for key, value in model.predict(GraphLoader(kept, 4)).items():
        np.testing.assert_allclose(value, expected[key], atol=1e-12, err_msg=key)


def test_stores_know_the_far_cutoff_by_name():
    assert store.names_of(GraphSpec(4.0)) != store.names_of(GraphSpec(4.0, False, 9.0))


def test_charges_of_fragments_are_kept(model):
    numbers, positions = [8, 1, 1], np.asarray([[0, 0, 0.1], [0, 0.8, -0.5], [0, -0.8, -0.5]])
    both = structure(
        np.concatenate([positions, positions + np.asarray([9.0, 0, 0])]),
        [*numbers, *numbers],
        total_charge=1.0,
        spin_multiplicity=2,
        fragments=[4, 4, 4, 2, 2, 2],
        fragment_charges=[0.0, 1.0],
    )
    alone = [
        structure(positions, numbers, total_charge=charge, spin_multiplicity=1 + charge)
        for charge in (0, 1)
    ]
    whole, parts = model.predict([both, both]), model.predict(alone)
    expected = np.tile(parts["partial_charges"], 2)
    np.testing.assert_allclose(whole["partial_charges"], expected, atol=1e-14)
    np.testing.assert_allclose(whole["energy"], parts["energy"].sum(), atol=1e-10)  # 9 > 7 Å


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fragments": [0, 1, 0]}, "stand together"),
        ({"fragments": [0, 0]}, "for each atom"),
        ({"fragments": [0, 0, 1], "fragment_charges": [1.0, 0.0]}, "add up to the total charge"),
        ({"fragment_charges": [0.0]}, "for each atom"),
    ],
)
def test_fragments_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        structure(np.eye(3), [8, 1, 1], **given)


def test_models_without_what_the_terms_need_are_refused(model):
    with pytest.raises(ValueError, match="PartialChargesHead"):
        EGNN(long_range={"cutoff": 9.0, "electrostatics": True})
    for options in ({"cutoff": 9.0}, {"cutoff": 0.0, "dispersion": True}):
        with pytest.raises(ValueError, match="there is one at least"):
            EGNN(heads=HEADS, long_range=options)
    near = GraphSpec(4.0).add_edges(molecule(3))
    with pytest.raises(ValueError, match="far pairs"):
        model.predict(GraphLoader([near]))


def test_charges_are_learned_from_dipoles_and_references_from_labels():
    head = PartialChargesHead()
    head.fit_offsets([molecule(3)])
    assert head.references == {}
    labeled = [{**molecule(6, seed=s), "partial_charges": np.arange(6.0)} for s in range(2)]
    head.fit_offsets(labeled)
    for number, charge in head.references.items():
        rows = [np.flatnonzero(graph["atomic_numbers"] == number) for graph in labeled]
        np.testing.assert_allclose(charge, np.concatenate(rows).mean())


def test_the_calculator_sees_the_same_pairs_with_a_skin(model):
    ase = pytest.importorskip("ase")
    from keras_mlff.md.calculator import MLFFCalculator

    item = crystal()
    atoms = ase.Atoms(item["atomic_numbers"], item["positions"], cell=item["cell"][0], pbc=True)
    atoms.calc = MLFFCalculator(model, skin=0.4)
    for _ in range(2):
        graph = structure(atoms.positions, atoms.numbers, cell=atoms.cell.array)
        expected = model.predict([graph])
        np.testing.assert_allclose(atoms.get_potential_energy(), expected["energy"][0])
        np.testing.assert_allclose(atoms.get_forces(), expected["forces"], atol=1e-12)
        np.testing.assert_allclose(atoms.get_charges(), expected["partial_charges"], atol=1e-12)
        atoms.positions += 0.02 * np.sin(np.arange(12.0)).reshape(4, 3)
    assert atoms.calc.num_searches == 1


def test_far_pairs_of_atoms_and_images():
    """A chain of one atom: of each two opposite images one is kept."""
    chain = structure([[0.0, 0.0, 0.0]], [1], cell=np.eye(3) * [2.0, 9.0, 9.0])
    graph = GraphSpec(1.0, long_range_cutoff=5.0).add_edges(chain)
    np.testing.assert_array_equal(graph["long_cell_shifts"], [[1, 0, 0], [2, 0, 0]])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one writer is enough")
def test_the_saved_model_finds_far_pairs_by_itself(model, tmp_path):
    """Writing compares all signatures with the model: molecules, a small cell, both as files."""
    from keras_mlff import export

    folder = export.export_saved_model(model, tmp_path / "far")
    about = json.loads((folder / export.METADATA).read_text(encoding="utf-8"))
    assert about["long_range_cutoff"] == 7.0
    assert {"long_senders", "long_cell_shifts"} <= about["signatures"]["periodic"]["inputs"].keys()


def test_a_quantity_has_one_head():
    with pytest.raises(ValueError, match="several predict"):
        EGNN(heads=[EnergyHead(), PartialChargesHead(), DipoleHead()])


def test_elements_without_coefficients_are_refused(model):
    uranium = structure([[0.0, 0.0, 0.0]], [92])
    for act in (model.predict, model.check_possible):
        with pytest.raises(ValueError, match=r"for 40 elements.*\[92\]"):
            act(uranium)
