"""The flags of `keras-mlff`."""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_mlff import __version__
from keras_mlff.cli import analyze, data, predictions, training, values
from keras_mlff.cli import commands as actions
from keras_mlff.cli.guard import guarded
from keras_mlff.cli.program import PAIRS, Parser
from keras_mlff.cli.tables import FORMATS, TABLE_SUFFIXES
from keras_mlff.graph import INPUT_LEVELS

_ABOUT_FILE = ("labels", "energy_unit", "length_unit", "stress_unit", "stress_sign", "keys")

# words of several flags of one name are joined, not the last ones taken
_WORDS: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}


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
    parser = _parser()
    try:
        arguments = vars(parser.parse_args(argv))
        command, debug = arguments.pop("command"), arguments.pop("debug")
        if "keys" in arguments:
            _gather_about_file(parser, command, arguments)
    except SystemExit as end:
        return int(end.code or 0)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    status, _ = guarded(lambda: command(**arguments), debug, "keras-mlff")
    return status


def _gather_about_file(parser: Parser, command: Any, arguments: dict[str, Any]) -> None:
    """Puts together what a command must be told of a file, as `datasets.load` takes it.

    A flag of files has no effect on a named data set, nor one of these on a file.
    """
    given = {name: arguments.pop(name) for name in _ABOUT_FILE}
    arguments["about_file"] = {k: v for k, v in given.items() if v is not None}
    for name in set(given["labels"] or ()) & INPUT_LEVELS.keys():
        parser.error(f"argument --labels: '{name}' is what a model reads, not a label")
    source = arguments["data" if "data" in arguments else "source"]
    if Path(source).suffix:
        unused = {"manual_dir"} | (set() if command is data.data_build else {"data_dir"})
        unused = {name for name in unused if arguments.get(name) is not None}
        reason = f"'{source}' is a file, which has no such folder"
    else:  # of a named data set, some labels may be learned
        unused = arguments["about_file"].keys() - ({"labels"} if command is training.train else ())
        reason = f"'{source}' is a named data set, which knows its labels and units"
    for name in sorted(unused):
        parser.error(f"argument --{name.replace('_', '-')}: {reason}")


