"""Studies of learned tables run at toy size and read each other's results."""

import json
import shutil

import numpy as np
import posenc_figures
import posenc_rmd17
import posenc_tables
import pytest

from keras_mlff import experiments
from keras_mlff.datasets.tools import qm9_format
from keras_mlff.experiments import building, choices, recipes

TINY = (
    *("model.num_features=8", "model.num_layers=1", "training.batch_size=4"),
    *("training.num_epochs=1", "report.plots=false"),
)
TABLE = ("model.distance_encoding.num_knots=6", "model.distance_encoding.num_features=4")


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
    splits = {"training": "learn", "validation": "hold", "test": "judge"}
    return (f"file={file}", *(f"data.split.{part}={name}" for part, name in splits.items()))


@pytest.fixture(scope="module")
def qm9(tmp_path_factory):
    """Molecules with the labels of QM9 in a file."""
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
        **{name: random.normal(size=12) ** 2 for name in qm9_format.TARGETS},
    )
    return (f"data.source={file}", "data.split={}", "data.sizes={validation=4, test=4}")


def run(recipe, folder, settings, variants=()):
    return experiments.run_recipe(
        recipe, variants, recipes.parse_overrides(settings), folder=folder, verbose=0
    )


@pytest.mark.parametrize("recipe", ["egnn_md17", "transformer_md17"])
def test_md17_reports_forces_beside_the_paper(recipe, molecule, tmp_path):
    more = {"transformer_md17": "model.num_heads=2", "egnn_md17": "model.equivariant=true"}
    settings = (*TINY, *TABLE, *molecule, "data.sizes.validation=-1", more[recipe])
    results = run(recipe, tmp_path, settings, ["file"])
    forces = results.errors["forces"]
    assert forces["unit"] == "meV/Å"
    kind = {"egnn_md17": "EGNN", "transformer_md17": "Transformer"}[recipe]
    assert forces[f"{kind} smooth, paper"] == {"EGNN": 3.5, "Transformer": 6.2}[kind]
    assert forces["NequIP"] == 9.0
    tables = [item for item in results.model._flatten_layers() if hasattr(item, "x_max")]
    assert 1.4 < tables[0].x_max < 1.8  # between the hydrogens, not the cutoff
    # the paper's text lacks this number
    report = recipes.load("egnn_md17").table["report"]["published"]
    assert "naphthalene" not in report["EGNN smooth, paper"]["forces"]


def test_rmd17_compares_with_the_same_budget(molecule, tmp_path, capsys):
    options = {
        "architectures": ("CMRET",),
        "num_epochs": 1,
        "variants": ("file",),
        "settings": (*TINY, *molecule, "data.sizes.validation=-1"),
        "folder": str(tmp_path),
        "verbose": 0,
    }
    results = posenc_rmd17.main(**options)
    assert list(results) == ["CMRET_original", "CMRET_smooth", "CMRET_smooth_gaussian_rbf"]
    assert posenc_rmd17.main(**options) == results  # nothing is trained twice
    assert "CMRET_smooth: energy" in capsys.readouterr().out


@pytest.mark.parametrize("recipe", ["egnn_qm9", "dimenet_pp_qm9"])
def test_qm9_learns_what_it_is_told_to(recipe, qm9, tmp_path):
    targets = ["alpha", "gap", "U0"]
    settings = (*TINY, *TABLE, *qm9, f"training.labels={json.dumps(targets)}")
    results = run(recipe, tmp_path, settings)
    assert sorted(results.errors) == sorted(targets)
    row = {"egnn_qm9": "EGNN smooth, paper", "dimenet_pp_qm9": "DimeNet++ smooth, paper"}[recipe]
    assert results.errors["alpha"][row] == {"e": 0.062, "d": 0.048}[recipe[0]]
    assert {name for head in results.model.heads for name in head.labels} >= set(targets)


@pytest.mark.parametrize("target", ["alpha", "U0"])
def test_the_papers_egnn_reads_every_property_from_the_sum(target, qm9, tmp_path):
    """Labels are standardized: the mean of what lone atoms leave, and its mean deviation."""
    settings = (*TINY, *qm9, f'training.labels=["{target}"]')
    results = run("egnn_qm9", tmp_path, settings, ["paper", "mlp"])
    assert results.model.get_config()["readout"] == "graph"
    (head,) = results.model.heads
    assert (head.name, head.pooling) == (target, "sum")
    assert set(head.references) == ({1, 6, 7, 8, 9} if target == "U0" else set())
    rest = [graph[target][0] - head.offsets(graph)[0] for graph in results.parts.training]
    np.testing.assert_allclose(np.mean(rest), 0.0, atol=1e-9)
    np.testing.assert_allclose(np.mean(np.abs(rest)), head.scale)


def rates(recipe, variants, steps, total):
    settings = recipes.load(recipe).settle(variants).training
    rate = choices.make_optimizer(settings, total)._learning_rate
    return [float(rate(step)) for step in steps]


