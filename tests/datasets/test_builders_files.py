"""Data sets of extended XYZ files, of invented frames in the layout of the sources; any file."""

import lzma
import os
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("ase")

import ase.db  # noqa: E402
import ase.io  # noqa: E402
from ase.calculators.singlepoint import SinglePointCalculator  # noqa: E402
from ase.constraints import FixAtoms  # noqa: E402

from keras_mlff import datasets, quantities  # noqa: E402
from keras_mlff.datasets import (  # noqa: E402
    atoms,
    bilayer_graphene,
    formate_cu,
    geometry_shapes,
    oc20_s2ef,
    zeolite,
)
from keras_mlff.datasets.tools import builder, catalog, extxyz  # noqa: E402
from keras_mlff.graph import structure  # noqa: E402

CUBE = np.asarray([[0, 0, 0], [1.1, 0, 0], [0, 2.5, 0], [0, 0, 2.5]], float)


def frames(count, symbols="CHOO", first=0, fixed=False):
    """Invents frames; the energy of each is -10 eV and its number in hundredths."""
    for index in range(first, first + count):
        image = ase.Atoms(symbols, CUBE[: len(ase.Atoms(symbols))], cell=[9, 8, 7], pbc=True)
        image.positions += 0.01 * index
        forces = np.zeros((len(image), 3))
        forces[:2, 0] = 0.5, -0.5
        image.calc = SinglePointCalculator(image, energy=-10 + 0.01 * index, forces=forces)
        if fixed:
            image.set_constraint(FixAtoms([2, 3]))
            image.calc.results["free_energy"] = -99.0
        yield image


def write_formate(folder):
    ase.io.write(Path(folder, "fcu.xyz"), list(frames(4)), format="extxyz")


def write_graphene(folder):
    for first, split in enumerate(("train", "validation", "test")):
        images = list(frames(first + 1, "CCCC", 10 * first))
        ase.io.write(Path(folder, f"{split}.xyz"), images, format="extxyz")


def write_zeolite(folder):
    Path(folder, "zeolite").mkdir()
    for first, name in enumerate(("ABW.xyz", "BIK.extxyz")):
        path = Path(folder, "zeolite", name)
        ase.io.write(path, list(frames(5, "LiAlSiO", 10 * first)), format="extxyz")


def write_oc20(folder):
    """Two chunks, each with its references; within a folder, as in the archive."""
    inner = Path(folder, "s2ef_train_200K", "s2ef_train_200K", "s2ef_train_200K")
    inner.mkdir(parents=True)
    for chunk in (0, 1):
        path = inner / f"{chunk}.extxyz"
        images = list(frames(2, "CHPtPt", 2 * chunk, fixed=True))
        ase.io.write(path, images, format="extxyz", columns=["symbols", "positions", "forces"])
        with lzma.open(f"{path}.xz", "wb") as stream:
            stream.write(path.read_bytes())
        path.unlink()
        with lzma.open(inner / f"{chunk}.txt.xz", "wt") as stream:
            stream.write(f"random{chunk},frame0,-7.5\nrandom{chunk},frame3,-8.5\n")
    return inner


def write_atoms(folder):
    ase.io.write(Path(folder, "atoms.extxyz"), list(frames(3)), format="extxyz")


class _Invented:
    """Writes invented sources before TFDS's own tests."""

    WRITE = None

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.WRITE(cls.EXAMPLE_DIR)
        sources = {
            key: source._replace(checksum=None, size=None)
            for key, source in cls.DATASET_CLASS.SOURCES.items()
        }
        cls.enterClassContext(mock.patch.object(cls.DATASET_CLASS, "SOURCES", sources))
        super().setUpClass()


