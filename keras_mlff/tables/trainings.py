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
_MEASURED = ("test_mae", "test_rmse")


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
        A row for each number: `source`, `part` (of the test structures, else `"all"`), `property`,
        `quantity` (`test_mae` or `test_rmse`), `model` (`"keras_mlff"` for what was measured here,
        else who published it), `value` and `unit`. Wide tables are one call away, see the example.

    Example:
        >>> found = results_table("egnn/qm9", "dimenetpp/qm9")  # doctest: +SKIP
        >>> mae = found[found.quantity == "test_mae"]  # doctest: +SKIP
        >>> mae.pivot_table("value", "property", ["source", "model"])  # doctest: +SKIP
    """
    return make_frame(result_rows(*sources))


def result_rows(*sources: str | Path) -> Rows:
    """Lists measured and published numbers in a row for each; see `results_table`."""
    rows: Rows = []
    for source in sources or presets.available():
        path = Path(source).expanduser()
        file = path / RESULTS if path.is_dir() else path
        if file.is_file():
            found = json.loads(file.read_text(encoding="utf-8"))
            found = found if "metrics" in found else {"metrics": found}
        else:
            found = presets.find(str(source)).metadata
        published = found.get("published", {})
        parts = {"all": found.get("metrics", {}), **found.get("metrics_of_parts", {})}
        for part, measured in parts.items():
            rows += [
                {"source": str(source), "part": part, **row}
                for row in _numbers(measured, published if part == "all" else {})
            ]
    return rows


def _numbers(
    measured: Mapping[str, Any], published: Mapping[str, Mapping[str, float]]
) -> Iterator[dict[str, Any]]:
    """Yields a row for each number of an experiment; published ones are mean absolute errors."""
    for name, errors in measured.items():
        if not isinstance(errors, Mapping):
            continue  # such as the number of parameters
        numbers = [(key, "keras_mlff", errors[key]) for key in _MEASURED if key in errors]
        # results of an experiment have published numbers among the measured ones
        inside = {key: value for key, value in errors.items() if key not in ("unit", *_MEASURED)}
        beside = {paper: values[name] for paper, values in published.items() if name in values}
        numbers += [(_MEASURED[0], paper, value) for paper, value in (inside | beside).items()]
        for quantity, model, value in numbers:
            if isinstance(value, int | float):
                yield {
                    "property": name,
                    "quantity": quantity,
                    "model": model,
                    "value": float(value),
                    "unit": errors.get("unit", ""),
                }
