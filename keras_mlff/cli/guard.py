"""Errors in one line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any

FAILED = 2  # exit status of any error, as argparse has it


def guarded(function: Callable[[], Any], debug: bool, program: str) -> tuple[int, Any]:
    """Turns an error into one line, unless a traceback is wanted."""
    try:
        return 0, function()
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        return 130, None
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0, None
    except Exception as error:
        if debug:
            raise
        usual = (ValueError, TypeError, ImportError, OSError, RuntimeError, ArithmeticError)
        expected = isinstance(error, usual)
        kind = "" if expected and str(error) else f"{type(error).__name__}: "
        print(f"{program}: error: {kind}{one_line(str(error))}", file=sys.stderr)
        return FAILED, None


def one_line(message: str) -> str:
    """Takes line breaks and colors out of a message."""
    return " ".join(re.sub(r"\x1b\[\d+m", "", message).split())
