"""Values of atoms: scalars with references and a conserved sum, vectors that turn."""

import keras
import numpy as np
import pytest

from keras_mlff import heads, models, quantities
from keras_mlff.graph import structure
from keras_mlff.heads import collection
from keras_mlff.neighbors import GraphSpec
from keras_mlff.packing.budget import Budget
from keras_mlff.packing.loader import GraphLoader
from keras_mlff.pipeline import with_edges

SIZES = {"num_features": 8, "num_layers": 1, "cutoff": 4.0, "dtype": "float64"}
SPARE = Budget(num_graphs=5, num_atoms=14, num_edges=60, num_triplets=1, max_atoms=7)


def molecules(turn=None, **labels):
    random = np.random.default_rng(1)
    made = []
    for num_atoms, charge, spin in ((3, 1.0, 2), (5, -2.0, 1)):
        positions = random.normal(size=(num_atoms, 3)) * 1.5
        positions = positions if turn is None else positions @ turn
        numbers = random.choice([1, 6, 8], num_atoms)
        made.append(
            structure(positions, numbers, total_charge=charge, spin_multiplicity=spin, **labels)
        )
    return made


def predict(model, graphs):
    model.run_eagerly = keras.backend.backend() != "jax"
    loader = GraphLoader(with_edges(graphs, GraphSpec(4.0)), budget=SPARE)
    return model.predict(loader, domain="ignore")  # some see no total charge


@pytest.mark.parametrize(
    ("total", "sums"), [("total_charge", [1.0, -2.0]), ("num_unpaired_electrons", [1.0, 0.0])]
)
def test_atoms_add_up_to_the_total_whatever_the_references(total, sums):
    head = heads.AtomicHead(
        "partial_charges", total=total, scale=3.0, references={1: 0.3, 6: -0.2, 8: -0.7}
    )
    model = models.EGNN(**SIZES, heads=[head])
    charges = predict(model, molecules())["partial_charges"]
    np.testing.assert_allclose(np.add.reduceat(charges, [0, 3]), sums, atol=1e-12)
    free = models.EGNN(**SIZES, heads=[heads.AtomicHead("partial_charges", scale=3.0)])
    assert (
        np.abs(np.add.reduceat(predict(free, molecules())["partial_charges"], [0, 3]) - sums).max()
        > 1e-3
    )


def test_what_atoms_lack_is_shared_equally():
    head = heads.AtomicHead("partial_charges", references={1: 0.3, 6: -0.2, 8: -0.7})
    free = models.EGNN(**SIZES, heads=[head])
    conserving = models.EGNN(
        **SIZES,
        heads=[
            heads.AtomicHead("partial_charges", references=head.references, total="total_charge")
        ],
    )
    conserving.set_weights(free.get_weights())
    charges = predict(free, molecules())["partial_charges"]
    for part, total in ((slice(0, 3), 1.0), (slice(3, 8), -2.0)):
        shifted = charges[part] + (total - charges[part].sum()) / len(charges[part])
        np.testing.assert_allclose(
            predict(conserving, molecules())["partial_charges"][part], shifted, rtol=1e-10
        )


def test_references_are_means_of_the_elements_that_have_the_label():
    graphs = [
        structure(np.eye(3), [8, 1, 1], partial_charges=[-0.8, 0.4, np.nan]),
        structure(np.eye(3), [8, 1, 6], partial_charges=[-0.6, 0.2, np.nan]),
        structure(np.eye(3)[:1], [8]),
    ]
    head = heads.AtomicHead("partial_charges")
    head.fit_offsets(graphs)
    assert head.references == pytest.approx({8: -0.7, 1: 0.3})
    assert head.scale == pytest.approx(0.1)
    np.testing.assert_allclose(head.offsets(graphs[0]), [-0.7, 0.3, 0.3])
    with pytest.raises(ValueError, match=r"'hirshfeld_ratios' need atoms that have it.*3 graphs"):
        heads.AtomicHead("hirshfeld_ratios").fit_offsets(graphs)


