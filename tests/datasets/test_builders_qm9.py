"""QM9 from invented molecules in the layouts of its own files and of the package qm9pack."""

import io
import tarfile
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from keras_mlff import datasets  # noqa: E402
from keras_mlff.datasets import qm9  # noqa: E402
from keras_mlff.datasets.tools import catalog, qm9_format  # noqa: E402

# hartree and so on; the first coordinate is written as in the original
PROPERTIES = (
    "157.7118 157.70997 157.70699 2. 13.21 -0.3877 0.1171 0.5048 35.3641 0.044749 "
    "-{u0} -40.476062 -40.475117 -40.498597 6.469"
).replace(" ", "\t")
TEXT = f"""{{count}}
gdb {{index}}\t{PROPERTIES}\t
C\t{{x:.6f}}\t1.0858041578\t8.0*^-6\t-0.535689
H\t0.0021504160\t-0.0060313176\t0.0019761204\t 0.133921
1341.307
C\tC\t
InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4
"""
EXCLUDED = range(100, 100 + qm9_format.NUM_UNCHARACTERIZED)


def text(index):
    return TEXT.format(count=2, index=index, u0=index / 10, x=index / 1e6)


def chosen():
    """Picks molecules of every split, and one that is not characterized."""
    parts = qm9_format.split_indices(set(EXCLUDED), 110_000, 10_000, 42)
    return [*parts["train"][:2], parts["validation"][5], parts["test"][7], EXCLUDED[0]]


def write(folder, archive=True):
    """Writes uncharacterized.txt and an archive, or a folder, of five molecules."""
    header = "Molecules that failed\n=====\n  Index  SMILES\n"
    rows = [f"   {index}   CC1CC1  CCC  0.5\n" for index in EXCLUDED]
    Path(folder, "uncharacterized.txt").write_text(header + "".join(rows) + "=====\n", "utf-8")
    names = {f"dsgdb9nsd_{index:06d}.xyz": text(index) for index in chosen()}
    if archive:
        with tarfile.open(Path(folder, "dsgdb9nsd.xyz.tar.bz2"), "w:bz2") as file:
            for name, content in names.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                file.addfile(member, io.BytesIO(content.encode()))
    else:
        Path(folder, "dsgdb9nsd.xyz").mkdir()
        for name, content in names.items():
            Path(folder, "dsgdb9nsd.xyz", name).write_text(content, "utf-8")


@pytest.fixture
def unchecked(monkeypatch):
    """Lets invented files take the place of the published ones."""
    sources = {key: s._replace(checksum=None, size=None) for key, s in qm9.QM9.SOURCES.items()}
    monkeypatch.setattr(qm9.QM9, "SOURCES", sources)
    monkeypatch.setattr(qm9_format, "packed_folder", lambda: None)


