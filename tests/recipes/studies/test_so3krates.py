"""The experiments of So3krates run at toy size, down to figures."""

import numpy as np
import pytest
import so3krates_coordinates
import so3krates_cumulene
import so3krates_data_efficiency
import so3krates_qm7x
import so3krates_sizes

from keras_mlff import cli, datasets, models
from keras_mlff.bench.systems import cumulene
from keras_mlff.graph import structure

TINY = (
    *("model.num_features=12", "model.num_layers=1", "training.num_epochs=1"),
    *("report.plots=false", "preset.num_nve_steps=20"),
)


def balanced(random, numbers):
    """Draws forces on the atoms of each structure that add up to zero."""
    parts = [random.normal(size=(number, 3)) for number in numbers]
    return np.concatenate([part - part.mean(axis=0) for part in parts])


def figures(folder):
    return {file.name for file in folder.glob("*.png")}


def test_cumulene_is_trained_once_and_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    random = np.random.default_rng(0)
    lengths = [3, 4, 3, 4, 3, 11]
    frames = [cumulene(n, 20.0 * i) for i, n in enumerate(lengths)]
    numbers = [len(kinds) for _, kinds in frames]
    arrays = {
        "R": np.concatenate([place for place, _ in frames])
        + random.normal(scale=0.02, size=(sum(numbers), 3)),
        "z": np.concatenate([kinds for _, kinds in frames]),
        "n_atoms": numbers,
        "E": np.asarray(lengths) * -1000.0 + random.normal(size=len(lengths)),
        "F": balanced(random, numbers),
    }
    data, scans = tmp_path / "gnl.npz", tmp_path / "scans.npz"
    np.savez(data, **arrays, split=np.asarray(["train", "train", "train", "val", "test", "test"]))
    names = [f"cumulene-length-scan-{angle}deg-30" for angle in (5, 5, 85, 85)]
    names += ["cumulene-angle-scan-n3", "cumulene-angle-scan-n12"]
    np.savez(scans, **arrays, scan=np.asarray(names), phi_deg=np.arange(6.0))
    profile = tmp_path / "profile.npz"
    turned = [cumulene(3, angle) for angle in (90.0, 40.0)]
    np.savez(
        profile,
        R=[place for place, _ in turned],
        z=turned[0][1],
        E=[-1.0, -2.0],
        F=np.zeros((2, 7, 3)),
    )
    found = [so3krates_cumulene.dihedral(structure(*frame)) for frame in turned]
    np.testing.assert_allclose(found, [90.0, 40.0], atol=1e-3)
    options = {
        "variants": ("file",),
        "settings": (f"file={data}", "training.batch_size=2", *TINY),
        "scans": str(scans),
        "profile": str(profile),
        "profiles": (3, 4),
        "projected": 3,
        "folder": str(tmp_path / "run"),
        "verbose": 0,
    }
    results = so3krates_cumulene.main(**options)
    assert list(results) == ["local", "nonlocal"]
    parts = ["known lengths", "11 and 12 carbons", "separation of the ends"]
    assert list(results["local"]) == parts
    separation = results["local"]["separation of the ends"]
    assert 0.0 < separation["before"] != separation["after"] > 0.0
    expected = {"attention.png", "coordinates.png", "lengths.png", "profiles.png", "rigid.png"}
    assert figures(tmp_path / "run") == expected
    log = (tmp_path / "run/local/log.csv").read_text("utf-8")
    kinds = ("local", "nonlocal", "local-2")  # the setting of one layer is for the others
    again = so3krates_cumulene.main(**options, kinds=kinds, preset=str(tmp_path / "preset"))
    assert models.load_preset(str(tmp_path / "preset")).nonlocal_
    assert (tmp_path / "run/local/log.csv").read_text("utf-8") == log
    assert figures(tmp_path / "run") == {*expected, "layers.png"}
    for kind in results:
        found = again[kind]["known lengths"]["forces"]["test_mae"]
        assert found == pytest.approx(results[kind]["known lengths"]["forces"]["test_mae"])