def test_vectors_turn_with_the_structure():
    quantities.register("atomic_dipoles", level="atom", shape=(3,), unit="e·Å")
    head = heads.for_label("atomic_dipoles")
    head.fit_offsets([structure(np.eye(3)[:1], [8], atomic_dipoles=[[3.0, 0.0, 0.0]])])
    assert (head.scale, head.references) == (pytest.approx(np.sqrt(3.0)), {})
    model = models.CMRET(**SIZES, num_heads=2, num_radial=4, heads=[head])
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    before, after = (predict(model, molecules(each))["atomic_dipoles"] for each in (None, turn))
    assert before.shape == (8, 3)
    assert np.abs(before).max() > 1e-6
    np.testing.assert_allclose(after, before @ turn, rtol=1e-9, atol=1e-12)


def test_an_architecture_without_vectors_refuses_them():
    with pytest.raises(ValueError, match=r"no vector features.*Use CMRET"):
        models.EGNN(**SIZES, heads=[heads.AtomicHead("atomic_dipoles", shape=(3,))])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (2,)}, r"shape=\(2,\)"),
        ({"shape": (3,), "total": "total_charge"}, "for scalars"),
        ({"total": "energy"}, r"\['total_charge', 'num_unpaired_electrons'\]"),
    ],
)
def test_what_a_head_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        heads.AtomicHead("shieldings", **arguments)


def test_a_head_makes_its_name_known_and_a_config_carries_it():
    quantities.register("shieldings", level="atom", unit="ppm", ase="magmoms", description="NMR")
    config = keras.saving.serialize_keras_object(heads.AtomicHead("shieldings"))
    quantities.unregister("shieldings")
    head = keras.saving.deserialize_keras_object(config)
    assert quantities.get("shieldings").ase == "magmoms"
    assert head.unit == "ppm"
    collection.make([head, heads.ScalarHead("capacity", unit="J/K")])
    assert quantities.get("capacity").level == "structure"
    # who knows more may say so afterwards
    assert quantities.register("capacity", level="structure", unit="J/K", ase="capacity").ase


@pytest.mark.parametrize(
    "head",
    [
        heads.ScalarHead("partial_charges"),
        heads.AtomicHead("partial_charges", unit="C"),
        heads.AtomicHead("partial_charges", shape=(3,)),
        heads.AtomicHead("gap", shape=()),
    ],
)
def test_a_head_that_contradicts_the_table_is_refused(head):
    with pytest.raises(ValueError, match=r"another level, shape or unit\. Received: \(level="):
        collection.make([head])


@pytest.mark.parametrize(
    ("name", "kind", "outputs"),
    [
        ("energy", heads.EnergyHead, ["energy", "atomic_energies"]),
        ("forces", heads.EnergyHead, ["energy", "atomic_energies"]),
        ("mu", heads.DipoleHead, ["dipole", "mu"]),
        ("alpha", heads.PolarizabilityHead, ["polarizability", "alpha", "polarizability_norm"]),
        ("r2", heads.SpatialExtentHead, ["r2"]),
        ("homo", heads.ScalarHead, ["homo"]),
        ("zpve", heads.ScalarHead, ["zpve"]),
        ("partial_charges", heads.AtomicHead, ["partial_charges"]),
    ],
)
def test_each_quantity_has_its_head(name, kind, outputs):
    head = heads.for_label(name)
    assert type(head) is kind
    assert [quantity.name for quantity in head.outputs] == outputs
    for quantity in head.outputs:
        assert quantities.get(quantity.name).unit == quantity.unit
    collection.make([head, *([] if kind is heads.EnergyHead else [heads.EnergyHead()])])


def test_several_labels_need_each_head_once():
    made = heads.for_labels(["energy", "forces", "stress", "dipole", "mu", "gap", "U0"])
    assert [head.name for head in made] == ["energy", "dipole", "gap", "U0"]
    assert made[1].norm_name == "mu"
    assert [head.is_extensive for head in made] == [True, False, False, True]
    with pytest.raises(ValueError, match="No head predicts 'cell'"):
        heads.for_label("cell")
