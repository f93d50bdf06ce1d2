"""Numbers as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_mlff.graph import Array, Graph
    from keras_mlff.heads import Head

_UNITS = {
    "energy": "eV",
    "energy_per_atom": "eV",
    "atomic_energies": "eV",
    "forces": "eV/Å",
    "stress": "eV/Å³",
}


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows of text in columns; the first holds their names."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def prediction_rows(
    structures: Sequence[Graph], predictions: Mapping[str, Array], numbers: Sequence[int]
) -> list[list[str]]:
    """Tabulates predictions, a row per structure, which begins with its number."""
    import numpy as np

    from keras_mlff.graph import level

    sizes = [len(graph["atomic_numbers"]) for graph in structures]
    per_structure = {
        key: value
        for key, value in predictions.items()
        if level(key) == "structure" and key != "stress"
    }
    header = ["structure", "atoms", "charge", "spin", *per_structure]
    rows = [header + ["largest force (eV/Å)"] * ("forces" in predictions)]
    if "energy" in header:
        header[header.index("energy")] = "energy (eV)"
        rows = [header + rows[0][len(header) :]]
    starts = np.cumsum([0, *sizes])
    for index, graph in enumerate(structures):
        charge, spin = graph["total_charge"][0], graph["spin_multiplicity"][0]
        row = [str(numbers[index]), str(sizes[index]), f"{charge:g}", str(spin)]
        for value in per_structure.values():
            row.append(" ".join(f"{item:.6f}" for item in np.ravel(value[index])))
        if "forces" in predictions:
            forces = predictions["forces"][starts[index] : starts[index + 1]]
            row.append(f"{np.linalg.norm(forces, axis=1).max():.6f}")
        rows.append(row)
    return rows


def error_rows(found: Mapping[str, Any], heads: Sequence[Head]) -> list[list[str]]:
    """Tabulates `metrics.errors`, energies and forces in eV and in meV."""
    units = {label: head.unit for head in heads for label in head.labels} | _UNITS
    rows = [["property", "MAE", "RMSE", "largest", "unit", "numbers"]]
    for key, value in found.items():
        unit = units.get(key, "")
        for factor, name in ((1.0, unit), (1e3, f"m{unit}")):
            if factor == 1.0 or unit.startswith("eV"):
                numbers = [f"{factor * x:.6g}" for x in (value.mae, value.rmse, value.largest)]
                rows.append([key, *numbers, name, str(value.num_values)])
    return rows