class QM9Test(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = qm9.QM9
    BUILDER_CONFIG_NAMES_TO_TEST = ("110k",)
    SPLITS = {"train": 2, "validation": 1, "test": 1}  # noqa: RUF012

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = cls.enterClassContext(tempfile.TemporaryDirectory())
        write(cls.EXAMPLE_DIR)
        sources = {key: s._replace(checksum=None, size=None) for key, s in qm9.QM9.SOURCES.items()}
        cls.enterClassContext(mock.patch.object(qm9.QM9, "SOURCES", sources))
        cls.enterClassContext(mock.patch.object(qm9_format, "packed_folder", return_value=None))
        super().setUpClass()


@pytest.mark.usefixtures("unchecked")
def test_labels_have_the_units_they_say(tmp_path):
    """Debye, bohr, hartree and cal/(mol K) become e·Å, Å, eV and eV/K."""
    write(tmp_path, archive=False)
    graphs = datasets.load("qm9", split="train", data_dir=tmp_path / "d", manual_dir=tmp_path)
    assert len(graphs) == 2
    molecule, index = graphs[0], chosen()[0]
    np.testing.assert_allclose(molecule["positions"][0], [index / 1e6, 1.0858041578, 8e-6])
    assert molecule["atomic_numbers"].tolist() == [6, 1]
    expected = {
        "A": 157.7118,
        "mu": 0.4163887,
        "alpha": 1.957520,
        "homo": -10.549854,
        "gap": 13.736308,
        "r2": 9.902957,
        "zpve": 1.217682,
        "U0": -index / 10 * 27.211386,
        "G": -1102.022965,
        "Cv": 2.805230e-4,
        "partial_charges": [-0.535689, 0.133921],
        "frequencies": [[0, 0, 0], [0, 0, 1341.307]],
    }
    for label, value in expected.items():
        np.testing.assert_allclose(molecule[label], value, rtol=1e-5, err_msg=label)
    assert np.isnan(molecule["polarizability"]).all()  # the archive lacks it
    report = catalog.report_of("qm9", tmp_path / "d")["train"]
    assert report.num_left_out == 110_000 - 2
    assert "lacks its file" in report.left_out[0]
    info = catalog.find("qm9", tmp_path / "d").info
    assert info.metadata["units"]["mu"] == "e·Å"
    np.testing.assert_allclose(info.metadata["atom_references"]["U0"]["1"], -13.61312, atol=1e-5)


def pack(folder, indices):
    """Writes the tables of the package qm9pack, with molecules of three atoms in a row."""
    values = TEXT.splitlines()[1].split("\t")[1:-1]
    arrays = "['O','H','H']", "[[0.,0.,{x}],[1.,0.,0.],[0.,1.,8.*^-6]]", "[-.6,.3,.3]", "[1.,2.,3.]"
    names = ["XYZ_file", "Index", *qm9_format._PACKED_ARRAYS, *qm9_format._PACKED_PROPERTIES]
    parts = np.array_split(indices, len(qm9_format.PACKED_TABLES))
    tensors = ["XYZ_file,A_xx,A_xy,A_yy,A_xz,A_yz,A_zz"]
    for table, part in zip(qm9_format.PACKED_TABLES, parts, strict=True):
        lines = [",".join(names)]
        for index in part.tolist():
            row = [f"dsgdb9nsd_{index:06d}.xyz", str(index), *arrays, *values]
            cells = [cell.format(u0=index / 10, x=index / 1e6) for cell in row]
            lines.append(",".join(f'"{cell}"' for cell in cells))
            tensors.append(f"{cells[0]},1.,2.,4.,3.,5.,{index}")
        Path(folder, table).write_text("\n".join(lines))
    Path(folder, qm9_format.PACKED_TENSORS).write_text("\n".join(tensors))


@pytest.fixture
def packed(tmp_path, monkeypatch):
    folder = tmp_path / "qm9pack/data"
    folder.mkdir(parents=True)
    pack(folder, np.asarray([3, 1, 2, 7]))
    monkeypatch.setattr(qm9_format, "packed_folder", lambda: folder)
    return folder


def test_the_package_of_the_author_serves_without_network(packed, tmp_path):
    graphs = datasets.load("qm9/unsplit", data_dir=tmp_path / "d", manual_dir=tmp_path)
    assert [graph["positions"][0, 2] for graph in graphs] == [1e-6, 2e-6, 3e-6, 7e-6]
    molecule, bohr = graphs[-1], 0.529177210903
    np.testing.assert_allclose(
        molecule["polarizability"][0],
        np.asarray([[1, 2, 3], [2, 4, 5], [3, 5, 7]]) * bohr**3,
        rtol=1e-6,
    )
    np.testing.assert_allclose(molecule["partial_charges"], [-0.6, 0.3, 0.3])
    assert molecule["frequencies"].tolist() == [[0, 0, 0], [0, 0, 0], [1, 2, 3]]
    np.testing.assert_allclose(molecule["U0"], -0.7 * 27.211386, rtol=1e-6)


@pytest.mark.parametrize(
    ("table", "old", "new"),
    [
        ("qm9_part1.csv", "[-.6,.3,.3]", "[-.6,.3]"),
        ("qm9_part1.csv", "['O','H','H']", "['O','H']"),
        ("qm9_part2.csv", "13.21", "x"),
        ("qm9_part2.csv", '"13.21"', '"13","21"'),
        ("qm9_polarizability.csv", "dsgdb9nsd_000007.xyz", "dsgdb9nsd_000008.xyz"),
    ],
)
def test_a_damaged_table_is_named(table, old, new, packed, tmp_path):
    path = packed / table
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match="qm9"):
        datasets.load("qm9/unsplit", data_dir=tmp_path / "d", manual_dir=tmp_path)


def test_published_splits_have_their_sizes():
    sizes = {"110k": [110_000, 10_000, 10_831], "100k": [100_000, 17_748, 13_083]}
    for config in qm9.QM9.BUILDER_CONFIGS:
        parts = qm9_format.split_indices(
            set(EXCLUDED), config.num_train, config.num_validation, config.permutation_seed
        )
        assert [len(part) for part in parts.values()] == sizes.get(config.name, [130_831])
        everything = np.concatenate(list(parts.values()))
        assert len(set(everything.tolist()) - set(EXCLUDED)) == 130_831


def test_atom_references_are_those_of_atomref():
    """U0 and Cv of carbon, whose heat capacity is 3/2 of the gas constant."""
    np.testing.assert_allclose(qm9_format.ATOM_REFERENCES["U0"][6], -1029.863, atol=1e-3)
    np.testing.assert_allclose(qm9_format.ATOM_REFERENCES["Cv"][6], 1.2927e-4, rtol=1e-3)
    assert qm9_format.ATOM_REFERENCES.keys() == {"U0", "U", "H", "G", "Cv"}


@pytest.mark.parametrize("name", ["uncharacterized.txt", "dsgdb9nsd.xyz.tar.bz2"])
@pytest.mark.usefixtures("unchecked")
def test_missing_file_is_named(tmp_path, name):
    write(tmp_path)
    (tmp_path / name).unlink()
    with (
        mock.patch.object(tfds.download.DownloadManager, "download", side_effect=OSError("no net")),
        pytest.raises(ValueError, match=rf"place it as '{name}'"),
    ):
        datasets.load("qm9", data_dir=tmp_path / "d", manual_dir=tmp_path)


@pytest.mark.usefixtures("unchecked")
def test_damaged_archive_is_named(tmp_path):
    write(tmp_path)
    archive = tmp_path / "dsgdb9nsd.xyz.tar.bz2"
    archive.write_bytes(archive.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"dsgdb9nsd.xyz.tar.bz2.* is damaged"):
        datasets.load("qm9", data_dir=tmp_path / "d", manual_dir=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        ("gdb", "gbd"),
        ("H\t0.002", "Xx\t0.002"),
        ("2\n", "3\n"),
        ("2\n", "1\n"),
        ("1341.307", "1341.307\t7.0"),
        ("\t 0.133921", ""),
    ],
)
def test_damaged_molecule_is_refused(change):
    with pytest.raises(ValueError, match="of QM9"):
        qm9_format.parse(text(7).replace(*change, 1))
