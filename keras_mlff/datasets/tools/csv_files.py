"""CSV files of publications, read by pandas in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def csv_chunks(path: Path, columns: Sequence[str], num_rows: int = 10_000) -> Iterator[Any]:
    """Reads columns of a CSV file in chunks, so that the file may be larger than the memory.

    Args:
        path: The file, whose first line has the names of the columns.
        columns: Which columns to read.
        num_rows: The number of rows of a chunk.

    Yields:
        A `pandas.DataFrame` of text with these columns. Nothing is turned into a number or into
        NaN, so that a bad value is seen where it is used.

    Raises:
        KeyError: If the file lacks a column, with those that it has.
        OSError: If the file is damaged, with the first line that has too many values.
        ImportError: If pandas is not installed.
    """
    pandas = import_pandas()
    try:
        names = list(pandas.read_csv(path, nrows=0).columns)
        missing = [column for column in columns if column not in names]
        if missing:
            raise KeyError(f"no columns {missing}, only {names}")
        # all columns, since pandas looks for rows that are too long only then
        with pandas.read_csv(path, chunksize=num_rows, dtype=str, na_filter=False) as chunks:
            for chunk in chunks:
                if not isinstance(chunk.index, pandas.RangeIndex):
                    raise OSError(
                        f"the rows of {path.name} have more values than its first line names"
                    )
                yield chunk[list(columns)]
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, UnicodeError) as error:
        raise OSError(f"{path.name} is no CSV file ({error})") from error


def import_pandas() -> Any:
    """Imports pandas.

    Raises:
        ImportError: If pandas is not installed, with the extra that has it.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "CSV files of data sets are read by pandas, which is not installed. Install it with "
            "`pip install keras-mlff[datasets]`."
        ) from error
    return pandas
