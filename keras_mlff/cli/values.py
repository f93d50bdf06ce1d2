"""What options may be: each function reads one word of a command line, before any work."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

MAX_SEED = 2**32 - 1  # of NumPy
FIGURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".eps", ".ps")


def whole(least: int | None = None, most: int | None = None) -> Callable[[str], int]:
    """Reads whole numbers, written in digits."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]+", text):
            raise argparse.ArgumentTypeError(f"a whole number, received '{text}'")
        number = int(text)
        if (least is not None and number < least) or (most is not None and number > most):
            bounds = [f"at least {least}"] if least is not None else []
            bounds += [f"at most {most}"] if most is not None else []
            raise argparse.ArgumentTypeError(f"{' and '.join(bounds)}, received {number}")
        return number

    return read


def number(
    least: float | None = None, above: float | None = None, below: float | None = None
) -> Callable[[str], float]:
    """Reads finite numbers, written in digits."""

    def read(text: str) -> float:
        if not re.fullmatch(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?", text) or text.count(".") > 1:
            raise argparse.ArgumentTypeError(f"a finite number, received '{text}'")
        try:
            found = float(text)
        except ValueError:
            found = math.inf
        if (
            not math.isfinite(found)
            or (least is not None and found < least)
            or (above is not None and found <= above)
            or (below is not None and found >= below)
        ):
            named = {"at least": least, "above": above, "below": below}
            bounds = [f"{word} {bound:g}" for word, bound in named.items() if bound is not None]
            raise argparse.ArgumentTypeError(
                f"{' and '.join(bounds) or 'a finite number'}, received {text}"
            )
        return found

    return read


def file(text: str) -> str:
    """Reads the name of a file that exists."""
    if not Path(text).expanduser().is_file():
        what = "is a folder" if Path(text).expanduser().is_dir() else "does not exist"
        raise argparse.ArgumentTypeError(f"the file '{text}' {what}")
    return text


def data(text: str) -> str:
    """Reads the name of a file that exists, or of a data set."""
    from keras_mlff import datasets

    if Path(text).suffix:
        return file(text)
    if text.partition("/")[0] not in datasets.NAMES:
        raise argparse.ArgumentTypeError(
            f"there is no such data set, received '{text}', known are {list(datasets.NAMES)}; a "
            "file needs a suffix, such as .xyz, .npz or .db"
        )
    return text


def folder(text: str) -> str:
    """Reads the name of a folder that exists or can be made."""
    path = Path(text).expanduser().absolute()
    if not text or (path.exists() and not path.is_dir()):
        raise argparse.ArgumentTypeError(f"a folder, received '{text}'")
    _refuse_unwritable(path, text)
    return text


def output(*suffixes: str) -> Callable[[str], str]:
    """Reads the name of a file to write, with one of the endings if there are any."""

    def read(text: str) -> str:
        path = Path(text).expanduser().absolute()
        if not text or path.is_dir():
            raise argparse.ArgumentTypeError(f"a file, received the folder '{text}'")
        if suffixes and path.suffix not in suffixes:
            raise argparse.ArgumentTypeError(
                f"a name that ends in {', '.join(suffixes)}, received '{text}'"
            )
        _refuse_unwritable(path, text)
        return text

    return read


def preset(text: str) -> str:
    """Reads the name or the folder of a preset that exists."""
    from keras_mlff import presets

    return _checked(presets.find, text)


def split(text: str) -> str:
    """Reads a split, whose names are checked where the data are known."""
    from keras_mlff.datasets.tools import splits

    return _checked(splits.terms, text)


def setting(text: str) -> str:
    """Reads a pair `key=value`."""
    key, equals, _ = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"written as key=value, received '{text}'")
    return text


def energy_of_atom(text: str) -> str:
    """Reads a pair `symbol=energy`."""
    from keras_mlff.datasets.tools.elements import NUMBERS

    symbol, _, energy = setting(text).partition("=")
    if symbol not in NUMBERS and not (symbol.isdecimal() and int(symbol) in NUMBERS.values()):
        raise argparse.ArgumentTypeError(f"there is no element '{symbol}', received '{text}'")
    number()(energy)
    return text


def one_of(known: Collection[str]) -> Callable[[str], str]:
    """Reads one of some names, and tells those that are near."""

    def read(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"one of {', '.join(known)}, received '{text}'")
        return text

    return read


def _checked(check: Callable[[str], object], text: str) -> str:
    try:
        check(text)
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _refuse_unwritable(path: Path, text: str) -> None:
    """Refuses a path in a folder that is a file, or that this user may not write to."""
    parent = next(parent for parent in path.parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"nothing can be written to '{parent}', received '{text}'")
