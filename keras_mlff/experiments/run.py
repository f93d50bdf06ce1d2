"""The one runner: from data and model to errors, figures and a preset with its card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_mlff import distribution, presets, publish, saving
from keras_mlff.experiments import building, choices, evaluation, recipes, toml, training
from keras_mlff.experiments.data import Loaded, Parts, complete, described, load, rare_elements
from keras_mlff.experiments.settings import (
    CardSettings,
    DataSettings,
    OffsetSettings,
    Recipe,
    ReportSettings,
    Settings,
)
from keras_mlff.graph import Graph, elements
from keras_mlff.models import ForceField

RESULTS = "results.json"


@dataclasses.dataclass(frozen=True)
class Results:
    """What a training gives.

    Attributes:
        model: With the best weights.
        errors: By label: `unit`, `test_mae`, `test_rmse`, what was published; those of the
            validation, `validation_mae`, where there is no test. After a preset was trained further
            also `test_mae_before`.
        history: Keras's, by column of the log; empty where nothing was left to train.
        parts: The structures.
        folder: Of log, state, best weights, `results.json` and figures.
        preset: The preset that was written, if any.
    """

    model: ForceField
    errors: dict[str, Any]
    history: dict[str, list[float]]
    parts: Parts
    folder: Path
    preset: presets.Preset | None = None


def train(
    model: ForceField,
    data: str | DataSettings | Parts | Sequence[Graph],
    validation: Sequence[Graph] | None = None,
    test: Sequence[Graph] | None = None,
    folder: str | Path = "runs/training",
    preset: str | Path = "",
    resume: bool = False,
    verbose: Any = "auto",
    settings: Settings | None = None,
    offsets: OffsetSettings | None = None,
    report: ReportSettings | None = None,
    card: CardSettings | None = None,
    citation: str = "",
    command: str = "",
    **changes: Any,
) -> Results:
    """Trains a model as `keras-mlff train` does, with the same defaults, from data to preset.

    It sets the offsets, trains, loads the best weights, measures errors, draws figures and, if
    asked to, publishes a preset with its card.

    Args:
        model: New, or a loaded preset that is trained further.
        data: Structures to learn from; or a file, a named data set, the parts, or the section
            `[data]` of a recipe. Without `validation` or `test`, a tenth each is drawn at random.
        validation: Structures that choose the best weights.
        test: Structures that errors are measured on.
        folder: Receives log, state, best weights, `results.json` and figures.
        preset: The folder that a preset is written into; none where empty.
        resume: Whether to go on after an interruption.
        verbose: As in Keras; `"auto"` shows a bar in a terminal and a line per epoch elsewhere.
        settings: How it is trained; the defaults of `experiments.Settings` where `None`.
        offsets: What is added outside of the network; fitted or adapted where `None`.
        report: Units of errors, and figures.
        card: What the card of the preset says.
        citation: The paper, for the card.
        command: What the card says made the preset; this call where empty.
        **changes: Attributes of `settings` by name, `batch_size=8`. Optimizers, losses and
            callbacks may be Keras's objects.

    Returns:
        The model with its best weights, errors, history and parts.

    Raises:
        ValueError: If a setting is unknown, if there is nothing to learn from, or, before the
            training begins, if the preset's folder is not free.

    Example:
        >>> model = keras_mlff.CMRET(num_features=64)  # doctest: +SKIP
        >>> results = keras_mlff.train(model, "md.xyz", num_epochs=50)  # doctest: +SKIP
        >>> results.errors["forces"]["test_mae"]  # doctest: +SKIP
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    toml.refuse_unknown(changes, known, "There is no setting", "Known settings")
    settings = dataclasses.replace(settings or Settings(), **changes)
    labels = settings.labels or _labels_of(model, settings)
    if isinstance(data, str):
        data = DataSettings(source=data)
    if isinstance(data, DataSettings):
        loaded = load(data, labels, settings.seed)
    else:
        loaded = Loaded(_parts(data, validation, test, settings.seed), {})
    if not command:
        shown = ", ".join(f"{name}={value!r}" for name, value in changes.items())
        command = f"keras_mlff.train(model, data, {shown})" if shown else "keras_mlff.train"
    return _run(
        model,
        loaded,
        Path(folder),
        settings,
        labels,
        offsets or OffsetSettings(),
        report or ReportSettings(),
        card or CardSettings(),
        preset,
        resume,
        verbose,
        about={"citation": citation, "recipe": command},
    )


