"""Structures from files must come in eV, Å and e, complete or not at all."""

import sys

import numpy as np
import pytest

from keras_mlff import datasets, units
from keras_mlff.datasets.tools.files import load_structures
from keras_mlff.datasets.tools.writer import save_structures
from keras_mlff.graph import structure

NUMBERS = np.array([8, 1, 1])
POSITIONS = np.array(
    [
        [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]],
        [[0.0, 0.0, 0.1], [0.98, 0.0, 0.0], [-0.22, 0.91, 0.0]],
    ]
)
ENERGY = np.array([-76.4, -76.3])
FORCES = np.array([[[0.1, 0.2, 0.0], [-0.1, 0.0, 0.0], [0.0, -0.2, 0.0]]] * 2)


@pytest.fixture
def save(tmp_path):
    """Writes two water molecules and what else is given as npz."""

    def write(**arrays):
        path = tmp_path / "water.npz"
        fixed = {"z": NUMBERS, "R": POSITIONS, "E": ENERGY, "F": FORCES}
        np.savez(path, **{k: v for k, v in (fixed | arrays).items() if v is not None})
        return path

    return write


def assert_same(left, right, **tolerance):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_allclose(one[key], other[key], **tolerance, err_msg=key)


def test_fixed_layout_gives_structures(save):
    expected = [
        structure(*frame, energy=energy, forces=forces)
        for *frame, energy, forces in zip(POSITIONS, [NUMBERS] * 2, ENERGY, FORCES, strict=True)
    ]
    assert_same(load_structures(save()), expected, rtol=0)


def test_concatenated_layout_gives_the_same(save):
    fixed = load_structures(save())
    joined = save(
        n_atoms=[3, 3], z=np.tile(NUMBERS, 2), R=POSITIONS.reshape(6, 3), F=FORCES.reshape(6, 3)
    )
    assert_same(load_structures(joined), fixed, rtol=0)


def test_zeros_in_atomic_numbers_are_no_atoms(save):
    numbers = np.array([[8, 1, 1, 0], [0, 8, 1, 1]])
    positions, forces = np.zeros((2, 2, 4, 3))
    positions[numbers > 0] = POSITIONS.reshape(6, 3)
    forces[numbers > 0] = FORCES.reshape(6, 3)
    padded = load_structures(save(z=numbers, R=positions, F=forces))
    assert_same(padded, load_structures(save()), rtol=0)


def test_units_of_every_label_follow_from_energy_and_length(save):
    """One by one, with factors written out: 1 hartree is 27.2114 eV, 1 bohr 0.529177 Å."""
    cell = np.eye(3) * 10.0
    stress, dipole = np.full((2, 3, 3), 1e-3), np.ones((2, 3))
    path = save(R=2 * POSITIONS, cell=cell, stress=stress, dipole=dipole, gap=ENERGY)
    labels = ("energy", "forces", "stress", "dipole", "gap")
    graph = load_structures(path, labels, energy_unit="hartree", length_unit="bohr")[1]
    expected = {
        "positions": POSITIONS[1] * 2 * 0.529177,
        "cell": [np.eye(3) * 5.29177],
        "energy": [ENERGY[1] * 27.2114],
        "forces": FORCES[1] * 51.4221,
        "stress": np.full((1, 3, 3), 0.183631),
        "dipole": [[0.529177] * 3],
        "gap": [ENERGY[1] * 27.2114],
    }
    for key, value in expected.items():
        np.testing.assert_allclose(graph[key], value, rtol=1e-5, err_msg=key)


def test_both_signs_for_angstrom_are_known(save):
    assert_same(
        load_structures(save(), length_unit="\u212b"), load_structures(save(), length_unit="\u00c5")
    )


def test_unknown_unit_lists_the_known(save):
    with pytest.raises(ValueError, match=r"energy_unit='cal', known are .*'kcal/mol'"):
        load_structures(save(), energy_unit="cal")


def test_label_that_no_structure_has_is_refused_with_what_was_found(save):
    with pytest.raises(ValueError, match=r"No structure of .*forces.*\['E', 'R', 'z'\]"):
        load_structures(save(F=None))


