"""Publishing a preset: what is measured on it, its reference values and its card."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

import keras_mlff
from keras_mlff import datasets, models, saving
from keras_mlff import presets as preset_store
from keras_mlff.graph import Graph, structure
from keras_mlff.models import ForceField

REFERENCE, CARD, LOG = "reference.json", "README.md", "log.csv"


def publish(
    model: ForceField,
    folder: str | Path,
    examples: Sequence[Graph],
    log: str | Path,
    num_nve_steps: int = 4000,
    **metadata: Any,
) -> preset_store.Preset:
    """Writes a trained model as a preset with log, reference values, measurements and card.

    Args:
        model: The trained model.
        folder: Such as `zoo/cmret/ch2`.
        examples: A few structures on which the model is measured and pinned.
        log: The training's CSV log.
        num_nve_steps: Of dynamics at constant energy, where there are forces; 0 leaves it out.
        **metadata: See `presets.save`; `recipe`, `seed` and `metrics` are required, since a model
            without them cannot be made again or judged.
    """
    check(folder, metadata)
    metadata["keras_mlff_version"] = keras_mlff.__version__
    metadata["learning_curve"] = learning_curve(log)
    folder = preset_store.save(model, folder, **metadata).folder
    shutil.copyfile(log, folder / LOG)
    double = models.load_preset(str(folder), dtype="float64")
    pinned = []
    for example in examples:
        arguments = _arguments(example)
        predictions = double.predict(structure(**arguments))
        plain = {key: value.tolist() for key, value in predictions.items()}
        pinned.append({"structure": arguments, "predictions": plain})
    saving.write_json(folder / REFERENCE, pinned)
    if "forces" in model.property_names and num_nve_steps:
        nve = nve_drift(model, examples[0], num_nve_steps)
        _update(preset_store.read(folder), nve=nve)
    return verify(folder)


def check(folder: str | Path, metadata: Iterable[str]) -> None:
    """Refuses what `publish` would refuse; call it before a training, not after.

    Args:
        folder: Where to publish.
        metadata: Names of what will be given.

    Raises:
        ValueError: If something else is in the folder, or what is required will be missing.
    """
    preset_store.check_folder(folder)
    missing = sorted({"recipe", "seed", "metrics"} - set(metadata))
    if missing:
        raise ValueError(
            f"A preset needs {missing} besides its weights. Received: {sorted(metadata)}."
        )


def learning_curve(log: str | Path, num_rows: int = 8) -> dict[str, dict[str, float]]:
    """Reads validation errors from a CSV log at epochs that are about evenly spaced in scale.

    Returns:
        By number of epochs: columns of the log that begin with `val_`, in this package's units.
    """
    with open(log, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("val_loss") not in (None, "", "NA")]
    wanted = np.geomspace(1, max(len(rows), 1), num_rows)
    chosen = sorted({min(round(number), len(rows)) - 1 for number in wanted}) if rows else []
    return {
        str(int(rows[index]["epoch"]) + 1): {
            key.removeprefix("val_"): float(value)
            for key, value in rows[index].items()
            if key.startswith("val_") and value
        }
        for index in chosen
    }


def verify(folder: str | Path) -> preset_store.Preset:
    """Measures a preset on the backend in use and writes the figures into its metadata and card.

    Run it once on each backend: `keras-mlff zoo verify FOLDER`.
    """
    measured = {keras.backend.backend(): measure(folder)}
    preset = preset_store.read(folder)  # only now: another backend may have written meanwhile
    checks = {**preset.metadata.get("checks", {}), **measured}
    return _update(preset, checks=dict(sorted(checks.items())))


def add_figure(folder: str | Path, name: str, figure: Any, caption: str) -> preset_store.Preset:
    """Puts a figure into a preset's folder and card.

    Args:
        folder: Of the preset.
        name: File, such as `attention.png`; one of that name is replaced.
        figure: Matplotlib's.
        caption: What it shows, whole sentences.
    """
    preset = preset_store.read(folder)
    with saving.replacing(preset.folder / name) as file:
        figure.savefig(file, dpi=100)
    return _update(preset, figures={**preset.metadata.get("figures", {}), name: caption})


def _update(preset: preset_store.Preset, **changes: Any) -> preset_store.Preset:
    """Changes the metadata, and the card with it."""
    folder = preset.folder
    saving.write_json(folder / preset_store.METADATA, {**preset.metadata, **changes})
    preset = preset_store.read(folder)
    saving.write_text(folder / CARD, card(preset))
    return preset


def measure(folder: str | Path) -> dict[str, float]:
    """Measures a preset on the backend in use.

    Returns:
        Largest deviations from the reference values, under rotation, and of forces and stress from
        finite differences (in float64): in eV, eV/Å and eV/Å³, or for a model without energy in
        shares of the largest value of each property.
    """
    pinned = references(folder)
    structures = [item["structure"] for item in pinned]
    turned = [_rotated(item) for item in structures]
    single = models.load_preset(str(folder))
    double = models.load_preset(str(folder), dtype="float64")
    has_energy = "energy" in double.property_names
    properties = ["energy", "forces"] if has_energy else preset_store.read(folder).properties
    figures: dict[str, float] = {}
    for name, model in (("float32", single), ("float64", double)):
        predicted, rotated = model.predict(structures), model.predict(turned)
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
    """Runs at constant energy from 300 K and measures how well the energy is kept.

    Returns:
        Slope of the total energy (meV per atom and ps), its largest deviation (meV), the length of
        the run (ps) and the time step (fs). Where the dynamics break down, why they did is there
        instead of the former two.
    """
    from keras_mlff import md
    from keras_mlff.md import observables

    atoms = md.to_atoms(example)
    atoms.calc = md.MLFFCalculator(model)
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


def references(folder: str | Path) -> list[dict[str, Any]]:
    """Reads the pinned structures and predictions of a preset."""
    file = Path(folder) / REFERENCE
    if not file.is_file():
        raise ValueError(
            f"The preset has no '{REFERENCE}', with whose values it could be compared. Received: "
            f"'{folder}'. `model_card.publish` writes one, as recipes do with --preset; "
            "`save_to_preset` and `keras-mlff train` know no structures to pin."
        )
    pinned = json.loads(file.read_text(encoding="utf-8"))
    return [
        {"structure": structure(**item["structure"]), "predictions": item["predictions"]}
        for item in pinned
    ]


def example(preset: preset_store.Preset, data: str = "", split: str = "all[:1]") -> Graph:
    """Picks a structure: the first of a split of a file, or of those that the preset pins.

    Args:
        preset: Whose structure is taken where `data` is empty.
        data: File or data set.
        split: Of that.
    """
    if data:
        return datasets.load(data, split, labels=())[0]
    return cast("Graph", references(preset.folder)[0]["structure"])


def card(preset: preset_store.Preset) -> str:
    """Writes the model card from the metadata alone."""
    about = preset.metadata
    name = f'{preset.architecture}.from_preset("{preset.name}")'
    facts = {
        "Architecture": preset.architecture,
        "Parameters": f"{about['num_parameters']:,}",
        "Elements": ", ".join(str(z) for z in preset.elements),
        "Properties": ", ".join(preset.properties),
        "Cutoff": f"{about['cutoff']} Å" if about["cutoff"] else "none: all pairs of a molecule",
        "Data": about.get("dataset", ""),
        "Level of theory": _sentence(about.get("level_of_theory", "")),
        "Split": _sentence(about.get("split", "")),
        "Seed": about["seed"],
        "Training": f"`{about['recipe']}`, log in `{LOG}`",
        "Training cost": about.get("compute", "see the log"),
        "keras_mlff": about.get("keras_mlff_version", ""),
        "License": about.get("license", ""),
        "Reference": about.get("citation", ""),
    }
    lines = [f"# {preset.architecture} / {preset.name}", "", preset.description, ""]
    lines += ["```python", "import keras_mlff", "", f"model = keras_mlff.models.{name}", "```", ""]
    lines += ["This card is written by the program that published the preset.", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts.items() if value != ""]
    lines += ["", "## Errors", "", *_table(about["metrics"])]
    if about.get("learning_curve"):
        lines += ["", "## Learning curve", ""]
        lines += ["Validation during training, in eV, Å and e, by number of epochs.", ""]
        lines += _table(_without_copies(about["learning_curve"]))
    checks = about.get("checks", {})
    if checks:
        lines += ["", "## Checks", ""]
        unit = "eV and eV/Å" if "energy" in preset.properties else "shares of each property's size"
        lines += [f"Largest deviations in {unit} on the structures of `reference.json`.", ""]
        lines += _table({key: dict(value) for key, value in checks.items()}, transpose=True)
    if "nve" in about:
        nve = about["nve"]
        lines += [
            "",
            f"Energy in {nve['length_ps']} ps of dynamics from 300 K at constant energy: ",
        ]
        lines[-1] += (
            f"they broke down. {nve['failure']}"
            if "failure" in nve
            else f"drift {nve['drift_meV_per_atom_ps']:.2g} meV per atom and ps, largest deviation "
            f"{nve['largest_deviation_meV']:.2g} meV, steps of {nve['time_step_fs']} fs."
        )
    for note in about.get("notes", ()):
        lines += ["", str(note)]
    for file, caption in about.get("figures", {}).items():
        lines += ["", f"![{Path(file).stem}]({file})", "", caption]
    return "\n".join(lines) + "\n"


def _without_copies(curve: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out losses that are the mean absolute errors beside them."""

    def is_copy(key: str) -> bool:
        error = key.removesuffix("_loss") + "_mae"
        return all(key in row and row[key] == row.get(error) for row in curve.values())

    return {
        epoch: {key: value for key, value in row.items() if not is_copy(key)}
        for epoch, row in curve.items()
    }


