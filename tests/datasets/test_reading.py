"""A reader understands the whole of what it is given, or refuses it and says where and why."""

import gzip
import re
import tarfile
import zipfile

import numpy as np
import pytest

from keras_mlff import cli, datasets, units
from keras_mlff.datasets.tools import extxyz, sources
from keras_mlff.datasets.tools.files import iterate, load_structures

pytest.importorskip("ase")

import ase.io
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

COLUMNS = "Properties=species:S:1:pos:R:3:forces:R:3"
ATOMS = "H 0 0 0 0 0 1\nH 0 0 0.7 0 0 -1\n"
FRAME = f"2\nenergy=-1.5 {COLUMNS}\n{ATOMS}"
BOX = 'Lattice="4 0 0 0 4 0 0 0 5"'


def frame(header="", atoms=ATOMS, count=2, columns=COLUMNS):
    return f"{count}\n{header} {columns}\n{atoms}"


def write(folder, text, name="frames.xyz"):
    path = folder / name
    path.write_text(text, "utf-8")
    return path


# extended XYZ


@pytest.mark.parametrize("text", [FRAME * 2 + "\n  \n" + FRAME * 2 + "\n\n", FRAME * 4])
def test_empty_lines_between_frames_lose_none(tmp_path, text):
    path = write(tmp_path, text)
    assert len(load_structures(path)) == len(list(iterate(path))) == len(extxyz.Frames(path)) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (frame("energy"), "'energy' .*needs numbers. Received: True, of type bool"),
        (frame("energy="), "'energy' has no value"),
        (frame("energy=-1 energy=-7"), "'energy' is stated twice"),
        (frame("energy=-1 energy"), "with and without a value"),
        (frame("energy=1_000"), "'energy' .*of type text"),
        (frame("energy=T"), "of type bool"),
        (frame("energy=inf"), "'energy' holds infinite"),
        (frame('energy="1 2"'), "'energy' of a structure of 2 atoms has the shape"),
        (frame("energy=1", "H 0 0 0.0D0 0 0 1\n" + ATOMS[14:]), "'positions' of atom 0.*0.0D0"),
        (frame("energy=1", ATOMS.replace("0.7", "0_7")), "'positions' of atom 1.*0_7"),
        (frame("energy=1", ATOMS.replace("0.7", "nan")), "'positions' holds NaN"),
        (
            frame("energy=1", ATOMS.replace("H 0 0 0.7", "D 0 0 0.7")),
            "atom 1 .*write H, and masses",
        ),
        (frame("energy=1", ATOMS.replace("H", "Xx")), "atom 0 .*symbol of an element.*'Xx'"),
        (frame("energy=1", ATOMS.replace("H", "1")), "write H for 1, or declare .*Z:I:1"),
        (frame("energy=1", ATOMS.replace("H", "CA")), "'CA'"),
        (frame("energy=1", ATOMS.replace("-1", "-1 0.3")), "atom 1 has 8 columns instead of 7"),
        (frame("energy=1", columns=COLUMNS.replace("pos:R", "pos:S")), "pos:R:3"),
        (frame("energy=1", columns=COLUMNS + ":forces:R:3"), "name a column twice"),
        (frame("energy=1", columns="Properties"), "Properties are triples"),
        (frame("energy=1", columns="Properties=species:S:1:pos:R"), "Properties are triples"),
        (frame("energy=1 spin=inf"), "'spin' is one finite number"),
        (frame("energy=1 charge=1 total_charge=2"), "different numbers for total_charge"),
        (frame("energy=1 charge=one"), "'charge' needs numbers"),
        (frame("energy=1 mult=1.5"), r"2S\+1"),
        (frame('energy=1 Lattice="1 2 3"'), "'Lattice' needs nine numbers"),
        (frame(f'energy=1 {BOX} pbc="T T X"'), "'pbc' needs three times"),
        (frame("energy=1", count="2x"), "starts with b'2x"),
        (frame("energy=1", count="-2"), "starts with b'-2"),
        (frame("energy=1", count=3), "should have 3 atoms, and there are 2"),
        (frame("energy=1", count=30_000_000), "should have 30000000 atoms"),
        (frame("energy=1", count="9" * 5000), "starts with b'999"),
        (frame("energy=1", count=0), "starts with|should have"),
        (frame("energy=1", count=1), "frame 2 .*instead of a number of atoms"),
        (frame("energy=1 energy_unit=cal"), "energy_unit='cal', which is not known"),
    ],
)
def test_frames_that_are_not_understood_are_named(tmp_path, text, message):
    path = write(tmp_path, FRAME + text)
    for read in (load_structures, lambda path: list(iterate(path))):
        with pytest.raises(ValueError, match=message) as caught:
            read(path)
        assert re.search(r"(frame|Structure) [12]\b", str(caught.value))
        assert path.name in str(caught.value)


