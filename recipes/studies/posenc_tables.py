"""Tables 1 and 2 of "Regularised positional encoding": all trainings, one after another.

Table 1 has errors of forces on eight molecules of MD17, by recipes/transformer_md17.py and
egnn_md17.py; table 2 errors of 12 properties on QM9, by dimenet_pp_qm9.py and egnn_qm9.py. What is
trained with the same settings is not trained again, what was interrupted goes on, and what fails is
tried again the next time. The table stands beside the paper's as Markdown.

Run: python recipes/studies/posenc_tables.py --table=2 --columns mu U0 --settings num_epochs=8
The paper's EGNN: python recipes/studies/posenc_tables.py --backbones EGNN --settings paper=true
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import cmret_qm9
import dimenet_pp_qm9
import egnn_md17
import egnn_qm9
import keras
import numpy as np
import transformer_md17

from keras_mlff import cli, saving

RECIPES: dict[int, dict[str, ModuleType]] = {
    1: {"Transformer": transformer_md17, "EGNN": egnn_md17},
    2: {"DimeNet++": dimenet_pp_qm9, "EGNN": egnn_qm9},
}
COLUMNS = {1: egnn_md17.MOLECULES, 2: tuple(cmret_qm9.TARGETS)}
PUBLISHED = {1: egnn_md17.PUBLISHED, 2: egnn_qm9.PUBLISHED}
VARIANTS = {1: ("original", "posenc", "smooth"), 2: ("original", "mlp", "posenc", "smooth")}


class Case(NamedTuple):
    """One training of a table."""

    row: str
    column: str
    seed: int
    recipe: ModuleType
    arguments: dict[str, Any]

    @property
    def command(self) -> str:
        """The training by its settings, under which its result is kept."""
        return cli.command(self.recipe.main, self.arguments)


def main(
    table: Literal[1, 2] = 1,
    columns: tuple[str, ...] = (),
    backbones: tuple[str, ...] = (),
    variants: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0,),
    data: str = "",
    settings: tuple[str, ...] = (),
    folder: str = "",
    verbose: int = 2,
) -> dict[str, dict[str, float]]:
    """Trains what is missing of a table, and writes `results.json` and `table.md`.

    Args:
        table: 1 for MD17, 2 for QM9.
        columns: Molecules, or properties; all where empty.
        backbones: "Transformer" and "EGNN", or "DimeNet++" and "EGNN"; both where empty.
        variants: "original", "mlp", "posenc" or "smooth"; those of the paper where empty.
        seeds: Each number of the table is the mean over them.
        data: File instead of the data set; `{column}` in its name stands for the molecule.
        settings: Arguments of the recipes instead of their defaults, such as `num_epochs=100`. A
            recipe that has no such argument is left alone.
        folder: Receives a folder for each training, results and table; `runs/posenc_table1` or
            `2` where empty.
        verbose: As in Keras.

    Returns:
        Errors by row and column, in the paper's units.
    """
    cases = list(
        list_cases(
            table,
            columns or COLUMNS[table],
            backbones or tuple(RECIPES[table]),
            variants or VARIANTS[table],
            seeds,
            data,
            read_settings(settings),
        )
    )
    place = Path(folder or f"runs/posenc_table{table}")
    for case in cases:
        if "test_mae" not in read(place).get(case.command, {}):
            found = train(case, place, verbose)
            saving.write_json(place / "results.json", {**read(place), case.command: found})
    rows = collect(cases, read(place))
    text = markdown(table, rows)
    saving.write_text(place / "table.md", text + "\n")
    print(text)
    return {
        row: {name: float(np.mean(found)) for name, found in cells.items()}
        for row, cells in rows.items()
    }


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """Reads `name=value`; numbers and true or false are what they say, all else is text."""
    found: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            found[name.replace("-", "_")] = json.loads(text)
        except ValueError:
            found[name.replace("-", "_")] = text
    return found


def list_cases(
    table: int,
    columns: Sequence[str],
    backbones: Sequence[str],
    variants: Sequence[str],
    seeds: Sequence[int],
    data: str,
    settings: dict[str, Any],
) -> Iterator[Case]:
    """Lists the trainings, all columns of one seed first."""
    known = {name: inspect.signature(RECIPES[table][name].main).parameters for name in backbones}
    unknown = set(settings) - {name for parameters in known.values() for name in parameters}
    if unknown or not set(columns) <= set(COLUMNS[table]):
        raise ValueError(
            f"Received: columns={list(columns)}, settings={sorted(settings)}. Columns of table "
            f"{table} are {list(COLUMNS[table])}; none of the recipes has {sorted(unknown)}."
        )
    for seed in seeds:
        for backbone, parameters in known.items():
            for variant in variants:
                for column in columns:
                    chosen = {name: value for name, value in settings.items() if name in parameters}
                    chosen |= {"distance_encoding": variant, "seed": seed}
                    chosen |= {"molecule": column} if table == 1 else {"targets": (column,)}
                    if data:
                        chosen["data"] = data.replace("{column}", column)
                    defaults = {name: item.default for name, item in parameters.items()}
                    recipe = RECIPES[table][backbone]
                    yield Case(f"{backbone} {variant}", column, seed, recipe, defaults | chosen)


def train(case: Case, folder: Path, verbose: int) -> dict[str, Any]:
    """Trains, or goes on; an error is a result too, since it shall not stop the others."""
    digest = hashlib.sha256(case.command.encode()).hexdigest()[:8]
    name = f"{case.row}_{case.column}_seed{case.seed}_{digest}".replace(" ", "_")
    how = {"folder": str(folder / name), "resume": True, "verbose": verbose}
    print(case.command, flush=True)
    try:
        results = case.recipe.main(**case.arguments | how)
    except Exception as error:
        print(f"failed: {error}", flush=True)
        return {"error": f"{type(error).__name__}: {error}"}
    finally:  # or what was compiled would pile up
        keras.utils.clear_session()
        gc.collect()
    return dict(results["forces" if "molecule" in case.arguments else case.column])


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Reads what was trained, by command."""
    file = folder / "results.json"
    found: dict[str, dict[str, Any]] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return found


def collect(
    cases: Sequence[Case], results: dict[str, dict[str, Any]]
) -> dict[str, dict[str, list[float]]]:
    """Gathers errors by row and column, one for each seed that is trained."""
    rows: dict[str, dict[str, list[float]]] = {}
    for case in cases:
        found = results.get(case.command, {})
        cells = rows.setdefault(case.row, {})
        if "test_mae" in found:
            cells.setdefault(case.column, []).append(found["test_mae"])
    return rows


def markdown(table: int, rows: dict[str, dict[str, list[float]]]) -> str:
    """Writes the table, each row above the paper's; deviations are those between seeds."""
    units = {name: cmret_qm9.TARGETS[name][0] if table == 2 else "meV/Å" for name in COLUMNS[table]}
    lines = [
        ["", *(f"{name} / {unit}" for name, unit in units.items())],
        ["---"] * (len(units) + 1),
    ]
    for row, cells in rows.items():
        lines.append([row])
        for name in units:
            found = cells.get(name, [])
            spread = f" ± {np.std(found):.2g}" if len(found) > 1 else ""
            lines[-1].append(f"{np.mean(found):.3g}{spread}" if found else "")
        if row in PUBLISHED[table]:
            published = PUBLISHED[table][row]
            lines.append([f"{row}, paper", *("" if x != x else f"{x:g}" for x in published)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    cli.run(main)