def test_cumulene_without_a_file_takes_the_data_set(tmp_path, monkeypatch):
    """The split of each part of the test is judged, as are the parts of a file."""
    pytest.importorskip("tensorflow_datasets")
    from ase import Atoms
    from ase.io import write

    from keras_mlff.datasets.tools import catalog

    random = np.random.default_rng(0)
    unseen = {11: "out-domain-nc-11,12", 15: "out-domain-nc-15,16"}
    folder = tmp_path / "gnl-dataset/GNL-v0.2"
    folder.mkdir(parents=True)
    for part, lengths in {"train": (3, 4), "val": (3,), "test": (3, 11, 15)}.items():
        images = []
        for length in lengths:
            place, numbers = cumulene(length, random.uniform(0.0, 90.0))
            atoms = Atoms(numbers, place)
            atoms.info["config_type"] = unseen.get(length, "in-domain")
            atoms.info["orca_vtscf_energy"] = -1e3 * length
            atoms.arrays["orca_vtscf_forces"] = balanced(random, [len(numbers)])
            images.append(atoms)
        write(folder / f"gnl-v0.2-{part}.xyz", images, format="extxyz")
    read = catalog.read
    monkeypatch.setattr(
        catalog,
        "read",
        lambda name, split, *_: read(name, split, str(tmp_path / "data"), tmp_path),
    )
    results = so3krates_cumulene.main(
        kinds=("local",),
        profiles=(3,),
        projected=3,
        settings=TINY,
        folder=str(tmp_path / "run"),
        verbose=0,
    )
    expected = ["known lengths", *so3krates_cumulene.UNSEEN, "separation of the ends"]
    assert list(results["local"]) == expected


# one molecule tells nothing about its elements
@pytest.mark.filterwarnings("ignore:The compositions determine")
def test_qm7x_holds_molecules_out(tmp_path):
    pytest.importorskip("matplotlib")
    random = np.random.default_rng(0)
    place = np.asarray([[0, 0, 0], [1.1, 0, 0], [-0.4, 1.0, 0], [-0.5, -0.6, 0.9]])
    # the last two are made of the same atoms, so neither is unknown to a model of the other, and
    # only one has nitrogen, of which the others tell nothing
    rows = [[6, 1, 1, 8], [6, 8, 8, 1], [7, 1, 1, 8], [6, 8, 1, 0], [6, 8, 1, 0]]
    kinds = np.repeat(rows, 10, axis=0)
    forces = np.zeros((50, 4, 3))
    forces[kinds > 0] = balanced(random, (kinds > 0).sum(axis=1))
    data = tmp_path / "sample.npz"
    np.savez(
        data,
        R=(place + random.normal(scale=0.05, size=(50, 4, 3))) * (kinds > 0)[:, :, None],
        z=kinds,
        E=kinds.sum(axis=1) * -100.0 + random.normal(size=50),
        F=forces,
    )
    options = {
        "data": str(data),
        "max_degrees": (0, 1),
        "num_unknown": 2,
        "num_individual": 1,
        "settings": TINY,
        "folder": str(tmp_path / "run"),
        "verbose": 0,
    }
    results = so3krates_qm7x.main(**options)
    assert results["joint"]["0"].keys() == {"known", "unknown"}
    assert results["individual"]["1"]["known"]["forces"]["unit"] == "kcal/mol/Å"
    assert figures(tmp_path / "run") == {"degrees.png"}
    assert so3krates_qm7x.main(**options) == results
    molecules = so3krates_qm7x.split_molecules(list(datasets.load(str(data))))
    known, unknown = so3krates_qm7x.hold_out(molecules, 3, 0)
    assert [item[0]["atomic_numbers"].tolist() for item in unknown] == rows[:2]
    assert len(known) == 2
    numbers = [graph["energy"][0] for graph in molecules[0]]
    assert numbers != [graph["energy"][0] for graph in datasets.load(str(data))[:10]]
    with pytest.raises(ValueError, match="Only 3 molecules"):
        so3krates_qm7x.hold_out(molecules, 4, 0)


