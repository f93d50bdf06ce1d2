"""The commands that predict structures and compare predictions with labels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_mlff import quantities
from keras_mlff.cli.tables import TABLE_SUFFIXES, chosen_format, notice, write_table

if TYPE_CHECKING:
    from keras_mlff.core.deviations import Policy
    from keras_mlff.graph import Array, Graph
    from keras_mlff.tables.errors import By


def predict(
    file: str,
    preset: str,
    format: str | None,
    output: str | None,
    dtype: str | None,
    batch_size: int,
    domain: Policy | None,
) -> None:
    """Predicts the structures of a file, and prints a table or writes it, or the structures."""
    from keras_mlff import datasets, tables
    from keras_mlff.datasets.tools.files import iterate
    from keras_mlff.datasets.tools.writer import check_output

    table = None if output is None or Path(output).suffix not in TABLE_SUFFIXES else output
    if output is not None and table is None:
        check_output(output)
    chosen_format(format, table)
    failures: dict[int, str] = {}
    structures = list(iterate(file, labels=(), failures=failures))
    num_structures = len(structures) + len(failures)
    kept = [index for index in range(num_structures) if index not in failures]
    model = load_model(preset, dtype)
    found, unpredicted = predict_each(model, structures, batch_size, domain)
    failures |= {kept[index]: message for index, message in unpredicted.items()}
    for index, message in sorted(failures.items()):
        print(f"structure {index} is left out: {message}", file=sys.stderr)
    structures = [item for index, item in enumerate(structures) if index not in unpredicted]
    kept = [index for index in kept if index not in failures]
    if kept:
        predictions = _trained_only(found, model)
        units = {key: quantities.unit(key) for key in predictions}
        units |= {"largest_force": quantities.unit("forces")}
        rows = tables.prediction_rows(structures, predictions, kept)
        if chosen_format(format, table) == "table":  # nine columns of a stress help nobody there
            rows = [
                {k: v for k, v in row.items() if "stress_" not in k}
                | {"charge": f"{row['charge']:g}"}
                for row in rows
            ]
        write_table(rows, format, table, units, ".6f")
        if output is not None and table is None:
            datasets.save(output, structures, predictions)
            print(f"written: {output}", file=sys.stderr)
    if failures:
        raise RuntimeError(
            f"{len(failures)} of {num_structures} structures could not be predicted."
        )


def predict_each(
    model: Any, structures: Sequence[Graph], batch_size: int, domain: Policy | None = None
) -> tuple[dict[str, Array], dict[int, str]]:
    """Predicts what can be predicted; those at fault are found by halving.

    Returns:
        Joined predictions of the structures without a failure; messages by index of the others.
    """
    import numpy as np

    failures: dict[int, str] = {}

    def predict_range(start: int, stop: int) -> list[dict[str, Array]]:
        try:
            return [model.predict(structures[start:stop], batch_size, domain=domain)]
        except (ValueError, FloatingPointError) as error:
            if stop - start == 1:
                failures[start] = str(error)
                return []
        middle = (start + stop) // 2
        return predict_range(start, middle) + predict_range(middle, stop)

    pieces = predict_range(0, len(structures)) if structures else []
    if any("stress" in piece for piece in pieces):
        for piece in pieces:  # molecules alone have none
            piece.setdefault("stress", np.full((len(piece["energy"]), 3, 3), np.nan))
    keys = pieces[0] if pieces else ()
    return {key: np.concatenate([piece[key] for piece in pieces]) for key in keys}, failures


def evaluate(
    data: str,
    preset: str,
    split: str,
    about_file: dict[str, Any],
    by: By | None,
    format: str | None,
    output: str | None,
    dtype: str | None,
    batch_size: int,
    domain: Policy | None,
) -> None:
    """Compares a preset with labeled data: errors of all, or by element, kind or structure."""
    from keras_mlff import datasets, tables
    from keras_mlff.datasets.tools import files

    chosen_format(format, output)
    model = load_model(preset, dtype)  # first: it may know labels that nobody else does
    if _is_file(data):
        learned = model.preset.properties
        usual = [name for name in ("energy", "forces") if name in learned]
        about_file = {"labels": usual or learned, **about_file}
    structures = datasets.load(data, split, **about_file)
    kinds = files.configurations(data, split) if by == "configuration" and _is_file(data) else None
    predictions = _trained_only(model.predict(structures, batch_size, domain=domain), model)
    notice(f"{len(structures)} structures of {data}, split {split}", format, output)
    rows = tables.error_rows(structures, predictions, by, kinds)
    if chosen_format(format, output) == "table":
        rows = with_small_units(rows)
    write_table(rows, format, output)


def with_small_units(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Repeats errors of energies and forces in meV, for people to read."""
    shown = []
    for row in rows:
        shown.append(row)
        if row["unit"].startswith("eV"):
            small = {key: 1e3 * row[key] for key in ("mae", "rmse", "largest")}
            shown.append({**row, **small, "unit": f"m{row['unit']}"})
    return shown


def _is_file(source: str) -> bool:
    return bool(Path(source).suffix)


def load_model(preset: str, dtype: str | None) -> Any:
    """Loads the model of a preset, in another precision than its own where one is named."""
    from keras_mlff import models

    return models.load_preset(preset, **({} if dtype is None else {"dtype": dtype}))


def _trained_only(predictions: dict[str, Array], model: Any) -> dict[str, Array]:
    """Leaves out what the preset was not trained on; stress comes with forces."""
    known = set(model.preset.properties)
    known |= {"stress"} if "forces" in known else set()
    return {key: value for key, value in predictions.items() if key in known}