def test_label_may_be_missing_in_some_structures(save):
    """It is NaN there, and the report counts those that have it."""
    energy, forces = ENERGY.copy(), FORCES.copy()
    energy[1], forces[0] = np.nan, np.nan
    graphs = load_structures(save(E=energy, F=forces))
    assert [np.isnan(graph["energy"][0]) for graph in graphs] == [False, True]
    assert [np.isnan(graph["forces"]).all() for graph in graphs] == [True, False]
    found = datasets.report(graphs)
    assert found.num_labeled == {"energy": 1, "forces": 1}
    assert "energy: known of 1 of 2 structures" in str(found)
    np.testing.assert_allclose(found.mean_force, 0.17454, atol=1e-5)  # of the second
    with pytest.raises(ValueError, match=r"No structure of .*energy"):
        load_structures(save(E=energy), split="all[1:]")


def test_unregistered_label_is_refused_with_the_call_that_registers_it(save):
    with pytest.raises(ValueError, match=r"quantities.register\('softness'"):
        load_structures(save(softness=ENERGY), labels=["softness"])


def test_values_of_atoms_must_count_the_atoms(save):
    with pytest.raises(ValueError, match=r"'forces' in .* needs a value for each atom"):
        load_structures(save(F=FORCES[:, :2]))


def test_labels_that_are_not_asked_for_are_left_out(save):
    graph = load_structures(save(F=None), labels=["energy"])[0]
    assert "energy" in graph
    assert "forces" not in graph


def test_keys_tell_other_names(save):
    path = save(E=None, E_dft=ENERGY, charges=np.array([1, 2]))
    keys = {"energy": "E_dft", "total_charge": "charges"}
    graphs = load_structures(path, keys=keys)
    assert [graph["energy"][0] for graph in graphs] == ENERGY.tolist()
    assert [graph["total_charge"][0] for graph in graphs] == [1, 2]


def test_two_names_for_one_thing_are_refused(save):
    with pytest.raises(ValueError, match=r"several arrays for energy: \['energy', 'E'\]"):
        load_structures(save(energy=ENERGY))


def test_charge_and_spin_are_read(save):
    graphs = load_structures(save(total_charge=np.array(-1), spin_multiplicity=np.array([1, 3])))
    assert [graph["total_charge"][0] for graph in graphs] == [-1, -1]
    assert [graph["spin_multiplicity"][0] for graph in graphs] == [1, 3]


def test_infinite_label_names_the_structure(save):
    energy = ENERGY.copy()
    energy[1] = np.inf
    with pytest.raises(ValueError, match=r"Structure 1 .*'energy' holds infinite"):
        load_structures(save(E=energy))


def test_splits_of_the_file_are_known(save):
    path = save(split_train=[1], split_test=[0])
    assert load_structures(path, split="train")[0]["energy"] == ENERGY[1]
    assert load_structures(path, split="all[1:]")[0]["energy"] == ENERGY[1]
    with pytest.raises(ValueError, match=r"known are \['all', 'test', 'train'\]"):
        load_structures(path, split="valid")


def test_structures_are_chosen_by_what_the_file_says_of_them(tmp_path):
    path = tmp_path / "crystals.npz"
    np.savez(
        path,
        positions=np.zeros((4, 1, 3)),
        atomic_numbers=[8],
        energy=np.arange(4.0),
        forces=np.zeros((4, 1, 3)),
        topology=np.asarray([1, 0, 1, 1], np.uint8),
        topology_names=np.asarray([b"abw", b"sod"]),
        group=["Surface", "Surface", "AIMD-NVT", "AIMD-NVT"],
        verified=np.asarray([True, False, True, False]),
        description=["a", "b", "c", "d"],
    )

    def energies(split):
        return [graph["energy"][0] for graph in load_structures(path, split=split)]

    assert energies("topology_sod[1:]+topology_abw") == [2.0, 3.0, 1.0]
    assert energies("group_Surface") == [0.0, 1.0]
    assert energies("verified_True") == [0.0, 2.0]
    for name in ("topology", "description_a", "topology_names_abw"):
        with pytest.raises(ValueError, match="no such split"):
            energies(name)


