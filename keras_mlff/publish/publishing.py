"""Publishing a preset: weights, log, pinned values, measurements and card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_mlff
from keras_mlff import datasets, models, saving
from keras_mlff import presets as preset_store
from keras_mlff.core.domain import Domain
from keras_mlff.fit.logs import read_log
from keras_mlff.graph import Graph, structure
from keras_mlff.models import ForceField
from keras_mlff.publish.card import LOG, card
from keras_mlff.publish.measure import REFERENCE, measure, nve_drift, pinned_values
from keras_mlff.publish.metadata import REQUIRED, check_metadata

CARD = "README.md"


def publish(
    model: ForceField,
    folder: str | Path,
    examples: Sequence[Graph],
    log: str | Path,
    num_nve_steps: int = 4000,
    **metadata: Any,
) -> preset_store.Preset:
    """Writes a trained model as a preset with its log, pinned values, measurements and card.

    The folder then holds everything that somebody needs to trust the model: how it was made, what
    it predicts for a few structures, and how well symmetry and derivatives hold. `verify` repeats
    the measurements on other backends.

    Args:
        model: The trained model.
        folder: Where to write the preset, such as `zoo/cmret/ch2`.
        examples: A few structures. Their predictions are pinned in the preset, and the model is
            measured on them.
        log: The CSV log of the training, which is copied.
        num_nve_steps: Number of steps of dynamics at constant energy that are run where the model
            has forces. 0 leaves the dynamics out.
        **metadata: What the preset says about itself, see `Metadata`. `recipe`, `seed` and
            `metrics` are required, since a model without them can be neither made again nor judged.

    Returns:
        The preset, as `presets.read` finds it.

    Raises:
        ValueError: If something else is in the folder, or the metadata are not in the form of
            `Metadata`.
    """
    preset_store.check_folder(folder)
    check_metadata(metadata)
    metadata["keras_mlff_version"] = keras_mlff.__version__
    metadata["learning_curve"] = learning_curve(log)
    saved = preset_store.save(model, folder, **metadata)
    folder = saved.folder
    saving.write_bytes(folder / LOG, Path(log).read_bytes())
    double = models.load_preset(str(folder), dtype="float64")
    pinned = []
    for example in examples:
        arguments = _arguments(example)
        predictions = double.predict(structure(**arguments), domain="ignore")
        plain = {key: value.tolist() for key, value in predictions.items()}
        pinned.append({"structure": arguments, "predictions": plain})
    saving.write_json(folder / REFERENCE, pinned)
    if "forces" in saved.properties and num_nve_steps:
        nve = nve_drift(model, examples[0], num_nve_steps)
        _update(preset_store.read(folder), nve=nve)
    return verify(folder)


def check(folder: str | Path, metadata: Iterable[str]) -> None:
    """Refuses what `publish` would refuse, so that it is known before a training and not after.

    Args:
        folder: Where the preset will be written.
        metadata: Names of the metadata that will be given.

    Raises:
        ValueError: If something else is in the folder, or what is required will be missing.
    """
    preset_store.check_folder(folder)
    missing = sorted(set(REQUIRED) - set(metadata))
    if missing:
        raise ValueError(
            f"A preset needs {missing} besides its weights. Received: {sorted(metadata)}."
        )


def learning_curve(log: str | Path, num_rows: int = 8) -> dict[str, dict[str, float]]:
    """Reads validation errors from a CSV log, at epochs that are evenly spaced on a log scale.

    Args:
        log: The CSV log that `train` writes.
        num_rows: How many epochs to choose at most.

    Returns:
        The columns that begin with `val_`, without that prefix and in this package's units, by the
        number of epochs as text.
    """
    rows = [row for row in read_log(log) if "val_loss" in row]
    wanted = np.geomspace(1, max(len(rows), 1), num_rows)
    chosen = sorted({min(round(number), len(rows)) - 1 for number in wanted}) if rows else []
    return {
        str(int(rows[index]["epoch"]) + 1): {
            key.removeprefix("val_"): value
            for key, value in rows[index].items()
            if key.startswith("val_")
        }
        for index in chosen
    }


def verify(folder: str | Path) -> preset_store.Preset:
    """Measures a preset on the backend in use and writes the figures into its metadata and card.

    Run it once on each backend: `keras-mlff zoo verify FOLDER`.

    Args:
        folder: The folder of the preset.

    Returns:
        The preset with the new figures under `metadata["checks"]`.
    """
    measured = {keras.backend.backend(): measure(folder)}
    preset = preset_store.read(folder)  # only now: another backend may have written meanwhile
    checks = {**preset.metadata.get("checks", {}), **measured}
    return _update(preset, checks=dict(sorted(checks.items())))


def add_figure(folder: str | Path, name: str, figure: Any, caption: str) -> preset_store.Preset:
    """Puts a figure into a preset's folder and card.

    Args:
        folder: The folder of the preset.
        name: Name of the file, such as `attention.png`. A file of that name is replaced.
        figure: A figure of Matplotlib.
        caption: What the figure shows, in whole sentences.

    Returns:
        The preset with the figure under `metadata["figures"]`.
    """
    preset = preset_store.read(folder)
    with saving.replacing(preset.folder / name) as file:
        figure.savefig(file, dpi=100)
    return _update(preset, figures={**preset.metadata.get("figures", {}), name: caption})


def describe(
    folder: str | Path, domain: Domain | None = None, warnings: Sequence[str] | None = None
) -> preset_store.Preset:
    """States what a preset has learned from, or what its users must know, in metadata and card.

    Presets that are trained today know their domain; this is for those that were before.

    Args:
        folder: The folder of the preset.
        domain: What the model has learned from; as it is stated where `None`.
        warnings: Whole sentences, which `from_preset` shows; as they are where `None`.
    """
    changes: dict[str, Any] = {}
    if domain is not None:
        changes["domain"] = domain.to_config()
    if warnings is not None:
        changes["warnings"] = list(warnings)
    return _update(preset_store.read(folder), **changes)


def _update(preset: preset_store.Preset, **changes: Any) -> preset_store.Preset:
    """Changes the metadata, and the card with it."""
    folder = preset.folder
    saving.write_json(folder / preset_store.METADATA, {**preset.metadata, **changes})
    preset = preset_store.read(folder)
    saving.write_text(folder / CARD, card(preset))
    return preset


def example_structure(preset: preset_store.Preset, data: str = "", split: str = "all[:1]") -> Graph:
    """Picks a structure to show a preset on.

    Args:
        preset: The preset whose first pinned structure is taken where `data` is empty.
        data: A file or a named data set, as `datasets.load` takes it.
        split: Which part of it; the first structure of the part is taken.

    Returns:
        One structure, without edges.
    """
    if data:
        return datasets.load(data, split, labels=())[0]
    structure_: Graph = pinned_values(preset.folder)[0]["structure"]
    return structure_


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
