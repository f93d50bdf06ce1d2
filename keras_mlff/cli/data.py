"""The commands of `keras-mlff data`: list, show, build, validate and stats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_mlff.cli.tables import chosen_format, write_table

if TYPE_CHECKING:
    from keras_mlff.graph import Graph


def data_list(format: str | None = None, output: str | None = None) -> None:
    """Lists the named data sets: sizes, elements, labels and configurations."""
    from keras_mlff import datasets
    from keras_mlff.datasets.tools import catalog, guide

    rows = []
    for name in datasets.NAMES:
        found = catalog.builder_class(name)
        rows.append(
            {
                "data set": name,
                "structures": found.STRUCTURES,
                "elements": found.ELEMENTS,
                "labels": " ".join(guide.labels(name)),
                "configurations": guide.configurations(name),
            }
        )
    write_table(rows, format, output)


def data_show(name: str) -> None:
    """Prints what a named data set is, where it comes from and how it is split."""
    from keras_mlff.datasets.tools import catalog, guide

    name = _known(name).partition("/")[0]
    print(guide.section(name))
    for key, source in catalog.builder_class(name).SOURCES.items():
        print(f"\nfile {key}: {source.layout}\n  from {source.url or 'see above'}")
        if source.checksum:
            print(f"  checksum {source.checksum}")


def data_build(
    source: str,
    data_dir: str | None,
    manual_dir: str | None,
    about_file: dict[str, Any],
) -> None:
    """Downloads, checks and prepares a named data set or a file of yours."""
    from keras_mlff.datasets import atoms
    from keras_mlff.datasets.tools import catalog

    if Path(source).suffix:
        config = atoms.file_config(source, **about_file)
        prepared = atoms.Atoms(config=config, data_dir=data_dir)
        prepared.download_and_prepare()
    else:
        _known(source)
        prepared = catalog.prepare(source, data_dir, manual_dir)
    for split, info in prepared.info.splits.items():
        print(f"{split}: {info.num_examples} structures")
    print(f"written: {prepared.data_dir}")


def data_validate(
    source: str,
    data_dir: str | None,
    about_file: dict[str, Any],
) -> None:
    """Checks a prepared data set or a file: sizes, distances, forces, units, what is missing."""
    from keras_mlff.datasets.tools import catalog
    from keras_mlff.datasets.tools.checks import Check

    if (graphs := _structures(source, about_file)) is None:
        for split, report in catalog.report_of(source, data_dir).items():
            print(f"{split}: {report}")
        return
    check = Check()
    for graph in graphs:
        check.add(graph)
    print(check.report())


def data_stats(
    source: str,
    data_dir: str | None,
    format: str | None,
    output: str | None,
    about_file: dict[str, Any],
) -> None:
    """Prints statistics of a prepared data set or a file: sizes, neighbors, references, spreads."""
    from keras_mlff.tables import statistics as tables

    if Path(source).suffix:
        found = {"all": tables.measure(_structures(source, about_file) or ())}
    else:
        found = tables.statistics_of(source, data_dir)
    if chosen_format(format, output) == "table" and output is None:
        for split, statistics in found.items():
            print(f"{split}: {statistics}")
    else:
        write_table(tables.statistics_rows(found), format, output)


def _structures(source: str, about_file: dict[str, Any]) -> Iterator[Graph] | None:
    """Opens a file or a data set that comes with the package; others have to be prepared."""
    from keras_mlff import datasets
    from keras_mlff.datasets.tools import files, shipped

    if Path(source).suffix:
        return files.iterate(source, **about_file)
    name = _known(source).partition("/")[0]
    return None if shipped.find_shipped(name) is None else iter(datasets.load(source))


def _known(source: str) -> str:
    from keras_mlff import datasets

    if source.partition("/")[0] not in datasets.NAMES:
        raise ValueError(
            f"There is no such data set. Received: '{source}', known are {list(datasets.NAMES)}. "
            "A file needs a suffix, such as .xyz, .npz or .db."
        )
    return source
