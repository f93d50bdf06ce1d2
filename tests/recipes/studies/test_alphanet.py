"""Studies of AlphaNet run at toy size on files in the layouts of the published ones."""

import json

import numpy as np
import oc20_relaxations
import pytest
import zeolite_topologies

TINY = (
    *("model.num_features=8", "model.num_layers=1", "model.num_heads=2", "model.cutoff=3.0"),
    *("training.num_epochs=1", "report.plots=false"),
)


def write(file, number=20, **arrays):
    """Writes cells of silicon and oxygen, one after the other."""
    random = np.random.default_rng(0)
    place = np.asarray([[0.0, 0.0, 0.0], [1.6, 0.1, 0.2], [0.2, 2.0, 1.9]])
    forces = random.normal(size=(number, 3, 3))
    np.savez(
        file,
        n_atoms=np.full(number, 3),
        numbers=np.tile([14, 8, 8], number),
        positions=(place + random.normal(scale=0.05, size=(number, 3, 3))).reshape(-1, 3),
        energy=random.normal(size=number) - 20.0,
        forces=(forces - forces.mean(axis=1, keepdims=True)).reshape(-1, 3),
        cell=np.tile(np.diag([4.0, 4.2, 4.4]), (number, 1, 1)),
        **arrays,
    )
    return str(file)


def test_zeolites_are_judged_by_topology(tmp_path):
    pytest.importorskip("matplotlib")
    data = write(
        tmp_path / "zeolites.npz",
        topology=np.repeat([0, 1], 10),
        topology_names=np.asarray([b"abw", b"sod"]),
    )
    common = {"data": data, "settings": TINY, "verbose": 0}
    found = zeolite_topologies.main(folder=str(tmp_path / "all"), **common)
    assert list(found) == ["all", "abw", "sod"]
    assert found["sod"]["forces"][zeolite_topologies.PAPER] == 21
    assert found["all"]["energy_per_atom"]["unit"] == "meV/atom"
    both = np.mean([found[name]["forces"]["test_mae"] for name in ("abw", "sod")])
    assert found["all"]["forces"]["test_mae"] == pytest.approx(both)
    curve = zeolite_topologies.main(
        sizes=(4, 8), topologies=("sod", "abw"), folder=str(tmp_path / "sizes"), **common
    )
    assert list(curve) == ["4", "8"]
    assert (tmp_path / "sizes/error_against_size.png").exists()
    with pytest.raises(ValueError, match="A preset is one model"):
        zeolite_topologies.main(separate=True, preset="taken", **common)


def test_oc20_judges_free_atoms_of_unseen_relaxations(tmp_path):
    data = write(
        tmp_path / "oc20.npz",
        system=np.repeat([f"random{n}" for n in range(5)], 4),
        fixed=np.tile([1, 0, 0], 20),
    )
    parts, fixed, relaxations = oc20_relaxations.split_relaxations(data, 1, 2, seed=0)
    assert [len(part) for part in parts] == [8, 4, 8]
    assert np.unique(relaxations, return_counts=True)[1].tolist() == [4, 4]
    assert [len(mask) for mask in fixed] == [3] * 8
    oc20_relaxations.main(
        data=data,
        num_validation=1,
        num_test=2,
        settings=TINY,
        folder=str(tmp_path / "run"),
        verbose=0,
    )
    saved = json.loads((tmp_path / "run/results.json").read_text())
    assert set(saved["s2ef"]) == {"energy_mae", "force_mae", "force_cosine", "efwt"}
    assert saved["s2ef"]["energy_mae"] == pytest.approx(saved["energy"]["test_mae"], rel=1e-6)
    assert saved["energy_within_relaxation_mae"] < saved["energy"]["test_mae"]
    # two relaxations, each off by a number of its own
    errors = np.asarray([5.0, 7.0, -2.0, -2.5])
    found = oc20_relaxations.error_within(errors, np.asarray(["b", "b", "a", "a"]))
    assert found == pytest.approx(0.625)


def test_oc20_holds_out_only_what_others_have_the_elements_of():
    made_of = {"a": [1, 6], "b": [1, 6, 79], "c": [1, 6], "d": [6, 79], "e": [1, 38]}
    frames = [{"atomic_numbers": np.asarray(numbers)} for numbers in made_of.values()]
    systems = np.asarray(list(made_of))
    for seed in range(5):
        held_out = oc20_relaxations.draw_known(frames, systems, 2, seed)
        left = {element for name in made_of.keys() - {*held_out} for element in made_of[name]}
        assert all(left.issuperset(made_of[name]) for name in held_out)
    with pytest.raises(ValueError, match="can be held out"):
        oc20_relaxations.draw_known(frames, systems, 5, 0)
