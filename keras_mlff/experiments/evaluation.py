"""Errors in the units that papers print, and figures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import plots, quantities, saving, units
from keras_mlff.experiments import toml
from keras_mlff.experiments.data import Parts
from keras_mlff.experiments.settings import ReportSettings
from keras_mlff.fit.metrics import errors
from keras_mlff.graph import Array, Graph, count, level
from keras_mlff.models import ForceField

# the sizes, in the units of this package, of what papers print
UNITS: dict[str, float] = {
    "eV": 1.0,
    "meV": units.meV,
    "hartree": units.hartree,
    "rydberg": units.rydberg,
    "kcal/mol": units.kcal_per_mol,
    "kJ/mol": units.kJ_per_mol,
    "eV/K": 1.0,
    "cal/(mol K)": units.cal_per_mol_kelvin,
    "e": 1.0,
    "e·Å": 1.0,
    "D": units.debye,
    "Å": 1.0,
    "Å²": 1.0,
    "Å³": 1.0,
    "bohr²": units.bohr_squared,
    "bohr³": units.bohr_cubed,
    "eV/Å³": 1.0,
    "GPa": units.gigapascal,
    "": 1.0,
}
_PER = {"Å": 1.0, "bohr": units.bohr, "atom": 1.0}


def unit_size(unit: str) -> float:
    """Finds the size of a unit in that of this package: `"meV/Å"`, `"kcal/mol"`, `"GPa"`, `"D"`.

    Raises:
        ValueError: If it is unknown.

    Example:
        >>> unit_size("meV/Å")
        0.001
    """
    if unit in UNITS:
        return UNITS[unit]
    energy, _, per = unit.rpartition("/")
    if energy in UNITS and per in _PER:
        return UNITS[energy] / _PER[per]
    known = [*UNITS, *(f"meV/{name}" for name in _PER)]
    toml.refuse_unknown([unit], known, "There is no unit", "Known, and energies per length,")
    raise AssertionError  # the above has raised


def measure_errors(
    model: ForceField,
    structures: Sequence[Graph],
    labels: Sequence[str],
    report: ReportSettings | None = None,
    part: str = "test",
    predicted: Mapping[str, Array] | None = None,
) -> dict[str, Any]:
    """Computes errors of predictions in the units that papers print.

    Args:
        model: The trained model.
        structures: Labeled ones.
        labels: What is compared.
        report: Units and published errors; `energy_per_atom` is compared where it has a unit.
        part: Which part the structures are, for the names of the errors.
        predicted: What `model.predict(structures)` gave, if it is at hand.

    Returns:
        By label: `unit`, `test_mae`, `test_rmse` (or those of the other part), and what was
        published. Nothing without structures.
    """
    if not structures:
        return {}
    report = report or ReportSettings()
    if predicted is None:
        predicted = model.predict(structures, domain="ignore")  # labels tell how good they are
    found = errors(structures, predicted)
    own = {label: head.unit for head in model.heads for label in head.labels}
    own |= {"energy_per_atom": "eV/atom"}
    published = published_errors(report)
    results: dict[str, Any] = {}
    for name in [*labels, *({"energy_per_atom"} & found.keys() & report.units.keys())]:
        unit = report.units.get(name) or own.get(name) or quantities.unit(name)
        size = unit_size(report.units[name]) if name in report.units else 1.0
        results[name] = {
            "unit": unit,
            f"{part}_mae": found[name].mae / size,
            f"{part}_rmse": found[name].rmse / size,
            **{paper: values[name] for paper, values in published.items() if name in values},
        }
    return results


def published_errors(report: ReportSettings) -> dict[str, dict[str, float]]:
    """Picks published errors: by paper and label.

    Where a label has a table of several, the one that `published_for` names is taken, if it is
    there.
    """
    key = report.published_for
    return {
        paper: {
            label: value[key] if isinstance(value, Mapping) else value
            for label, value in errors.items()
            if not isinstance(value, Mapping) or key in value
        }
        for paper, errors in report.published.items()
    }


def draw_figures(
    model: ForceField, parts: Parts, labels: Sequence[str], folder: str | Path, log: str | Path
) -> list[Path]:
    """Draws the learning curve and predictions against labels, where Matplotlib is installed.

    Args:
        model: The trained model.
        parts: Structures; empty parts are left out.
        labels: What was learned.
        folder: Receives `learning_curve.png` and `parity.png`.
        log: The training's CSV log.

    Returns:
        The files; none without Matplotlib.
    """
    try:
        figure, axes = plots.subplots()
    except ImportError:
        return []
    prefix = "val_" if parts.validation else ""
    columns = {f"{prefix}{label}_mae": f"{label} / {_unit(model, label)}" for label in labels}
    if plots.learning_curve(axes[0, 0], log, columns).lines:
        axes[0, 0].set_title("Mean absolute error" + (", validation" if prefix else ""))
    files = [Path(folder, "learning_curve.png"), Path(folder, "parity.png")]
    with saving.replacing(files[0]) as unfinished:
        figure.savefig(unfinished, dpi=150)
    parity_figure(model, parts, files[1], labels)
    return files


def parity_figure(
    model: ForceField,
    parts: Parts,
    file: str | Path,
    labels: Sequence[str] = ("energy", "forces"),
) -> None:
    """Draws predictions against labels, a row for each label and a column for each part.

    Energies are drawn per atom, relative to their mean.
    """
    drawn = {name: part for name, part in parts._asdict().items() if part}
    figure, axes = plots.subplots(len(labels), len(drawn), width=3.2, height=3.2)
    for column, (name, structures) in enumerate(drawn.items()):
        predicted = model.predict(structures, domain="ignore")
        axes[0, column].set_title(name)
        for row, label in enumerate(labels):
            known, found, quantity = _compared(model, structures, predicted, label)
            if len(known):
                plots.parity(axes[row, column], known, found, quantity)
    with saving.replacing(file) as unfinished:
        figure.savefig(unfinished, dpi=150)


def _compared(
    model: ForceField, structures: Sequence[Graph], predicted: Mapping[str, Array], label: str
) -> tuple[Array, Array, str]:
    """Lists labels and predictions of one quantity, where there is a label, and its name."""
    sizes = np.asarray([count(graph, "atom") for graph in structures])
    rows = sizes if level(label) == "atom" else np.ones(len(structures), np.int64)
    has_label = [label in graph for graph in structures]
    chosen = [graph[label] for graph in structures if label in graph]
    if not chosen:
        return np.zeros(0), np.zeros(0), label
    known = np.concatenate(chosen)
    found = np.asarray(predicted[label])[np.repeat(has_label, rows)]
    quantity = f"{label} / ({_unit(model, label)})"
    if label == "energy":
        atoms = sizes[has_label]
        known, found = 1e3 * known / atoms, 1e3 * found / atoms
        known, found = known - known.mean(), found - known.mean()
        quantity = "energy / (meV/atom)"
    finite = np.isfinite(known)
    return known[finite], found[finite], quantity


def _unit(model: ForceField, label: str) -> str:
    own = {name: head.unit for head in model.heads for name in head.labels}
    return own.get(label) or quantities.unit(label)
