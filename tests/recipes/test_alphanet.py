"""The recipes of crystals run at toy size on files in the layouts of the published ones."""

import importlib
import json

import numpy as np
import pytest

from keras_mlff import models

TINY = {
    "num_features": 8,
    "num_layers": 1,
    "num_heads": 2,
    "cutoff": 3.0,
    "batch_size": 4,
    "num_epochs": 1,
    "verbose": 0,
}


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


def test_formate_reports_errors_per_atom(tmp_path):
    recipe = importlib.import_module("alphanet_formate_cu")
    common = {
        "data": write(tmp_path / "frames.npz"),
        "num_training": 8,
        "num_validation": 4,
        "num_test": 8,
        "without": ("phase", "rotation"),
        "figures": False,
        **TINY,
    }
    results = recipe.main(folder=str(tmp_path / "run"), **common)
    assert results["energy_per_atom"]["unit"] == "meV/atom"
    assert results["energy_per_atom"]["AlphaNet, paper"] == 0.23
    per_atom = results["energy"]["test_mae"] / 3
    assert results["energy_per_atom"]["test_mae"] == pytest.approx(per_atom)
    model = recipe.build(8, 1, 2, 3.0, "smooth", ("phase", "rotation"))
    assert model.without == ("phase", "rotation")
    with pytest.raises(ValueError, match="frame_transition"):
        recipe.build(8, 1, 2, 3.0, "smooth", ("everything",))

    # goes on from given weights: without a step they are those at the end too
    model.save_to_preset(tmp_path / "start", elements=[8, 14], recipe="earlier", compute="1 hour")
    start = {"start": str(tmp_path / "start"), "learning_rate": 0.0}
    recipe.main(folder=str(tmp_path / "on"), **common | start)
    gone_on = recipe.build(8, 1, 2, 3.0, "smooth", ("phase", "rotation"))
    gone_on.load_weights(tmp_path / "on/best.weights.h5")
    for before, after in zip(model.get_weights(), gone_on.get_weights(), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-6)  # the last bit: averages of equals


def test_zeolites_are_judged_by_topology(tmp_path):
    recipe = importlib.import_module("alphanet_zeolite")
    pytest.importorskip("matplotlib")
    data = write(
        tmp_path / "zeolites.npz",
        topology=np.repeat([0, 1], 10),
        topology_names=np.asarray([b"abw", b"sod"]),
    )
    found = recipe.main(data=data, folder=str(tmp_path / "all"), figures=False, **TINY)
    assert list(found) == ["all", "abw", "sod"]
    assert found["sod"]["forces"][recipe.PAPER] == 21
    both = np.mean([found[name]["forces"]["test_mae"] for name in ("abw", "sod")])
    assert found["all"]["forces"]["test_mae"] == pytest.approx(both)
    with pytest.raises(ValueError, match="which topology"):
        recipe.main(separate=True, folder=str(tmp_path / "none"), **TINY)
    curve = recipe.main(
        data=data, sizes=(4, 8), topologies=("sod", "abw"), folder=str(tmp_path / "sizes"), **TINY
    )
    assert list(curve) == ["4", "8"]
    assert (tmp_path / "sizes/error_against_size.png").exists()
    assert (tmp_path / "sizes/8/parity.png").exists()


def test_mlearn_learns_trusted_stress(tmp_path):
    recipe = importlib.import_module("alphanet_mlearn")
    random = np.random.default_rng(1)
    stress = random.normal(size=(20, 3, 3)) * 0.01
    data = write(
        tmp_path / "mlearn.npz",
        stress=stress + stress.transpose(0, 2, 1),
        split=np.repeat(["train", "test"], 10),
        shear_order_verified=np.arange(20) % 5 > 0,
    )
    results = recipe.main(
        data=data, num_validation=2, folder=str(tmp_path / "run"), figures=False, **TINY
    )
    assert results["stress"]["unit"] == "GPa"
    assert np.isfinite(results["stress"]["test_mae"])


@pytest.mark.slow
def test_perovskites_take_frames_of_several_files(tmp_path):
    recipe = importlib.import_module("alphanet_perovskite")
    files = [
        write(tmp_path / f"{name}.npz", stress=np.zeros((20, 3, 3))) for name in ("one", "two")
    ]
    results = recipe.main(
        data=(files[0],),
        num_validation=4,
        num_test=4,
        folder=str(tmp_path / "run"),
        figures=False,
        **TINY,
    )
    assert np.isfinite(results["stress"]["test_mae"])
    with pytest.raises(ValueError, match="cannot be cut"):
        recipe.main(data=tuple(files), num_validation=18, num_test=4, folder=str(tmp_path / "2"))


def test_graphene_leaves_other_levels_out(tmp_path):
    recipe = importlib.import_module("alphanet_graphene")
    data = write(tmp_path / "graphene.npz", spin_polarized=np.arange(20) % 4 == 0)
    results = recipe.main(
        data=data,
        num_validation=2,
        num_test=3,
        folder=str(tmp_path / "run"),
        figures=False,
        **TINY,
    )
    assert results["energy_per_atom"]["unit"] == "meV/atom"
    assert models.load_preset(str(tmp_path / "run/model")).num_layers == 1


def test_oc20_judges_free_atoms_of_unseen_relaxations(tmp_path):
    recipe = importlib.import_module("alphanet_oc20")
    data = write(
        tmp_path / "oc20.npz",
        system=np.repeat([f"random{n}" for n in range(5)], 4),
        fixed=np.tile([1, 0, 0], 20),
    )
    parts, fixed, relaxations = recipe.parts_of_file(data, 1, 2, seed=0)
    assert [len(part) for part in parts] == [8, 4, 8]
    assert np.unique(relaxations, return_counts=True)[1].tolist() == [4, 4]
    assert [len(mask) for mask in fixed] == [3] * 8
    recipe.main(
        data=data,
        num_validation=1,
        num_test=2,
        folder=str(tmp_path / "run"),
        figures=False,
        **TINY,
    )
    saved = json.loads((tmp_path / "run/results.json").read_text())
    assert set(saved["s2ef"]) == {"energy_mae", "force_mae", "force_cosine", "efwt"}
    assert saved["s2ef"]["energy_mae"] == pytest.approx(saved["energy"]["test_mae"], rel=1e-6)
    assert saved["energy_within_relaxation_mae"] < saved["energy"]["test_mae"]
    # two relaxations, each off by a number of its own
    errors = np.asarray([5.0, 7.0, -2.0, -2.5])
    assert recipe.within(errors, np.asarray(["b", "b", "a", "a"])) == pytest.approx(0.625)


def test_oc20_holds_out_only_what_others_have_the_elements_of():
    recipe = importlib.import_module("alphanet_oc20")
    made_of = {"a": [1, 6], "b": [1, 6, 79], "c": [1, 6], "d": [6, 79], "e": [1, 38]}
    frames = [{"atomic_numbers": np.asarray(numbers)} for numbers in made_of.values()]
    systems = np.asarray(list(made_of))
    for seed in range(5):
        held_out = recipe.draw_known(frames, systems, 2, seed)
        left = {element for name in made_of.keys() - {*held_out} for element in made_of[name]}
        assert all(left.issuperset(made_of[name]) for name in held_out)
    with pytest.raises(ValueError, match="can be held out"):
        recipe.draw_known(frames, systems, 5, 0)