def test_wrong_count_is_refused(save):
    with pytest.raises(ValueError, match=r"'energy' .* needs a row for each of the 2 structures"):
        load_structures(save(E=ENERGY[:1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"F": 500 * FORCES}, "Are the forces in another unit"),
        ({"R": 0.1 * POSITIONS}, "Are the positions in another unit, such as nanometers"),
        ({"R": POSITIONS / units.bohr}, "Are the positions in bohr"),
        ({"F": np.abs(FORCES)}, "do not add up to zero"),
    ],
)
def test_wrong_units_and_net_forces_are_noticed(save, change, message):
    with pytest.warns(UserWarning, match=message):
        load_structures(save(**change))


def test_coincident_atoms_are_refused(save):
    with pytest.raises(ValueError, match="Structure 0: Two atoms are at the same place"):
        load_structures(save(R=POSITIONS * [[[0.0]], [[1.0]]]))


def test_report_tells_sizes_and_forces(save):
    report = datasets.report(load_structures(save()))
    assert report[:3] == (2, 6, [1, 8])
    np.testing.assert_allclose(report.shortest_distance, np.hypot(0.22, np.hypot(0.91, 0.1)))
    # lengths 0.2236, 0.1, 0.2
    np.testing.assert_allclose([report.mean_force, report.net_force], [0.17454, 0], atol=1e-5)
    assert "6 atoms" in str(report)


def test_npz_needs_no_ase(save, monkeypatch):
    monkeypatch.setitem(sys.modules, "ase", None)
    assert len(load_structures(save())) == 2
    with pytest.raises(ImportError, match=r"keras-mlff\[md\]"):
        load_structures(save().rename(save().with_suffix(".traj")))


# Files of ASE


@pytest.fixture
def images():
    """A charged crystal with stress, and a molecule in its triplet state."""
    ase = pytest.importorskip("ase")
    from ase.calculators.singlepoint import SinglePointCalculator

    random = np.random.default_rng(0)
    crystal = ase.Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]], cell=np.eye(3) * 5.6, pbc=[1, 1, 0])
    crystal.info["charge"] = 1
    molecule = ase.Atoms("O2", [[0, 0, 0], [1.2, 0, 0]], info={"spin": 3})
    for atoms in (crystal, molecule):
        force = random.normal(size=3)
        results = {"energy": random.normal(), "forces": np.stack([force, -force])}
        if atoms.pbc.any():
            results["stress"] = 0.01 * np.arange(1.0, 7.0)
        atoms.calc = SinglePointCalculator(atoms, **results)
    return [crystal, molecule]


@pytest.mark.parametrize("suffix", [".xyz", ".db", ".traj"])
def test_files_of_ase_are_read(images, tmp_path, suffix):
    import ase.db
    import ase.io

    path = tmp_path / f"structures{suffix}"
    if suffix == ".db":  # which keeps no info
        with ase.db.connect(path) as database:
            for atoms in images:
                database.write(atoms, key_value_pairs=atoms.info)
    else:
        ase.io.write(path, images)
    crystal, molecule = load_structures(path)

    for graph, atoms in zip((crystal, molecule), images, strict=True):
        # extended XYZ has 8 digits
        np.testing.assert_allclose(graph["positions"], atoms.positions, atol=1e-8)
        np.testing.assert_allclose(graph["forces"], atoms.calc.results["forces"], atol=1e-8)
        np.testing.assert_allclose(graph["energy"], atoms.calc.results["energy"])
    assert crystal["pbc"].tolist() == [[True, True, False]]
    np.testing.assert_array_equal(crystal["cell"], [np.eye(3) * 5.6])
    assert (crystal["total_charge"], crystal["spin_multiplicity"]) == (1, 1)
    assert (molecule["total_charge"], molecule["spin_multiplicity"]) == (0, 3)
    assert "cell" not in molecule

    stress = load_structures(path, ["stress"], split="all[:1]")[0]["stress"]
    np.testing.assert_allclose(100 * stress, [[[1, 6, 5], [6, 2, 4], [5, 4, 3]]])
    both = load_structures(path, ["stress"])
    assert np.isnan(both[1]["stress"]).all()
    assert both[1]["stress"].shape == (1, 3, 3)
    with pytest.raises(ValueError, match=r"No structure of .* has stress"):
        load_structures(path, ["stress"], split="all[1:]")


