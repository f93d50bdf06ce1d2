"""A study trains once, goes on, and keeps errors apart from settings that they do not belong to."""

import json
from functools import partial

import numpy as np
import pytest

from keras_mlff import datasets
from keras_mlff.experiments import Parts
from keras_mlff.experiments.study import Study, solve_missing

TINY = ("model.num_features=8", "training.num_epochs=1", "report.plots=false")
SMALL = {"model.num_layers": 1, "training.batch_size": 20}


@pytest.fixture(scope="module")
def parts():
    points = datasets.load("ch2/triplet", split="train[:40]")
    return Parts(points[:20], points[20:30], points[30:])


def test_a_study_trains_once_and_refuses_other_settings(parts, tmp_path):
    study = Study(tmp_path, settings=TINY, verbose=0, defaults={"training.seed": 3})
    errors = study.train("one", "cmret_ch2", SMALL, parts=parts)
    assert errors["energy"]["unit"] == "meV"
    assert study.settle("cmret_ch2").training.seed == 3
    model = study.model("one")
    assert (model.num_features, model.num_layers) == (8, 1)
    study.write({"found": 1})
    assert json.loads((tmp_path / "results.json").read_text("utf-8")) == {"found": 1}

    again = Study(tmp_path, settings=TINY, verbose=0, defaults={"training.seed": 3})
    assert again.errors == {"one": errors}
    log = (tmp_path / "one/log.csv").stat().st_mtime_ns
    assert again.train("one", "cmret_ch2", SMALL, parts=parts) == errors
    assert (tmp_path / "one/log.csv").stat().st_mtime_ns == log
    with pytest.raises(ValueError, match=r"other settings.*training\.batch_size"):
        again.train("one", "cmret_ch2", SMALL | {"training.batch_size": 10}, parts=parts)
    with pytest.raises(ValueError, match="SHA-256"):
        again.train("one", "cmret_ch2", SMALL, parts=parts._replace(test=parts.validation))


def test_what_a_training_sets_goes_over_settings_and_defaults(tmp_path):
    study = Study(tmp_path, ["fast"], ["training.num_epochs=7"], defaults={"training.seed": 1})
    recipe = study.settle("cmret_ch2", {"training.num_epochs": 5})
    assert (recipe.training.num_epochs, recipe.training.batch_size) == (5, 25)
    assert study.settle("cmret_ch2").training.num_epochs == 7
    fresh = study.untrained("cmret_ch2", {"model.num_features": 8, "model.num_layers": 1})
    assert fresh.num_features == 8


def test_what_is_solved_is_not_solved_again(tmp_path, capsys):
    solved = []

    def solve(name):
        solved.append(name)
        if len(solved) == 2:
            raise KeyboardInterrupt
        return {"energy": np.array([float(len(name))])}

    solvers = {name: partial(solve, name) for name in ("a", "bc")}
    with pytest.raises(KeyboardInterrupt):
        solve_missing(solvers, tmp_path / "partial", "level")
    solutions = solve_missing(solvers, tmp_path / "partial", "level")
    assert solved == ["a", "bc", "bc"]
    assert {name: found["energy"].tolist() for name, found in solutions.items()} == {
        "a": [1.0],
        "bc": [2.0],
    }
    assert "[1/1] bc; 0.0 min" in capsys.readouterr().out
    with pytest.raises(ValueError, match="another level of theory"):
        solve_missing(solvers, tmp_path / "partial", "other level")