def test_what_is_usual_is_read(tmp_path):
    header = f"energy = -3 free_energy=-4 name='a b' note={{1 2}} done {BOX} pbc=[T,T,F] charge=-1"
    path = tmp_path / "frames.xyz.gz"
    path.write_bytes(
        gzip.compress(frame(header + " multiplicity=3").replace("\n", "\r\n").encode())
    )
    (graph,) = load_structures(path)
    assert (graph["energy"], graph["total_charge"], graph["spin_multiplicity"]) == (-3, -1, 3)
    assert graph["pbc"].tolist() == [[True, True, False]]
    np.testing.assert_array_equal(graph["forces"], [[0, 0, 1], [0, 0, -1]])
    path = write(tmp_path, "2\nit's water, or \"so\nO 0 0 0\nh 0 0 1\n")
    assert load_structures(path, ())[0]["atomic_numbers"].tolist() == [8, 1]


def test_the_lattice_has_its_vectors_in_rows(tmp_path):
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=np.arange(9.0).reshape(3, 3), pbc=True)
    atoms.cell[0, 0] = 5.0
    ase.io.write(tmp_path / "frames.xyz", atoms)
    (graph,) = load_structures(tmp_path / "frames.xyz", ())
    np.testing.assert_array_equal(graph["cell"][0], atoms.cell.array)


@pytest.mark.parametrize("name", ["total_spin", "uhf", "Charge", "net_charge", "lattice", "cell"])
def test_names_that_nobody_reads_are_told(tmp_path, name):
    path = write(tmp_path, frame(f"energy=1 {name}=2") * 2)
    with pytest.warns(UserWarning, match=f"{name}.* look like a charge") as caught:
        list(iterate(path))
    assert len(caught) == 1


def test_a_name_that_is_told_is_read(tmp_path):
    path = write(tmp_path, frame("energy=1 total_spin=3"))
    (graph,) = load_structures(path, keys={"spin_multiplicity": "total_spin"})
    assert graph["spin_multiplicity"].tolist() == [3]
    with pytest.raises(ValueError, match="has total_charge"):
        load_structures(write(tmp_path, FRAME), keys={"total_charge": "absent"})
    with pytest.raises(ValueError, match=r"'enrgy'"):
        load_structures(path, keys={"enrgy": "E"})


# stress, virial and units


