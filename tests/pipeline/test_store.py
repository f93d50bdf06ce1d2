"""A store gives what a list of graphs gives, whoever writes it and whatever was interrupted."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_mlff import neighbors, pipeline, quantities
from keras_mlff.graph import structure
from keras_mlff.neighbors import GraphSpec, add_edges
from keras_mlff.packing.budget import Budget
from keras_mlff.packing.loader import GraphLoader
from keras_mlff.pipeline import store

CUTOFF = 3.0


def invented(num_atoms, periodic=False, seed=0):
    random = np.random.default_rng(seed)
    grid = 1.2 * np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(8, 3)
    return structure(
        grid[:num_atoms] + random.normal(scale=0.05, size=(num_atoms, 3)),
        random.choice([1, 6, 8], num_atoms),
        cell=np.eye(3) * 4.0 if periodic else None,
        total_charge=float(seed % 3),
        spin_multiplicity=1 + seed % 2,
        energy=random.normal(),
        forces=random.normal(size=(num_atoms, 3)),
    )


def molecules(count):
    sizes = np.random.default_rng(1).integers(1, 7, count)
    return [invented(int(size), seed=seed) for seed, size in enumerate(sizes)]


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)
        assert one[key].dtype == other[key].dtype, key


@pytest.mark.parametrize("kind", ["molecules", "crystals", "both", "lone atoms"])
@pytest.mark.parametrize("triplets", [False, True])
def test_a_store_gives_the_graphs_and_batches_of_a_list(tmp_path, kind, triplets):
    if kind == "lone atoms":
        structures = [invented(1, seed=seed) for seed in range(9)]
    else:
        structures = molecules(9)
        crystals = [invented(5, periodic=True, seed=seed) for seed in range(9)]
        structures = {"molecules": structures, "crystals": crystals}.get(
            kind, structures[:4] + crystals[:3] + structures[4:]
        )
    listed = pipeline.with_edges(structures, GraphSpec(CUTOFF, triplets))
    stored = pipeline.with_edges(structures, GraphSpec(CUTOFF, triplets), tmp_path)
    assert len(stored) == len(listed)
    for one, other in zip(stored, listed, strict=True):
        assert_equal(one, other)
    assert_equal(stored[-1], listed[-1])
    for shuffle in (False, True):
        loaders = [GraphLoader(graphs, 3, shuffle=shuffle) for graphs in (stored, listed)]
        assert loaders[0].budget == loaders[1].budget
        for _ in range(2):
            for one, other in zip(*loaders, strict=True):
                assert_equal(one[0] | one[1], other[0] | other[1])
            for loader in loaders:
                loader.on_epoch_end()


def test_a_subset_is_a_list_of_its_graphs(tmp_path):
    structures = molecules(8)
    stored = pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path)
    subset = pipeline.Subset(stored, [5, 1, 6])
    listed = [stored[5], stored[1], stored[6]]
    assert_equal(subset[-1], listed[-1])
    assert len(subset[1:]) == 2
    for one, other in zip(GraphLoader(subset, 2), GraphLoader(listed, 2), strict=True):
        assert_equal(one[0] | one[1], other[0] | other[1])


def test_another_process_opens_the_same_files(tmp_path):
    stored = pipeline.with_edges(molecules(4), GraphSpec(CUTOFF), cache_dir=tmp_path)
    copied = pickle.dumps(stored)
    assert len(copied) < 1000
    assert_equal(pickle.loads(copied)[2], stored[2])


def test_a_store_is_made_once(tmp_path, monkeypatch):
    structures = molecules(4)
    pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path)
    monkeypatch.setattr("keras_mlff.neighbors.add_edges", None)
    pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_store_belongs_to_cutoff_structures_labels_and_code(tmp_path, monkeypatch):
    structures = [invented(4, periodic=True, seed=seed) for seed in range(3)]
    moved = [graph | {"positions": graph["positions"] + 1e-9} for graph in structures]
    smaller = [graph | {"cell": graph["cell"] * 0.99} for graph in structures]
    lower = [graph | {"energy": graph["energy"] - 1.0} for graph in structures]
    for graphs in (structures, moved, smaller, lower):
        pipeline.with_edges(graphs, GraphSpec(3.0), cache_dir=tmp_path)
    pipeline.with_edges(structures, GraphSpec(3.1), cache_dir=tmp_path)
    pipeline.with_edges(structures, GraphSpec(3.0, triplets=True), cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 6

    code = tmp_path / "neighbors.py"
    code.write_text(Path(neighbors.__file__).read_text() + "# changed\n")
    monkeypatch.setattr(neighbors, "__file__", str(code))
    pipeline.with_edges(structures, GraphSpec(3.0), cache_dir=tmp_path)
    assert len(list(tmp_path.glob("graphs-*"))) == 7


@pytest.mark.parametrize(
    "file", ["about.json", "checksums.json", "sizes.npy", "positions.npy", "energy.npy"]
)
@pytest.mark.parametrize("damage", ["cut off", "removed", "first bit", "header", "last bit"])
def test_a_damaged_store_is_made_anew(tmp_path, file, damage):
    structures = molecules(3)
    expected = pipeline.with_edges(structures, GraphSpec(CUTOFF))
    damaged = pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path).folder / file
    content = bytearray(damaged.read_bytes())
    if damage == "removed":
        damaged.unlink()
    elif damage == "cut off":
        damaged.write_bytes(content[:-10])
    else:
        content[{"first bit": 0, "header": 30, "last bit": -3}[damage]] ^= 0x40
        damaged.write_bytes(content)
    with pytest.raises(ValueError, match="holds no graphs, or only a part"):
        pipeline.GraphStore(damaged.parent)
    for _ in range(2):
        graphs = pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path)
        for one, other in zip(graphs, expected, strict=True):
            assert_equal(one, other)
    pipeline.GraphStore(damaged.parent)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_store_of_the_layout_without_checksums_is_opened(tmp_path):
    stored = pipeline.with_edges(molecules(3), GraphSpec(CUTOFF), cache_dir=tmp_path)
    about = json.loads((stored.folder / "about.json").read_text("utf-8"))
    (stored.folder / "about.json").write_text(json.dumps(about | {"version": 1}), "utf-8")
    (stored.folder / "checksums.json").unlink()
    assert_equal(pipeline.GraphStore(stored.folder)[2], stored[2])
    (stored.folder / "energy.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'" + bytes(126))
    with pytest.raises(ValueError, match="holds no graphs"):
        pipeline.GraphStore(stored.folder)


def test_other_users_can_read_a_store(tmp_path):
    """Folder and files have the rights that their user gives to whatever is new."""
    umask = os.umask(0o022)
    try:
        folder = pipeline.with_edges(molecules(2), GraphSpec(CUTOFF), cache_dir=tmp_path).folder
    finally:
        os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_a_store_that_may_not_be_read_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    structures = molecules(2)
    pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path)
    before = sorted(tmp_path.rglob("*"))

    def refused(path, *args, **kwargs):  # root, as whom tests may run, may read everything
        raise PermissionError(f"Permission denied: '{path}'")

    monkeypatch.setattr(Path, "read_text", refused)
    monkeypatch.setattr("keras_mlff.neighbors.add_edges", None)
    with pytest.raises(PermissionError, match=r"chmod -R a\+rX .* another cache_dir"):
        pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_store_of_another_user_ends_in_an_error(tmp_path, monkeypatch):
    """It cannot be moved out of a folder such as /tmp, however often one tries."""
    structures = molecules(2)
    folder = pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path).folder
    (folder / "positions.npy").unlink()
    rename = os.rename

    def refused(source, target):
        if Path(source) == folder:
            raise PermissionError(f"Operation not permitted: '{source}'")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(PermissionError, match=r"are damaged.*Ask their owner"):
        pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == [folder]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_mlff.neighbors.add_edges", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.with_edges(molecules(2), GraphSpec(CUTOFF), cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_faster_process_wins(tmp_path):
    """While one writes, the other finishes: both hold the same complete store."""
    structures = molecules(3)

    def graphs():
        pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path)
        return [add_edges(graph, CUTOFF) for graph in structures]

    key = ("structures", store.contents(structures), *store.names_of(GraphSpec(CUTOFF)))
    assert len(store.make(tmp_path, key, graphs)) == 3
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_several_processes_make_one_store(tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_store as t\n"
        "spec = t.GraphSpec(3.0)\n"
        "graphs = t.pipeline.with_edges(t.molecules(500), spec, cache_dir=sys.argv[2])\n"
        "print(sum(float(g['energy'][0]) for g in graphs))\n"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    sums = {process.communicate(timeout=300)[0] for process in processes}
    assert len(sums) == 1
    assert all(process.returncode == 0 for process in processes)
    assert len(list(tmp_path.iterdir())) == 1


def test_graphs_that_do_not_belong_together_are_refused(tmp_path):
    structures = molecules(3)
    del structures[1]["spin_multiplicity"]
    with pytest.raises(ValueError, match=r"graph 1 differ in \['spin_multiplicity'\]"):
        pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path)
    with pytest.raises(ValueError, match="no graphs"):
        pipeline.with_edges([], GraphSpec(CUTOFF), cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="holds no graphs"):
        pipeline.GraphStore(tmp_path)


def test_a_batch_larger_than_the_budget_is_refused(tmp_path):
    stored = pipeline.with_edges(molecules(9), GraphSpec(CUTOFF), cache_dir=tmp_path)
    with pytest.raises(ValueError, match="do not fit"):
        stored.pack(range(9), Budget(9, 10, 500, 0, 8))


def test_crystals_far_from_their_cell_keep_their_shifts(tmp_path):
    crystal = invented(4, periodic=True)
    moved = crystal["positions"] + np.asarray([[4e5, 0, 0]] * 2 + [[0, 0, 0]] * 2)
    far = crystal | {"positions": moved}
    stored = pipeline.with_edges([far], GraphSpec(CUTOFF), cache_dir=tmp_path)
    assert np.abs(stored[0]["cell_shifts"]).max() == 1e5
    assert_equal(stored[0], add_edges(far, CUTOFF))


def test_labels_that_some_graphs_lack_are_missing_there(tmp_path):
    """As a list of the same graphs: NaN, whichever graph has a label first."""
    structures = molecules(7)
    for index, graph in enumerate(structures):
        del graph["energy" if index in (0, 4) else "forces"]
        if index == 5:
            graph["partial_charges"] = np.ones(len(graph["positions"]))
    structures.insert(3, invented(5, periodic=True))
    listed = pipeline.with_edges(structures, GraphSpec(CUTOFF))
    stored = pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path)
    assert np.isnan(stored[0]["energy"]).all()
    assert np.isnan(stored[1]["partial_charges"]).all()
    assert (stored[6]["partial_charges"] == 1.0).all()
    for one, other in zip(GraphLoader(stored, 3), GraphLoader(listed, 3), strict=True):
        assert_equal(one[0] | one[1], other[0] | other[1])


def test_a_store_knows_what_its_labels_mean(tmp_path):
    quantities.register("spin_densities", level="atom", shape=(), unit="e", ase="densities")
    structures = [
        graph | {"spin_densities": np.ones(len(graph["positions"]))} for graph in molecules(3)
    ]
    stored = pipeline.with_edges(structures, GraphSpec(CUTOFF), cache_dir=tmp_path)
    quantities.unregister("spin_densities")
    opened = pipeline.GraphStore(stored.folder)
    assert quantities.get("spin_densities").ase == "densities"
    assert (opened[1]["spin_densities"] == 1.0).all()
