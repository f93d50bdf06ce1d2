"""The preset that a training ends in: what its card says of data, errors and where it began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_mlff import presets, publish
from keras_mlff.experiments import evaluation, training
from keras_mlff.experiments.data import Parts, rare_elements
from keras_mlff.experiments.settings import Recipe
from keras_mlff.graph import elements
from keras_mlff.models import ForceField


def publish_results(
    model: ForceField,
    parts: Parts,
    labels: Sequence[str],
    recipe: Recipe,
    folder: Path,
    target: str | Path,
    errors: Mapping[str, Mapping[str, Any]],
    command: str,
    started_from: presets.Preset | None = None,
) -> presets.Preset:
    """Publishes a trained model with everything that its training knows.

    Args:
        model: With the best weights.
        parts: What it has learned from, and what errors were measured on.
        labels: What was learned.
        recipe: The settings; its section `[preset]` is what the card says.
        folder: Of the training.
        target: Of the preset.
        errors: By part, `"test"` or `"validation"`, then by label: see `measure_errors`.
        command: What makes the model again.
        started_from: The preset that was trained further; its license, citation and elements stay
            where nothing else is said.

    Returns:
        The preset.
    """
    card = recipe.preset
    earlier = {} if started_from is None else started_from.metadata
    examples = parts.test or parts.validation or parts.training
    measured = {part: _as_measured(part, values) for part, values in errors.items()}
    metrics = measured.pop("test", {})
    published = {
        source: {label: value for label, value in values.items() if label in metrics}
        for source, values in evaluation.published_errors(recipe.report).items()
    }
    stated = {
        "description": card.description,
        "dataset": card.dataset,
        "level_of_theory": card.level_of_theory,
        "license": card.license or earlier.get("license", ""),
        "citation": recipe.citation or earlier.get("citation", ""),
        "metrics_of_parts": measured if any(measured.values()) else {},
        "published": {source: values for source, values in published.items() if values},
    }
    return publish.publish(
        model,
        target,
        examples=[examples[0], examples[-1]],
        log=folder / training.LOG,
        num_nve_steps=card.num_nve_steps,
        # a preset that is trained further still knows what it knew
        elements=sorted({*elements(parts.training), *earlier.get("elements", ())}),
        split={
            **{name: f"{len(part):,} structures" for name, part in parts._asdict().items()},
            "SHA-256": parts.digest(),
        },
        seed=recipe.training.seed,
        compute=f"{training.cpu_hours(folder):.2f} CPU hours ({keras.backend.backend()})",
        metrics=metrics,
        properties=[*labels, *(["atomic_energies"] if "energy" in labels else [])],
        notes=[
            *_beginning(errors, started_from),
            *card.notes,
            *rare_elements(parts.training),
        ],
        recipe=command,
        **{key: value for key, value in stated.items() if value},
    )


def _as_measured(part: str, errors: Mapping[str, Any]) -> dict[str, Any]:
    """Writes errors in the form that all presets have, whatever the part is called."""
    return {
        label: {
            "unit": values["unit"],
            "test_mae": values[f"{part}_mae"],
            "test_rmse": values[f"{part}_rmse"],
        }
        for label, values in errors.items()
    }


def _beginning(
    errors: Mapping[str, Mapping[str, Any]], started_from: presets.Preset | None
) -> list[str]:
    """Writes the notes on the preset that was trained further, and on its errors before that."""
    if started_from is None:
        return []
    name = f"{started_from.architecture.lower()}/{started_from.name}"
    made = started_from.metadata.get("recipe")
    notes = [
        f"This training went on from the weights of the preset {name}"
        + (f", which `{made}` made." if made else ".")
    ]
    before = [
        f"{label} {values[f'{part}_mae_before']:.4g} {values['unit']}".strip()
        for part, of_part in errors.items()
        for label, values in of_part.items()
        if f"{part}_mae_before" in values
    ]
    if before:
        notes.append(f"Mean absolute errors before it: {', '.join(before)}.")
    return notes