def test_the_papers_scheduler_goes_three_times_as_fast():
    """The rate falls, rises and falls again; without the quirk it falls alone."""
    steps = (0, 50, 100, 200, 300)
    quirk = rates("egnn_qm9", ["paper", "scheduler_quirk"], steps, 300)
    np.testing.assert_allclose(quirk, [5e-4, 2.5e-4, 0.0, 5e-4, 0.0], atol=1e-9)
    falling = rates("egnn_qm9", ["paper"], steps, 300)
    assert falling == sorted(falling, reverse=True)


def test_the_papers_dimenet_takes_the_authors_choices():
    recipe = recipes.load("dimenet_pp_qm9").settle(
        ["original", "paper", "zero_start"], recipes.parse_overrides(TINY[:2])
    )
    model = building.make_model(recipe.model, ["homo"])
    choices_of = json.dumps(model.get_config())
    assert '"radial_factor": "kj"' in choices_of
    assert '"output_init": "zeros"' in choices_of
    found = rates("dimenet_pp_qm9", ["paper"], (0, 1500, 4_000_000), 7)
    np.testing.assert_allclose(found, [0.0, 5e-4 * 0.01 ** (1500 / 4e6), 1e-5], rtol=1e-5)


def test_the_papers_egnn_has_the_papers_size():
    recipe = recipes.load("egnn_qm9").settle(["original", "paper"])
    assert building.make_model(recipe.model, ["U0"]).count_params() == 745_224


def test_figures_are_drawn_from_what_is_trained(qm9, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    options = {
        "folder": str(tmp_path),
        "settings": (*TINY, *qm9),
        "targets": ("mu", "U0"),
        "num_knots": 6,
        "encoding_size": 4,
        "sweep_knots": (4, 6),
        "sweep_sizes": (4,),
        "verbose": 0,
    }
    with pytest.raises(ValueError, match="--train"):
        posenc_figures.main(**options)
    table = posenc_figures.main(**options, train=True)
    assert list(table) == ["mu", "U0"]
    # two properties, then posenc of U0, and both with four knots
    assert len(list(tmp_path.glob("*/model"))) == 5
    assert {file.name for file in tmp_path.glob("*.png")} == {f"figure{i}.png" for i in range(1, 6)}
    assert posenc_figures.main(**options) == table
    assert "polynomial" in capsys.readouterr().out


def test_tables_train_what_is_missing_and_go_on_after_errors(molecule, tmp_path, capsys):
    shutil.copy(molecule[0].removeprefix("file="), tmp_path / "ethanol.npz")
    source = f"data.source={tmp_path}/{{molecule}}.npz"
    options = {
        "columns": ("aspirin", "ethanol"),
        "encodings": ("smooth",),
        "variants": ("file",),
        "settings": (*TINY, *TABLE, *molecule[1:], "data.sizes.validation=-1", source),
        "folder": str(tmp_path / "table"),
        "verbose": 0,
    }
    rows = posenc_tables.main(**options)
    assert list(rows) == ["Transformer smooth", "EGNN smooth"]
    assert all(set(cells) == {"ethanol"} for cells in rows.values())
    assert capsys.readouterr().out.count(" failed: ") == 2  # there is no file of aspirin
    table = (tmp_path / "table/table.md").read_text("utf-8").splitlines()
    assert table[0].startswith("|  | aspirin / meV/Å | benzene / meV/Å | ethanol / meV/Å |")
    cells = [cell.strip() for cell in table[-1].split("|")][1:5]
    assert cells == ["EGNN smooth, paper", "6.7", "1.3", "3.5"]
    ours = [cell.strip() for cell in table[-2].split("|")][1:5]
    assert ours == ["EGNN smooth", "", "", f"{rows['EGNN smooth']['ethanol']:.3g}"]
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("table/*/log.csv")}
    assert posenc_tables.main(**options) == rows
    assert {file: file.stat().st_mtime_ns for file in before} == before
    with pytest.raises(ValueError, match="colour"):
        posenc_tables.main(**options | {"columns": ("colour",)})


def test_table_2_averages_seeds(qm9, tmp_path):
    rows = posenc_tables.main(
        table=2,
        columns=("U0",),
        backbones=("EGNN",),
        encodings=("original",),
        seeds=(0, 1),
        settings=(*TINY, *qm9),
        folder=str(tmp_path),
        verbose=0,
    )
    trainings = json.loads((tmp_path / "trainings.json").read_text())
    errors = [training["errors"]["U0"]["test_mae"] for training in trainings.values()]
    assert len(errors) == 2
    assert rows == {"EGNN original": {"U0": pytest.approx(np.mean(errors))}}
    assert f"{np.mean(errors):.3g} ± {np.std(errors):.2g}" in (tmp_path / "table.md").read_text()