def _parser() -> Parser:
    parser = Parser("keras-mlff", description="Machine-learned force fields.")
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
            type=values.preset,
            help=text,
            default=argparse.SUPPRESS if required else None,
        )

    def add_domain(flag: Any) -> None:
        text = (
            "what happens to structures unlike those learned from; if not given, elements, charges "
            "and spins that were not learned are refused, and sizes and compositions are warned of"
        )
        flag("--domain", choices=("refuse", "warn", "ignore"), help=text)

    def add_dtype(flag: Any) -> None:
        flag("--dtype", choices=("float32", "float64"), help="precision, if not the preset's")

    def add_file_settings(flag: Any) -> None:
        flag("--labels", nargs="+", help="of a file: energy and forces, if not given")
        flag("--energy-unit", help="of a file: what it states, else eV, if not given")
        flag("--length-unit", help="of a file: what it states, else Å, if not given")
        flag("--stress-unit", help="of a file: energy over length³, if not given; GPa, kbar")
        text = "-1 where a file's stresses are positive under pressure, as VASP's are"
        flag("--stress-sign", type=int, choices=(1, -1), help=text)
        text = "a file's names for labels, such as energy=REF_energy"
        flag("--keys", help=text, **PAIRS)

    def add_table_settings(flag: Any, output: bool = True) -> None:
        text = "of the table; by the suffix of --output, else text, if not given"
        flag("--format", choices=FORMATS, help=text)
        if output:
            text = "file for the table; it is printed, if not given"
            flag("--output", type=values.output(), help=text)

    zoo = commands.add_parser("zoo", help="Lists, shows, imports or verifies presets.")
    inside = zoo.add_subparsers(required=True, metavar="list|results|show|import|verify")
    add_table_settings(add(inside, actions.zoo_list, "list"))
    flag = add(inside, actions.zoo_results, "results")
    flag("sources", nargs="*", help="presets or folders of experiments; all presets, if not given")
    add_table_settings(flag)
    add(inside, actions.zoo_show, "show")("preset", type=values.preset)
    flag = add(inside, actions.zoo_import, "import")
    flag("program", choices=("so3lr",), help="whose parameters they are")
    flag("path", type=values.file, help="file of parameters: params.pkl or .npz")
    text = "Å, of charges and dispersion"
    flag("--long-range-cutoff", type=values.number(above=0.0), default=12.0, help=text)
    flag("--output", help="folder of the preset, if not so3krates/so3lr in the user's zoo")
    add(inside, actions.zoo_verify, "verify")("preset", type=values.preset)

    data_sets = commands.add_parser("data", help="Lists, shows, prepares or checks data sets.")
    inside = data_sets.add_subparsers(required=True, metavar="list|show|build|validate|stats")
    add_table_settings(add(inside, data.data_list, "list"))
    add(inside, data.data_show, "show")("name", help="such as qm9")
    for function in (data.data_build, data.data_validate, data.data_stats):
        flag = add(inside, function, function.__name__.removeprefix("data_"))
        text = "a data set such as rmd17/aspirin, or a file of yours"
        flag("source", type=values.data, help=text)
        flag("--data-dir", help="folder of TensorFlow Datasets, if not its usual one")
        if function is data.data_build:
            flag("--manual-dir", help="folder of source files that were placed by hand")
        if function is data.data_stats:
            add_table_settings(flag)
        add_file_settings(flag)

    flag = add(commands, predictions.predict)
    flag("file", type=values.file, help="structures: .xyz, .npz, .db, .traj")
    add_preset(flag)
    add_table_settings(flag, output=False)
    text = (
        "structures with predictions as extended XYZ (.xyz), or the table (.csv, .json, .parquet)"
    )
    flag("--output", type=values.output(".xyz", ".extxyz", *TABLE_SUFFIXES), help=text)
    add_dtype(flag)
    add_domain(flag)
    flag("--batch-size", type=values.whole(1), default=32)

    recipe = commands.add_parser("recipe", help="Lists, shows or runs recipes.")
    inside = recipe.add_subparsers(required=True, metavar="list|show|run")
    add(inside, training.recipe_list, "list")
    for name, command in (("show", training.recipe_show), ("run", training.recipe_run)):
        flag = add(inside, command, name)
        flag("recipe", help="such as cmret_md17, a file mine.toml, or a preset made by a recipe")
        flag("--variant", help="variants, laid over the recipe", **_WORDS)
        text = "such as training.batch_size=8, or a parameter, molecule=aspirin"
        flag("--set", dest="settings", type=values.setting, help=text, **_WORDS)
        if name == "run":
            text = "of log, state and results; under runs/ if not given"
            flag("--folder", type=values.folder, help=text)
            text = "folder of a new preset, if there is to be one"
            flag("--preset", type=values.folder, help=text)
            flag("--resume", action="store_true", help="go on where the training was interrupted")

    _add_train(add(commands, training.train), add_preset, add_file_settings)

    flag = add(commands, predictions.evaluate)
    flag("data", type=values.data, help="labeled file, or a data set such as ch2/triplet")
    add_preset(flag)
    flag("--split", default="all", type=values.split, help="such as test or all[:100]")
    add_file_settings(flag)
    text = "sort the errors; configurations are those of config_type in the file, else formulas"
    flag("--by", choices=("element", "configuration", "structure"), help=text)
    add_table_settings(flag)
    add_dtype(flag)
    add_domain(flag)
    flag("--batch-size", type=values.whole(1), default=32)

    flag = add(commands, actions.md)
    flag("file", type=values.file, help="the first structure is where it starts")
    add_preset(flag)
    flag("--ensemble", choices=("nve", "nvt", "npt"), default="nve")
    text = "K, of the first velocities too"
    flag("--temperature", type=values.number(0.0), default=300.0, help=text)
    flag("--num-steps", type=values.whole(1), default=1000)
    flag("--time-step", type=values.number(above=0.0), default=0.5, help="fs")
    text = "1/fs, of Langevin's thermostat (nvt); 0.01 if not given"
    flag("--friction", type=values.number(0.0), help=text)
    flag("--pressure", type=values.number(), help="GPa (npt); 0 if not given")
    flag("--interval", type=values.whole(1), default=1, help="steps between recorded frames")
    text = "extended XYZ file of the trajectory"
    flag("--output", type=values.output(".xyz", ".extxyz"), help=text)
    add_dtype(flag)
    add_domain(flag)
    flag("--seed", type=values.whole(0, values.MAX_SEED), default=0)

    analyses = commands.add_parser("analyze", help="Looks into presets.")
    inside = analyses.add_subparsers(required=True, metavar="attention|encoding")
    flag = add(inside, analyze.encoding)
    text = "such as egnn/qm9; several are compared"
    flag("presets", nargs="+", metavar="preset", type=values.preset, help=text)
    figure = {"type": values.output(*values.FIGURES), "help": "figure to write"}
    flag("--output", default="encoding.png", **figure)
    flag("--layer", type=values.whole(0), default=0, help="whose table is drawn")
    flag = add(inside, analyze.attention)
    flag("file", type=values.file, help="the first structure is looked at")
    add_preset(flag)
    flag("--output", default="attention.png", **figure)

    flag = add(commands, actions.export)
    flag("folder", type=values.folder, help="of the SavedModel")
    add_preset(flag)
    add_dtype(flag)

    flag = add(commands, actions.bench)
    flag("--architectures", nargs="+", default=["CMRET"])
    flag(
        "--backends",
        nargs="+",
        help="all that are installed, if not given; tensorflow-graph is TensorFlow without XLA",
    )
    flag("--batch-sizes", nargs="+", type=values.whole(1), default=[5, 32])
    flag("--system", default="ethanol", help="or cluster:21, silicon:64, salt:64")
    flag("--repeats", type=values.whole(1), default=20, help="measured steps")
    flag("--threads", type=values.whole(1), default=1, help="cores of each process")
    text = "such as num_features=64"
    flag("--set", dest="settings", type=values.setting, help=text, **_WORDS)
    flag("--json", dest="json_file", type=values.output(), help="file for the results")

    add(commands, actions.doctor)
    return parser


