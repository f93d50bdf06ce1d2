"""Fuzzer of command lines: whether all values make sense decides between status 0 and one line."""

import contextlib
import functools
import io
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from keras_mlff import cli, datasets, models, presets
from keras_mlff.graph import structure
from tests.fuzz.cases import Fuzzer, Outcome

NO_COUNT = ("0", "-1", "1.5", "x", "nan", "", "1_0", "٣", "1e3", "0x10", "--")
NO_NUMBER = ("nan", "inf", "-inf", "x", "", "1_0", "1e999", "0x1", "1,5", "٣")
NO_FILE = ("absent.xyz", "", ".", "frames", "data.xyz/x.xyz")
FORMAT = (("csv", "json", "table"), ("xml", "", "CSV"))
OUT_TABLE = (("t.csv", "new/t.json", "t.txt"), (".", "data.xyz/t.csv", ""))
LABELS = (("energy", "energy forces"), ("enrgy", "positions"))
ENERGY_UNIT = (("eV", "kcal/mol"), ("ev", "", "J"))
LENGTH_UNIT = (("Å", "bohr"), ("A", "m", ""))
DTYPE = (("float32", "float64"), ("float16", "double", ""))
ABOUT = {"--labels": LABELS, "--energy-unit": ENERGY_UNIT, "--length-unit": LENGTH_UNIT}
NO_ABOUT = {name: ((), good) for name, (good, _) in ABOUT.items()}  # of named data sets
PRESET = (("egnn/tiny",), ("egnn/huge", "cmret/tiny", "", ".", "data.xyz"))
SOURCE = (("data.xyz",), NO_FILE)
# a command: what must be given, then what may be, each with values that make sense and others
Values = tuple[tuple[str, ...], tuple[str, ...]]
COMMANDS: dict[str, tuple[dict[str, Values], dict[str, Values]]] = {
    "predict": (
        {"": SOURCE, "--preset": PRESET},
        {
            "--batch-size": (("1", "7", "+3"), NO_COUNT),
            "--dtype": DTYPE,
            "--format": FORMAT,
            "--output": (("o.xyz", "new/o.csv", "o.json"), ("o.npz", ".", "", "data.xyz/o.xyz")),
        },
    ),
    "evaluate": (
        {"": SOURCE, "--preset": PRESET},
        {
            "--split": (("all", "all[:2]", "all[1:]+all[:1]", "all[50%:]"), ("al", "all[2:1]", "")),
            "--by": (("element", "structure"), ("atom", "")),
            "--batch-size": (("2",), NO_COUNT),
            "--keys": (("energy=energy",), ("energy=E", "energy", "=energy", "energy=")),
            "--format": FORMAT,
            "--output": OUT_TABLE,
            "--dtype": DTYPE,
            **ABOUT,
        },
    ),
    "md": (
        {"": SOURCE, "--preset": PRESET, "--num-steps": (("1", "3"), (*NO_COUNT, "-5"))},
        {
            "--temperature": (("0", "300", "1e2", ".5"), (*NO_NUMBER, "-1")),
            "--time-step": (("0.1", "1e-2"), (*NO_NUMBER, "0", "-1")),
            "--interval": (("1", "2"), NO_COUNT),
            "--seed": (("0", "4294967295"), ("-1", "4294967296", "1.0", "x")),
            "--ensemble": (("nve",), ("npt", "nph", "")),
            "--friction": ((), ("0.1", *NO_NUMBER)),
            "--pressure": ((), ("0", *NO_NUMBER)),
            "--output": (("o.xyz",), ("data.xyz", "o.traj", ".")),
        },
    ),
    "data validate": ({"": SOURCE}, ABOUT | {"--data-dir": ((), ("x",))}),
    "data stats": ({"": SOURCE}, ABOUT | {"--format": FORMAT, "--output": OUT_TABLE}),
    "data show": (
        {"": (("ch2", "ch2/triplet"), ("ch3", "", "CH2"))},
        {"--labels": ((), ("energy",))},
    ),
    "data validate ch2": ({}, NO_ABOUT | {"--manual-dir": ((), ("x",))}),
    "zoo list": ({}, {"--format": FORMAT, "--output": OUT_TABLE}),
    "zoo show": ({"": PRESET}, {"--format": ((), ("csv",))}),
    "recipe show": (
        {"": (("cmret_ch2", "cmret_md17"), ("cmret", "", "absent.toml"))},
        {
            "--set": (
                ("training.batch_size=8", "training.seed=1 training.patience=0"),
                (
                    *("training.batch_size=0", "training.batchsize=1", "training.seed=x", "seed"),
                    *("training.learning_rate=nan", "data.split.all=all", "=1", "offsets.kind=x"),
                    *("training.seed=1 training.seed=2", "data.sizes.test=1.5", "preset.notes=1"),
                ),
            ),
            "--variant": ((), ("absent", "")),
        },
    ),
    "analyze encoding": (
        {"": PRESET},
        {"--layer": ((), ("-1", "x", "1.5", "1000")), "--output": ((), ("o.xyz", ".", "o"))},
    ),
    "train": (  # which itself takes long: something is wrong in each
        {"": SOURCE, "--output": (("new",), ("data.xyz", "frames", ""))},
        {
            "--set": ((), ("num_features", "width=3", "training.num_epochs=0", "model.cutof=3")),
            "--validation": (("0.2",), ("1", "-0.1", *NO_NUMBER)),
            "--test": (("0", "0.3"), ("1", "-0.1", *NO_NUMBER)),
            "--loss-weights": (
                ("energy=1",),
                ("x=1", "force=1", "energy=-1", "energy=a", "energy"),
            ),
            "--element-energies": (("H=1 C=2",), ("Xx=1", "H=nan", "H", "H=1 H=2", "0=1")),
            "--patience": (("0", "3"), ("-1", "x", "1.5")),
            "--num-epochs": (("1",), NO_COUNT),
            "--batch-size": (("2",), NO_COUNT),
            "--learning-rate": (("1e-3",), ("0", "-1", *NO_NUMBER)),
            "--callbacks": (("TerminateOnNaN",), ("Terminate", "json:x", "absent_module:x")),
            "--split": (("all",), ("al[", "")),
            "--architecture": (("EGNN",), ("EGN", "")),
            "--recipe": (("train",), ("trian", "")),
            "--freeze": (("embedding",), ("embeding", "")),
            "--valid-file": (("data.xyz",), ("absent.xyz", "ch3", "")),
        },
    ),
}


