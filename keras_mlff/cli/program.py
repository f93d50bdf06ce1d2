"""Turns the `main(**defaults)` of a program into a command, with a flag for each argument."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from keras_mlff.cli.guard import FAILED, guarded, one_line


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every error is said."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with status 2."""
        self.exit(FAILED, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


class _Gather(argparse.Action):
    """Gathers `name=value` pairs in a dict."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        earlier = getattr(namespace, self.dest) or {}
        gathered = {**earlier, **dict(values)}
        if len(gathered) < len(earlier) + len(values):
            raise argparse.ArgumentError(self, f"a name is given twice, received {values}")
        setattr(namespace, self.dest, gathered)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"written as name=value, received '{text}'")
    return name, value


PAIRS: dict[str, Any] = {"nargs": "+", "type": _pair, "action": _Gather}  # a flag of pairs


def run(function: Callable[..., Any], argv: Sequence[str] | None = None) -> Any:
    """Runs the `main` of a program, with a flag for each of its arguments.

    Types come from annotations or defaults; `bool` becomes `--name` and `--no-name`, a tuple takes
    several values, a dict several `name=value`. The help is the docstring's, or that of the module.

    Args:
        function: Its arguments have defaults; one without becomes a required flag.
        argv: Instead of the command line's.

    Returns:
        What the function returns; a dict of results is printed too. Errors end the program with
        one line and status 2.
    """
    documentation = inspect.getdoc(function) or inspect.getdoc(inspect.getmodule(function)) or ""
    parser = Parser(
        description=documentation.partition("\n\nArgs:")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    helps = _argument_helps(documentation)
    hints = typing.get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        flag = f"--{name.replace('_', '-')}"
        settings = _flag(hints.get(name), parameter.default)
        help_text = helps.get(name, "").replace("%", "%%")
        if parameter.default is parameter.empty:
            settings["required"] = True
        else:
            settings["default"] = parameter.default
            help_text += f" (default: {_shown(parameter.default)})".replace("%", "%%")
        parser.add_argument(flag, dest=name, help=help_text.strip(), **settings)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = vars(parser.parse_args(argv))
    debug = arguments.pop("debug")
    for name, value in arguments.items():
        if isinstance(value, list):  # as a default would be
            arguments[name] = tuple(value)
    status, result = guarded(lambda: function(**arguments), debug, parser.prog)
    if status:
        raise SystemExit(status)
    if isinstance(result, Mapping):
        print(json.dumps(result, indent=1, ensure_ascii=False, default=str))
    return result


def _flag(annotation: Any, default: Any) -> dict[str, Any]:
    """Says how argparse reads values of a type."""
    if annotation is None:
        annotation = type(default) if default not in (None, inspect.Parameter.empty) else str
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        known = [part for part in parts if part is not type(None)]
        # "int | str" takes what reads as the first, else the second
        return _flag(known[0], default) if len(known) == 1 else {"type": _first_of(known)}
    if origin is typing.Literal:
        return {"choices": parts, "type": type(parts[0])}
    if dict in (annotation, origin):
        return PAIRS
    if annotation in (tuple, list) or (origin is not None and issubclass(origin, Sequence)):
        values = [part for part in parts if part is not Ellipsis]
        if not values:
            values = [type(default[0]) if default else str]
        return {"nargs": "*", "type": values[0]}
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if annotation not in (int, float, str, Path):
        raise TypeError(f"A flag cannot be of this type. Received: {annotation}.")
    return {"type": annotation}


def _first_of(kinds: Sequence[Callable[[str], Any]]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        for kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
        raise argparse.ArgumentTypeError(f"cannot read '{text}'")

    return parse


def _argument_helps(documentation: str) -> dict[str, str]:
    """Reads the section `Args:` of a Google docstring."""
    section = documentation.partition("\nArgs:\n")[2]
    section = re.split(r"\n(?=\S)", section)[0]
    items = re.findall(r"^ {4}(\w+): ((?:.*\n?)(?: {5,}.*\n?)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in items}


def _shown(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, (tuple, list)) else str(default)