def run_recipe(
    name: str | Path | Recipe,
    variant: str | Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    folder: str | Path = "",
    preset: str | Path = "",
    resume: bool = False,
    verbose: Any = "auto",
) -> Results:
    """Runs a recipe from data to preset.

    Args:
        name: A recipe by name, `"cmret_md17"`; a file; or a preset that was made by one. Or a
            settled recipe.
        variant: Of the recipe; several are laid over each other.
        overrides: Values by `"section.key"` or by name of a parameter: `{"molecule": "aspirin",
            "training.batch_size": 8}`.
        folder: Receives log, state, best weights, results, figures and `recipe.toml`; one under
            `runs/`, named by the recipe and what was changed, where empty.
        preset: The folder that a preset is written into; none where empty.
        resume: Whether to go on after an interruption.
        verbose: As in Keras; `"auto"` shows a bar in a terminal and a line per epoch elsewhere.

    Raises:
        ValueError: If there is no such recipe, variant or key, or as for `train`.
    """
    if isinstance(name, Recipe):
        recipe = name
    else:
        variants = [variant] if isinstance(variant, str) else list(variant)
        source = recipes.load(name)
        recipe = source.settle(variants, overrides)
        folder = folder or Path("runs", recipes.run_name(source, variants, overrides or {}))
    folder = Path(folder or "runs/recipe").expanduser()
    if preset:
        presets.check_folder(preset)
    if recipe.training.devices:
        devices = recipe.training.devices
        distribution.use_devices(None if "all" in devices else devices)
    keras.utils.set_random_seed(recipe.training.seed)
    labels = building.learned_labels(recipe.model, recipe.training)
    model = building.make_model(recipe.model, labels)
    loaded = load(recipe.data, labels, recipe.training.seed)
    text = toml.dumps(toml.as_table(recipe))
    saving.write_text(folder / recipes.RECIPE, text)
    description = recipe.preset.description or recipe.description
    made_by = Path(preset or folder).expanduser().absolute().name
    results = _run(
        model,
        loaded,
        folder,
        recipe.training,
        labels,
        recipe.offsets,
        recipe.report,
        dataclasses.replace(
            recipe.preset,
            description=description,
            dataset=recipe.preset.dataset or described(recipe.data),
        ),
        preset,
        resume,
        verbose,
        about={
            "citation": recipe.citation,
            "recipe": f"keras-mlff recipe run {made_by}/{recipes.RECIPE}",
        },
    )
    if results.preset is not None:
        saving.write_text(results.preset.folder / recipes.RECIPE, text)
    return results


def _run(
    model: ForceField,
    loaded: Loaded,
    folder: Path,
    settings: Settings,
    labels: Sequence[str],
    offsets: OffsetSettings,
    report: ReportSettings,
    card: CardSettings,
    preset: str | Path,
    resume: bool,
    verbose: Any,
    about: dict[str, str],
) -> Results:
    """Trains, measures, draws and publishes; `train` and `run_recipe` prepare what it takes."""
    folder, parts = folder.expanduser(), loaded.parts
    if preset:
        publish.check(preset, {*about, "seed", "metrics"})
    started_from = model.preset
    unseen = building.unseen_elements(model, parts.training)
    if unseen and verbose:
        print(f"elements that the preset has not seen and learns now: {unseen}")
    part, judged = ("test", parts.test) if parts.test else ("validation", parts.validation)
    before: dict[str, Any] = {}
    if started_from is not None and judged and not building.unseen_elements(model, judged):
        known = [label for label in labels if label in started_from.properties]
        before = evaluation.measure_errors(model, judged, known, report, part)
    building.set_offsets(model, loaded, offsets, labels)
    trained = building.freeze(model, settings, unseen)
    if trained and verbose:
        print(f"trained: {trained}; the rest is frozen")
    asking = choices.asks_for_spread(settings, labels)
    spreads = {label: building.spread(model, label, parts.training) for label in asking}
    history = training.fit_model(model, parts, folder, settings, labels, spreads, resume, verbose)
    errors: dict[str, Any] = {}
    if judged:
        errors = evaluation.measure_errors(model, judged, labels, report, part)
    for label, values in before.items():
        errors[label][f"{part}_mae_before"] = values[f"{part}_mae"]
    saving.write_json(folder / RESULTS, errors)
    if report.plots:
        evaluation.draw_figures(model, parts, labels, folder, folder / training.LOG)
    written = None
    if preset:
        written = _publish(
            model,
            parts,
            folder,
            settings,
            labels,
            card,
            preset,
            {part: errors},
            evaluation.published_errors(report),
            about,
            started_from,
        )
    return Results(model, errors, history.history, parts, folder, written)