def test_qm7x_needs_ten_frames_of_each_molecule():
    methylene, water = (structure(np.eye(3), numbers) for numbers in ([6, 1, 1], [8, 1, 1]))
    assert len(so3krates_qm7x.split_molecules([methylene] * 10 + [water] * 10)) == 2
    with pytest.raises(ValueError, match="10 frames of 2 lists of atoms from number 0 on, of 20"):
        so3krates_qm7x.split_molecules([methylene] * 8 + [water] * 12)
    with pytest.raises(ValueError, match="2 frames of 1 lists of atoms from number 10 on, of 12"):
        so3krates_qm7x.split_molecules([methylene] * 12)
    with pytest.raises(SystemExit):  # no data set takes the place of the file
        cli.run(so3krates_qm7x.main, [])


FILE = (
    *("data.split.training=learn", "data.split.validation=choose", "data.split.test=judge"),
    "data.sizes.validation=-1",
)


def test_data_efficiency_gives_every_size_as_many_steps(trajectory, tmp_path):
    pytest.importorskip("matplotlib")
    tiny = [setting for setting in TINY if "num_epochs" not in setting]
    options = {
        "variants": ("file",),
        "settings": (f"file={trajectory}", *FILE, "training.batch_size=2", *tiny),
        "sizes": (2, 4),
        "num_steps": 2,
        "folder": str(tmp_path / "run"),
        "verbose": 0,
    }
    results = so3krates_data_efficiency.main(**options)
    assert {kind: list(found) for kind, found in results.items()} == {
        "with": ["2", "4"],
        "without": ["2", "4"],
    }
    logs = [(tmp_path / f"run/{size}_with/log.csv").read_text().splitlines() for size in (2, 4)]
    assert [len(log) - 1 for log in logs] == [2, 1]
    assert figures(tmp_path / "run") == {"errors.png"}
    with pytest.raises(ValueError, match=r"model\.num_layers"):
        so3krates_data_efficiency.main(
            **options | {"settings": (*options["settings"], "model.num_layers=2")}
        )


def test_sizes_are_drawn_beside_published_ones(trajectory, tmp_path):
    pytest.importorskip("matplotlib")
    tiny = [setting for setting in TINY if "num_layers" not in setting]
    options = {
        "variants": ("file",),
        "settings": (f"file={trajectory}", *FILE, *tiny),
        "layers": (2, 1),
        "folder": str(tmp_path / "run"),
        "verbose": 0,
    }
    results = so3krates_sizes.main(**options)
    assert list(results) == ["2", "1"]
    assert results["2"]["num_weights"] - results["1"]["num_weights"] == 13_411
    assert results["1"]["forces"]["So3krates, paper"] == 0.096
    assert figures(tmp_path / "run") == {"sizes.png"}
    log = (tmp_path / "run/ethanol_1_layers/log.csv").read_text("utf-8")
    assert so3krates_sizes.main(**options) == results
    assert (tmp_path / "run/ethanol_1_layers/log.csv").read_text("utf-8") == log


def test_coordinates_point_at_neighbors_at_first(tmp_path):
    """Of degree 1 the start of the smooth variant is largest in the direction of one neighbor."""
    model = models.So3krates(num_features=8, num_layers=1, degrees=(1,), num_heads=2, num_radial=4)
    rod = structure([[0, 0, 0], [0.8, 0.8, 0.0]], [6, 8])
    maps = so3krates_coordinates.on_sphere(model, rod)
    assert maps.shape == (
        2,
        2,
        len(so3krates_coordinates.LATITUDES),
        len(so3krates_coordinates.LONGITUDES),
    )
    row, column = np.unravel_index(maps[0, 0].argmax(), maps.shape[2:])
    assert so3krates_coordinates.LATITUDES[row] == pytest.approx(0.0, abs=1e-6)
    assert so3krates_coordinates.LONGITUDES[column] == pytest.approx(np.pi / 4)
    so3krates_coordinates.draw(maps, rod, (0, 1), model.cutoff).savefig(tmp_path / "drawn.png")
    with pytest.raises(TypeError, match="cmret/ch2"):
        so3krates_coordinates.main(preset="cmret/ch2", folder=str(tmp_path))
    with pytest.raises(ValueError, match="from 0 to 8"):
        so3krates_coordinates.main(atoms=(9,), folder=str(tmp_path))
