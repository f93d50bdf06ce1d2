"""Structures with labels: from files, from the package, from TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_mlff.datasets import shipped
from keras_mlff.datasets.tools.checks import Report, report
from keras_mlff.datasets.tools.files import from_atoms, load_structures
from keras_mlff.datasets.tools.files import save_structures as save
from keras_mlff.datasets.tools.splits import select
from keras_mlff.graph import Graph

# the modules of this folder that hold a builder of the same name
NAMES = (
    "acetylacetone",
    "atoms",
    "bilayer_graphene",
    "ch2",
    "cumulene",
    "des370k",
    "dna_fragments",
    "formate_cu",
    "geometry_shapes",
    "iso17",
    "md17",
    "md22",
    "oc20_s2ef",
    "qm7x",
    "qm9",
    "rmd17",
    "spice",
    "three_bpa",
    "zeolite",
)

__all__ = ["NAMES", "Report", "from_atoms", "load", "report", "save"]


def load(
    source: str | Path,
    split: str = "all",
    labels: Sequence[str] | None = None,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    keys: Mapping[str, str] | None = None,
    data_dir: str | None = None,
    manual_dir: str | Path | None = None,
) -> list[Graph]:
    """Loads labeled structures, without edges, from a file or a named data set.

    Args:
        source: A file, that is a name with a suffix (`"md.xyz"`, `"md.npz"`, `"md.db"`), or a data
            set and its configuration (`"ch2"`, `"ch2/triplet"`). Data sets that come with the
            package need no TensorFlow; others are downloaded and prepared by TensorFlow Datasets.
        split: Written as in TensorFlow Datasets: `"train"`, `"train[:100]"`, `"train[80%:]+test"`.
            `"all"` is everything.
        labels: Files only: what every structure must have, energy and forces by default.
        energy_unit: Files only: eV by default.
        length_unit: Files only: Å by default.
        keys: Files only: the file's names for labels, where they differ.
        data_dir: Downloaded data sets only: the folder of TensorFlow Datasets.
        manual_dir: Downloaded data sets only: the folder of source files that were placed by hand,
            for machines without network; `downloads/manual` in `data_dir` by default.

    Raises:
        ValueError: If there is no such file, data set, configuration or split, if a structure
            lacks a label, or a unit is unknown. See also `files.load_structures`.
        ImportError: If an extra is needed and not installed.

    Example:
        >>> frames = load("ch2/triplet", split="train[:100]")  # doctest: +SKIP
    """
    for_files = {
        "labels": labels,
        "energy_unit": energy_unit,
        "length_unit": length_unit,
        "keys": keys,
    }
    given = {name: value for name, value in for_files.items() if value is not None}
    if Path(source).suffix:
        return load_structures(source, split=split, **given)  # type: ignore[arg-type]
    if given:
        raise TypeError(
            "A named data set knows its labels and units. Received: "
            f"source='{source}', {', '.join(given)}. Leave them out, or name a file with a suffix."
        )
    name, _, config = str(source).partition("/")
    if name not in NAMES:
        raise ValueError(
            f"There is no such data set. Received: source='{source}', known are {list(NAMES)}. "
            "A file needs a suffix, such as .xyz, .npz or .db."
        )
    if name not in shipped.SHIPPED:
        from keras_mlff.datasets.tools import builder

        return builder.read(str(source), split, data_dir, manual_dir)
    config = config or shipped.DEFAULT_CONFIGS[name]
    if config not in shipped.CONFIGS[name]:
        raise ValueError(
            f"'{name}' has no such configuration. Received: source='{source}', known are "
            f"{list(shipped.CONFIGS[name])}."
        )
    parts = shipped.SHIPPED[name](config)
    structures = [graph for part in parts.values() for graph in part]
    ends = np.cumsum([len(part) for part in parts.values()])
    rows = {
        part: np.arange(end - len(parts[part]), end) for part, end in zip(parts, ends, strict=True)
    }
    # a scan has other labels, so it is not part of everything
    rows["all"] = np.concatenate([rows["train"], rows["test"]])
    return [structures[row] for row in select(split, rows)]
