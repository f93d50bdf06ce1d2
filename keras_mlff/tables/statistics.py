"""Statistics of data in rows: sizes, neighbors, means, spreads, values of elements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from keras_mlff import datasets, quantities
from keras_mlff.datasets.tools.elements import SYMBOLS
from keras_mlff.datasets.tools.statistics import Statistics, Tally
from keras_mlff.graph import INPUT_LEVELS, Graph
from keras_mlff.tables.frames import DataFrame, Rows, make_frame


def statistics_table(data: str | Sequence[Graph] | Mapping[str, Statistics]) -> DataFrame:
    """Lists sizes, neighbors, means and spreads of data.

    Args:
        data: The name of a data set that is prepared or comes with the package, structures, or
            statistics by the name of their split.

    Returns:
        A row for each number: `split`, `property`, `statistic`, `value` and `unit`.
    """
    if isinstance(data, str):
        return make_frame(statistics_rows(statistics_of(data)))
    if isinstance(data, Mapping):
        return make_frame(statistics_rows(data))
    return make_frame(statistics_rows({"all": measure(data)}))


def statistics_rows(found: Mapping[str, Statistics]) -> Rows:
    """Lists statistics in a row for each number, without pandas.

    Args:
        found: The statistics of each split, by its name.

    Returns:
        A dict for each row of `statistics_table`.
    """
    rows: Rows = []
    for split, statistics in found.items():
        numbers: list[tuple[str, str, float | None, str]] = [
            ("structures", "number", statistics.num_structures, ""),
            ("atoms of a structure", "mean", statistics.mean_size, ""),
            ("atoms of a structure", "largest", statistics.largest_size, ""),
            ("neighbors within 5 Å", "mean", statistics.mean_neighbors, ""),
            ("forces", "rms", statistics.force_rms, quantities.unit("forces")),
        ]
        numbers += [
            (f"atoms of {SYMBOLS[z - 1]}", "number", n, "") for z, n in statistics.num_atoms.items()
        ]
        for label, mean in statistics.mean.items():
            unit = quantities.unit(label)
            numbers += [(label, "mean", mean, unit), (label, "std", statistics.std[label], unit)]
        for label, values in statistics.references.items():
            unit = quantities.unit(label)
            numbers.append((label, "std without references", statistics.std_after[label], unit))
            numbers += [
                (label, f"reference of {SYMBOLS[z - 1]}", value, unit)
                for z, value in values.items()
            ]
        keys = ("property", "statistic", "value", "unit")
        rows += [
            {"split": split, **dict(zip(keys, number, strict=True))}
            for number in numbers
            if number[2] is not None
        ]
    return rows


def statistics_of(name: str, data_dir: str | None = None) -> dict[str, Statistics]:
    """Finds the statistics of a data set, by the name of each split.

    Args:
        name: The data set and, after a slash, its configuration.
        data_dir: The folder of TensorFlow Datasets; its usual one where `None`.

    Raises:
        ValueError: If it is not prepared and does not come with the package.
    """
    from keras_mlff.datasets.tools.shipped import find_shipped

    module = name.partition("/")[0]
    if module not in datasets.NAMES:
        raise ValueError(
            f"There is no such data set. Received: '{name}', known are {list(datasets.NAMES)}. "
            "Structures of a file are read by keras_mlff.datasets.load(file)."
        )
    if find_shipped(module) is not None:
        return {"all": measure(datasets.load(name))}
    from keras_mlff.datasets.tools import catalog

    return catalog.statistics_of(name, data_dir)


def measure(structures: Iterable[Graph]) -> Statistics:
    """Computes statistics of structures, which are read once, one by one."""
    extensive = (q.name for q in quantities.known().values() if q.extensive)
    tally = Tally([name for name in extensive if name not in INPUT_LEVELS])
    for graph in structures:
        tally.add(graph)
    return tally.statistics()
