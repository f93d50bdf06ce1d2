"""Tables 1 and 2 of "Regularised positional encoding": all trainings, one after another.

Table 1 has errors of forces on eight molecules of MD17, by the recipes `transformer_md17` and
`egnn_md17`; table 2 errors of 12 properties on QM9, by `dimenet_pp_qm9` and `egnn_qm9`. What is
trained is not trained again, what was interrupted goes on, and what fails is tried again the next
time. The table stands beside the paper's as Markdown.

Run: python recipes/studies/posenc_tables.py --table=2 --columns mu U0
The paper's EGNN: python recipes/studies/posenc_tables.py --backbones EGNN --variants paper
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from keras_mlff import cli, saving
from keras_mlff.experiments import recipes
from keras_mlff.experiments.study import Study

RECIPES: dict[int, dict[str, str]] = {
    1: {"Transformer": "transformer_md17", "EGNN": "egnn_md17"},
    2: {"DimeNet++": "dimenet_pp_qm9", "EGNN": "egnn_qm9"},
}
ENCODINGS = {1: ("original", "posenc", "smooth"), 2: ("original", "mlp", "posenc", "smooth")}
Cells = dict[str, list[float]]  # errors by column, one for each seed


def main(
    table: Literal[1, 2] = 1,
    columns: tuple[str, ...] = (),
    backbones: tuple[str, ...] = (),
    encodings: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0,),
    variants: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    folder: str = "",
    verbose: int = 2,
) -> dict[str, dict[str, float]]:
    """Trains what is missing of a table, and writes `table.md`.

    Args:
        table: 1 for MD17, 2 for QM9.
        columns: Molecules, or properties; all where empty.
        backbones: "Transformer" and "EGNN", or "DimeNet++" and "EGNN"; both where empty.
        encodings: "original", "mlp", "posenc" or "smooth"; those of the paper where empty.
        seeds: Each number of the table is the mean over them.
        variants: Variants of the recipes, such as "paper" or "file".
        settings: Settings of all trainings, such as `training.num_epochs=100`.
        folder: Receives a folder for each training and the table; `runs/posenc_table1` or `2`
            where empty.
        verbose: Progress, as in Keras.

    Returns:
        Errors by row and column, in the paper's units.
    """
    published = {name: published_rows(table, recipe) for name, recipe in RECIPES[table].items()}
    known = list(published["EGNN"]["EGNN original, paper"])
    unknown = sorted(set(columns) - set(known))
    if unknown:
        raise ValueError(f"Table {table} has the columns {known}. Received: columns={unknown}.")
    study = Study(folder or f"runs/posenc_table{table}", variants, settings, verbose)
    rows: dict[str, Cells] = {}
    for seed in seeds:
        for backbone in backbones or tuple(RECIPES[table]):
            for kind in encodings or ENCODINGS[table]:
                cells = rows.setdefault(f"{backbone} {kind}", {})
                for column in columns or known:
                    error = train(study, table, backbone, kind, column, seed)
                    if error is not None:
                        cells.setdefault(column, []).append(error)
    papers = {name: row for rows_of in published.values() for name, row in rows_of.items()}
    text = write_markdown(rows, papers, known, "meV/Å" if table == 1 else "")
    saving.write_text(Path(study.folder, "table.md"), text + "\n")
    print(text)
    return {
        row: {name: float(np.mean(found)) for name, found in cells.items()}
        for row, cells in rows.items()
    }


def published_rows(table: int, recipe: str) -> dict[str, dict[str, float]]:
    """Reads the paper's rows from a recipe: errors by the name of the row and column."""
    found = recipes.load(recipe).table["report"]["published"]
    return {name: row["forces"] if table == 1 else row for name, row in found.items()}


def train(
    study: Study, table: int, backbone: str, kind: str, column: str, seed: int
) -> float | None:
    """Trains one number of a table; `None` if it fails, which shall not stop the others."""
    target = {"molecule": column} if table == 1 else {"training.labels": [column]}
    variants = [] if kind == "smooth" else [kind]
    name = f"{backbone}_{kind}_{column}_seed{seed}"
    try:
        errors = study.train(
            name, RECIPES[table][backbone], {"training.seed": seed, **target}, variants
        )
    except Exception as error:
        print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
        return None
    return float(errors["forces" if table == 1 else column]["test_mae"])


def write_markdown(
    rows: Mapping[str, Cells],
    papers: Mapping[str, Mapping[str, float]],
    columns: Sequence[str],
    unit: str,
) -> str:
    """Writes the table, each row above the paper's; deviations are those between seeds."""
    lines = [["", *(f"{name} / {unit}".strip(" /") for name in columns)]]
    lines.append(["---"] * len(lines[0]))
    for row, cells in rows.items():
        lines.append([row])
        for name in columns:
            found = cells.get(name, [])
            spread = f" ± {np.std(found):.2g}" if len(found) > 1 else ""
            lines[-1].append(f"{np.mean(found):.3g}{spread}" if found else "")
        paper = papers.get(f"{row}, paper", {})
        if paper:
            values = (f"{paper[name]:g}" if name in paper else "" for name in columns)
            lines.append([f"{row}, paper", *values])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    cli.run(main)