def test_atoms_become_structures_that_keep_what_they_were(images):
    from keras_mlff.datasets import from_atoms

    crystal, molecule = from_atoms(images)
    first = images[0].positions.copy()
    images[0].positions += 1.0
    np.testing.assert_array_equal(crystal["positions"], first)
    assert molecule["spin_multiplicity"].tolist() == [3]
    assert "energy" not in from_atoms(images[1], labels=())[0]
    with pytest.raises(ValueError, match=r"Image 0: 'stress' .* before they changed"):
        from_atoms(images, labels=("stress",))
    images[0].positions = first
    assert np.isnan(from_atoms(images, labels=("stress",))[1]["stress"]).all()
    with pytest.raises(ValueError, match="No structure of the images has stress"):
        from_atoms(images[1], labels=("stress",))


def test_a_virial_is_read_as_stress(images):
    from keras_mlff.datasets import from_atoms

    crystal = images[0]
    del crystal.calc.results["stress"]
    for virial in (np.asarray([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]]), np.arange(1.0, 7.0)):
        crystal.info["virial"] = virial
        (found,) = from_atoms(crystal, labels=("stress",))
        expected = [[1, 6, 5], [6, 2, 4], [5, 4, 3]]
        np.testing.assert_allclose(found["stress"][0], -np.asarray(expected) / 5.6**3)


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ends in .xyz or .extxyz"):
        save_structures(tmp_path / "out.npz", [])


def test_forces_of_constrained_atoms_are_not_zeroed(images, tmp_path):
    from ase.constraints import FixAtoms
    from ase.io import write

    images[0].set_constraint(FixAtoms([0]))
    forces = images[0].calc.results["forces"]
    write(tmp_path / "fixed.traj", images[:1])
    loaded = load_structures(tmp_path / "fixed.traj")[0]
    np.testing.assert_array_equal(loaded["forces"], forces)


def test_saved_structures_come_back(images, tmp_path):
    import ase.io

    ase.io.write(tmp_path / "images.traj", images)
    graphs = load_structures(tmp_path / "images.traj", ["energy", "forces"])
    tensor = 0.01 * np.arange(9.0).reshape(1, 3, 3)
    graphs[0]["stress"] = tensor + tensor.mT
    path = tmp_path / "saved.xyz"
    save_structures(path, graphs)
    stressed = load_structures(path, ["energy", "forces", "stress"], split="all[:1]")
    assert_same(stressed + load_structures(path, split="all[1:]"), graphs, rtol=1e-7, atol=1e-8)


def test_predictions_get_the_plain_names(tmp_path, save):
    pytest.importorskip("ase")
    graphs = load_structures(save())
    charges = np.arange(6.0)
    predictions = {
        "energy": ENERGY + 1,
        "forces": 2 * FORCES.reshape(6, 3),
        "homo": np.array([0.5, 0.6]),
        "partial_charges": charges,
    }
    save_structures(tmp_path / "predicted.xyz", graphs, predictions)

    labels = ("energy", "forces", "homo", "partial_charges")
    second = load_structures(tmp_path / "predicted.xyz", labels)[1]
    np.testing.assert_allclose(second["energy"], ENERGY[1:] + 1)
    np.testing.assert_allclose(second["forces"], 2 * FORCES[1])
    np.testing.assert_allclose(second["homo"], [0.6])
    np.testing.assert_allclose(second["partial_charges"], charges[3:])
    keys = {"energy": "label_energy", "forces": "label_forces"}
    known = load_structures(tmp_path / "predicted.xyz", keys=keys)[1]
    np.testing.assert_allclose(known["energy"], ENERGY[1:])
    np.testing.assert_allclose(known["forces"], FORCES[1])


