"""From rows to pandas, and to files for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_mlff import saving

DataFrame = Any  # pandas.DataFrame
Rows = list[dict[str, Any]]


def make_frame(rows: Rows, units: Mapping[str, str] | None = None) -> DataFrame:
    """Makes a table of rows.

    Args:
        rows: Dicts with the same keys.
        units: The units of columns, by their names.

    Raises:
        ImportError: If pandas is not installed, with the extra that has it.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "Tables need pandas, which is not installed. Install it with "
            "`pip install keras-mlff[tables]`."
        ) from error
    frame = pandas.DataFrame(rows)
    frame.attrs["units"] = {k: v for k, v in (units or {}).items() if k in frame.columns}
    return frame


def write_rows(rows: Rows, format: str, file: Any) -> None:
    """Writes rows for other programs.

    Args:
        rows: What a function of this module returns whose name ends in `_rows`.
        format: `"csv"`, `"json"` (a list of objects) or `"parquet"`.
        file: A name, or an open file, which for parquet is a binary one.

    Raises:
        ImportError: If pandas is not installed, or pyarrow where parquet is asked for.
    """
    if isinstance(file, (str, Path)):
        with saving.replacing(file) as unfinished, unfinished.open("wb") as stream:
            write_rows(rows, format, stream)
        return
    frame = make_frame(rows)
    if format == "csv":
        frame.to_csv(file, index=False)
    elif format == "json":
        frame.to_json(file, orient="records", indent=1, force_ascii=False, double_precision=15)
    else:
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "Parquet files need pyarrow, which is not installed. Install it with "
                "`pip install keras-mlff[parquet]`, or choose csv or json."
            ) from error
        frame.to_parquet(file, index=False)