def _table(content: Mapping[str, Any], transpose: bool = False) -> list[str]:
    """Lays a dict of dicts out as a table; plain values as a list of rows."""
    if not all(isinstance(row, Mapping) for row in content.values()):
        rows = [f"| {key} | {_number(value)} |" for key, value in content.items()]
        return ["| | value |", "|---|---|", *rows]
    columns = list(dict.fromkeys(column for row in content.values() for column in row))
    if transpose:
        content = {
            column: {key: row[column] for key, row in content.items() if column in row}
            for column in columns
        }
        columns = list(dict.fromkeys(column for row in content.values() for column in row))
    head = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    return head + [
        f"| {key} | " + " | ".join(_number(row.get(column, "")) for column in columns) + " |"
        for key, row in content.items()
    ]


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _sentence(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {item}" for key, item in value.items())
    return str(value)


def _arguments(graph: Graph) -> dict[str, Any]:
    """Lists what `structure` takes, ready for JSON; labels are left out."""
    kept: dict[str, Any] = {
        "positions": graph["positions"].tolist(),
        "atomic_numbers": graph["atomic_numbers"].tolist(),
        "total_charge": float(graph["total_charge"][0]),
        "spin_multiplicity": int(graph["spin_multiplicity"][0]),
    }
    if "cell" in graph:
        kept |= {"cell": graph["cell"][0].tolist(), "pbc": graph["pbc"][0].tolist()}
    return kept


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
    return cast("Graph", turned)


def _finite_difference_error(
    model: ForceField, structures: Sequence[Graph], step: float = 1e-4
) -> float:
    """Compares all force components with central differences, in one batch per structure."""
    errors = [0.0]
    for item in structures:
        moved = []
        for atom in range(min(len(item["atomic_numbers"]), 8)):
            for axis in range(3):
                for sign in (1.0, -1.0):
                    positions = item["positions"].copy()
                    positions[atom, axis] += sign * step
                    moved.append(cast("Graph", {**item, "positions": positions}))
        energies = model.predict(moved, batch_size=len(moved))["energy"].reshape(-1, 3, 2)
        forces = -(energies[:, :, 0] - energies[:, :, 1]) / (2.0 * step)
        errors.append(_largest(model.predict(item)["forces"][: len(forces)] - forces))
    return max(errors)


def _stress_finite_difference(model: ForceField, crystal: Graph, step: float = 1e-4) -> float:
    """Compares the stress with central differences of the energy by strain."""
    strained = []
    for row, column in np.ndindex(3, 3):
        for sign in (1.0, -1.0):
            stretch = np.eye(3)
            stretch[row, column] += 0.5 * sign * step
            stretch[column, row] += 0.5 * sign * step
            changes = {key: crystal[key] @ stretch for key in ("positions", "cell")}
            strained.append(cast("Graph", {**crystal, **changes}))
    energies = model.predict(strained, batch_size=len(strained))["energy"].reshape(3, 3, 2)
    volume = abs(float(np.linalg.det(crystal["cell"][0])))
    stress = (energies[:, :, 0] - energies[:, :, 1]) / (2.0 * step * volume)
    return _largest(model.predict(crystal)["stress"][0] - stress)


def _largest(values: Any) -> float:
    return float(np.max(np.abs(values)))
