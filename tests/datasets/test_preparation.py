"""While data are prepared they are measured, in constant memory, and bad structures left out."""

import io
import tarfile
import warnings

import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from keras_mlff import datasets  # noqa: E402
from keras_mlff.datasets import md17  # noqa: E402
from keras_mlff.datasets.tools import catalog, checks, sources, statistics  # noqa: E402
from keras_mlff.graph import structure  # noqa: E402
from keras_mlff.heads import statistics as references  # noqa: E402


def molecules(count, seed=0):
    """Makes molecules of carbon, hydrogen and oxygen in changing numbers."""
    random = np.random.default_rng(seed)
    graphs = []
    for _ in range(count):
        carbons, hydrogens, oxygens = random.integers(1, 5, 3)
        numbers = [6] * carbons + [1] * hydrogens + [8] * oxygens
        places = np.stack(np.unravel_index(np.arange(len(numbers)), (3, 3, 3)), axis=1) * 1.2
        forces = random.normal(size=(len(numbers), 3))
        energy = -1000.0 * carbons - 13.0 * hydrogens - 2000.0 * oxygens + random.normal()
        labels = {"energy": energy, "forces": forces - forces.mean(axis=0)}
        jitter = random.uniform(-0.1, 0.1, (len(numbers), 3))
        graphs.append(structure(places + jitter, numbers, **labels))
    return graphs


def test_streamed_references_are_those_of_least_squares(monkeypatch):
    monkeypatch.setattr(statistics, "_BLOCK", 8)  # several blocks
    graphs = molecules(50)
    tally = statistics.Tally()
    for graph in graphs:
        tally.add(graph)
    found = tally.statistics()
    expected = references.least_squares(graphs, "energy")
    assert found.determined
    for number, energy in expected.items():
        # 1e4 eV in float64
        np.testing.assert_allclose(found.references["energy"][number], energy, rtol=1e-11)
    energies = np.asarray([graph["energy"][0] for graph in graphs])
    rest = [
        graph["energy"][0] - sum(expected[int(number)] for number in graph["atomic_numbers"])
        for graph in graphs
    ]
    np.testing.assert_allclose(found.std_after["energy"], np.sqrt(np.mean(np.square(rest))))
    np.testing.assert_allclose(found.mean["energy"], energies.mean())
    np.testing.assert_allclose(found.std["energy"], energies.std())
    forces = np.concatenate([graph["forces"] for graph in graphs])
    np.testing.assert_allclose(found.force_rms, np.sqrt(np.mean(np.square(forces))))
    assert found.largest_size == max(len(graph["atomic_numbers"]) for graph in graphs)
    assert found.mean_neighbors > 2
    assert "references of energy" in str(found)


def test_one_composition_does_not_determine_references():
    """Least norm shares the energy out in proportion to the atoms' numbers."""
    tally = statistics.Tally()
    for energy in (-99.0, -101.0):
        tally.add(structure([[0, 0, 0], [1.1, 0, 0], [0, 1.1, 0]], [6, 1, 1], energy=energy))
    found = tally.statistics()
    assert not found.determined
    np.testing.assert_allclose(list(found.references["energy"].values()), [-40.0, -20.0])
    np.testing.assert_allclose(found.std_after["energy"], 1.0)
    assert "least norm" in str(found)


def test_duplicates_are_counted():
    graphs = molecules(20)
    charged = structure(
        graphs[0]["positions"], graphs[0]["atomic_numbers"], total_charge=1, energy=0.0
    )
    assert datasets.report(graphs).num_duplicates == 0
    assert datasets.report([*graphs, *graphs[:3]]).num_duplicates == 3
    assert datasets.report([graphs[0], charged]).num_duplicates == 0


def test_number_of_duplicates_is_estimated_in_constant_memory(monkeypatch):
    monkeypatch.setattr(checks, "_NUM_FINGERPRINTS", 64)
    fingerprints = checks.Fingerprints()
    graphs = molecules(500)
    found = sum(fingerprints.seen(graph) for graph in graphs + graphs)
    assert len(fingerprints._kept) <= 64
    # 500 from a sample of 32 to 64: 15 % of deviation are usual
    assert 300 < found < 700


def test_sample_of_a_stream_is_small_and_spread():
    sampler = checks.Sampler()
    taken = [index for index in range(10_000) if sampler.takes(index)]
    assert 500 < len(taken) < 800
    assert max(np.diff(taken)) <= 128
    assert taken[-1] > 9_800


def test_report_says_what_was_left_out():
    check = checks.Check()
    for graph in molecules(2):
        check.add(graph)
    check.leave_out("frame 7: NaN")
    report = check.report()
    assert report.num_left_out == 1
    assert "1 structures were left out" in str(report)
    assert "frame 7: NaN" in str(report)


# The builder


@pytest.fixture
def where(tmp_path):
    manual = tmp_path / "manual"
    manual.mkdir()
    return {"data_dir": str(tmp_path / "data"), "manual_dir": manual}


