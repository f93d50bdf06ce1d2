"""`keras-mlff data` lists, shows, prepares, checks and measures."""

import json

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets")
pytest.importorskip("ase")

from keras_mlff import datasets
from keras_mlff.cli import main
from keras_mlff.graph import structure

WATER = np.asarray([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])


@pytest.fixture
def file(tmp_path):
    """Three waters; energies in eV."""
    path = tmp_path / "water.xyz"
    graphs = [
        structure(WATER + shift, [8, 1, 1], energy=-2000.0 - shift, forces=np.zeros((3, 3)))
        for shift in (0.0, 1.0, 2.0)
    ]
    datasets.save(path, graphs)
    return str(path)


def test_all_data_sets_are_listed(capsys):
    assert main(["data", "list", "--format", "json"]) == 0
    listed = {row["data set"]: row["labels"] for row in json.loads(capsys.readouterr().out)}
    assert listed["oc20_s2ef"] == "energy forces reference_energy"
    assert main(["data", "list"]) == 0
    output = capsys.readouterr().out
    for name in datasets.NAMES:
        assert f"\n{name} " in output
    assert "110k, 100k, unsplit" in output


def test_a_data_set_is_shown_with_its_files(capsys):
    assert main(["data", "show", "qm9/100k"]) == 0
    output = capsys.readouterr().out
    assert "mu (e·Å)" in output
    assert "Cormorant" in output
    assert "file uncharacterized.txt" in output
    assert "3aa5115d540b356de94791d4a74c3bf1ed91c469ecf52a4f5d7cc0506fe02e24" in output


def test_a_named_data_set_is_built_checked_and_measured(tmp_path, capsys):
    folder = str(tmp_path / "prepared")
    assert main(["data", "build", "geometry_shapes/B", "--data-dir", folder]) == 0
    output = capsys.readouterr().out
    assert "train: 200 structures" in output
    assert "test: 100 structures" in output
    assert folder in output
    assert main(["data", "validate", "geometry_shapes/B"]) == 0
    assert "300 structures, 1500 atoms" in capsys.readouterr().out
    assert main(["data", "stats", "geometry_shapes/B"]) == 0
    assert "shape: mean 0.5" in capsys.readouterr().out
    assert main(["data", "stats", "geometry_shapes/B", "--format", "csv"]) == 0
    assert "all,shape,mean,0.5," in capsys.readouterr().out


def test_a_file_is_built_checked_and_measured(file, tmp_path, capsys):
    folder = str(tmp_path / "prepared")
    assert main(["data", "build", file, "--data-dir", folder]) == 0
    assert "train: 3 structures" in capsys.readouterr().out
    assert main(["data", "validate", file]) == 0
    assert "3 structures, 9 atoms" in capsys.readouterr().out
    assert main(["data", "stats", file, "--labels", "energy", "--energy-unit", "meV"]) == 0
    assert "energy: mean -2.001" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "qm10"], "no such data set"),
        (["build", "qm10"], "no such data set"),
        (["validate", "absent.xyz"], "does not exist"),
        (["stats", "rmd17/aspirin"], "is not prepared"),
    ],
)
def test_errors_say_what_is_wrong(arguments, message, tmp_path, capsys):
    more = [] if arguments[0] == "show" else ["--data-dir", str(tmp_path)]
    assert main(["data", *arguments, *more]) == 2
    assert message in capsys.readouterr().err
