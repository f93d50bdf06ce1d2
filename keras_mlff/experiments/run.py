"""The one runner: from data and model to errors, figures and a preset with its card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_mlff import distribution, presets, publish, saving
from keras_mlff.experiments import (
    building,
    checks,
    choices,
    evaluation,
    publishing,
    recipes,
    toml,
    training,
)
from keras_mlff.experiments.data import Loaded, Parts, complete, described, load
from keras_mlff.experiments.settings import (
    CardSettings,
    DataSettings,
    OffsetSettings,
    Recipe,
    ReportSettings,
    Settings,
)
from keras_mlff.graph import Graph, is_known
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
        >>> print(results.errors)  # doctest: +SKIP
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    toml.refuse_unknown(changes, known, "There is no setting", "Known settings")
    settings = dataclasses.replace(settings or Settings(), **changes)
    labels = settings.labels or _labels_of(model, settings)
    recipe = Recipe(
        citation=citation,
        training=settings,
        offsets=offsets or OffsetSettings(),
        report=report or ReportSettings(),
        preset=card or CardSettings(),
    )
    checks.check(model, recipe, labels)
    if isinstance(data, str):
        data = DataSettings(source=data)
    if isinstance(data, DataSettings):
        checks.check_data(data)
        loaded = load(data, labels, settings.seed)
    else:
        loaded = Loaded(_parts(data, validation, test, settings.seed), {})
    if not command:
        shown = ", ".join(f"{name}={value!r}" for name, value in changes.items())
        command = f"keras_mlff.train(model, data, {shown})" if shown else "keras_mlff.train"
    with training.claiming(folder, resume):
        return _run(model, loaded, labels, recipe, Path(folder), preset, resume, verbose, command)


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
    with training.claiming(folder, resume):
        return _run_settled(recipe, folder, preset, resume, verbose)


def _run_settled(
    recipe: Recipe, folder: Path, preset: str | Path, resume: bool, verbose: Any
) -> Results:
    """Runs a recipe in a folder that belongs to this process."""
    if recipe.training.devices:
        devices = recipe.training.devices
        distribution.use_devices(None if "all" in devices else devices)
    checks.register_quantities(recipe.quantities)
    checks.check_data(recipe.data)
    keras.utils.set_random_seed(recipe.training.seed)
    labels = building.learned_labels(recipe.model, recipe.training)
    model = building.make_model(recipe.model, labels)
    checks.check(model, recipe, labels)
    loaded = load(recipe.data, labels, recipe.training.seed)
    text = toml.dumps(toml.as_table(recipe))
    if not (folder / recipes.RECIPE).exists():  # that of a training stays if this is refused
        saving.write_text(folder / recipes.RECIPE, text)
    card = dataclasses.replace(
        recipe.preset,
        description=recipe.preset.description or recipe.description,
        dataset=recipe.preset.dataset or described(recipe.data),
    )
    recipe = dataclasses.replace(recipe, preset=card)
    made_by = Path(preset or folder).expanduser().absolute().name
    command = f"keras-mlff recipe run {made_by}/{recipes.RECIPE}"
    results = _run(model, loaded, labels, recipe, folder, preset, resume, verbose, command)
    saving.write_text(folder / recipes.RECIPE, text)
    if results.preset is not None:
        saving.write_text(results.preset.folder / recipes.RECIPE, text)
    return results


def _run(
    model: ForceField,
    loaded: Loaded,
    labels: Sequence[str],
    recipe: Recipe,
    folder: Path,
    preset: str | Path,
    resume: bool,
    verbose: Any,
    command: str,
) -> Results:
    """Trains, measures, draws and publishes; `train` and `run_recipe` prepare what it takes.

    The steps, in their order:

    1. Refuse what would stand in the way of the preset after the training.
    2. Measure the errors of a preset that is trained further.
    3. Set the offsets, freeze parts, train, and load the best weights.
    4. Measure errors on the test, or on the validation where there is no test, and draw figures.
    5. Publish the preset.
    """
    folder, parts, settings = folder.expanduser(), loaded.parts, recipe.training
    if preset:
        publish.check(preset, {"recipe", "seed", "metrics"})
    _refuse_unlabeled(parts, labels)
    started_from = model.preset
    unseen = building.unseen_elements(model, parts.training)
    if unseen and verbose:
        print(f"elements that the preset has not seen and learns now: {unseen}")
    part = "test" if parts.test else "validation"
    held_out = parts.test or parts.validation
    before: dict[str, Any] = {}
    if started_from is not None and not building.unseen_elements(model, held_out):
        known = [label for label in labels if label in started_from.properties]
        before = evaluation.measure_errors(model, held_out, known, recipe.report, part)
    building.set_offsets(model, loaded, recipe.offsets, labels)
    trained = building.freeze(model, settings, unseen)
    if trained and verbose:
        print(f"trained: {trained}; the rest is frozen")
    spreads = {
        label: building.spread(model, label, parts.training)
        for label in choices.asks_for_spread(settings, labels)
    }
    history = training.fit_model(model, parts, folder, settings, labels, spreads, resume, verbose)
    errors = evaluation.measure_errors(model, held_out, labels, recipe.report, part)
    for label, values in before.items():
        errors[label][f"{part}_mae_before"] = values[f"{part}_mae"]
    saving.write_json(folder / RESULTS, errors)
    if recipe.report.plots:
        evaluation.draw_figures(model, parts, labels, folder, folder / training.LOG)
    results = Results(model, errors, history.history, parts, folder)
    if not preset:
        return results
    written = publishing.publish_results(
        model, parts, labels, recipe, folder, preset, {part: errors}, command, started_from
    )
    return dataclasses.replace(results, preset=written)


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


def _refuse_unlabeled(parts: Parts, labels: Sequence[str]) -> None:
    """Refuses parts in which a label is missing everywhere, before hours are spent on training."""
    for part, structures in parts._asdict().items():
        absent = [
            label
            for label in labels
            if structures and not any(is_known(label, graph).any() for graph in structures)
        ]
        if absent:
            raise ValueError(
                f"None of the {len(structures)} structures of the {part} part has {absent}, so "
                "that nothing can be compared. Label more structures, choose the parts yourself "
                "(validation=, test=; --valid-file, --test-file), draw them with another seed, or "
                "leave the label out of `labels` and `loss`."
            )


def _labels_of(model: ForceField, settings: Settings) -> tuple[str, ...]:
    """Lists what is learned where the settings do not say."""
    if isinstance(settings.loss, Mapping) and "kind" not in settings.loss:
        return tuple(settings.loss)
    return tuple(
        name
        for head in model.heads
        for name in (("energy", "forces") if head.name == "energy" else head.labels[-1:])
    )