VOIGT, TENSOR = "1e-2 2e-2 3e-2 4e-2 5e-2 6e-2", [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


@pytest.mark.parametrize(
    ("header", "options", "factor"),
    [
        (f'stress="{VOIGT}"', {}, 1.0),
        ('stress="1e-2 6e-2 5e-2 6e-2 2e-2 4e-2 5e-2 4e-2 3e-2"', {}, 1.0),
        (f'virial="{VOIGT}"', {}, -1 / 80),
        (f'REF_virial="{VOIGT}"', {"keys": {"virial": "REF_virial"}}, -1 / 80),
        (f'stress="{VOIGT}"', {"stress_unit": "GPa"}, 0.0062415091),
        (f'stress="{VOIGT}"', {"stress_unit": "kbar", "stress_sign": -1}, -0.00062415091),
        (f'stress="{VOIGT}" stress_unit=kbar', {}, 0.00062415091),
        (f'virial="{VOIGT}"', {"stress_unit": "GPa", "energy_unit": "meV"}, -1e-3 / 80),
    ],
)
def test_stresses_come_in_our_unit_and_sign(tmp_path, header, options, factor):
    path = write(tmp_path, frame(f"energy=1 {BOX} {header}"))
    (graph,) = load_structures(path, ["stress"], **options)
    np.testing.assert_allclose(100 * graph["stress"][0], np.asarray(TENSOR) * factor, rtol=1e-7)


@pytest.mark.parametrize(
    ("header", "keys", "message"),
    [
        ('stress="1 5 0 0 2 0 0 0 3"', {}, "frame 0 .*'stress' is not symmetric"),
        ('stress="1 0 0 0 1 0 0 0 1"', {}, "There is a stress, and no cell"),
        ('virial="1 5 0 0 2 0 0 0 3"', {}, "frame 0 .*not symmetric"),
        ('stress="1 2 3 4"', {}, "the label 'stress'.*shape"),
        ('virial="1 2 3 4"', {}, "'virial' has six or nine numbers"),
        ('REF_virial="1 0 0 0 2 0 0 0 3"', {"stress": "REF_virial"}, "virial is an energy"),
        ('virial="1 0 0 0 2 0 0 0 3"', {}, "without a volume"),
    ],
)
def test_stresses_that_are_none_are_refused(tmp_path, header, keys, message):
    flat = 'Lattice="4 0 0 0 4 0 0 0 0" pbc="T T F"'
    cell = {"without a volume": flat, "There is a stress, and no cell": ""}.get(message, BOX)
    path = write(tmp_path, frame(f"energy=1 {cell} {header}"))
    with pytest.raises(ValueError, match=rf"(?i){message}"):
        load_structures(path, ["stress"], keys=keys)


def test_stress_of_vasp_is_noticed(tmp_path):
    path = write(tmp_path, frame(f'energy=1 {BOX} stress="-120 3 5 3 -90 2 5 2 -60"'))
    with pytest.warns(UserWarning, match=r"120 eV/Å³.*kbar.*stress_sign=-1"):
        graphs = load_structures(path, ["stress"])
    assert "stress: mean of the largest component 120 eV" in str(datasets.report(graphs))


def test_commands_take_unit_and_sign_of_stresses(tmp_path, capsys):
    path = write(tmp_path, frame(f'energy=1 {BOX} stress="-120 3 5 3 -90 2 5 2 -60"'))
    command = ["data", "validate", str(path), "--labels", "stress"]
    assert cli.main([*command, "--stress-unit", "kbar", "--stress-sign", "-1"]) == 0
    printed = capsys.readouterr().out
    assert "stress: mean of the largest component 0.0749 eV" in printed
    assert "warning" not in printed
    assert cli.main(command) == 0
    assert "warning: The largest component of a stress is 120 eV" in capsys.readouterr().out


def test_units_that_a_file_states_are_used_or_compared(tmp_path):
    path = write(tmp_path, frame("energy=1 energy_unit=kcal/mol length_unit=bohr"))
    (graph,) = load_structures(path)
    np.testing.assert_allclose(graph["energy"], units.kcal_per_mol)
    np.testing.assert_allclose(graph["forces"][0, 2], units.kcal_per_mol / units.bohr)
    np.testing.assert_allclose(graph["positions"][1, 2], 0.7 * units.bohr)
    with pytest.raises(ValueError, match=r"energy_unit='kcal/mol', and another one was told"):
        load_structures(path, energy_unit="eV")


# npz

TRUE = {"R": np.zeros((3, 2, 3)), "z": [1, 1], "E": np.arange(3.0), "F": np.zeros((3, 2, 3))}
TRUE["R"][:, 1, 2] = 0.7
FLAT = {key: np.reshape(TRUE[key], (6, 3)) for key in "RF"}
FLAT |= {"z": np.ones(6, int), "n_atoms": [2, 2, 2]}


def save(folder, **arrays):
    path = folder / "frames.npz"
    np.savez(path, **{key: value for key, value in (TRUE | arrays).items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"F": np.zeros((4, 2, 3))}, "'forces' .*value for each atom.*'F' of shape"),
        ({"E": np.zeros(4)}, "'energy' .*row for each of the 3"),
        (FLAT | {"F": np.zeros((8, 3))}, "'forces' .*value for each atom"),
        (FLAT | {"z": np.ones(8, int)}, r"atomic numbers of shape \(8,\)"),
        (FLAT | {"n_atoms": [2, 2, 3]}, r"add up to \[7\]"),
        (FLAT | {"n_atoms": [4, -2, 4]}, "integers of at least 1"),
        (FLAT | {"n_atoms": [2.0, 2.0, 2.0]}, "integers of at least 1"),
        ({"z": [[1, 1]]}, "needs atomic numbers"),
        ({"z": [[1, 1], [1, 1], [1, 0]]}, "atomic number is 0"),
        ({"n_atoms": [2, 2, 1]}, "states other numbers of atoms"),
        ({"charge": [0, 1]}, "'charge' .*row for each"),
        ({"cell": np.zeros((2, 3, 3))}, "'cell' .*row for each"),
        ({"E": np.ones(3, bool)}, "'E' in .*needs numbers.*bool"),
        ({"F": np.full((3, 2, 3), "1")}, "'F' in .*needs numbers.*text"),
        ({"E": np.asarray([1.0, None, 2.0], object)}, "'E' .*objects of Python.*n_atoms"),
        ({"charge": np.asarray([0, 1, 2]), "total_charge": [0, 1, 1]}, "Structure 2 .*different"),
        ({"mult": np.asarray([1.0, np.nan, 1.0])}, "Structure 1 .*'mult' is one finite number"),
        ({"e_unit": np.asarray("cal")}, "energy_unit='cal', which is not known"),
        ({"e_unit": np.asarray(2.0)}, "'e_unit' should be a unit"),
        ({"lattice": np.triu(np.ones((3, 3)))}, "may hold lattice vectors in rows"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_structures(save(tmp_path, **arrays))
    assert "frames.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "split", "message"),
    [
        ({"split_a": [0, -1]}, "a", "from -1 to 0, but there are only 0 to 2"),
        ({"split_a": [0, 3]}, "a", "from 0 to 3, but there are only 0 to 2"),
        ({"kind": [0, 2, 0], "kind_names": ["a", "b"]}, "kind_a", "'kind' .*indices .*0 to 2"),
    ],
)
def test_splits_that_name_no_structure_are_refused(tmp_path, arrays, split, message):
    with pytest.raises(ValueError, match=rf"{message}"):
        load_structures(save(tmp_path, **arrays), split=split)


def test_what_sgdml_states_is_used(tmp_path):
    lattice = np.asarray([[5.0, 1.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 5.0]])
    about = {"e_unit": "kcal/mol", "r_unit": "Ang", "type": "d", "theory": "unknown"}
    path = save(tmp_path, lattice=lattice, charge=[1, 1, 1], spin=3, **about)
    graph = load_structures(path)[2]
    np.testing.assert_allclose(graph["energy"], 2 * units.kcal_per_mol)
    np.testing.assert_array_equal(graph["cell"][0], lattice.T)
    assert (graph["total_charge"], graph["spin_multiplicity"]) == (1, 3)
    with pytest.raises(ValueError, match="energy_unit='kcal/mol', and another"):
        load_structures(path, energy_unit="eV")


def test_names_in_npz_files_that_nobody_reads_are_told(tmp_path):
    with pytest.warns(UserWarning, match=r"'Q', 'total_spin'\]"):
        load_structures(save(tmp_path, Q=np.ones(3), total_spin=np.ones(3), spin=np.ones((3, 2))))


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-30], lambda b: b[:40], lambda b: b"", lambda b: b.replace(b"E", b"G", 1)],
)
def test_damaged_npz_files_are_named(tmp_path, damage):
    path = save(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"frames\.npz"):
        load_structures(path)


