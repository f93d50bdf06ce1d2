"""Builders of molecular data sets, from invented structures in the layouts of their sources."""

import io
import json
import lzma
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("ase")

import ase  # noqa: E402
import ase.db  # noqa: E402
import ase.io  # noqa: E402
import h5py  # noqa: E402

from keras_mlff import datasets  # noqa: E402
from keras_mlff.datasets import spice  # noqa: E402
from keras_mlff.datasets.tools import catalog  # noqa: E402

NUMBERS = np.array([6, 1, 1])


def positions(count, seed=0):
    """Places a carbon atom and two hydrogen atoms, in Å, differently in each frame."""
    shape = np.array([[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [-0.3, 1.05, 0.0]])
    return shape + np.random.default_rng(seed).uniform(-0.05, 0.05, (count, 3, 3))


def forces(count, size=1.0):
    """Makes forces that add up to zero; the first component is `size`."""
    values = np.zeros((count, 3, 3))
    values[:, 0, 0], values[:, 1, 0] = size, -size
    return values


def npz(count, seed=0, names=("R", "z", "E", "F"), squeeze=False):
    """Writes frames with energies -100, -101, ... kcal/mol and a force of 10 kcal/mol/Å."""
    energies = -100.0 - np.arange(count)
    arrays = (positions(count, seed), NUMBERS.astype(np.uint8), energies, forces(count, 10.0))
    arrays = dict(zip(names, arrays, strict=True))
    if not squeeze:
        arrays[names[2]] = energies[:, None]
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def tar(path, members, mode):
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def write_md17(folder):
    (folder / "md17_ethanol.npz").write_bytes(npz(4))


def write_md17_coupled_cluster(folder):
    with zipfile.ZipFile(folder / "ethanol_ccsd_t.zip", "w") as file:
        file.writestr("__MACOSX/ethanol_ccsd_t-train.npz", b"")
        file.writestr("ethanol_ccsd_t-train.npz", npz(3))
        file.writestr("ethanol_ccsd_t-test.npz", npz(1, seed=1))


def write_md17_cmret(folder):
    write_md17(folder)
    (folder / "cmret/md17_split_indices").mkdir(parents=True)
    for name, rows in (("train", "3\n1"), ("validation", "0"), ("test", "2\n")):
        (folder / f"cmret/md17_split_indices/{name}_idx.txt").write_text(rows)


def write_md22(folder):
    (folder / "md22_AT-AT.npz").write_bytes(npz(2))


def write_dna_fragments(folder):
    (folder / "geomatt").mkdir()
    with zipfile.ZipFile(folder / "geomatt/datasets.zip", "w") as file:
        file.writestr("datasets/cg-cg-train.npz", npz(3))
        file.writestr("datasets/cg-cg-test.npz", npz(1, seed=1))


def write_rmd17(folder):
    names = ("coords", "nuclear_charges", "energies", "forces")
    members = {
        "rmd17/npz_data/rmd17_aspirin.npz": npz(4, names=names, squeeze=True),
        "rmd17/splits/index_train_02.csv": b"3\n0\n",
        "rmd17/splits/index_test_02.csv": b"1\n",
    }
    tar(folder / "rmd17.tar.bz2", members, "w:bz2")


def write_iso17(folder):
    counts = {"reference": 3, "test_within": 1, "test_other": 2, "reference_eq": 1, "test_eq": 1}
    members = {"iso17/train_ids.txt": b"3\n1\n", "iso17/validation_ids.txt": b"2\n"}
    with tempfile.TemporaryDirectory() as temporary:
        for seed, (name, count) in enumerate(counts.items()):
            path = Path(temporary, f"{name}.db")
            with ase.db.connect(path) as database:
                for index, frame in enumerate(positions(count, seed)):
                    database.write(
                        ase.Atoms(NUMBERS, frame),
                        total_energy=-1000.0 - index,
                        data={"atomic_forces": forces(1)[0] * (not name.endswith("eq"))},
                    )
            members[f"iso17/{name}.db"] = path.read_bytes()
    tar(folder / "iso17.tar.gz", members, "w:gz")


def write_qm7x(folder):
    for file in range(1, 9):
        stream = io.BytesIO()
        with h5py.File(stream, "w") as h5:
            names = [f"Geom-m{file}-i1-c1-opt", f"Geom-m{file}-i1-c1-d1"] if file < 3 else []
            for name, frame in zip(names, positions(2, file), strict=False):
                group = h5.create_group(f"{file}/{name}")
                group["atXYZ"], group["atNUM"] = frame, NUMBERS
                group["ePBE0+MBD"], group["totFOR"] = [-1050.0 - file], forces(1)[0]
        (folder / f"{file}000.xz").write_bytes(lzma.compress(stream.getvalue()))
    (folder / "DupMols.dat").write_text("Geom-m2-i1-c1-opt\n")


def write_des370k(folder):
    header = "smiles0,charge0,charge1,natoms0,system_id,cc_CCSD(T)_all,cbs_CCSD(T)_all,elements,xyz"
    xyz = [" ".join(f"{x:.6f}" for x in frame.ravel()) for frame in positions(3)]
    rows = [f"C,1,-{row},1,{row},-20.0,{-10.0 - row},C H H,{xyz[row]}" for row in range(3)]
    rows.append(rows[0].replace("C H H", "C H Zz"))  # is left out
    with zipfile.ZipFile(folder / "DES370K.zip", "w") as file:
        file.writestr("DES370K.csv", "\n".join([header, *rows]) + "\n")


def write_spice(folder):
    with h5py.File(folder / "SPICE-2.0.1.hdf5", "w") as file:
        for name, subset in (("a", "SPICE Dipeptides v1.3"), ("b", "SPICE Water Clusters v1.0")):
            group = file.create_group(name)
            group["atomic_numbers"], group["smiles"] = NUMBERS, [b"[H:2][C-:1]=[H:3]"]
            group["subset"] = [subset.encode()]
            group["conformations"] = positions(2, ord(name)) / 0.529177210903
            group["dft_total_energy"] = [-1.0, -2.0]
            group["dft_total_gradient"] = forces(2, 0.1)
        file.create_group("c")["subset"] = [b"SPICE Water Clusters v1.0"]  # is left out


def xyz_file(path, count, seed, energy=-1000.0, labels="energy forces", infos=({},)):
    images = []
    for index, frame in enumerate(positions(count, seed)):
        atoms = ase.Atoms(NUMBERS, frame, info=dict(infos[index % len(infos)]))
        for label in labels.split():
            if "forces" in label:
                atoms.arrays[label] = forces(1)[0]
            else:
                atoms.info[label] = energy - index
        images.append(atoms)
    path.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(path, images, format="extxyz")


def write_three_bpa(folder):
    for seed, part in enumerate(("train_mixedT", "test_300K", "test_600K", "test_1200K")):
        xyz_file(folder / f"dataset_3BPA/{part}.xyz", 2 - bool(seed), seed)


def write_acetylacetone(folder):
    for seed, part in enumerate(("train_300K", "test_MD_300K", "test_MD_600K")):
        xyz_file(folder / f"dataset_acac/{part}.xyz", 2 - bool(seed), seed)


def write_acetylacetone_paths(folder):
    for seed, part in enumerate(("test_dihedral", "test_H_transfer")):
        xyz_file(folder / f"dataset_acac/{part}.xyz", 1 + seed, seed, labels="energy")


def write_cumulene(folder):
    kinds = [
        {"config_type": k} for k in ("in-domain", "out-domain-nc-11,12", "out-domain-nc-15,16")
    ]
    labels = "orca_vtscf_energy orca_vtscf_forces energy forces"
    for seed, (part, count) in enumerate((("train", 2), ("val", 1), ("test", 4))):
        path = folder / f"gnl-dataset/GNL-v0.2/gnl-v0.2-{part}.xyz"
        xyz_file(path, count, seed, labels=labels, infos=kinds)


class Case(NamedTuple):
    name: str
    config: str
    write: Any
    splits: dict[str, int]
    energy: float  # eV, the highest in the split `split`
    force: float | None  # eV/Å, the largest component
    split: str = "train"


# 1 kcal/mol is 0.0433641 eV, 1 hartree 27.2114 eV, 1 hartree/bohr 51.4221 eV/Å
CASES = [
    Case("md17", "ethanol", write_md17, {"train": 4}, -4.33641, 0.433641),
    Case(
        "md17",
        "ethanol_ccsd_t",
        write_md17_coupled_cluster,
        {"train": 3, "test": 1},
        -4.33641,
        0.433641,
    ),
    Case(
        "md17",
        "ethanol_cmret",
        write_md17_cmret,
        {"train": 2, "validation": 1, "test": 1},
        -4.37977,
        0.433641,
    ),
    Case("md22", "AT-AT", write_md22, {"train": 2}, -4.33641, 0.433641),
    Case(
        "dna_fragments", "cg-cg", write_dna_fragments, {"train": 3, "test": 1}, -4.33641, 0.433641
    ),
    Case("rmd17", "aspirin", write_rmd17, {"train": 4}, -4.33641, 0.433641),
    Case("rmd17", "aspirin_02", write_rmd17, {"train": 2, "test": 1}, -4.37977, 0.433641, "test"),
    Case(
        "iso17",
        "dynamics",
        write_iso17,
        {"train": 2, "validation": 1, "test_within": 1, "test_other": 2},
        -1001.0,
        1.0,
        "validation",
    ),
    Case("iso17", "equilibrium", write_iso17, {"reference": 1, "test": 1}, -1000.0, None, "test"),
    Case("qm7x", "all", write_qm7x, {"train": 2}, -1051.0, 1.0),
    Case("qm7x", "equilibrium", write_qm7x, {"train": 1}, -1051.0, 1.0),
    Case("des370k", "cbs", write_des370k, {"train": 3}, -0.433641, None),
    Case("des370k", "small_basis", write_des370k, {"train": 3}, -0.867282, None),
    Case("spice", "v2", write_spice, {"train": 4}, -27.2114, 5.14221),
    Case("spice", "v2_water", write_spice, {"train": 2}, -27.2114, 5.14221),
    Case(
        "three_bpa",
        "mixedT",
        write_three_bpa,
        {"train": 2, "test_300K": 1, "test_600K": 1, "test_1200K": 1},
        -1000.0,
        1.0,
    ),
    Case(
        "acetylacetone",
        "300K",
        write_acetylacetone,
        {"train": 2, "test_300K": 1, "test_600K": 1},
        -1000.0,
        1.0,
    ),
    Case(
        "acetylacetone",
        "paths",
        write_acetylacetone_paths,
        {"dihedral": 1, "h_transfer": 2},
        -1000.0,
        None,
        "h_transfer",
    ),
    Case(
        "cumulene",
        "gnl",
        write_cumulene,
        {"train": 2, "validation": 1, "test": 2, "test_11_12": 1, "test_15_16": 1},
        -1001.0,
        1.0,
        "test_11_12",
    ),
]
NAMES = sorted({case.name for case in CASES})
IDS = [f"{case.name}/{case.config}" for case in CASES]


def unpublished(name):
    """Lets invented files take the place of the published ones."""
    cls = catalog.builder_class(name)
    sources = {key: s._replace(checksum=None, size=None) for key, s in cls.SOURCES.items()}
    return mock.patch.object(cls, "SOURCES", sources)


class Builder(tfds.testing.DatasetBuilderTestCase):
    __test__ = False
    case: Case

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.case.write(Path(cls.EXAMPLE_DIR))
        cls.enterClassContext(unpublished(cls.case.name))
        super().setUpClass()


def _test_case(case):
    members = {
        "__test__": True,
        "case": case,
        "DATASET_CLASS": catalog.builder_class(case.name),
        "BUILDER_CONFIG_NAMES_TO_TEST": (case.config,),
        "SPLITS": case.splits,
        "__module__": __name__,
    }
    return type(f"{case.name}_{case.config}_Test", (Builder,), members)


# one configuration of each: the test case takes a second or two
globals().update(
    {cls.__name__: cls for cls in map(_test_case, {case.name: case for case in CASES}.values())}
)


@pytest.fixture
def offline(monkeypatch):
    """Makes every download fail, as without network."""

    def refuse(self, url):
        raise OSError("no network")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", refuse)


def prepare(case, tmp_path):
    manual = tmp_path / "manual"
    if not manual.exists():
        manual.mkdir()
        case.write(manual)
    return {"data_dir": str(tmp_path / "data"), "manual_dir": manual}


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.usefixtures("offline")
def test_values_are_the_source_s_times_the_factor(case, tmp_path):
    where = prepare(case, tmp_path)
    with unpublished(case.name):
        graphs = datasets.load(f"{case.name}/{case.config}", case.split, **where)
    assert len(graphs) == case.splits[case.split]
    energies = [graph["energy"][0] for graph in graphs]
    np.testing.assert_allclose(max(energies), case.energy, rtol=1e-5)
    for graph in graphs:
        assert graph["atomic_numbers"].tolist() == NUMBERS.tolist()
        np.testing.assert_allclose(graph["positions"], positions(1)[0], atol=0.1)
        if case.force is None:
            assert "forces" not in graph
        else:
            np.testing.assert_allclose(graph["forces"].max(), case.force, rtol=1e-5)

    found = catalog.report_of(f"{case.name}/{case.config}", where["data_dir"])
    assert {name: report.num_structures for name, report in found.items()} == case.splits
    assert all(report.warnings == () for report in found.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("offline")
def test_missing_file_says_what_to_place_where(name, tmp_path):
    cls = catalog.builder_class(name)
    config = next(case.config for case in CASES if case.name == name)
    with pytest.raises(ValueError, match=r"no network.*place it as") as caught:
        catalog.read(f"{name}/{config}", "all", str(tmp_path))
    assert any(key in str(caught.value) for key in cls.SOURCES)
    assert any(source.url in str(caught.value) for source in cls.SOURCES.values())
    assert all(key in cls.MANUAL_DOWNLOAD_INSTRUCTIONS for key in cls.SOURCES)


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.usefixtures("offline")
def test_damaged_file_is_named(case, tmp_path):
    where = prepare(case, tmp_path)
    for path in (path for path in where["manual_dir"].rglob("*.*") if path.is_file()):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        if path.suffix == ".xyz":  # half a file may be whole frames
            path.write_text("3\nProperties=species:S:1:pos:R:3 energy=1\nC 0 0")
    with unpublished(case.name), pytest.raises(ValueError, match="is damaged or is not what it"):
        catalog.read(f"{case.name}/{case.config}", "all", **where)


@pytest.mark.parametrize("name", ["rmd17", "qm7x", "des370k", "spice"])
@pytest.mark.usefixtures("offline")
def test_published_checksums_are_compared(name, tmp_path):
    case = next(case for case in CASES if case.name == name)
    with pytest.raises(ValueError, match=r"is not the published one: .* instead of"):
        catalog.read(f"{name}/{case.config}", "all", **prepare(case, tmp_path))


@pytest.mark.usefixtures("offline")
def test_published_split_keeps_its_order(tmp_path):
    """Rows 3 and 0 of the trajectory, whose energies are -103 and -100 kcal/mol."""
    case = next(case for case in CASES if case.config == "aspirin_02")
    with unpublished("rmd17"):
        graphs = catalog.read("rmd17/aspirin_02", "train", **prepare(case, tmp_path))
    energies = [graph["energy"][0] for graph in graphs]
    np.testing.assert_allclose(energies, [-4.46650, -4.33641], rtol=1e-5)


@pytest.mark.usefixtures("offline")
def test_charges_of_dimers_add_up(tmp_path):
    case = next(case for case in CASES if case.config == "cbs")
    with unpublished("des370k"):
        graphs = catalog.read("des370k/cbs", "train", **prepare(case, tmp_path))
    assert sorted(graph["total_charge"][0] for graph in graphs) == [-1, 0, 1]


@pytest.mark.parametrize("config", ["cbs", "v2"])
@pytest.mark.usefixtures("offline")
def test_broken_structure_is_counted_and_the_rest_is_kept(config, tmp_path):
    case = next(case for case in CASES if case.config == config)
    where = prepare(case, tmp_path)
    with unpublished(case.name):
        catalog.read(f"{case.name}/{config}", "train", **where)
    report = catalog.report_of(f"{case.name}/{config}", where["data_dir"])["train"]
    assert (report.num_structures, report.num_left_out) == (case.splits["train"], 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("xyz\n", "places\n", r"no columns \['xyz'\]"),
        ("-1,1,1", "-1,1,1,1,1", r"no CSV file .*line 3"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_damaged_table_is_named_with_its_line(old, new, message, tmp_path):
    case = next(case for case in CASES if case.config == "cbs")
    where = prepare(case, tmp_path)
    path = where["manual_dir"] / "DES370K.zip"
    with zipfile.ZipFile(path) as file:
        content = file.read("DES370K.csv").decode()
    assert old in content
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("DES370K.csv", content.replace(old, new, 1))
    with unpublished("des370k"), pytest.raises(ValueError, match=rf"DES370K.zip.*{message}"):
        catalog.read("des370k/cbs", "train", **where)


@pytest.mark.parametrize(
    ("smiles", "charge"),
    [
        ("[H:1][O:2][H:3]", 0),
        ("[NH4+]", 1),
        ("[Ca++].[Cl-]", 1),
        ("[Mg+2:1].[O-2:2].[F-:3]", -1),
        ("[C@@H:4]([C:2](=[O:3])[O-:5])-[N+:1]", 0),
    ],
)
def test_charge_follows_from_smiles(smiles, charge):
    assert spice.formal_charge(smiles) == charge


# The published files, in this project's copies


def facts():
    folder = Path(os.environ.get("KERAS_MLFF_DATA", "."))
    if not (folder / "FACTS.json").is_file():
        pytest.skip("KERAS_MLFF_DATA names no folder of published data")
    return folder, json.loads((folder / "FACTS.json").read_text())


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "unit", "labels"),
    [
        ("md17/md17_ethanol.npz", "kcal/mol", ("energy", "forces")),
        ("rmd17/rmd17_ethanol.npz", "kcal/mol", ("energy", "forces")),
        ("iso17/iso17_eq_40.npz", "eV", ("energy",)),
        ("3bpa/3bpa_train.npz", "eV", ("energy", "forces")),
        ("acac/acac.npz", "eV", ("energy",)),
        ("qm7x/qm7x_2500.npz", "eV", ("energy", "forces")),
        ("cumulene/gnl_v0.2.npz", "eV", ("energy", "forces")),
        ("cumulene/gnl_scans.npz", "eV", ("energy", "forces")),
        ("spice_dipeptides/spice_dipep_600.npz", "eV", ("energy", "forces")),
    ],
)
def test_published_data_have_the_stated_facts(file, unit, labels):
    folder, known = facts()
    fact = known[file]
    keys = {"positions": "R", "atomic_numbers": "z"}
    graphs = datasets.load(folder / file, labels=labels, energy_unit=unit, keys=keys)
    factor = {"eV": 1.0, "kcal/mol": 0.0433641}[unit]
    energies = np.asarray([graph["energy"][0] for graph in graphs])
    assert len(graphs) == fact["n"]
    np.testing.assert_allclose(energies.mean(), fact["E_mean"] * factor, rtol=1e-6)
    np.testing.assert_allclose(energies.std(), fact["E_std"] * factor, rtol=1e-5)
    if "forces" in labels:
        values = np.concatenate([graph["forces"] for graph in graphs])
        np.testing.assert_allclose(np.abs(values).max(), fact["F_max"] * factor, rtol=1e-6)
        assert datasets.report(graphs).warnings == ()


# The same, laid out as at their sources and built


def published_rmd17(data, folder):
    names = ("coords", "nuclear_charges", "energies", "forces")
    stream = io.BytesIO()
    np.savez(stream, **dict(zip(names, (data["R"], data["z"], data["E"], data["F"]), strict=True)))
    members = {"rmd17/npz_data/rmd17_ethanol.npz": stream.getvalue()}
    for split in ("train", "test"):
        rows = "\n".join(str(row) for row in data[f"{split}_01"])
        members[f"rmd17/splits/index_{split}_01.csv"] = rows.encode()
    tar(folder / "rmd17.tar.bz2", members, "w:bz2")


def published_md17(data, folder):
    arrays = {"R": data["R"], "z": data["z"], "E": data["E"][:, None], "F": data["F"]}
    np.savez(folder / "md17_ethanol.npz", **arrays)


def published_xyz(numbers, places, energies, forces, path, prefix="", infos=None):
    images = []
    for index, (z, r, energy) in enumerate(zip(numbers, places, energies, strict=True)):
        atoms = ase.Atoms(
            z, r, info={f"{prefix}energy": energy, **(infos or [{}])[index % len(infos or [{}])]}
        )
        if forces is not None:
            atoms.arrays[f"{prefix}forces"] = forces[index]
        images.append(atoms)
    path.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(path, images, format="extxyz")


def published_acetylacetone(data, folder):
    for part in np.unique(data["split"]):
        rows = data["split"] == part
        forces = data["F"][rows] if np.isfinite(data["F"][rows]).all() else None
        path = folder / f"dataset_acac/{part}.xyz"
        published_xyz(data["z"][rows], data["R"][rows], data["E"][rows], forces, path)


def published_cumulene(data, folder):
    ends = np.cumsum(data["n_atoms"])[:-1]
    numbers, places, forces = (np.split(data[key], ends) for key in ("z", "R", "F"))
    for part in ("train", "val", "test"):
        rows = np.flatnonzero(data["split"] == part)
        published_xyz(
            [numbers[row] for row in rows],
            [places[row] for row in rows],
            data["E"][rows],
            [forces[row] for row in rows],
            folder / f"gnl-dataset/GNL-v0.2/gnl-v0.2-{part}.xyz",
            prefix="orca_vtscf_",
            infos=[{"config_type": str(data["config_type"][row])} for row in rows],
        )


def published_qm7x(data, folder):
    """250 molecules in the first file, without anything else."""
    for file in range(1, 9):
        stream = io.BytesIO()
        with h5py.File(stream, "w") as h5:
            for row in range(2500 if file == 1 else 0):
                group = h5.create_group(f"{row // 10}/Geom-m{row // 10}-i1-c1-d{row % 10}")
                real = data["z"][row] > 0
                group["atNUM"], group["atXYZ"] = data["z"][row][real], data["R"][row][real]
                group["ePBE0+MBD"], group["totFOR"] = [data["E"][row]], data["F"][row][real]
        (folder / f"{file}000.xz").write_bytes(lzma.compress(stream.getvalue(), preset=0))
    (folder / "DupMols.dat").write_text("")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file", "lay_out", "splits", "unit"),
    [
        (
            "rmd17/ethanol_01",
            "rmd17/rmd17_ethanol.npz",
            published_rmd17,
            {"train": 1000, "test": 1000},
            0.0433641,
        ),
        ("md17/ethanol", "md17/md17_ethanol.npz", published_md17, {"train": 3995}, 0.0433641),
        (
            "acetylacetone/300K",
            "acac/acac.npz",
            published_acetylacetone,
            {"train": 500, "test_300K": 650, "test_600K": 650},
            1.0,
        ),
        (
            "acetylacetone/paths",
            "acac/acac.npz",
            published_acetylacetone,
            {"dihedral": 45, "h_transfer": 15},
            1.0,
        ),
        (
            "cumulene/gnl",
            "cumulene/gnl_v0.2.npz",
            published_cumulene,
            {"train": 200, "validation": 50, "test": 50, "test_11_12": 60, "test_15_16": 60},
            1.0,
        ),
        ("qm7x/all", "qm7x/qm7x_2500.npz", published_qm7x, {"train": 2500}, 1.0),
    ],
)
@pytest.mark.usefixtures("offline")
def test_published_data_are_built(name, file, lay_out, splits, unit, tmp_path):
    folder, known = facts()
    with np.load(folder / file) as source:
        data = dict(source)
    lay_out(data, tmp_path)
    with unpublished(name.partition("/")[0]):
        catalog.prepare(name, str(tmp_path / "data"), tmp_path)
    found = catalog.report_of(name, str(tmp_path / "data"))
    assert {split: report.num_structures for split, report in found.items()} == splits
    for report in found.values():
        assert (report.warnings, report.num_left_out) == ((), 0)
    measured = catalog.statistics_of(name, str(tmp_path / "data"))
    if "train_E_mean" in known[file] and "rmd17" in name:
        expected = known[file]["train_E_mean"], known[file]["train_E_std"]
    elif sum(splits.values()) == known[file]["n"] and len(splits) == 1:
        expected = known[file]["E_mean"], known[file]["E_std"]
    else:
        return
    np.testing.assert_allclose(measured["train"].mean["energy"], expected[0] * unit, rtol=1e-6)
    np.testing.assert_allclose(measured["train"].std["energy"], expected[1] * unit, rtol=1e-5)
