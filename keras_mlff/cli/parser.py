"""The flags of `keras-mlff`."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

from keras_mlff import __version__
from keras_mlff.cli import analyze, data, predictions, training
from keras_mlff.cli import commands as actions
from keras_mlff.cli.guard import guarded
from keras_mlff.cli.program import PAIRS
from keras_mlff.cli.tables import FORMATS

_ABOUT_FILE = ("labels", "energy_unit", "length_unit", "keys")


class _HelpWithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, "") or action.default == []:
            return action.help
        return super()._get_help_string(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `keras-mlff`.

    Args:
        argv: The words after the program's name; those of the command line where `None`.

    Returns:
        The exit status: 0, 2 after an error, 130 after an interruption.
    """
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
        text = (inspect.getdoc(function) or "").partition("\n\n")[0]
        command = parent.add_parser(
            name or function.__name__,
            help=text,
            description=text,
            formatter_class=_HelpWithDefaults,
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

    zoo = commands.add_parser("zoo", help="Lists, shows, imports or verifies presets.")
    inside = zoo.add_subparsers(required=True, metavar="list|results|show|import|verify")
    add_table_settings(add(inside, actions.zoo_list, "list"))
    flag = add(inside, actions.zoo_results, "results")
    flag("sources", nargs="*", help="presets or folders of experiments; all presets, if not given")
    add_table_settings(flag)
    add(inside, actions.zoo_show, "show")("preset")
    flag = add(inside, actions.zoo_import, "import")
    flag("program", choices=("so3lr",), help="whose parameters they are")
    flag("path", help="file of parameters: params.pkl or .npz")
    flag("--long-range-cutoff", type=float, default=12.0, help="Å, of charges and dispersion")
    flag("--output", help="folder of the preset, if not so3krates/so3lr in the user's zoo")
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

    recipe = commands.add_parser("recipe", help="Lists, shows or runs recipes.")
    inside = recipe.add_subparsers(required=True, metavar="list|show|run")
    add(inside, training.recipe_list, "list")
    for name, command in (("show", training.recipe_show), ("run", training.recipe_run)):
        flag = add(inside, command, name)
        flag("recipe", help="such as cmret_md17, a file mine.toml, or a preset made by a recipe")
        flag("--variant", nargs="+", default=[], help="variants, laid over the recipe")
        text = "such as training.batch_size=8, or a parameter, molecule=aspirin"
        flag("--set", dest="settings", nargs="+", default=[], help=text)
        if name == "run":
            flag("--folder", default="", help="of log, state and results; under runs/ if not given")
            flag("--preset", default="", help="folder of a new preset, if there is to be one")
            flag("--resume", action="store_true", help="go on where the training was interrupted")

    _add_train(add(commands, training.train), add_preset, add_file_settings)

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


def _add_train(flag: Any, add_preset: Any, add_file_settings: Any) -> None:
    """Adds the flags of `train`; those without a value leave what the recipe says."""
    flag("data", help="labeled file, or a data set such as ch2/triplet")
    flag("--output", required=True, default=argparse.SUPPRESS, help="folder of the new preset")
    flag("--split", help="such as train or all[:100]; all if not given")
    flag("--validation", type=float, help="share that chooses the best weights; 0.1 if not given")
    flag("--test", type=float, help="share that errors are measured on; 0.1 if not given, or 0")
    flag("--valid-file", help="file or data set for the validation instead")
    flag("--test-file", help="file or data set for the test instead")
    add_file_settings(flag)
    text = "energies of free atoms in eV, such as H=-13.6 O=-2043.9; fitted if not given"
    flag("--element-energies", nargs="+", default=[], help=text)
    flag("--loss-weights", nargs="+", default=[], help="such as energy=0.2 forces=0.8")
    flag("--architecture", help="of a new model; CMRET if not given")
    add_preset(flag, required=False)
    flag(
        "--recipe", help="recipe whose model and training are taken: train or finetune if not given"
    )
    flag("--variant", nargs="+", default=[], help="variants of the recipe")
    text = "such as num_features=64 of the model, or training.optimizer=Lion of the recipe"
    flag("--set", dest="settings", nargs="+", default=[], help=text)
    flag("--freeze", nargs="+", help="parts of the model that stay, such as embedding")
    flag("--keep", nargs="+", help="parts that are trained while all others stay: readouts")
    flag("--num-epochs", type=int, help="of the cosine decay; 100 if not given")
    flag("--batch-size", type=int, help="structures in each step; 16 if not given")
    flag("--learning-rate", type=float, help="its peak; 1e-3 if not given, 3e-4 of a preset")
    flag("--patience", type=int, help="epochs without improvement after which to stop")
    flag("--seed", type=int, help="of weights, parts and order; 0 if not given")
    text = "tensorboard, wandb, a class of Keras, or package.module:Class"
    flag("--callbacks", nargs="+", help=text)
    flag("--devices", nargs="+", help="that share each step: all, or names such as gpu:0 gpu:1")
    flag("--folder", help="of log, state and results; OUTPUT.training if not given")
    flag("--resume", action="store_true", help="go on where the training was interrupted")
