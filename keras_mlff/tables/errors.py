"""Errors of predictions against labels: together, or by element, structure or configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from keras_mlff import quantities
from keras_mlff.datasets.tools.elements import SYMBOLS
from keras_mlff.graph import INPUT_LEVELS, Array, Graph, is_known, level
from keras_mlff.tables.frames import DataFrame, Rows, make_frame

By = Literal["structure", "element", "configuration"]


def errors_table(
    structures: Sequence[Graph],
    predictions: Mapping[str, Array],
    by: By | None = None,
    configurations: Sequence[str] | None = None,
) -> DataFrame:
    """Compares predictions with labels; what is missing (NaN) does not count.

    Args:
        structures: With labels.
        predictions: What `model.predict(structures)` returns.
        by: How to sort the errors. `"structure"` has rows for each structure. `"element"` has rows
            for each element: a quantity of atoms counts for the element of its atom, one of a
            structure for each element that occurs in it. `"configuration"` has rows for each kind
            of structure. `None` takes all together.
        configurations: The kind of each structure; its chemical formula where `None`.

    Returns:
        A row for each property, or for each group and property, with the columns `property`,
        `mae` (mean absolute error), `rmse` (root of the mean square), `largest`, `unit` and
        `num_values` (numbers compared). Energies are there per atom too.

    Raises:
        ValueError: If there are no structures, or no label is predicted.

    Example:
        >>> from keras_mlff.graph import structure
        >>> helium = structure([[0, 0, 0]], [2], energy=-79.0)
        >>> errors_table([helium], {"energy": np.array([-78.5])})["mae"].tolist()
        [0.5, 0.5]
    """
    return make_frame(error_rows(structures, predictions, by, configurations))


def error_rows(
    structures: Sequence[Graph],
    predictions: Mapping[str, Array],
    by: By | None = None,
    configurations: Sequence[str] | None = None,
) -> Rows:
    """Compares predictions with labels, without pandas.

    Args:
        structures: With labels.
        predictions: What `model.predict(structures)` returns.
        by: How to sort the errors; see `errors_table`.
        configurations: The kind of each structure, if they are sorted by it.

    Returns:
        A dict for each row of `errors_table`.
    """
    if len(structures) == 0:
        raise ValueError("Errors need structures to compare. Received: an empty list.")
    labels = {key for graph in structures for key in graph if key not in INPUT_LEVELS}
    differences = {
        key: found
        for key in sorted(labels & predictions.keys())
        if (found := _differences(key, structures, predictions[key])) is not None
    }
    if not differences:
        raise ValueError(
            "There is nothing to compare: the structures and the model share no property. "
            f"Received: labels={sorted(labels)}, predictions={sorted(predictions)}."
        )
    if "energy" in differences:
        sizes = np.asarray([[len(graph["atomic_numbers"])] for graph in structures])
        ordered = {}
        for key, values in differences.items():
            ordered[key] = values
            if key == "energy":
                ordered["energy_per_atom"] = values / sizes
        differences = ordered
    rows: Rows = []
    for group, structure_rows, atom_rows in _groups(structures, by, configurations):
        for key, values in differences.items():
            chosen = values[atom_rows if _is_of_atoms(key) else structure_rows]
            known = chosen[~np.isnan(chosen)]
            if known.size:
                rows.append(
                    {
                        **group,
                        "property": key,
                        "mae": float(np.abs(known).mean()),
                        "rmse": float(np.sqrt(np.square(known).mean())),
                        "largest": float(np.abs(known).max()),
                        "unit": "eV/atom" if key == "energy_per_atom" else quantities.unit(key),
                        "num_values": int(known.size),
                    }
                )
    return rows


def formula(graph: Graph) -> str:
    """Writes the chemical formula of a structure, C and H first, such as `"C2H6O"`."""
    symbols = [SYMBOLS[number - 1] for number in graph["atomic_numbers"].tolist()]
    counts = {symbol: symbols.count(symbol) for symbol in sorted(set(symbols))}
    first = [symbol for symbol in ("C", "H") if "C" in counts and symbol in counts]
    order = first + [symbol for symbol in counts if symbol not in first]
    return "".join(f"{x}{counts[x] if counts[x] > 1 else ''}" for x in order)


def _is_of_atoms(key: str) -> bool:
    """Tells whether the rows of a quantity, or of an error per atom, count atoms."""
    return key != "energy_per_atom" and level(key) == "atom"


def _differences(key: str, structures: Sequence[Graph], predicted: Array) -> Array | None:
    """Subtracts a label from its prediction.

    Returns:
        `(num_rows, num_components)`, where rows are structures or atoms of all structures; NaN
        where the label is missing. `None` where it is missing everywhere.

    Raises:
        ValueError: If the predictions are not those of the structures.
    """
    if level(key) not in ("structure", "atom"):
        return None
    counts = [len(graph["atomic_numbers"]) if _is_of_atoms(key) else 1 for graph in structures]
    predicted = np.asarray(predicted, np.float64)
    if len(predicted) != sum(counts):
        raise ValueError(
            f"Predictions of '{key}' need a row for each {level(key)}, as `model.predict` of these "
            f"structures gives them. Received: {len(predicted)} rows for {sum(counts)}."
        )
    predicted = predicted.reshape(len(predicted), -1)
    differences = np.full(predicted.shape, np.nan)
    for graph, count, end in zip(structures, counts, np.cumsum(counts), strict=True):
        known = is_known(key, graph)
        if known.any():
            rows = slice(end - count, end)
            values = predicted[rows] - np.reshape(graph[key], (count, -1))
            differences[rows] = np.where(known[:, None], values, np.nan)
    return differences if not np.all(np.isnan(differences)) else None


def _groups(
    structures: Sequence[Graph], by: By | None, configurations: Sequence[str] | None
) -> Iterator[tuple[dict[str, Any], Array, Array]]:
    """Sorts structures and atoms into groups.

    Yields:
        How the group is called, as columns of the table; whether each structure `(num_structures,)`
        and each atom `(num_atoms,)` belongs to it.
    """
    sizes = [len(graph["atomic_numbers"]) for graph in structures]
    numbers = np.concatenate([graph["atomic_numbers"] for graph in structures])
    owners = np.repeat(np.arange(len(structures)), sizes)
    if by is None:
        yield {}, np.ones(len(structures), bool), np.ones(len(numbers), bool)
    elif by == "element":
        for number in np.unique(numbers).tolist():
            atoms = numbers == number
            inside = np.isin(np.arange(len(structures)), owners[atoms])
            yield {"element": SYMBOLS[number - 1]}, inside, atoms
    elif by in ("structure", "configuration"):
        names: list[Any] = list(range(len(structures)))
        if by == "configuration":
            given = [formula(graph) for graph in structures] if configurations is None else None
            names = list(configurations or given or [])
            if len(names) != len(structures):
                raise ValueError(
                    f"Each of the {len(structures)} structures needs a configuration. Received: "
                    f"{len(names)} names."
                )
        kinds = np.asarray(names)
        for name in dict.fromkeys(names):
            yield {by: name}, kinds == name, (kinds == name)[owners]
    else:
        raise ValueError(
            f"Errors are sorted by structure, element or configuration. Received: by='{by}'."
        )