# images of ASE


def copper(distance):
    return ase.Atoms("Cu2", [[0, 0, 0], [distance, 0, 0]])


def test_results_count_only_for_their_own_atoms():
    shared, images = EMT(), [copper(d) for d in (2.2, 2.4, 2.6, 2.8)]
    for image in images:
        image.calc = shared
        image.get_forces()
    with pytest.raises(ValueError, match=r"Image 0: 'energy' is in the results .*other atoms"):
        datasets.from_atoms(images)
    kept = []
    for image in images:
        energy, forces = image.get_potential_energy(), image.get_forces()
        kept.append(image.copy())
        kept[-1].calc = SinglePointCalculator(image, energy=energy, forces=forces)
    found = [graph["energy"][0] for graph in datasets.from_atoms(kept)]
    np.testing.assert_allclose(found, [3.1893, 3.5044, 4.0445, 4.6195], atol=1e-4)


def test_labels_of_an_image_and_its_calculator_must_agree():
    image = copper(2.4)
    image.calc = EMT()
    image.info["energy"], image.arrays["forces"] = -100.0, np.zeros((2, 3))
    assert datasets.from_atoms(image)[0]["energy"] == -100.0  # nothing was computed yet
    image.get_forces()
    with pytest.raises(ValueError, match=r"Image 0: 'energy' \(info\) and .*\(calculator\)"):
        datasets.from_atoms(image)
    image.positions += 0.1  # and the results are those of other atoms
    assert datasets.from_atoms(image)[0]["energy"] == -100.0


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"charge": None, "spin": None}, (0, 1)),
        ({"charge": np.array([1]), "spin": np.array([3])}, (1, 3)),
        ({"total_charge": np.float32(2), "multiplicity": 2.0}, (2, 2)),
        ({"charge": "1"}, "Image 0: 'charge' needs numbers.*text"),
        ({"charge": True}, "Image 0: 'charge' needs numbers.*bool"),
        ({"spin": float("inf")}, "Image 0: 'spin' is one finite number"),
        ({"virial": np.ones(6), "energy": "low"}, "Image 0: 'energy' .*text"),
        ({"energy": 1.0, "stress": np.ones((2, 2))}, "Image 0.*stress"),
    ],
)
def test_numbers_in_info_follow_one_rule(info, expected):
    image = copper(2.4)
    image.info |= info
    image.cell, image.pbc = [9, 9, 9], True
    labels = [label for label in ("energy", "stress") if label in info]
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            datasets.from_atoms(image, labels)
    else:
        (graph,) = datasets.from_atoms(image, labels)
        assert (graph["total_charge"][0], graph["spin_multiplicity"][0]) == expected


