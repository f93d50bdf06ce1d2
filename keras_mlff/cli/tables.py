"""Rows of a command as text, or in a format that other programs read."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_mlff import saving

FORMATS = ("table", "csv", "json", "parquet")
TABLE_SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet"}


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of text in columns; the first row holds their names."""
    print(text_table(rows))


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Lays rows of text out in columns; the first row holds their names."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def chosen_format(format: str | None, output: str | None) -> str:
    """Finds the format of a table, which the name of the file tells where no flag does.

    Raises:
        ValueError: If a table of binary numbers is to be printed.
    """
    if format is None:
        format = TABLE_SUFFIXES.get(Path(output or "").suffix, "table")
    if format == "parquet" and output is None:
        raise ValueError("A parquet table goes to a file. Received: no --output. Name one.")
    return format


def write_table(
    rows: Sequence[Mapping[str, Any]],
    format: str | None = None,
    output: str | None = None,
    units: Mapping[str, str] | None = None,
    digits: str = ".6g",
) -> None:
    """Prints a table or writes it to a file.

    Args:
        rows: Dicts with the same keys, as the functions of `keras_mlff.tables` make them.
        format: One of `FORMATS`; by the suffix of `output` where `None`, else text.
        output: The file; printed where `None`.
        units: The units of columns, which the heads of a text table show.
        digits: How numbers are written in a text table.
    """
    format = chosen_format(format, output)
    if format == "table":
        text = text_table(_cells(rows, units or {}, digits))
        if output is None:
            print(text)
        else:
            saving.write_text(output, text + "\n")
    else:
        from keras_mlff.tables import write_rows

        write_rows([dict(row) for row in rows], format, sys.stdout if output is None else output)
    if output is not None:
        print(f"written: {output}", file=sys.stderr)


def notice(text: str, format: str | None, output: str | None) -> None:
    """Says something about a table where that does not get into what another program reads."""
    machine = output is None and chosen_format(format, output) != "table"
    print(text, file=sys.stderr if machine else sys.stdout)


def _cells(
    rows: Sequence[Mapping[str, Any]], units: Mapping[str, str], digits: str
) -> list[list[str]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = [f"{name} ({units[name]})" if units.get(name) else name for name in names]
    return [head, *([_text(row.get(name), digits) for name in names] for row in rows)]


def _text(value: Any, digits: str) -> str:
    if value is None:
        return ""
    return format(value, digits) if isinstance(value, float) else str(value)
