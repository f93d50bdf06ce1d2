"""What is measured on a preset: agreement with pinned values, symmetry, derivatives, drift."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import models
from keras_mlff import presets as preset_store
from keras_mlff.graph import Graph, structure
from keras_mlff.models import ForceField

REFERENCE = "reference.json"


def measure(folder: str | Path) -> dict[str, float]:
    """Measures on the backend in use how exactly a preset keeps what every model promises.

    Args:
        folder: The folder of a preset with pinned values.

    Returns:
        The largest deviations over all pinned structures: from the pinned values and under a
        rotation, in float32 and in float64 (`energy_agreement_float32`, `forces_rotation_float64`,
        ...), and of forces and stress from central differences of the energy, in float64. The units
        are eV, eV/Å and eV/Å³. For a model without energy they are shares of the largest value of
        each property.

    Raises:
        ValueError: If the preset has no pinned values.
    """
    pinned = pinned_values(folder)
    structures = [item["structure"] for item in pinned]
    turned = [_rotated(item) for item in structures]
    single = models.load_preset(str(folder))
    double = models.load_preset(str(folder), dtype="float64")
    has_energy = "energy" in double.property_names
    properties = ["energy", "forces"] if has_energy else preset_store.read(folder).properties
    figures: dict[str, float] = {}
    for name, model in (("float32", single), ("float64", double)):
        predicted, rotated = (model.predict(x, domain="ignore") for x in (structures, turned))
        for key in properties:
            expected = np.concatenate([np.asarray(item["predictions"][key]) for item in pinned])
            unit = 1.0 if has_energy else _largest(expected)
            prefix = f"{key}_" if has_energy else ""
            invariant = predicted[key] @ _ROTATION.T if key == "forces" else predicted[key]
            for check, difference in (
                (f"{prefix}agreement_{name}", predicted[key] - expected),
                (f"{prefix}rotation_{name}", rotated[key] - invariant),
            ):
                figures[check] = max(figures.get(check, 0.0), _largest(difference) / unit)
    if has_energy:
        figures["forces_finite_difference"] = _finite_difference_error(double, structures)
        crystals = [item for item in structures if "cell" in item]
        if crystals and double.supports_periodic:
            figures["stress_finite_difference"] = max(
                _stress_finite_difference(double, item) for item in crystals
            )
    return figures


def nve_drift(model: ForceField, example: Graph, num_steps: int) -> dict[str, Any]:
    """Runs dynamics at constant energy from 300 K and measures how well the energy is kept.

    Args:
        model: A model with forces.
        example: The structure to start from.
        num_steps: Number of steps of 0.5 fs.

    Returns:
        The slope of the total energy (`drift_meV_per_atom_ps`), its largest deviation
        (`largest_deviation_meV`), the length of the run (`length_ps`) and the time step
        (`time_step_fs`). Where the dynamics break down, `failure` says why, in place of the first
        two.
    """
    from keras_mlff import md
    from keras_mlff.md import observables

    atoms = md.to_atoms(example)
    atoms.calc = md.MLFFCalculator(model, domain="ignore")
    md.set_temperature(atoms, 300.0, seed=0)
    time_step = 0.5
    about = {"length_ps": num_steps * time_step / 1e3, "time_step_fs": time_step}
    try:
        trajectory = md.run_nve(atoms, num_steps, time_step=time_step, interval=5)
    except md.CalculationFailed as error:
        return about | {"failure": str(error)}
    energies = trajectory.total_energies
    return about | {
        "drift_meV_per_atom_ps": 1e3
        * observables.energy_drift(trajectory.times, energies, len(atoms)),
        "largest_deviation_meV": 1e3 * _largest(energies - energies[0]),
    }


def pinned_values(folder: str | Path) -> list[dict[str, Any]]:
    """Reads the structures of a preset and the predictions that are pinned for them.

    Args:
        folder: The folder of the preset.

    Returns:
        For each structure a dict with `structure`, ready for `predict`, and `predictions`, the
        values in float64 by name.

    Raises:
        ValueError: If the preset has none.
    """
    file = Path(folder) / REFERENCE
    if not file.is_file():
        raise ValueError(
            f"The preset has no '{REFERENCE}', with whose values it could be compared. Received: "
            f"'{folder}'. `publish.publish` writes one, as recipes do with --preset; "
            "`save_to_preset` alone knows no structures to pin."
        )
    pinned = json.loads(file.read_text(encoding="utf-8"))
    return [
        {"structure": structure(**item["structure"]), "predictions": item["predictions"]}
        for item in pinned
    ]


def _rotation() -> np.ndarray[Any, Any]:
    axis = np.asarray([0.3, -0.5, 0.8])
    axis /= np.linalg.norm(axis)
    cross = np.cross(np.eye(3), axis)
    return np.eye(3) + np.sin(1.1) * cross + (1.0 - np.cos(1.1)) * cross @ cross


_ROTATION = _rotation()


def _rotated(graph: Graph) -> Graph:
    turned = {**graph, "positions": graph["positions"] @ _ROTATION.T}
    if "cell" in graph:
        turned["cell"] = graph["cell"] @ _ROTATION.T
    return turned


def _finite_difference_error(
    model: ForceField, structures: Sequence[Graph], step: float = 1e-4
) -> float:
    """Finds the largest difference between forces and central differences of the energy, eV/Å.

    Of each structure the first eight atoms are moved, in one batch.
    """
    errors = [0.0]
    for item in structures:
        moved = []
        for atom in range(min(len(item["atomic_numbers"]), 8)):
            for axis in range(3):
                for sign in (1.0, -1.0):
                    positions = item["positions"].copy()
                    positions[atom, axis] += sign * step
                    moved.append({**item, "positions": positions})
        energies = model.predict(moved, len(moved), domain="ignore")["energy"].reshape(-1, 3, 2)
        forces = -(energies[:, :, 0] - energies[:, :, 1]) / (2.0 * step)
        errors.append(
            _largest(model.predict(item, domain="ignore")["forces"][: len(forces)] - forces)
        )
    return max(errors)


def _stress_finite_difference(model: ForceField, crystal: Graph, step: float = 1e-4) -> float:
    """Finds the largest difference between stress and central differences by strain, eV/Å³."""
    strained = []
    for row, column in np.ndindex(3, 3):
        for sign in (1.0, -1.0):
            stretch = np.eye(3)
            stretch[row, column] += 0.5 * sign * step
            stretch[column, row] += 0.5 * sign * step
            changes = {key: crystal[key] @ stretch for key in ("positions", "cell")}
            strained.append({**crystal, **changes})
    energies = model.predict(strained, len(strained), domain="ignore")["energy"].reshape(3, 3, 2)
    volume = abs(float(np.linalg.det(crystal["cell"][0])))
    stress = (energies[:, :, 0] - energies[:, :, 1]) / (2.0 * step * volume)
    return _largest(model.predict(crystal, domain="ignore")["stress"][0] - stress)


def _largest(values: Any) -> float:
    return float(np.max(np.abs(values)))