def save_md17(manual, **changes):
    """Writes four frames of ethanol's file; the last two are the same."""
    places = np.array([[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [-0.3, 1.05, 0.0]])
    frames = places + 0.01 * np.array([0, 1, 2, 2])[:, None, None] * places
    forces = np.zeros((4, 3, 3))
    forces[:, :2, 0] = [10.0, -10.0]
    arrays = {"R": frames, "z": [6, 1, 1], "E": -100.0 * np.ones((4, 1)), "F": forces} | changes
    np.savez(manual / "md17_ethanol.npz", **{k: v for k, v in arrays.items() if v is not None})


def test_structure_with_unusable_labels_is_left_out_and_counted(where, capsys):
    energies = np.array([[-100.0], [np.nan], [-102.0], [-103.0]])
    save_md17(where["manual_dir"], E=energies)
    graphs = catalog.read("md17/ethanol", "train", **where)
    assert len(graphs) == 3
    report = catalog.report_of("md17/ethanol", where["data_dir"])["train"]
    assert (report.num_structures, report.num_left_out, report.num_duplicates) == (3, 1, 1)
    assert report.left_out[0].startswith("1: 'energy' holds NaN")
    assert "1 structures were left out" in capsys.readouterr().out
    found = catalog.statistics_of("md17/ethanol", where["data_dir"])["train"]
    assert found.num_atoms == {1: 6, 6: 3}
    np.testing.assert_allclose(found.mean["energy"], -101.6667 * 0.0433641, rtol=1e-5)


def test_data_without_any_usable_structure_are_refused(where):
    save_md17(where["manual_dir"], E=np.full((4, 1), np.nan))
    with pytest.raises(ValueError, match=r"no usable structure in split 'train'. 4 were left out"):
        catalog.read("md17/ethanol", "train", **where)


def test_wrong_units_are_in_the_report(where):
    """As if the file had hartree: 627.5 times as much."""
    save_md17(where["manual_dir"], F=627.5 * 10.0 * np.eye(3)[[0] * 4, :, None] * [1.0, 0.0, 0.0])
    catalog.read("md17/ethanol", "train", **where)
    report = catalog.report_of("md17/ethanol", where["data_dir"])["train"]
    assert any("another unit" in warning for warning in report.warnings)
    assert any("do not add up to zero" in warning for warning in report.warnings)


def test_missing_array_is_named(where):
    save_md17(where["manual_dir"], F=None)
    with pytest.raises(ValueError, match=r"md17_ethanol.npz.*no arrays \['F'\], only \['E', 'R'"):
        catalog.read("md17/ethanol", "train", **where)


def test_findings_of_unprepared_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is not prepared.*keras-mlff data build md17/ethanol"):
        catalog.report_of("md17/ethanol", str(tmp_path))


# Source files


class Manager:
    """Stands in for TFDS's download manager."""

    def __init__(self, folder):
        self.manual_dir, self.download_dir = folder / "manual", folder / "downloads"
        self.manual_dir.mkdir()

    def download(self, url):
        raise OSError("no network")


def locate(manager, key, **source):
    return sources.locate("invented", {key: sources.Source("http://here", **source)}, key, manager)


def pack(path, content):
    with tarfile.open(path, "w:gz") as file:
        member = tarfile.TarInfo("inner/a.txt")
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))


def test_archive_is_extracted_once_and_again_when_it_changed(tmp_path):
    manager = Manager(tmp_path)
    pack(manager.manual_dir / "a.tar.gz", b"first")
    folder = locate(manager, "a.tar.gz")
    assert sources.member(folder, "a.txt").read_bytes() == b"first"
    assert locate(manager, "a.tar.gz") == folder
    pack(manager.manual_dir / "a.tar.gz", b"second, longer")
    changed = locate(manager, "a.tar.gz")
    assert sources.member(changed, "a.txt").read_bytes() == b"second, longer"
    assert len(list((manager.download_dir / "extracted").iterdir())) == 2  # nothing unfinished


def test_extracted_folder_takes_the_place_of_the_archive(tmp_path):
    manager = Manager(tmp_path)
    (manager.manual_dir / "a").mkdir()
    assert locate(manager, "a.tar.gz", checksum="0" * 32) == manager.manual_dir / "a"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"size": 4}, "has 3 bytes instead of 4"),
        ({"checksum": "0" * 32}, "has the checksum 900150983cd24fb0d6963f7d28e17f72"),  # of abc
        ({"checksum": "0" * 64}, "has the checksum ba7816bf8f01cfea"),
    ],
)
def test_other_file_is_refused(tmp_path, source, message):
    manager = Manager(tmp_path)
    (manager.manual_dir / "a.npz").write_bytes(b"abc")
    with pytest.raises(ValueError, match=message):
        locate(manager, "a.npz", **source)


def test_download_is_checked_too(tmp_path, monkeypatch):
    manager = Manager(tmp_path)
    (tmp_path / "downloaded").write_bytes(b"abc")
    monkeypatch.setattr(manager, "download", lambda url: tmp_path / "downloaded")
    digest = "900150983cd24fb0d6963f7d28e17f72"
    assert locate(manager, "a.npz", size=3, checksum=digest) == tmp_path / "downloaded"
    with pytest.raises(ValueError, match="is not the published one"):
        locate(manager, "a.npz", size=2)


def test_instructions_name_every_file():
    text = md17.MD17.MANUAL_DOWNLOAD_INSTRUCTIONS
    assert "md17_toluene.npz" in text
    assert "kcal/mol" in text
    assert "http://www.quantum-machine.org/gdml/data/npz/md17_toluene.npz" in text


def test_zoo_of_warnings_stays_empty():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert datasets.report(molecules(10)).warnings == ()
