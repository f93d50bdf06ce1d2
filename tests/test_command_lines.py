"""Every value of every option is checked before the work, and the error is one line."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from keras_mlff import cli, datasets, models
from keras_mlff.graph import structure

TRAIN = ["train", "FILE", "--output", "new"]
PREDICT = ["predict", "FILE", "--preset", "cmret/tiny"]
EVALUATE = ["evaluate", "FILE", "--preset", "cmret/tiny"]
MD = ["md", "FILE", "--preset", "cmret/tiny"]
RUN = ["recipe", "run", "cmret_ch2", "--set"]
REFUSED = [  # each with what the error must name
    (["predict", "nowhere.xyz", "--preset", "cmret/tiny"], "nowhere.xyz"),
    (["predict", "FOLDER", "--preset", "cmret/tiny"], "argument file"),
    (["predict", "FILE", "--preset", "cmret/huge"], "--preset"),
    (["zoo", "show", "cmret/huge"], "Choose from"),
    (["zoo", "results", "cmret/huge"], "cmret/huge"),
    (["zoo", "list", "--format", "xml"], "--format"),
    (["zoo", "list", "--format", "parquet"], "--output"),
    (["data", "show", "qm10"], "qm10"),
    (["data", "validate", "absent.xyz"], "absent.xyz"),
    (["data", "validate", "qm10"], "qm10"),
    (["data", "build", "ch2", "--energy-unit", "eV"], "--energy-unit"),
    (["data", "stats", "ch2", "--labels", "energy"], "--labels"),
    (["data", "stats", "FILE", "--data-dir", "x"], "--data-dir"),
    (["data", "build", "FILE", "--manual-dir", "x"], "--manual-dir"),
    (["data", "stats", "FILE", "--format", "parquet"], "--output"),
    (["evaluate", "ch2", "--preset", "cmret/tiny", "--keys", "energy=E"], "--keys"),
    ([*PREDICT, "--batch-size", "0"], "--batch-size"),
    ([*PREDICT, "--batch-size", "1_0"], "--batch-size"),
    ([*PREDICT, "--dtype", "float16"], "--dtype"),
    ([*PREDICT, "--output", "out.npz"], "--output"),
    ([*PREDICT, "--output", "FOLDER"], "--output"),
    ([*PREDICT, "--output", "FILE/out.xyz"], "--output"),
    ([*PREDICT, "--batch", "4", "--nonsense"], "--nonsense"),
    ([*EVALUATE, "--split", "all[5:3]"], "split='all[5:3]'"),
    ([*EVALUATE, "--split", "all[1:2:3]"], "--split"),
    ([*EVALUATE, "--split", "tset"], "tset"),
    ([*EVALUATE, "--by", "atom"], "--by"),
    ([*EVALUATE, "--batch-size", "-1"], "--batch-size"),
    ([*EVALUATE, "--energy-unit", "Joule"], "energy_unit='Joule'"),
    ([*EVALUATE, "--keys", "energy"], "--keys"),
    ([*EVALUATE, "--keys", "energy=a", "energy=b"], "--keys"),
    ([*MD, "--num-steps", "-5"], "--num-steps"),
    ([*MD, "--num-steps", "1.5"], "--num-steps"),
    ([*MD, "--interval", "0"], "--interval"),
    ([*MD, "--time-step", "0"], "--time-step"),
    ([*MD, "--time-step", "nan"], "--time-step"),
    ([*MD, "--temperature", "inf"], "--temperature"),
    ([*MD, "--temperature", "-1"], "--temperature"),
    ([*MD, "--temperature", "1e999"], "--temperature"),
    ([*MD, "--pressure", "nan", "--ensemble", "npt"], "--pressure"),
    ([*MD, "--pressure", "1"], "--pressure"),
    ([*MD, "--friction", "0.1", "--ensemble", "npt"], "--friction"),
    ([*MD, "--seed", "-1"], "--seed"),
    ([*MD, "--output", "FILE"], "--output"),
    ([*MD, "--output", "run.traj"], "--output"),
    (["analyze", "encoding", "cmret/tiny", "--layer", "-1"], "--layer"),
    (["analyze", "encoding", "cmret/tiny", "--output", "figure.xyz"], "--output"),
    (["analyze", "attention", "FILE", "--preset", "cmret/tiny", "--output", "a"], "--output"),
    (["export", "FILE", "--preset", "cmret/tiny"], "argument folder"),
    (["bench", "--batch-sizes", "0"], "--batch-sizes"),
    (["bench", "--repeats", "0"], "--repeats"),
    (["bench", "--threads", "x"], "--threads"),
    (["bench", "--backends", "theano"], "theano"),
    (["bench", "--system", "methane"], "methane"),
    (["bench", "--set", "width"], "--set"),
    ([*TRAIN, "--architecture", "Perceptron"], "Perceptron"),
    ([*TRAIN, "--architecture", "EGNN", "--preset", "cmret/tiny"], "--architecture"),
    ([*TRAIN, "--set", "num_features"], "--set"),
    ([*TRAIN, "--set", "width=3"], "width"),
    ([*TRAIN, "--set", "num_layers=1", "--set", "num_layers=2"], "--set"),
    ([*TRAIN, "--validation", "3"], "--validation"),
    ([*TRAIN, "--test", "nan"], "--test"),
    ([*TRAIN, "--test", "0.6", "--validation", "0.4"], "--validation"),
    ([*TRAIN, "--test", "0", "--test-file", "FILE"], "--test"),
    ([*TRAIN, "--valid-file", "absent.xyz"], "--valid-file"),
    ([*TRAIN, "--split", "all[:"], "--split"),
    ([*TRAIN, "--element-energies", "Xx=1"], "--element-energies"),
    ([*TRAIN, "--element-energies", "H=nan"], "--element-energies"),
    ([*TRAIN, "--element-energies", "H=1", "H=2"], "--element-energies"),
    ([*TRAIN, "--loss-weights", "x=1"], "'x'"),
    ([*TRAIN, "--loss-weights", "force=10"], "forces"),
    ([*TRAIN, "--loss-weights", "energy=-1"], "energy"),
    ([*TRAIN, "--loss-weights", "energy=a"], "energy"),
    ([*TRAIN, "--loss-weights", "energy"], "--loss-weights"),
    ([*TRAIN, "--patience", "-1"], "--patience"),
    ([*TRAIN, "--num-epochs", "0"], "--num-epochs"),
    ([*TRAIN, "--batch-size", "0"], "--batch-size"),
    ([*TRAIN, "--learning-rate", "0"], "--learning-rate"),
    ([*TRAIN, "--learning-rate", "nan"], "--learning-rate"),
    ([*TRAIN, "--seed", "4294967296"], "--seed"),
    ([*TRAIN, "--callbacks", "tensorbord"], "tensorboard"),
    ([*TRAIN, "--callbacks", "json:Nothing"], "Nothing"),
    ([*TRAIN, "--freeze", "embeding"], "embedding"),
    ([*TRAIN, "--freeze", "embedding", "--keep", "readouts"], "keep"),
    ([*TRAIN, "--recipe", "trian"], "train"),
    ([*TRAIN, "--variant", "long"], "long"),
    ([*TRAIN, "--labels", "enrgy"], "energy"),
    ([*TRAIN, "--folder", "FILE"], "--folder"),
    (["train", "FILE", "--output", "FOLDER"], "not a preset"),
    (["train", "ch2/quintet", "--output", "new"], "quintet"),
    (["train", "ch2", "--output", "new", "--length-unit", "bohr"], "--length-unit"),
    (["recipe", "run", "cmret_md71"], "Did you mean cmret_md17"),
    (["recipe", "show", "cmret_md17", "--variant", "papr"], "paper"),
    (["recipe", "run", "cmret_md17", "--set", "molecule=tolune"], "toluene"),
    ([*RUN, "training.num_epochs=-1"], "num_epochs"),
    ([*RUN, "training.learning_rate=inf"], "learning_rate"),
    ([*RUN, "training.averages=2.0"], "averages"),
    ([*RUN, "training.optimizer=adm"], "adam"),
    ([*RUN, "training.schedule=cosin"], "cosine"),
    ([*RUN, "training.loss=mze"], "mze"),
    ([*RUN, 'training.callbacks=[{kind="EarlyStopping", patiance=1}]'], "patiance"),
    ([*RUN, "data.split.trainnig=all"], "trainnig"),
    ([*RUN, "data.sizes.test=1.5"], "sizes"),
    ([*RUN, "data.energy_unit=ev"], "energy_unit"),
    ([*RUN, "offsets.kind=fitt"], "fit"),
    ([*RUN, "report.units.energy=mev"], "meV"),
    ([*RUN, "report.units.enrgy=meV"], "energy"),
    ([*RUN, "preset.num_nve_steps=-1"], "num_nve_steps"),
    ([*RUN, "quantities.spins.unit=e"], "quantities.spins.level"),
    ([*RUN, "quantities.spins.levl=atom"], "level"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A zoo with one preset, and a labeled file beside it."""
    folder = tmp_path_factory.mktemp("zoo")
    models.CMRET(num_features=8, num_layers=1, num_heads=2, num_radial=4).save_to_preset(
        folder / "cmret/tiny", elements=[1, 6], properties=["energy", "forces"]
    )
    positions = np.asarray([[0.0, 0.0, 0.0], [0.0, 0.9, 0.6], [0.0, -0.9, 0.6]])
    frames = [
        structure(positions, [6, 1, 1], energy=float(number), forces=np.zeros((3, 3)))
        for number in range(6)
    ]
    datasets.save(folder / "frames.xyz", frames)
    return folder


@pytest.mark.parametrize(("command", "named"), REFUSED, ids=lambda part: " ".join(part))
def test_a_command_that_makes_no_sense_ends_in_one_line_before_any_work(
    command, named, files, tmp_path, capsys, monkeypatch
):
    """No file is read for training, nothing is predicted, nothing is written."""
    work = pytest.fail if command[0] in ("train", "recipe") else datasets.load
    monkeypatch.setattr(datasets, "load", work)
    monkeypatch.setattr(models.ForceField, "predict", pytest.fail)
    monkeypatch.setattr(importlib.import_module("keras_mlff.bench.compare"), "_Worker", pytest.fail)
    monkeypatch.setenv("KERAS_MLFF_ZOO", str(files))
    monkeypatch.chdir(tmp_path)
    Path("thesis").mkdir()
    Path("thesis/notes.txt").write_text("three years")
    words = [
        word.replace("FILE", str(files / "frames.xyz")).replace("FOLDER", "thesis")
        for word in command
    ]
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert said.err.startswith("keras-mlff")
    assert ": error: " in said.err
    assert said.err.count("\n") == 1
    assert named in said.err
    assert said.out == ""
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file()] == [
        path for path in before if path.is_file()
    ]