@functools.cache
def made() -> tempfile.TemporaryDirectory[str]:
    """Makes a labeled file, a folder with something else in it, and a zoo of one preset, once."""
    folder = tempfile.TemporaryDirectory()
    random = np.random.default_rng(0)
    frames = [
        structure(
            [[0.0, 0.0, 0.0], [0.0, 0.9, 0.6], [0.0, -0.9, 0.6 + 0.1 * number]],
            [6, 1, 1],
            energy=random.normal() - 10.0,
            forces=np.zeros((3, 3)),
        )
        for number in range(4)
    ]
    datasets.save(Path(folder.name, "data.xyz"), frames)
    Path(folder.name, "frames").mkdir()
    Path(folder.name, "frames/notes.txt").write_text("three years")
    models.EGNN(num_features=4, num_layers=1).save_to_preset(
        Path(folder.name, "zoo/egnn/tiny"), elements=[1, 6], properties=["energy", "forces"]
    )
    return folder


def command_lines(random: np.random.Generator, folder: Path) -> Outcome:
    """Runs a command whose values were drawn from those that make sense and from others."""
    shutil.copytree(made().name, folder, dirs_exist_ok=True)
    name = str(random.choice(list(COMMANDS)))
    required, optional = COMMANDS[name]
    words, sensible = name.split(), True
    for option, (good, bad) in {**required, **optional}.items():
        if option in optional and random.random() < 0.7:
            continue
        is_good = bool(good) and random.random() < 0.85
        pool = good if is_good else bad
        value = pool[int(random.integers(len(pool)))]
        sensible &= is_good
        parts = value.split(" ") if option not in ("", "--split") else [value]
        words += [option, *parts] if option else parts
    if name in ("train", "analyze encoding") and sensible:
        words, sensible = [*words, "--nonsense"], False
    before = snapshot(folder)
    printed, said = io.StringIO(), io.StringIO()
    here = Path.cwd()
    os.chdir(folder)
    os.environ[presets.ZOO_ENVIRONMENT] = str(folder / "zoo")
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
            status = cli.main(words)
    finally:
        os.chdir(here)
        del os.environ[presets.ZOO_ENVIRONMENT]
    errors = [line for line in said.getvalue().splitlines() if ": error: " in line]
    assert status == (0 if sensible else 2), f"{words}: status {status}, {said.getvalue()!r}"
    assert "Traceback" not in said.getvalue()
    if status:
        assert len(errors) == 1, f"{words}: {said.getvalue()!r}"
        assert errors[0].startswith("keras-mlff"), words
        assert snapshot(folder) == before, f"{words}: something was written"
        return "refused"
    assert not errors, words
    return "right"


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FUZZERS = {"command lines": Fuzzer(command_lines, 0.3)}
