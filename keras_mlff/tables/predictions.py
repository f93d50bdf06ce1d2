"""Predictions in rows: one for each structure or for each atom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from keras_mlff import quantities
from keras_mlff.datasets.tools.elements import SYMBOLS
from keras_mlff.graph import Array, Graph, level
from keras_mlff.tables.frames import DataFrame, Rows, make_frame


def predictions_table(
    structures: Sequence[Graph],
    predictions: Mapping[str, Array],
    per: Literal["structure", "atom"] = "structure",
) -> DataFrame:
    """Lays predictions out in rows.

    Args:
        structures: What was predicted.
        predictions: What `model.predict(structures)` returns.
        per: `"structure"` has a row for each structure, with its size, charge, multiplicity,
            quantities of the structure, and the length of the largest force. `"atom"` has a row
            for each atom, with its structure, element and quantities of atoms.

    Returns:
        The table. Vectors and tensors have a column for each component: `dipole_x`, `stress_xy`.
    """
    if per == "structure":
        rows = prediction_rows(structures, predictions)
    else:
        rows = _rows_of_atoms(structures, predictions)
    return make_frame(rows, _units_of_columns(predictions))


def prediction_rows(
    structures: Sequence[Graph],
    predictions: Mapping[str, Array],
    numbers: Sequence[int] | None = None,
) -> Rows:
    """Lays predictions out in a row for each structure, without pandas.

    Args:
        structures: What was predicted.
        predictions: What `model.predict(structures)` returns.
        numbers: What the rows call the structures; counted from 0 where `None`.
    """
    sizes = [len(graph["atomic_numbers"]) for graph in structures]
    ends = np.cumsum(sizes, dtype=int)
    rows: Rows = []
    for index, graph in enumerate(structures):
        row: dict[str, Any] = {
            "structure": index if numbers is None else numbers[index],
            "atoms": sizes[index],
            "charge": float(graph["total_charge"][0]),
            "spin": int(graph["spin_multiplicity"][0]),
        }
        for key, value in predictions.items():
            if level(key) != "atom":
                row |= _components(key, value[index])
        if "forces" in predictions:
            forces = predictions["forces"][ends[index] - sizes[index] : ends[index]]
            row["largest_force"] = float(np.linalg.norm(forces, axis=1).max())
        rows.append(row)
    return rows


def _components(key: str, value: Array) -> dict[str, float]:
    """Names the components of a value: x, y, z where each axis is of space, else numbers."""
    array = np.asarray(value, np.float64)
    if array.ndim == 0:
        return {key: float(array)}
    spatial = all(size == 3 for size in array.shape)
    return {
        f"{key}_" + "".join("xyz"[i] if spatial else f"{i}" for i in place): float(array[place])
        for place in np.ndindex(array.shape)
    }


def _rows_of_atoms(structures: Sequence[Graph], predictions: Mapping[str, Array]) -> Rows:
    """Lays predictions of atoms out in a row for each atom."""
    rows: Rows = []
    for index, graph in enumerate(structures):
        for atom, number in enumerate(graph["atomic_numbers"].tolist()):
            row = {"structure": index, "atom": atom, "element": SYMBOLS[number - 1]}
            for key, value in predictions.items():
                if level(key) == "atom":
                    row |= _components(key, value[len(rows)])
            rows.append(row)
    return rows


def _units_of_columns(predictions: Mapping[str, Array]) -> dict[str, str]:
    """Lists the units of all columns, components of vectors among them."""
    units = {"largest_force": quantities.unit("forces"), "charge": "e"}
    for key, value in predictions.items():
        units |= dict.fromkeys(_components(key, value[0]), quantities.unit(key))
    return units
