"""Learned encodings in the authors' names: what EGNN, DimeNet++ and the Transformer share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mlff.layers.encoding import PositionalEncoding
from keras_mlff.models.porting.weights import PortedWeights

_HYPERPARAMETERS = {"n_bin": "num_knots", "s": "num_features", "xmin": "x_min", "xmax": "x_max"}
_OPTIONS = {
    "mode": "mode",
    "scaled_slopes": "scaled_slopes",
    "init": "initial",
    "lambda": "smoothness",
}
KNOWN = ("posenc", "mlp_enc", "mlp_hidden", *_HYPERPARAMETERS, *_OPTIONS)


def translate(
    program: str,
    hyperparameters: Mapping[str, Any],
    names: Mapping[str, str],
    smoothness: float | None,
) -> dict[str, Any]:
    """Translates the hyper-parameters of one program, those of its encoding included.

    Args:
        program: Name of the program, for the error.
        hyperparameters: Settings by that program's names.
        names: This package's name of each of them, but for those of the encoding.
        smoothness: Factor of the smoothness loss; `None` for that of the hyper-parameters.

    Returns:
        Arguments by this package's names, `distance_encoding` among them.

    Raises:
        ValueError: If one is unknown.
    """
    arguments: dict[str, Any] = {}
    for key, value in hyperparameters.items():
        if key in names:
            arguments[names[key]] = value
        elif key not in (*KNOWN, "arch"):
            raise ValueError(
                f"Unknown hyper-parameter of the {program} program. Received: '{key}'. "
                f"Known: {sorted([*names, *KNOWN])}."
            )
    arguments["distance_encoding"] = _encoding(hyperparameters, smoothness)
    return arguments


def _encoding(hyperparameters: Mapping[str, Any], smoothness: float | None) -> dict[str, Any]:
    """Translates the hyper-parameters of an encoding to what `make_encoding` takes."""
    if hyperparameters.get("posenc"):
        options: dict[str, Any] = {"kind": "posenc"}
        for theirs, ours in (_HYPERPARAMETERS | _OPTIONS).items():
            if hyperparameters.get(theirs) is not None:
                options[ours] = hyperparameters[theirs]
        if smoothness is not None:
            options["smoothness"] = smoothness
        return options
    if hyperparameters.get("mlp_enc"):
        width = hyperparameters.get("s", 32)
        hidden = hyperparameters.get("mlp_hidden", width)
        options = {"num_features": width, "hidden_features": hidden}
        return {"kind": "mlp", "activation": "relu", **options}
    return {"kind": "original"}


def read_encoding(reader: PortedWeights, encoding: Any, table: str, perceptron: str) -> None:
    """Assigns a learned encoding.

    Args:
        reader: The weights.
        encoding: A table, a perceptron, or `None`, which has no weights.
        table: Prefix of the names of a table, `h` and `g`.
        perceptron: Prefix of the names of a perceptron, `W1` to `b2`.
    """
    if encoding is None:
        return
    if isinstance(encoding, PositionalEncoding):
        reader.assign(encoding.values, f"{table}.h")
        if encoding.slopes is not None:
            reader.assign(encoding.slopes, f"{table}.g")
        else:  # those programs have slopes in every mode
            reader.used.add(f"{table}.g")
    else:
        read_perceptron(reader, perceptron, encoding.hidden, encoding.outputs)


def read_perceptron(reader: PortedWeights, prefix: str, first: Any, second: Any) -> None:
    """Assigns two Dense layers by the names `W1`, `b1`, `W2`, `b2` behind a prefix."""
    for number, layer in enumerate((first, second), start=1):
        reader.assign(layer.kernel, f"{prefix}.W{number}")
        if layer.use_bias:
            reader.assign(layer.bias, f"{prefix}.b{number}")


def read_elements(reader: PortedWeights, variable: Any, name: str) -> None:
    """Assigns an embedding by atomic number; elements that the program lacks get zeros.

    Args:
        reader: The weights.
        variable: The table of this package, `(119, num_features)`.
        name: Name of the array, one row per atomic number from 0 on.

    Raises:
        ValueError: If the width is another one.
    """
    given = reader.array(name)
    table = np.zeros(tuple(variable.shape), given.dtype)
    if given.shape[1] != table.shape[1]:
        raise ValueError(
            f"The weight '{name}' has shape {given.shape}, the network expects {table.shape[1]} "
            "columns. Check the hyper-parameters."
        )
    rows = min(len(given), len(table))
    table[:rows] = given[:rows]
    reader.values.append((variable, table))
