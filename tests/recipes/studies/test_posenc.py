"""The recipes of learned tables run at toy size and read each other's results."""

import importlib
import json
import shutil

import numpy as np
import pytest

from keras_mlff import models

TINY = {"num_features": 8, "num_layers": 1, "batch_size": 4, "num_epochs": 1, "verbose": 0}
TABLE = {"num_knots": 6, "encoding_size": 4}


@pytest.fixture(scope="module")
def molecule(tmp_path_factory):
    """Frames of a bent molecule in the layout of MD17's files, kcal/mol and Å."""
    random = np.random.default_rng(0)
    place = np.asarray([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    positions = place + random.normal(scale=0.02, size=(12, 3, 3))
    forces = random.normal(size=(12, 3, 3))
    file = tmp_path_factory.mktemp("md17") / "water.npz"
    np.savez(
        file,
        z=[8, 1, 1],
        R=positions,
        E=random.normal(size=12) - 47000.0,
        F=forces - forces.mean(axis=1, keepdims=True),
        learn=np.arange(4),
        hold=np.arange(4, 8),
        judge=np.arange(8, 12),
    )
    return {"data": str(file), "training": "learn", "validation": "hold", "test": "judge"}


@pytest.fixture(scope="module")
def qm9(tmp_path_factory):
    """Molecules in the layout of recipes/generate/convert_qm9.py."""
    targets = importlib.import_module("cmret_qm9").TARGETS
    random = np.random.default_rng(0)
    place = np.asarray([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    positions = place + random.normal(scale=0.02, size=(12, 3, 3))
    file = tmp_path_factory.mktemp("qm9") / "qm9.npz"
    np.savez(
        file,
        index=np.arange(12),
        n_atoms=np.full(12, 3),
        atomic_numbers=np.tile([8, 1, 1], 12),
        positions=positions.reshape(-1, 3),
        **{name: random.normal(size=12) ** 2 for name in targets},
    )
    return {"data": str(file), "num_validation": 4, "num_test": 4}


@pytest.mark.parametrize("name", ["egnn_md17", "transformer_md17"])
def test_md17_reports_forces_beside_the_paper(name, molecule, tmp_path):
    recipe = importlib.import_module(name)
    more = {"num_heads": 2} if name.startswith("transformer") else {"equivariant": True}
    results = recipe.main(folder=str(tmp_path), **molecule, **TINY, **TABLE, **more)
    assert results["forces"]["unit"] == "meV/Å"
    kind = "EGNN" if name.startswith("egnn") else "Transformer"
    expected = {"EGNN": 3.5, "Transformer": 6.2}[kind]
    assert results["forces"][f"{kind} smooth, paper"] == expected
    assert results["forces"]["NequIP"] == 9.0
    model = models.load_preset(str(tmp_path / "model"))
    tables = [item for item in model._flatten_layers() if hasattr(item, "x_max")]
    assert 1.4 < tables[0].x_max < 1.8  # between the hydrogens, not the cutoff


def test_encodings_by_their_names_in_the_paper():
    recipe = importlib.import_module("egnn_md17")
    assert recipe.encoding("original", 36, 32) is None
    perceptron = {"kind": "mlp", "num_features": 32}
    assert recipe.encoding("mlp", 36, 32) == {**perceptron, "activation": "silu"}
    assert recipe.encoding("mlp", 36, 32, paper=True) == {**perceptron, "activation": "relu"}
    table = {"kind": "posenc", "num_knots": 36, "num_features": 32, "initial": "normal"}
    assert recipe.encoding("posenc", 36, 32) == table
    assert recipe.encoding("smooth", 36, 32, 0.1) == {**table, "smoothness": 0.1}
    # the paper's text lacks this number
    assert "EGNN smooth, paper" not in recipe.published("EGNN", "naphthalene", "smooth")


def test_rmd17_compares_with_the_same_budget(molecule, tmp_path, capsys):
    recipe = importlib.import_module("posenc_rmd17")
    settings = dict(TINY, architectures=("CMRET",), folder=str(tmp_path), **molecule)
    results = recipe.main(**settings)
    assert list(results) == ["CMRET_original", "CMRET_smooth", "CMRET_smooth_gaussian_rbf"]
    assert recipe.main(**settings) == results  # nothing is trained twice
    assert "CMRET_smooth: energy" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["egnn_qm9", "dimenet_pp_qm9"])
def test_qm9_learns_what_it_is_told_to(name, qm9, tmp_path):
    recipe = importlib.import_module(name)
    targets = ("alpha", "gap", "U0")
    results = recipe.main(targets=targets, folder=str(tmp_path), **qm9, **TINY, **TABLE)
    assert sorted(results) == sorted(targets)
    place = "EGNN smooth" if name == "egnn_qm9" else "DimeNet++ smooth"
    assert results["alpha"][place] == {"EGNN smooth": 0.062, "DimeNet++ smooth": 0.048}[place]
    saved = models.load_preset(str(tmp_path / "model"))
    assert sorted(saved.preset.properties) == sorted(targets)
    assert saved.preset.elements == (1, 8)


@pytest.mark.parametrize(("target", "rate"), [("alpha", 5e-4), ("homo", 1e-3), ("U0", 5e-4)])
def test_the_papers_egnn_reads_every_property_from_the_sum(
    target, rate, qm9, tmp_path, monkeypatch
):
    """Labels are standardized: the mean of what lone atoms leave, and its mean deviation."""
    recipe = importlib.import_module("egnn_qm9")
    made, rates = recipe.papers_adam, []
    monkeypatch.setattr(recipe, "papers_adam", lambda *args: rates.append(args[0]) or made(*args))
    settings = TINY | {"num_epochs": 2, "folder": str(tmp_path)}
    recipe.main(targets=(target,), distance_encoding="mlp", paper=True, **qm9, **settings)
    assert rates == [rate]
    model = models.load_preset(str(tmp_path / "model"))
    assert model.get_config()["readout"] == "graph"
    (head,) = model.heads
    assert (head.name, head.pooling) == (target, "sum")
    assert set(head.references) == ({1, 6, 7, 8, 9} if target == "U0" else set())
    parts = importlib.import_module("cmret_qm9").split_molecules(**qm9, num_train=0, seed=0)
    rest = [graph[target][0] - head.offsets(graph)[0] for graph in parts.training]
    np.testing.assert_allclose(np.mean(rest), 0.0, atol=1e-9)
    np.testing.assert_allclose(np.mean(np.abs(rest)), head.scale)


def test_the_papers_scheduler_goes_three_times_as_fast():
    """The rate falls, rises and falls again, and the programs' defaults do not."""
    recipe = importlib.import_module("egnn_qm9")
    rates = {
        quirk: [
            float(recipe.papers_adam(1e-3, quirk, 300)._learning_rate(step))
            for step in (0, 50, 100, 200, 300)
        ]
        for quirk in (False, True)
    }
    np.testing.assert_allclose(rates[True], [1e-3, 5e-4, 0.0, 1e-3, 0.0], atol=1e-9)
    assert rates[False] == sorted(rates[False], reverse=True)


def test_the_papers_dimenet_takes_the_authors_choices(qm9, tmp_path):
    recipe = importlib.import_module("dimenet_pp_qm9")
    settings = {"folder": str(tmp_path), "distance_encoding": "original", "paper": True}
    recipe.main(targets=("homo",), **qm9, **TINY, **settings)
    config = models.load_preset(str(tmp_path / "model")).get_config()
    choices = {"sbf_over_distance": True, "radial_factor": "kj", "rbf_embedding": "activated"}
    assert choices.items() <= config.items()
    assert recipe.papers_choices(["homo"])["output_init"] == "zeros"
    assert recipe.papers_choices(["U0"])["output_init"] == "orthogonal"
    rate = recipe.papers_adam(1e-3, 7)._learning_rate
    expected = [0.0, 5e-4 * 0.01 ** (1500 / 4e6), 1e-5]
    found = [float(rate(step)) for step in (0, 1500, 4_000_000)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_papers_egnn_has_the_papers_size():
    recipe = importlib.import_module("egnn_qm9")
    species = importlib.import_module("egnn_md17").SPECIES
    settings = {"all_pairs": True, "readout": "graph", "species": species}
    model = models.EGNN(heads=recipe.papers_heads(["U0"]), **settings)
    assert model.count_params() == 745_224


def test_folders_name_what_is_trained():
    name = importlib.import_module("egnn_qm9").name_folder
    table = {"knots": 36, "size": 32}
    targets = list(importlib.import_module("cmret_qm9").TARGETS)
    assert name("egnn_qm9", ["U0"], "mlp", table, epochs=3) == "runs/egnn_qm9_U0_mlp_size32_epochs3"
    assert name("egnn_qm9", targets, "original", table) == "runs/egnn_qm9_all_original"
    assert name("a", ["U0", "H"], "smooth", table) == "runs/a_U0-H_smooth_knots36_size32"


def test_figures_are_drawn_from_what_is_trained(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    recipe = importlib.import_module("posenc_figures")
    settings = {
        "folder": str(tmp_path),
        "targets": ("mu", "U0"),
        "num_knots": 6,
        "encoding_size": 4,
        "sweep_knots": (4, 6),
        "sweep_sizes": (4,),
    }
    with pytest.raises(ValueError, match="--commands"):
        recipe.main(**settings)
    assert recipe.main(commands=True, **settings, paper=True) == {}
    # two properties, then posenc of U0, and both with four knots
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == 5
    assert all("--targets " in line and "--paper --resume" in line for line in commands)
    encoding = {"kind": "posenc", "num_knots": 6, "num_features": 4, "initial": "normal_both"}
    for index, case in enumerate(["mu_smooth", "U0_smooth", "U0_posenc"]):
        folder = tmp_path / f"{case}_knots6_size4"
        model = models.EGNN(num_features=8, num_layers=2, distance_encoding=encoding)
        model.save_to_preset(str(folder / "model"), elements=[1], properties=["energy"])
        results = {case.partition("_")[0]: {"test_mae": 1.0 + index}}
        (folder / "results.json").write_text(json.dumps(results))
    table = recipe.main(**settings)
    assert list(table) == ["mu", "U0"]
    assert {file.name for file in tmp_path.glob("*.png")} == {f"figure{i}.png" for i in range(1, 6)}
    assert "polynomial" in capsys.readouterr().out


def test_tables_train_what_is_missing_and_go_on_after_errors(molecule, tmp_path, capsys):
    recipe = importlib.import_module("posenc_tables")
    files = tmp_path / "{column}.npz"
    place = str(files).format(column="ethanol")
    shutil.copy(molecule["data"], place)
    words = {**TINY, **TABLE, **molecule, "num_heads": 2, "paper": "true"}
    given = {
        "columns": ("aspirin", "ethanol"),
        "variants": ("smooth",),
        "data": str(files),
        "settings": [f"{k}={v}" for k, v in words.items() if k not in ("data", "verbose")],
        "folder": str(tmp_path / "table"),
        "verbose": 0,
    }
    rows = recipe.main(**given)
    assert list(rows) == ["Transformer smooth", "EGNN smooth"]
    assert all(set(cells) == {"ethanol"} for cells in rows.values())
    output = capsys.readouterr().out
    assert output.count("failed:") == 2  # there is no file of aspirin
    table = (tmp_path / "table/table.md").read_text("utf-8").splitlines()
    assert table[0].startswith("|  | aspirin / meV/Å | benzene / meV/Å | ethanol / meV/Å |")
    cells = [cell.strip() for cell in table[-1].split("|")][1:5]
    assert cells == ["EGNN smooth, paper", "6.7", "1.3", "3.5"]
    ours = [cell.strip() for cell in table[-2].split("|")][1:5]
    assert ours == ["EGNN smooth", "", "", f"{rows['EGNN smooth']['ethanol']:.3g}"]

    results = json.loads((tmp_path / "table/results.json").read_text())
    kept = [key for key, value in results.items() if "test_mae" in value]
    assert len(kept) == 2
    assert sum("--paper" in key for key in kept) == 1  # the Transformer has no such argument
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("table/*/log.csv")}
    assert recipe.main(**given) == rows
    assert {file: file.stat().st_mtime_ns for file in before} == before
    with pytest.raises(ValueError, match="colour"):
        recipe.main(**given | {"settings": ["colour=3"]})


def test_table_2_averages_seeds(qm9, tmp_path):
    recipe = importlib.import_module("posenc_tables")
    words = {**TINY, "num_validation": 4, "num_test": 4}
    rows = recipe.main(
        table=2,
        columns=("U0",),
        backbones=("EGNN",),
        variants=("original",),
        seeds=(0, 1),
        data=qm9["data"],
        settings=[f"{k}={v}" for k, v in words.items() if k != "verbose"],
        folder=str(tmp_path),
        verbose=0,
    )
    results = json.loads((tmp_path / "results.json").read_text())
    errors = [value["test_mae"] for value in results.values()]
    assert len(errors) == 2
    assert rows == {"EGNN original": {"U0": pytest.approx(np.mean(errors))}}
    assert f"{np.mean(errors):.3g} ± {np.std(errors):.2g}" in (tmp_path / "table.md").read_text()
