"""What programs in `recipes/studies/` share: many trainings of recipes, each done once."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mlff import models, saving
from keras_mlff.experiments import building, recipes, run, toml
from keras_mlff.experiments.data import Parts
from keras_mlff.experiments.settings import Recipe
from keras_mlff.graph import Array, elements

TRAININGS, MODEL = "trainings.json", "model"


class Study:
    """Trainings below one folder, and what they found.

    Each training has a name, and `trainings.json` keeps its settled recipe and its test errors.
    What is finished is not trained again and what was interrupted goes on, so a study may be
    stopped at any time, and asked for more later.

    Args:
        folder: Receives a folder for each training, `trainings.json` and what the study writes.
        variants: Variants of the recipes that every training takes.
        settings: Pairs `key=value` that every training takes, such as `training.num_epochs=10`; see
            `recipes.parse_overrides`. What a training sets of its own goes over them.
        verbose: Progress of the trainings, as in Keras.
        defaults: Values by `"section.key"` that differ from the recipes in every training, under
            the settings.

    Example:
        >>> study = Study("runs/widths", settings=["training.num_epochs=3"])
        >>> study.settle("cmret_ch2", {"model.num_features": 8}).training.num_epochs
        3
    """

    def __init__(
        self,
        folder: str | Path,
        variants: Sequence[str] = (),
        settings: Sequence[str] = (),
        verbose: Any = "auto",
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder).expanduser()
        self.variants = tuple(variants)
        self.overrides = {**(defaults or {}), **recipes.parse_overrides(settings)}
        self.verbose = verbose
        file = self.folder / TRAININGS
        self._trainings: dict[str, Any] = (
            json.loads(file.read_text("utf-8")) if file.exists() else {}
        )

    @property
    def errors(self) -> dict[str, dict[str, Any]]:
        """Test errors of the finished trainings by name; see `experiments.measure_errors`."""
        return {name: training["errors"] for name, training in self._trainings.items()}

    def settle(
        self, recipe: str, overrides: Mapping[str, Any] | None = None, variants: Sequence[str] = ()
    ) -> Recipe:
        """Settles a recipe as `train` trains it.

        Args:
            recipe: The name of a recipe, or its file.
            overrides: Values of this training by `"section.key"`.
            variants: Variants of this training, laid under those of the study.
        """
        both = (*variants, *self.variants)
        return recipes.load(recipe).settle(both, {**self.overrides, **(overrides or {})})

    def train(
        self,
        name: str,
        recipe: str,
        overrides: Mapping[str, Any] | None = None,
        variants: Sequence[str] = (),
        parts: Parts | None = None,
        preset: str = "",
    ) -> dict[str, Any]:
        """Trains by a recipe, or goes on with it, unless it is finished.

        Args:
            name: The folder of the training below that of the study.
            recipe: See `settle`.
            overrides: See `settle`.
            variants: See `settle`.
            parts: Structures instead of those that the recipe names.
            preset: The folder that a preset with a card is written into; none where empty.

        Returns:
            Test errors by label.

        Raises:
            ValueError: If the folder holds a training with other settings.
        """
        settled = self.settle(recipe, overrides, variants)
        table = json.loads(json.dumps(toml.as_table(settled)))
        for about in ("description", "citation", "preset"):  # which change no weight
            table.pop(about, None)
        if parts is not None:
            table["data"] = {"SHA-256": parts.digest()}
        finished = self._trainings.get(name)
        if finished is not None:
            self._refuse_others(name, finished["recipe"], table)
            if not preset or Path(preset).exists():
                return dict(finished["errors"])
        place = self.folder / name
        how = {"folder": place, "preset": preset, "resume": True, "verbose": self.verbose}
        if parts is None:
            results = run.run_recipe(settled, **how)
        else:
            results = run.train(
                self.untrained(recipe, overrides, variants),
                parts,
                settings=settled.training,
                offsets=settled.offsets,
                report=settled.report,
                card=settled.preset,
                citation=settled.citation,
                **how,
            )
        results.model.save_to_preset(
            str(place / MODEL),
            elements=elements(results.parts.training),
            properties=list(results.errors),
            metrics=results.errors,
            seed=settled.training.seed,
        )
        self._trainings[name] = {"recipe": table, "errors": results.errors}
        saving.write_json(self.folder / TRAININGS, self._trainings)
        del results
        keras.utils.clear_session()  # or what was compiled would pile up
        gc.collect()
        return self.errors[name]

    def untrained(
        self, recipe: str, overrides: Mapping[str, Any] | None = None, variants: Sequence[str] = ()
    ) -> models.ForceField:
        """Makes the model of a training as it is before that; arguments are those of `settle`."""
        settled = self.settle(recipe, overrides, variants)
        keras.utils.set_random_seed(settled.training.seed)
        labels = building.learned_labels(settled.model, settled.training)
        return building.make_model(settled.model, labels)

    def model(self, name: str) -> models.ForceField:
        """Loads the model of a finished training, with its best weights."""
        return models.load_preset(str(self.folder / name / MODEL))

    def write(self, results: Mapping[str, Any]) -> None:
        """Writes what the study found into `results.json`."""
        saving.write_json(self.folder / run.RESULTS, results)

    def _refuse_others(self, name: str, there: dict[str, Any], now: dict[str, Any]) -> None:
        """Refuses a finished training with other settings, which its errors do not belong to."""
        before, after = _flat(there), _flat(now)
        differing = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        if differing:
            raise ValueError(
                f"There is a training with other settings in '{self.folder / name}'. Received: "
                f"{ {key: after.get(key) for key in differing} }, there "
                f"{ {key: before.get(key) for key in differing} }. Choose another folder."
            )


def solve_missing(
    solvers: Mapping[str, Callable[[], Mapping[str, Array]]], partial: Path, level: str
) -> dict[str, dict[str, Array]]:
    """Computes what a file does not hold yet, and writes the file after each of them.

    Args:
        solvers: Functions without arguments by what they compute, in the order of their turn.
        partial: The npz file of what is finished.
        level: Level of theory; a file of another one is refused.

    Returns:
        The arrays of each, by its name and theirs.

    Raises:
        ValueError: If `partial` belongs to another level of theory.
    """
    stored: dict[str, Array] = {"level": np.array(level)}
    if partial.exists():
        with np.load(partial) as file:
            stored = dict(file)
        if str(stored["level"]) != level:
            raise ValueError(
                "The partial file was computed at another level of theory. Received: "
                f"partial='{partial}' with {stored['level']}, now {level}. Move it away."
            )
    found: dict[str, dict[str, Array]] = {}
    for key, value in stored.items():
        name, _, array = key.rpartition("/")
        found.setdefault(name, {})[array] = value
    missing = [name for name in solvers if name not in found]
    start = time.monotonic()
    for number, name in enumerate(missing, start=1):
        found[name] = dict(solvers[name]())
        stored |= {f"{name}/{array}": value for array, value in found[name].items()}
        saving.write_npz(partial, stored)
        minutes = (time.monotonic() - start) / 60
        left = minutes / number * (len(missing) - number)
        print(
            f"[{number}/{len(missing)}] {name}; {minutes:.1f} min, about {left:.0f} min left",
            flush=True,
        )
    return {name: found[name] for name in solvers}


def _flat(table: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Writes a table of tables as one, with keys such as `"training.batch_size"`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        inside = _flat(value, f"{place}{key}.") if isinstance(value, Mapping) else {}
        flat |= inside or {f"{place}{key}": value}
    return flat