def test_charges_and_moments_of_atoms_that_say_something_else_are_told():
    image = copper(2.4)
    image.set_initial_charges([1, 0])
    with pytest.warns(UserWarning, match="initial_charges"):
        datasets.from_atoms(image, ())
    image.info["charge"] = 1
    datasets.from_atoms(image, ())


def test_lmdb_is_read(tmp_path):
    pytest.importorskip("ase_db_backends")
    from ase.db import connect

    image = copper(2.4)
    image.calc = SinglePointCalculator(image, energy=-1.0, forces=np.zeros((2, 3)))
    path = tmp_path / "frames.aselmdb"
    with connect(path) as database:
        for spin in (1, 3):
            database.write(image, key_value_pairs={"spin": spin})
    assert [graph["spin_multiplicity"][0] for graph in load_structures(path)] == [1, 3]
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match=r"frames\.aselmdb.* cut off"):
        load_structures(path)


@pytest.mark.parametrize("suffix", [".lmdb", ".hdf5", ".traj", ".db"])
def test_files_that_cannot_be_read_list_those_that_can(tmp_path, suffix):
    with pytest.raises(ValueError, match=rf"frames{suffix}.*Files that are read: extended XYZ"):
        load_structures(write(tmp_path, "no such thing", f"frames{suffix}"))


# sources of data sets


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".gz"])
def test_archives_that_would_fill_the_disk_are_refused(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(sources, "_SMALL", 1000)
    (tmp_path / "zeros").write_bytes(bytes(10**6))
    archive = tmp_path / f"zeros{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.write(tmp_path / "zeros", "zeros")
    elif suffix == ".gz":
        archive.write_bytes(gzip.compress(bytes(10**6)))
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.add(tmp_path / "zeros", "zeros")
    with pytest.raises(OSError, match="would unpack to more than"):
        sources._extract(archive, archive.name, tmp_path / "extracted")