class FormateTest(_Invented, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = formate_cu.FormateCu
    WRITE = staticmethod(write_formate)
    BUILDER_CONFIG_NAMES_TO_TEST = ("unsplit",)
    SPLITS = {"train": 4}  # noqa: RUF012


class GrapheneTest(_Invented, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = bilayer_graphene.BilayerGraphene
    WRITE = staticmethod(write_graphene)
    SPLITS = {"train": 1, "validation": 2, "test": 3}  # noqa: RUF012


class ZeoliteTest(_Invented, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = zeolite.Zeolite
    WRITE = staticmethod(write_zeolite)
    SPLITS = {"train": 6, "validation": 2, "test": 2}  # noqa: RUF012


class OC20Test(_Invented, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = oc20_s2ef.OC20S2EF
    WRITE = staticmethod(write_oc20)
    BUILDER_CONFIG_NAMES_TO_TEST = ("200k",)
    SPLITS = {"train": 4}  # noqa: RUF012


class ShapesTest(_Invented, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = catalog.builder_class("geometry_shapes")
    WRITE = staticmethod(lambda folder: None)
    SPLITS = {"train": 200, "test": 100}  # noqa: RUF012


class AtomsTest(_Invented, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = atoms.Atoms
    WRITE = staticmethod(write_atoms)
    BUILDER_CONFIG_NAMES_TO_TEST = ("file",)
    SPLITS = {"train": 3}  # noqa: RUF012


@pytest.fixture
def source(monkeypatch, tmp_path):
    """Writes invented sources and lets them take the place of the published ones."""

    def write(cls, function):
        sources = {
            key: source._replace(checksum=None, size=None) for key, source in cls.SOURCES.items()
        }
        monkeypatch.setattr(cls, "SOURCES", sources)
        function(tmp_path)
        return {"data_dir": tmp_path / "prepared", "manual_dir": tmp_path}

    return write


def energies(graphs):
    return [round(float(graph["energy"][0]), 6) for graph in graphs]


def test_formate_is_shuffled_and_keeps_its_values(source, monkeypatch):
    """The order is that of the permutation, not of the file; units are the file's."""
    monkeypatch.setattr(formate_cu, "NUM_TRAIN", 2)
    monkeypatch.setattr(formate_cu, "NUM_VALIDATION", 1)
    folders = source(formate_cu.FormateCu, write_formate)
    order = np.random.default_rng(0).permutation(4)
    for split, rows in (("train", order[:2]), ("validation", order[2:3]), ("test", order[3:])):
        graphs = datasets.load("formate_cu", split=split, **folders)
        assert energies(graphs) == [round(-10 + 0.01 * row, 6) for row in rows]
        np.testing.assert_allclose(graphs[0]["forces"][:2, 0], [0.5, -0.5])
        np.testing.assert_allclose(graphs[0]["cell"][0], np.diag([9, 8, 7]))
        assert graphs[0]["pbc"].all()


def test_zeolite_parts_each_framework(source):
    folders = source(zeolite.Zeolite, write_zeolite)
    parts = {
        split: energies(datasets.load("zeolite", split=split, **folders))
        for split in ("train", "validation", "test")
    }
    assert sorted(energy for part in parts.values() for energy in part) == sorted(
        round(-10 + 0.01 * i, 6) for i in [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    )
    for part in parts.values():
        assert sum(energy >= -9.9 for energy in part) == len(part) // 2


def test_oc20_energy_is_that_of_adsorption(source):
    folders = source(oc20_s2ef.OC20S2EF, write_oc20)
    graphs = datasets.load("oc20_s2ef/200k", **folders)
    assert energies(graphs) == [-2.5, -1.49, -2.48, -1.47]  # total minus reference
    assert [graph["reference_energy"][0] for graph in graphs] == [-7.5, -8.5, -7.5, -8.5]
    np.testing.assert_allclose(graphs[0]["forces"][:2, 0], [0.5, -0.5])


def test_oc20_survives_a_chunk_that_is_cut_off(source):
    """The first frames of the chunk and all other chunks stay; the loss is reported."""

    def write(folder):
        inner = write_oc20(folder)
        with lzma.open(inner / "0.extxyz.xz") as stream:
            content = stream.read()
        with lzma.open(inner / "0.extxyz.xz", "wb") as stream:
            stream.write(content[:-200])

    folders = source(oc20_s2ef.OC20S2EF, write)
    graphs = datasets.load("oc20_s2ef/200k", **folders)
    assert len(graphs) == 3
    report = catalog.report_of("oc20_s2ef/200k", folders["data_dir"])["train"]
    assert report.num_left_out == 1
    assert "1 lost" in report.left_out[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("formate_cu", "place it as 'fcu.xyz'"),
        ("bilayer_graphene", "place it as 'train.xyz'"),
        ("zeolite", "place it as 'zeolite'"),
        ("oc20_s2ef/val_id", "place it as 's2ef_val_id.tar'"),
        ("atoms", "atoms.xyz or atoms.extxyz"),
    ],
)
def test_missing_files_are_named(tmp_path, name, message):
    with (
        mock.patch.object(tfds.download.DownloadManager, "download", side_effect=OSError("no net")),
        pytest.raises(ValueError, match=message),
    ):
        datasets.load(name, data_dir=tmp_path / "prepared", manual_dir=tmp_path)


@pytest.mark.parametrize("content", ["2\nenergy=1\nH 0 0 0\n", "no number\n", ""])
def test_damaged_files_are_named(source, content):
    def write(folder):
        Path(folder, "fcu.xyz").write_text(content, "utf-8")

    folders = source(formate_cu.FormateCu, write)
    with pytest.raises(ValueError, match=r"fcu.xyz.* is damaged|no usable structure"):
        datasets.load("formate_cu/unsplit", **folders)


def test_frames_are_read_in_any_order(tmp_path):
    path = tmp_path / "frames.xyz"
    ase.io.write(path, list(frames(3)), format="extxyz")
    path.write_text(path.read_text("utf-8") + "\n\n", "utf-8")  # empty lines at the end
    found = extxyz.Frames(path)
    assert len(found) == 3
    for index in (2, 0, 1):
        assert round(found[index]["energy"].item(), 6) == round(-10 + 0.01 * index, 6)
    with pytest.raises(ValueError, match=r"frame 1 .*no dipole"):
        extxyz.Frames(path, labels=("dipole",))[1]


def test_shapes_are_the_same_with_and_without_tfds(tmp_path):
    stored = catalog.read("geometry_shapes/B", "train", data_dir=tmp_path)
    direct = datasets.load("geometry_shapes/B", split="train")
    assert len(direct) == len(stored) == 200
    for one, other in zip(stored, direct, strict=True):
        np.testing.assert_array_equal(one["positions"], other["positions"])
        assert one["shape"] == other["shape"]


def test_order_is_kept_when_memory_is_short(tmp_path, monkeypatch):
    """TFDS then writes ranges of keys to disk, here of 30 examples, and reads one at a time."""
    shuffle = pytest.importorskip("tensorflow_datasets.core.shuffle")
    used = set()
    number = shuffle.get_bucket_number
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    monkeypatch.setattr(
        shuffle,
        "get_bucket_number",
        lambda **kwargs: used.add(number(**kwargs)) or number(**kwargs),
    )
    monkeypatch.setattr(builder, "_KEY_STEP", 2**128 // (1000 * 30))
    stored = catalog.read("geometry_shapes/A", "train", data_dir=tmp_path)
    direct = datasets.load("geometry_shapes/A", split="train")
    assert used == set(range(7))
    for one, other in zip(stored, direct, strict=True):
        np.testing.assert_array_equal(one["positions"], other["positions"])


def test_shapes_of_a_pair_differ_in_what_they_should():
    def lengths(points):
        return np.sort(np.linalg.norm(points[:, None] - points, axis=-1).ravel())

    for pair, homometric in (("A", False), ("B", True)):
        one, other = (
            lengths(geometry_shapes.shape_points(steps)) for steps in geometry_shapes.SHAPES[pair]
        )
        assert np.allclose(one, other) == homometric


@pytest.mark.parametrize("suffix", [".extxyz", ".npz", ".db", ".traj"])
def test_any_file_becomes_a_data_set(tmp_path, suffix):
    """Energies in hartree, forces in hartree/bohr and lengths in bohr are converted."""
    path = tmp_path / f"my file{suffix}"
    images = list(frames(3))
    if suffix == ".npz":
        np.savez(
            path,
            positions=[image.positions for image in images],
            atomic_numbers=images[0].numbers,
            energy=[image.get_potential_energy() for image in images],
            forces=[image.get_forces() for image in images],
            cell=images[0].cell.array,
        )
    elif suffix == ".db":
        with ase.db.connect(path) as database:
            for image in images:
                database.write(image)
    else:
        ase.io.write(path, images)
    config = atoms.file_config(path, energy_unit="hartree", length_unit="bohr")
    assert config.periodic
    prepared = atoms.Atoms(config=config, data_dir=tmp_path / "prepared")
    prepared.download_and_prepare()
    examples = list(tfds.as_numpy(prepared.as_dataset(split="train")))
    assert len(examples) == 3
    np.testing.assert_allclose(examples[0]["energy"], -272.11386, rtol=1e-7)
    np.testing.assert_allclose(examples[0]["forces"][0, 0], 0.5 * 51.422067, rtol=1e-7)
    np.testing.assert_allclose(examples[1]["positions"][0], 0.01 * 0.5291772, rtol=1e-6)
    np.testing.assert_allclose(examples[0]["cell"][0, 0], 9 * 0.5291772, rtol=1e-7)


def test_changed_content_or_units_make_another_configuration(tmp_path):
    path = tmp_path / "md.xyz"
    ase.io.write(path, list(frames(2)), format="extxyz")
    names = {atoms.file_config(path).name, atoms.file_config(path, energy_unit="meV").name}
    ase.io.write(path, list(frames(2, first=1)), format="extxyz")
    assert len({*names, atoms.file_config(path).name}) == 3
    with pytest.raises(ValueError, match=r"No structure of .* has dipole"):
        atoms.file_config(path, labels=["dipole"])
    (tmp_path / "empty.xyz").touch()
    with pytest.raises(ValueError, match=r"empty\.xyz"):
        atoms.file_config(tmp_path / "empty.xyz")


def test_molecules_and_crystals_with_missing_labels_make_one_data_set(tmp_path, capsys):
    """And quantities of users are stored in their shape; what is missing is NaN again."""
    quantities.register("magnetic_moments", level="atom", unit="muB", ase="magmoms")
    try:
        first, second, third = frames(3)
        first.calc.results["magmoms"] = np.asarray([1.0, 2.0, 3.0, 4.0])
        del second.calc.results["energy"]
        third.set_cell(None)
        third.set_pbc(False)
        path = tmp_path / "mixed.xyz"
        ase.io.write(path, [first, second, third], format="extxyz")
        config = atoms.file_config(path, ["energy", "forces", "magnetic_moments"])
        prepared = atoms.Atoms(config=config, data_dir=tmp_path / "prepared")
        prepared.download_and_prepare()
        assert "energy: known of 2 of 3 structures" in capsys.readouterr().out
        assert prepared.info.metadata["units"]["magnetic_moments"] == "muB"
        found = [structure(**item) for item in tfds.as_numpy(prepared.as_dataset(split="train"))]
        assert ["cell" in graph for graph in found] == [True, True, False]
        assert [bool(np.isnan(graph["energy"][0])) for graph in found] == [False, True, False]
        np.testing.assert_array_equal(found[0]["magnetic_moments"], [1.0, 2.0, 3.0, 4.0])
        assert np.isnan(found[2]["magnetic_moments"]).all()
    finally:
        quantities.unregister("magnetic_moments")


def test_periodic_structure_among_molecules_is_refused(tmp_path):
    with pytest.raises(ValueError, match="promises molecules"):
        catalog.find("ch2", tmp_path).example(
            np.zeros((1, 3)), [6], cell=np.eye(3), energy=1.0, forces=np.zeros((1, 3))
        )


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "keys", "count", "mean", "num_atoms"),
    [
        ("formate_cu/formate_cu_1177.npz", {}, 1177, -63890.487457, 52 * 1177),
        ("bilayer_graphene_defects/bilayer_graphene_vasp_56.npz", {}, 56, None, 3011),
        ("zeolite_si_zeo22/si_zeo22_4120.npz", {}, 4120, -605.774828, 314640),
        ("oc20/oc20_relax_30.npz", {}, 897, -385.36437624, 70329),
    ],
)
def test_published_pieces_have_the_facts_of_their_description(file, keys, count, mean, num_atoms):
    path = Path(os.environ.get("KERAS_MLFF_DATA", "."), file)
    if not path.is_file():
        pytest.skip(f"KERAS_MLFF_DATA names no folder with {file}")
    graphs = datasets.load(path, keys=keys)
    assert len(graphs) == count
    assert sum(len(graph["atomic_numbers"]) for graph in graphs) == num_atoms
    per_atom = np.mean([graph["energy"][0] / len(graph["atomic_numbers"]) for graph in graphs])
    if mean is None:
        np.testing.assert_allclose(per_atom, -9.126796, atol=1e-6)
    else:
        np.testing.assert_allclose(np.mean([graph["energy"][0] for graph in graphs]), mean)
    assert all("cell" in graph for graph in graphs)