# Quantities of users


@pytest.fixture
def registered():
    """Two quantities of a user's own: magnetic moments of atoms, a tensor of structures."""
    from keras_mlff import quantities

    quantities.register("magnetic_moments", level="atom", unit="muB", ase="magmoms")
    quantities.register("softness", level="structure", shape=(3, 3), dimension=(-1, 3))
    yield
    quantities.unregister("magnetic_moments")
    quantities.unregister("softness")


@pytest.mark.parametrize("suffix", [".xyz", ".db", ".traj", ".npz", "_own.xyz"])
@pytest.mark.usefixtures("registered")
def test_registered_quantities_are_read_converted_and_written(images, tmp_path, suffix):
    """By ASE's name or our own, and from every kind of file; the second image has none."""
    import ase.db
    import ase.io

    moments, tensor = np.asarray([1.5, -0.5]), np.arange(9.0).reshape(3, 3)
    path = tmp_path / f"structures{suffix}"
    if suffix == "_own.xyz":
        images[0].arrays["magnetic_moments"] = moments
    else:
        images[0].calc.results["magmoms"] = moments
    images[0].info["softness"] = tensor
    if suffix == ".npz":
        nothing = np.full(9, np.nan)
        np.savez(
            path,
            positions=[image.positions for image in images],
            atomic_numbers=[image.numbers for image in images],
            magnetic_moments=[moments, [np.nan, np.nan]],
            softness=[tensor.ravel(), nothing],
        )
    elif suffix == ".db":
        with ase.db.connect(path) as database:
            for atoms in images:
                database.write(atoms, data={"softness": tensor} if atoms.pbc.any() else {})
    else:
        ase.io.write(path, images)
    labels = ["magnetic_moments", "softness"]
    first, second = load_structures(path, labels, energy_unit="hartree", length_unit="bohr")
    np.testing.assert_allclose(first["magnetic_moments"], moments)
    np.testing.assert_allclose(first["softness"][0], tensor * 0.529177**3 / 27.2114, rtol=1e-5)
    assert first["softness"].shape == second["softness"].shape == (1, 3, 3)
    assert np.isnan(second["magnetic_moments"]).all()

    save_structures(tmp_path / "again.xyz", [first, second])
    again = load_structures(tmp_path / "again.xyz", labels)
    assert_same(again, [first, second], rtol=1e-7, atol=1e-8)
    atoms = ase.io.read(tmp_path / "again.xyz", index=0)
    np.testing.assert_allclose(atoms.get_magnetic_moments(), moments)


def test_kinds_of_structures_are_read_beside_them(images, tmp_path, save):
    import ase.io

    from keras_mlff.datasets.tools.files import configurations

    images[0].info["config_type"] = "salt"
    ase.io.write(tmp_path / "kinds.xyz", images)
    assert configurations(tmp_path / "kinds.xyz") == ["salt", ""]
    assert configurations(tmp_path / "kinds.xyz", "all[1:]") == [""]
    assert configurations(save(config_type=np.asarray(["wet", "dry"]))) == ["wet", "dry"]
    assert configurations(save()) is None


def test_unreadable_frame_is_named(tmp_path):
    pytest.importorskip("ase")
    path = tmp_path / "cut.xyz"
    path.write_text("1\nenergy=1\nH 0 0 0\n2\nenergy=1\nH 0 0\n", "utf-8")
    with pytest.raises(
        ValueError, match=r"frame 1 of .*cut.xyz.*line 4.* 2 atoms, and there are 1"
    ):
        load_structures(path, labels=["energy"])


def test_warnings_point_at_the_user_s_line(save):
    path = save(F=500 * FORCES)
    for read in (datasets.load, load_structures):
        with pytest.warns(UserWarning, match="another unit") as caught:
            read(path)
        assert caught[0].filename == __file__
