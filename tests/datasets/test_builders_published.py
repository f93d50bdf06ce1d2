"""Published files, as they are and laid out as at their sources and built."""

import io
import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("ase")

import ase  # noqa: E402
import ase.db  # noqa: E402
import ase.io  # noqa: E402
import h5py  # noqa: E402

from keras_mlff import datasets  # noqa: E402
from keras_mlff.datasets.tools import catalog  # noqa: E402
from tests.datasets.invented_molecules import tar, unpublished  # noqa: E402


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
