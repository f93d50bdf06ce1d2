"""What a training would refuse after hours, or after the data are read, is refused before it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_mlff import datasets, quantities
from keras_mlff.core.freezing import parts_of
from keras_mlff.datasets.tools import file_units, shipped
from keras_mlff.experiments import building, choices, evaluation, toml
from keras_mlff.experiments.settings import DataSettings, Recipe, Settings
from keras_mlff.models import ForceField


def register_quantities(tables: Mapping[str, Mapping[str, object]]) -> None:
    """Makes the quantities of a recipe's section `[quantities]` known.

    Raises:
        ValueError: If a key is unknown, or a name means something else already.
    """
    known = set(inspect.signature(quantities.register).parameters) - {"name"}
    for name, table in tables.items():
        toml.refuse_unknown(table, known, f"A quantity, '{name}', has no key", "Known keys")
        if "level" not in table:
            raise ValueError(
                f"A quantity belongs to a structure, its atoms or its edges. Received: '{name}' "
                f"without `level`. Add it: --set quantities.{name}.level=atom."
            )
        quantities.register(name, **table)  # type: ignore[arg-type]


def check(model: ForceField, recipe: Recipe, labels: Sequence[str]) -> None:
    """Refuses names and values of a recipe that have no meaning, without reading any data.

    Args:
        model: The model of the recipe.
        recipe: All sections.
        labels: What is learned.

    Raises:
        ValueError: If there is one, with those that are known.
        TypeError: If a callback has no such argument.
    """
    training = recipe.training
    choices.losses(training, labels)
    choices.asks_for_spread(training, labels)
    choices.loss_weights(training, labels, dict.fromkeys(labels, 1.0))
    choices.make_optimizer(training, 1000)
    choices.check_callbacks(training)
    _check_parts(model, training)
    for name, unit in recipe.report.units.items():
        toml.refuse_unknown(
            [name], [*quantities.known(), "energy_per_atom"], "There is no quantity", "Known"
        )
        evaluation.unit_size(unit)
    for table in recipe.offsets.references.values():
        for symbol in table:
            building.atomic_number(symbol)


def check_data(settings: DataSettings) -> None:
    """Refuses files and data sets that do not exist, and units that are not known."""
    file_units.file_units(settings.energy_unit or "eV", settings.length_unit or "Å")
    sources = [settings.source] if isinstance(settings.source, str) else settings.source
    for source in filter(None, (*sources, settings.validation_file, settings.test_file)):
        if Path(source).suffix:
            if not Path(source).expanduser().is_file():
                raise ValueError(f"There is no such file to learn from. Received: '{source}'.")
            continue
        name, _, config = source.partition("/")
        toml.refuse_unknown([name], datasets.NAMES, "There is no data set", "Known")
        if config:
            toml.refuse_unknown([config], _configurations(name), f"'{name}' has no", "It has")
    for joined in settings.join:
        check_data(joined)


def _configurations(name: str) -> list[str]:
    found = shipped.find_shipped(name)
    if found is not None:
        return list(found.CONFIGS)
    from keras_mlff.datasets.tools import catalog

    return [config.name for config in catalog.builder_class(name).BUILDER_CONFIGS]


def _check_parts(model: ForceField, settings: Settings) -> None:
    """Refuses parts to freeze that the model does not have, and both ways of naming them."""
    if settings.freeze and settings.keep:
        raise ValueError(
            "Parts of a model are named by `freeze` or by `keep`, whose rest is frozen. Received: "
            f"freeze={list(settings.freeze)} and keep={list(settings.keep)}."
        )
    what = f"{type(model).__name__} has no part"
    toml.refuse_unknown([*settings.freeze, *settings.keep], parts_of(model), what, "Its parts are")
