"""Invented structures in the layouts of the sources of molecular data sets."""

import io
import lzma
import tarfile
import tempfile
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("ase")

import ase  # noqa: E402
import ase.db  # noqa: E402
import ase.io  # noqa: E402
import h5py  # noqa: E402

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


def unpublished(name):
    """Lets invented files take the place of the published ones."""
    cls = catalog.builder_class(name)
    sources = {key: s._replace(checksum=None, size=None) for key, s in cls.SOURCES.items()}
    return mock.patch.object(cls, "SOURCES", sources)
