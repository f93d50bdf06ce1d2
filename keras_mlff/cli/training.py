"""`keras-mlff train` and `keras-mlff recipe list|show|run`: one path, `experiments.run_recipe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_mlff.cli.tables import print_table


def recipe_list() -> None:
    """Lists the recipes that come with the package."""
    from keras_mlff.experiments import recipes

    rows = [["recipe", "data", "variants", "description"]]
    for name in recipes.available():
        source = recipes.load(name)
        data = source.filled("data.source")
        described = " ".join(data) if isinstance(data, list) else data
        rows.append([name, described, " ".join(source.variants), source.filled("description")])
    print_table(rows)


def recipe_show(recipe: str, variant: Sequence[str], settings: Sequence[str]) -> None:
    """Prints a recipe: the file with its comments, or settled where something is chosen.

    Args:
        recipe: Its name, its file, or a preset that was made by one.
        variant: Variants, laid over each other.
        settings: Pairs `key=value`; see `recipes.parse_overrides`.
    """
    from keras_mlff.experiments import recipes, toml

    source = recipes.load(recipe)
    if variant or settings:
        settled = source.settle(variant, recipes.parse_overrides(settings))
        print(toml.dumps(toml.as_table(settled)), end="")
        return
    print(f"# {source.path}")
    print(source.path.read_text(encoding="utf-8"), end="")
    for base in source.extended:
        print(f"\n# extends {base}")
        print(base.read_text(encoding="utf-8"), end="")


def recipe_run(
    recipe: str,
    variant: Sequence[str],
    settings: Sequence[str],
    folder: str | None,
    preset: str | None,
    resume: bool,
) -> None:
    """Runs a recipe: trains, measures errors, and writes a preset if asked to.

    Args:
        recipe: Its name, its file, or a preset that was made by one.
        variant: Variants, laid over each other.
        settings: Pairs `key=value`; see `recipes.parse_overrides`.
        folder: Of log, state and results; one under `runs/` where `None`.
        preset: The folder of a new preset; none is written where `None`.
        resume: Whether to go on after an interruption.
    """
    from keras_mlff import experiments
    from keras_mlff.experiments import recipes

    overrides = recipes.parse_overrides(settings)
    results = experiments.run_recipe(recipe, variant, overrides, folder or "", preset or "", resume)
    _print_results(results)


def train(
    data: str,
    output: str,
    split: str | None,
    validation: float | None,
    test: float | None,
    valid_file: str | None,
    test_file: str | None,
    about_file: Mapping[str, Any],
    loss_weights: Sequence[str],
    element_energies: Sequence[str],
    architecture: str | None,
    preset: str | None,
    recipe: str | None,
    settings: Sequence[str],
    folder: str | None,
    resume: bool,
    variant: Sequence[str],
    **training: Any,
) -> None:
    """Trains a new or a trained model and saves it as a preset with a card.

    It runs the recipe `train`, with a preset `finetune`, or the one that is named. The flags
    replace the data of the recipe as a whole and single values of its other sections.

    Args:
        data: A labeled file or a named data set.
        output: The folder of the new preset.
        split: Of the data, to learn from; everything where `None`.
        validation: The share of the structures that chooses the best weights.
        test: The share that errors are measured on; 0 measures them on the validation.
        valid_file: A file or data set for the validation.
        test_file: A file or data set for the test.
        about_file: Labels, units and keys, as `datasets.load` takes them.
        loss_weights: Pairs `label=weight`.
        element_energies: Pairs `symbol=energy`, eV.
        architecture: Of a new model.
        preset: The model that is trained further.
        recipe: The name of another recipe, whose model and training are taken.
        settings: Pairs `key=value`: arguments of the model, or `section.key` of the recipe.
        folder: Of log, state and results; beside the output where `None`.
        resume: Whether to go on after an interruption.
        variant: Variants of the recipe.
        **training: Values of the section `[training]`; `None` leaves what the recipe says.
    """
    from keras_mlff import experiments
    from keras_mlff.experiments import recipes

    if architecture is not None and preset is not None:
        raise ValueError(
            "A model is either new, --architecture, or a preset that is trained further, --preset. "
            f"Received: --architecture {architecture} and --preset {preset}."
        )
    for flag, share, other in (
        ("--validation", validation, valid_file),
        ("--test", test, test_file),
    ):
        if share == 0.0 and other is not None:
            raise ValueError(f"`{flag} 0` would take nothing from the file. Received: {other}.")
    if (validation or 0.0) + (test or 0.0) >= 1.0:
        raise ValueError(
            "Nothing would be left to learn from. Received: --validation "
            f"{validation} and --test {test}, shares of the structures."
        )
    target = Path(output).expanduser().absolute()  # a name to add to, also of "out/" and "."
    overrides = recipes.parse_overrides(settings)
    # the arguments of the architecture need no section before them
    overrides = {key if "." in key else f"model.{key}": v for key, v in overrides.items()}
    section = {
        "source": data,
        "split": {} if split is None else {"training": split},
        "sizes": {
            part: share or 0
            for part, share in (("test", test), ("validation", validation))
            if share is not None
        },
        "validation_file": valid_file or "",
        "test_file": test_file or "",
        **about_file,
    }
    given = {f"training.{key}": value for key, value in training.items() if value is not None}
    labels = about_file.get("labels")
    if labels is not None:
        given["training.labels"] = labels
    if not Path(data).suffix:  # a named data set has all labels; some of them are learned
        section.pop("labels", None)
    if loss_weights:
        given["training.loss_weights"] = recipes.parse_overrides(loss_weights, "--loss-weights")
    if element_energies:
        given["offsets.references.energy"] = {
            symbol: float(value)
            for symbol, value in recipes.parse_overrides(
                element_energies, "--element-energies"
            ).items()
        }
    if architecture is not None:
        given["model.class"] = architecture
    if preset is not None:
        given["model.preset"] = preset
    name = recipe or ("train" if preset is None else "finetune")
    source = recipes.load(name)
    settled = source.replacing(data=section).settle(variant, given | overrides)
    results = experiments.run_recipe(
        settled,
        folder=folder or target.with_name(f"{target.name}.training"),
        preset=target,
        resume=resume,
    )
    _print_results(results)


def _print_results(results: Any) -> None:
    """Prints the errors in a table, and where everything is."""
    columns = list(dict.fromkeys(key for row in results.errors.values() for key in row))
    rows = [["label", *columns]]
    for label, values in results.errors.items():
        rows.append([label, *(_written(values.get(column, "")) for column in columns)])
    print_table(rows)
    print(f"training: {results.folder}")
    if results.preset is not None:
        print(f"written: {results.preset.folder}")


def _written(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