def _add_train(flag: Any, add_preset: Any, add_file_settings: Any) -> None:
    """Adds the flags of `train`; those without a value leave what the recipe says."""
    flag("data", type=values.data, help="labeled file, or a data set such as ch2/triplet")
    text = "folder of the new preset"
    flag("--output", required=True, type=values.folder, default=argparse.SUPPRESS, help=text)
    flag("--split", type=values.split, help="such as train or all[:100]; all if not given")
    share = values.number(0.0, below=1.0)
    flag("--validation", type=share, help="share that chooses the best weights; 0.1 if not given")
    flag("--test", type=share, help="share that errors are measured on; 0.1 if not given, or 0")
    flag("--valid-file", type=values.data, help="file or data set for the validation instead")
    flag("--test-file", type=values.data, help="file or data set for the test instead")
    add_file_settings(flag)
    text = "energies of free atoms in eV, such as H=-13.6 O=-2043.9; fitted if not given"
    flag("--element-energies", type=values.energy_of_atom, help=text, **_WORDS)
    text = "such as energy=0.2 forces=0.8"
    flag("--loss-weights", type=values.setting, help=text, **_WORDS)
    flag("--architecture", help="of a new model; CMRET if not given")
    add_preset(flag, required=False)
    flag(
        "--recipe", help="recipe whose model and training are taken: train or finetune if not given"
    )
    flag("--variant", help="variants of the recipe", **_WORDS)
    text = "such as num_features=64 of the model, or training.optimizer=Lion of the recipe"
    flag("--set", dest="settings", type=values.setting, help=text, **_WORDS)
    flag("--freeze", nargs="+", help="parts of the model that stay, such as embedding")
    flag("--keep", nargs="+", help="parts that are trained while all others stay: readouts")
    flag("--num-epochs", type=values.whole(1), help="of the cosine decay; 100 if not given")
    flag("--batch-size", type=values.whole(1), help="structures in each step; 16 if not given")
    text = "its peak; 1e-3 if not given, 3e-4 of a preset"
    flag("--learning-rate", type=values.number(above=0.0), help=text)
    text = "epochs without improvement after which to stop; 0 never stops"
    flag("--patience", type=values.whole(0), help=text)
    text = "of weights, parts and order; 0 if not given"
    flag("--seed", type=values.whole(0, values.MAX_SEED), help=text)
    text = "tensorboard, wandb, a class of Keras, or package.module:Class"
    flag("--callbacks", nargs="+", help=text)
    flag("--devices", nargs="+", help="that share each step: all, or names such as gpu:0 gpu:1")
    text = "of log, state and results; OUTPUT.training if not given"
    flag("--folder", type=values.folder, help=text)
    flag("--resume", action="store_true", help="go on where the training was interrupted")