def _publish(
    model: ForceField,
    parts: Parts,
    folder: Path,
    settings: Settings,
    labels: Sequence[str],
    card: CardSettings,
    target: str | Path,
    errors: dict[str, dict[str, Any]],
    published: Mapping[str, Mapping[str, float]],
    about: dict[str, str],
    started_from: presets.Preset | None,
) -> presets.Preset:
    """Writes the preset with what is known of its data, its training and where it came from."""
    earlier = {} if started_from is None else started_from.metadata
    examples = parts.test or parts.validation or parts.training
    stated = {
        "description": card.description,
        "dataset": card.dataset,
        "level_of_theory": card.level_of_theory,
        "license": card.license or earlier.get("license", ""),
        "citation": about["citation"] or earlier.get("citation", ""),
    }
    # errors of all presets stand in one form; those of a validation are no test's
    measured = {
        part: {
            label: {
                "unit": values["unit"],
                "test_mae": values[f"{part}_mae"],
                "test_rmse": values[f"{part}_rmse"],
            }
            for label, values in of_part.items()
        }
        for part, of_part in errors.items()
    }
    metrics = measured.pop("test", {})
    notes = [*card.notes, *rare_elements(parts.training)]
    if started_from is not None:
        name = f"{started_from.architecture.lower()}/{started_from.name}"
        made = earlier.get("recipe")
        notes.insert(
            0,
            f"This training went on from the weights of the preset {name}"
            + (f", which `{made}` made." if made else "."),
        )
        before = {
            label: values.get(f"{part}_mae_before")
            for part, of_part in errors.items()
            for label, values in of_part.items()
        }
        texts = [f"{label} {value:.4g}" for label, value in before.items() if value is not None]
        if texts:
            notes.insert(1, f"Mean absolute errors before it: {', '.join(texts)}.")
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
        seed=settings.seed,
        compute=f"{training.cpu_hours(folder):.2f} CPU hours ({keras.backend.backend()})",
        metrics=metrics,
        published={
            source: {label: value for label, value in values.items() if label in metrics}
            for source, values in published.items()
        },
        **({"metrics_of_parts": measured} if any(measured.values()) else {}),
        properties=[*labels, *(["atomic_energies"] if "energy" in labels else [])],
        notes=notes,
        recipe=about["recipe"],
        **{key: value for key, value in stated.items() if value},
    )


def _parts(
    structures: Parts | Sequence[Graph],
    validation: Sequence[Graph] | None,
    test: Sequence[Graph] | None,
    seed: int,
) -> Parts:
    """Puts parts together; what is not given is drawn from the structures."""
    if isinstance(structures, Parts):
        return structures
    learned = list(structures)
    if not learned:
        raise ValueError("There is nothing to learn from. Received: no structures.")
    sizes = {"test": test, "validation": validation}
    return complete(learned, sizes, seed)


def _labels_of(model: ForceField, settings: Settings) -> tuple[str, ...]:
    """Lists what is learned where the settings do not say."""
    if isinstance(settings.loss, Mapping) and "kind" not in settings.loss:
        return tuple(settings.loss)
    return tuple(
        name
        for head in model.heads
        for name in (("energy", "forces") if head.name == "energy" else head.labels[-1:])
    )
