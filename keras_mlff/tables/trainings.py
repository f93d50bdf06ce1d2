"""What trainings left behind: logs, presets, and measured numbers beside published ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_mlff import presets
from keras_mlff.datasets.tools.elements import SYMBOLS
from keras_mlff.tables.frames import DataFrame, Rows, make_frame

LOG, RESULTS = "log.csv", "results.json"  # of a training, in its folder
_MEASURED = ("test_mae", "test_rmse")  # what we measure; other numbers of an entry are published


def training_log(source: str | Path) -> DataFrame:
    """Reads the log of a training.

    Args:
        source: The log, a folder with `log.csv` (of a training or of a preset), or the name of a
            preset, such as `"cmret/ch2"`.

    Returns:
        A row for each epoch, with the number of completed epochs as its index. Columns are those
        of Keras: `loss`, `val_loss`, `energy_mae`, ..., in eV, Å and e.

    Raises:
        ValueError: If there is no log.

    Example:
        >>> training_log("cmret/ch2")["val_forces_mae"].min()  # doctest: +SKIP
    """
    from keras_mlff.fit.logs import read_log

    path = Path(source).expanduser()
    if not path.is_file():
        path = (path if path.is_dir() else presets.find(str(source)).folder) / LOG
    if not path.is_file():
        raise ValueError(f"There is no log of a training. Received: '{source}', without '{path}'.")
    frame = make_frame(read_log(path))
    frame["epoch"] = frame["epoch"].astype(int) + 1
    return frame.set_index("epoch")


def presets_table(architecture: str | None = None) -> DataFrame:
    """Lists the presets at hand, with what they were trained on and how large they are.

    Args:
        architecture: The name of a class, such as `"CMRET"`; all where `None`.

    Returns:
        A row for each preset.
    """
    return make_frame(preset_rows(architecture), {"cutoff": "Å"})


def preset_rows(architecture: str | None = None) -> Rows:
    """Lists the presets at hand; see `presets_table`."""
    return [
        {
            "preset": name if architecture is None else f"{architecture.lower()}/{name}",
            "elements": " ".join(SYMBOLS[number - 1] for number in preset.elements),
            "properties": " ".join(preset.properties),
            "cutoff": preset.metadata.get("cutoff"),
            "parameters": preset.metadata.get("num_parameters"),
            "description": preset.description,
        }
        for name, preset in presets.available(architecture).items()
    ]


def results_table(*sources: str | Path) -> DataFrame:
    """Lists what was measured on presets or in experiments beside what was published.

    Args:
        *sources: Names or folders of presets, folders of experiments with `results.json`, or such
            files; all presets at hand where none is given.

    Returns:
        A row for each number: `source`, `property`, `quantity` (`test_mae` and so on), `model`
        (`"keras_mlff"` for what was measured here, else who published it), `value` and `unit`. Wide
        tables are one call away: `frame.pivot_table("value", "property", "model")`.

    Example:
        >>> found = results_table("egnn/qm9", "dimenetpp/qm9")  # doctest: +SKIP
        >>> mae = found[found.quantity == "test_mae"]  # doctest: +SKIP
        >>> mae.pivot_table("value", "property", "model")  # doctest: +SKIP
    """
    return make_frame(result_rows(*sources))


def result_rows(*sources: str | Path) -> Rows:
    """Lists measured and published numbers; see `results_table`."""
    rows: Rows = []
    for source in sources or presets.available():
        path = Path(source).expanduser()
        file = path / RESULTS if path.is_dir() else path
        if file.is_file():
            measured = json.loads(file.read_text(encoding="utf-8"))
        else:
            measured = presets.find(str(source)).metadata.get("metrics", {})
        rows += [{"source": str(source), **row} for row in _numbers(measured, "")]
    return rows


def _numbers(found: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """Yields all numbers of nested dicts, measured and published ones, with their unit."""
    unit = found.get("unit", "")
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{name} {key}".strip())
        elif isinstance(value, int | float) and not isinstance(value, bool):
            published = "unit" in found and key not in _MEASURED
            yield {
                "property": name,
                "quantity": "test_mae" if published else key,
                "model": key if published else "keras_mlff",
                "value": float(value),
                "unit": unit,
            }
