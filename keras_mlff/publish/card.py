"""The model card of a preset, written from its metadata alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_mlff import presets as preset_store
from keras_mlff.publish.metadata import with_published

LOG = "log.csv"  # of the training, beside the card


def card(preset: preset_store.Preset) -> str:
    """Writes the model card of a preset from its metadata alone.

    Args:
        preset: The preset, as `presets.read` finds it.

    Returns:
        Markdown with a description, how to load the model, facts, test errors beside published
        ones, a learning curve, checks on each backend, dynamics, notes and figures.
    """
    about = preset.metadata
    name = f'{preset.architecture}.from_preset("{preset.name}")'
    facts = {
        "Architecture": preset.architecture,
        "Parameters": f"{about['num_parameters']:,}",
        "Elements": ", ".join(str(z) for z in preset.elements),
        "Learned from": _domain(about.get("domain", {})),
        "Properties": ", ".join(preset.properties),
        "Precision": f"{about['dtype']}, without TF32" if about.get("dtype") else "",
        "Cutoff": f"{about['cutoff']} Å" if about["cutoff"] else "none: all pairs of a molecule",
        "Data": about.get("dataset", ""),
        "Level of theory": _sentence(about.get("level_of_theory", "")),
        "Split": _sentence(about.get("split", "")),
        "Seed": about.get("seed", ""),
        "Training": f"`{about['recipe']}`, log in `{LOG}`" if "recipe" in about else "",
        "Training cost": about.get("compute", "see the log" if "recipe" in about else ""),
        "keras_mlff": about.get("keras_mlff_version", ""),
        "License": about.get("license", ""),
        "Reference": about.get("citation", ""),
    }
    lines = [f"# {preset.architecture} / {preset.name}", "", preset.description, ""]
    for text in preset.warnings:
        lines += [f"**Warning.** {text}", ""]
    lines += ["```python", "import keras_mlff", "", f"model = keras_mlff.models.{name}", "```", ""]
    lines += ["This card is written by the program that published the preset.", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts.items() if value != ""]
    if "metrics" in about:  # not in presets that were made of others' parameters
        beside = with_published(about["metrics"], about.get("published", {}))
        lines += ["", "## Errors", "", *_table(beside)]
    for part, measured in about.get("metrics_of_parts", {}).items():
        lines += ["", f"Structures: {part}.", "", *_table(measured)]
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


def _domain(stated: Mapping[str, Any]) -> str:
    """Says in a line what structures a model has learned from, where that is known."""
    found: list[str] = []
    if stated.get("sizes"):
        least, largest = stated["sizes"]
        found.append(f"{least} to {largest} atoms" if least < largest else f"{least} atoms")
    states = [f"charge {charge:g} with 2S+1 = {spin}" for charge, spin in stated.get("states", ())]
    found += states[:4] + (["..."] if len(states) > 4 else [])
    kinds = {0: "molecules", 1: "chains", 2: "slabs", 3: "crystals"}
    found += [kinds[number] for number in stated.get("periodic", ())]
    return ", ".join(found)


def _without_copies(curve: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out columns of losses that repeat the mean absolute errors beside them."""

    def is_copy(key: str) -> bool:
        error = key.removesuffix("_loss") + "_mae"
        return all(key in row and row[key] == row.get(error) for row in curve.values())

    return {
        epoch: {key: value for key, value in row.items() if not is_copy(key)}
        for epoch, row in curve.items()
    }


def _table(content: Mapping[str, Any], transpose: bool = False) -> list[str]:
    """Lays out a dict of rows as a Markdown table, or a dict of plain values as two columns.

    Args:
        content: Rows by name, each a dict of values by column; or plain values by name.
        transpose: Whether the names become columns instead of rows.

    Returns:
        The lines of the table.
    """
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
