"""The flags of `keras-mlff`."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

from keras_mlff import __version__
from keras_mlff.cli import analyze, data, predictions
from keras_mlff.cli import commands as actions
from keras_mlff.cli.guard import guarded
from keras_mlff.cli.recipe import PAIRS
from keras_mlff.cli.tables import FORMATS

_ABOUT_FILE = ("labels", "energy_unit", "length_unit", "keys")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `keras-mlff` and returns its exit status."""
    arguments = vars(_parser().parse_args(argv))
    command, debug = arguments.pop("command"), arguments.pop("debug")
    if "keys" in arguments:  # what a command must be told of a file, as `datasets.load` takes it
        given = {name: arguments.pop(name) for name in _ABOUT_FILE}
        arguments["about_file"] = {k: v for k, v in given.items() if v is not None}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    status, _ = guarded(lambda: command(**arguments), debug, "keras-mlff")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("keras-mlff", description="Machine-learned force fields.")
    parser.add_argument("--version", action="version", version=f"keras_mlff {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(parent: Any, function: Callable[..., None], name: str = "") -> Any:
        text = inspect.getdoc(function)
        command = parent.add_parser(
            name or function.__name__,
            help=text,
            description=text,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        command.set_defaults(command=function)
        return command.add_argument

    def add_preset(flag: Any, required: bool = True) -> None:
        text = "such as cmret/ch2, or a preset's folder"
        flag(
            "--preset",
            required=required,
            help=text,
            default=argparse.SUPPRESS if required else None,
        )

    def add_dtype(flag: Any) -> None:
        flag("--dtype", choices=("float32", "float64"), help="precision, if not the preset's")

    def add_file_settings(flag: Any) -> None:
        flag("--labels", nargs="+", help="of a file: energy and forces, if not given")
        flag("--energy-unit", help="of a file: eV, if not given")
        flag("--length-unit", help="of a file: Å, if not given")
        text = "a file's names for labels, such as energy=REF_energy"
        flag("--keys", help=text, **PAIRS)

    def add_table_settings(flag: Any, output: bool = True) -> None:
        text = "of the table; by the suffix of --output, else text, if not given"
        flag("--format", choices=FORMATS, help=text)
        if output:
            flag("--output", help="file for the table; it is printed, if not given")

    zoo = commands.add_parser("zoo", help="Lists, shows or verifies presets.")
    inside = zoo.add_subparsers(required=True, metavar="list|results|show|verify")
    add_table_settings(add(inside, actions.zoo_list, "list"))
    flag = add(inside, actions.zoo_results, "results")
    flag("sources", nargs="*", help="presets or folders of experiments; all presets, if not given")
    add_table_settings(flag)
    add(inside, actions.zoo_show, "show")("preset")
    add(inside, actions.zoo_verify, "verify")("preset")

    data_sets = commands.add_parser("data", help="Lists, shows, prepares or checks data sets.")
    inside = data_sets.add_subparsers(required=True, metavar="list|show|build|validate|stats")
    add_table_settings(add(inside, data.data_list, "list"))
    add(inside, data.data_show, "show")("name", help="such as qm9")
    for function in (data.data_build, data.data_validate, data.data_stats):
        flag = add(inside, function, function.__name__.removeprefix("data_"))
        flag("source", help="a data set such as rmd17/aspirin, or a file of yours")
        flag("--data-dir", help="folder of TensorFlow Datasets, if not its usual one")
        if function is data.data_build:
            flag("--manual-dir", help="folder of source files that were placed by hand")
        if function is data.data_stats:
            add_table_settings(flag)
        add_file_settings(flag)

    flag = add(commands, predictions.predict)
    flag("file", help="structures: .xyz, .npz, .db, .traj")
    add_preset(flag)
    add_table_settings(flag, output=False)
    text = (
        "structures with predictions as extended XYZ (.xyz), or the table (.csv, .json, .parquet)"
    )
    flag("--output", help=text)
    add_dtype(flag)
    flag("--batch-size", type=int, default=32)

    flag = add(commands, actions.train)
    flag("data", help="labeled file, or a data set such as ch2/triplet")
    flag("--output", required=True, default=argparse.SUPPRESS, help="folder of the new preset")
    flag("--split", default="all", help="such as train or all[:100]")
    flag("--validation", type=float, default=0.1, help="share that is held out")
    add_file_settings(flag)
    flag("--loss-weights", nargs="+", default=[], help="such as energy=0.2 forces=0.8")
    flag("--architecture", default="CMRET", help="of a new model")
    add_preset(flag, required=False)
    flag("--set", dest="settings", nargs="+", default=[], help="such as num_features=64")
    flag("--num-epochs", type=int, default=100, help="of the cosine decay")
    flag("--batch-size", type=int, default=16)
    flag("--learning-rate", type=float, default=1e-3, help="its peak")
    flag("--patience", type=int, help="epochs without improvement after which to stop")
    flag("--seed", type=int, default=0)
    flag("--resume", action="store_true", help="go on where the training was interrupted")

    flag = add(commands, predictions.evaluate)
    flag("data", help="labeled file, or a data set such as ch2/triplet")
    add_preset(flag)
    flag("--split", default="all", help="such as test or all[:100]")
    add_file_settings(flag)
    text = "sort the errors; configurations are those of config_type in the file, else formulas"
    flag("--by", choices=("element", "configuration", "structure"), help=text)
    add_table_settings(flag)
    add_dtype(flag)
    flag("--batch-size", type=int, default=32)

    flag = add(commands, actions.md)
    flag("file", help="the first structure is where it starts")
    add_preset(flag)
    flag("--ensemble", choices=("nve", "nvt", "npt"), default="nve")
    flag("--temperature", type=float, default=300.0, help="K, of the first velocities too")
    flag("--num-steps", type=int, default=1000)
    flag("--time-step", type=float, default=0.5, help="fs")
    flag("--friction", type=float, default=0.01, help="1/fs, of Langevin's thermostat (nvt)")
    flag("--pressure", type=float, default=0.0, help="GPa (npt)")
    flag("--interval", type=int, default=1, help="steps between recorded frames")
    flag("--output", help="extended XYZ file of the trajectory")
    add_dtype(flag)
    flag("--seed", type=int, default=0)

    analyses = commands.add_parser("analyze", help="Looks into presets.")
    inside = analyses.add_subparsers(required=True, metavar="attention|encoding")
    flag = add(inside, analyze.encoding)
    flag("presets", nargs="+", metavar="preset", help="such as egnn/qm9; several are compared")
    flag("--output", default="encoding.png", help="figure to write")
    flag("--layer", type=int, default=0, help="whose table is drawn")
    flag = add(inside, analyze.attention)
    flag("file", help="the first structure is looked at")
    add_preset(flag)
    flag("--output", default="attention.png", help="figure to write")

    flag = add(commands, actions.export)
    flag("folder", help="of the SavedModel")
    add_preset(flag)
    add_dtype(flag)

    flag = add(commands, actions.bench)
    flag("--architectures", nargs="+", default=["CMRET"])
    flag(
        "--backends",
        nargs="+",
        help="all that are installed, if not given; tensorflow-graph is TensorFlow without XLA",
    )
    flag("--batch-sizes", nargs="+", type=int, default=[5, 32])
    flag("--system", default="ethanol", help="or cluster:21, silicon:64, salt:64")
    flag("--repeats", type=int, default=20, help="measured steps")
    flag("--threads", type=int, default=1, help="cores of each process")
    flag("--set", dest="settings", nargs="+", default=[], help="such as num_features=64")
    flag("--json", dest="json_file", help="file for the results")

    add(commands, actions.doctor)
    return parser
