"""Structures with labels: from files, from the package, from TensorFlow Datasets."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_mlff.datasets.tools.checks import Report, report
from keras_mlff.datasets.tools.files import from_atoms, load_structures
from keras_mlff.datasets.tools.shipped import find_shipped
from keras_mlff.datasets.tools.writer import save_structures as save
from keras_mlff.graph import Graph

# Every module of this folder is a data set of its name; machinery is in the folder `tools`.
NAMES = tuple(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)

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
    stress_unit: str | None = None,
    stress_sign: int | None = None,
) -> list[Graph]:
    """Loads labeled structures, without edges, from a file or a named data set.

    Args:
        source: A file, that is a name with a suffix (`"md.xyz"`, `"md.npz"`, `"md.db"`), or a data
            set and its configuration (`"ch2"`, `"ch2/triplet"`). Data sets that come with the
            package need no TensorFlow; others are downloaded and prepared by TensorFlow Datasets.
        split: Written as in TensorFlow Datasets: `"train"`, `"train[:100]"`, `"train[80%:]+test"`.
            `"all"` is everything.
        labels: Files only: what to read, energy and forces by default. A label may be missing in
            some structures, where it is NaN; losses and metrics count those that have it.
        energy_unit: Files only: the file's unit of energy; by default what it states, else eV.
        length_unit: Files only: the file's unit of length; by default what it states, else Å.
        keys: Files only: the file's names for labels, where they differ.
        data_dir: Downloaded data sets only: the folder of TensorFlow Datasets.
        manual_dir: Downloaded data sets only: the folder of source files that were placed by hand,
            for machines without network; `downloads/manual` in `data_dir` by default.
        stress_unit: Files only: the file's unit of stress, energy over length³ by default.
        stress_sign: Files only: -1 where stresses are positive under pressure, as VASP's are.

    Returns:
        The structures in eV, Å and e, in the order of the file or of the data set.

    Raises:
        ValueError: If there is no such file, data set, configuration or split, if no structure
            has one of the labels, or a unit is unknown. See also `files.load_structures`.
        ImportError: If an extra is needed and not installed.

    Example:
        >>> frames = load("ch2/triplet", split="train[:100]")  # doctest: +SKIP
    """
    for_files = {
        "labels": labels,
        "energy_unit": energy_unit,
        "length_unit": length_unit,
        "keys": keys,
        "stress_unit": stress_unit,
        "stress_sign": stress_sign,
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
    shipped = find_shipped(name)
    if shipped is not None:
        return shipped.load(config, split)
    from keras_mlff.datasets.tools import catalog

    return catalog.read(str(source), split, data_dir, manual_dir)
