"""Weights of the authors' GeomAtt program -> this package's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mlff.graph import Array
from keras_mlff.models.geomatt.variant import VARIANTS
from keras_mlff.models.porting.weights import PortedWeights, fit, only_readout
from keras_mlff.models.variants import gather_switches

# their name -> ours; those not given have the same default here and there, but for F_I
_HYPERPARAMETERS = {
    "F_v": "num_features",
    "F_I": "overlap_features",
    "n_layers": "num_layers",
    "N_L": "num_layers",
    "orders": "orders",
    "d_min": "d_min",
    "d_max": "d_max",
    "interval": "delta",
    "delta": "delta",
    "gamma": "gamma",
    "shared": "shared",
    "bias": "bias",
    "stream_scaling": "stream_scaling",
    "linear": "linear",
    "subtract_far_value": "subtract_far_value",
}
_POINTS = ("n_points", "L")
_STREAMS = "N_S"


def arguments_of(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Translates hyper-parameters; those not given have the program's defaults.

    Args:
        hyperparameters: Settings by the names that `build` lists.

    Returns:
        Arguments of the constructor.

    Raises:
        ValueError: If one is unknown or the number of grid points contradicts the grid.
    """
    arguments: dict[str, Any] = {"overlap_features": 128}
    for key, value in hyperparameters.items():
        if key in _HYPERPARAMETERS:
            arguments[_HYPERPARAMETERS[key]] = value
        elif key not in (*_POINTS, _STREAMS, "arch"):
            raise ValueError(
                f"Unknown hyper-parameter of the GeomAtt program. Received: '{key}'. "
                f"Known: {sorted([*_HYPERPARAMETERS, *_POINTS, _STREAMS])}."
            )
    if "orders" in arguments:
        arguments["orders"] = [int(order) for order in arguments["orders"]]
    orders = arguments.get("orders", (2, 3, 4))
    if hyperparameters.get(_STREAMS, len(orders)) != len(orders):
        raise ValueError(
            f"Each stream has one order. Received: {_STREAMS}={hyperparameters[_STREAMS]}, "
            f"orders={list(orders)}."
        )
    for key in _POINTS:
        if key in hyperparameters:
            # the number decides where it contradicts the end of the grid, which is no point
            start, step = arguments.get("d_min", 0.0), arguments.get("delta", 0.05)
            if round((arguments.get("d_max", 5.0) - start) / step) != hyperparameters[key]:
                arguments["d_max"] = start + hyperparameters[key] * step
    return gather_switches(arguments, VARIANTS, renamed={}, changes={})


def build(
    model_class: Any,
    hyperparameters: Mapping[str, Any],
    weights: Mapping[str, Array],
    **kwargs: Any,
) -> Any:
    """Builds the network of the authors' program; called by `GeomAtt.from_port`.

    Hyper-parameters are `F_v`, `F_I`, `orders`, `n_layers` (or `N_L`), `d_min`, `d_max`, `interval`
    (`delta`), `n_points` (`L`), `gamma`, `shared`, `linear`, `bias`, `N_S`, and for comparison with
    the paper `stream_scaling` and `subtract_far_value`.

    Args:
        model_class: `GeomAtt` or a class derived from it.
        hyperparameters: Settings by the names above; those not given have the program's defaults.
        weights: Arrays by the names `embedding.6`, `stream0.layer0.overlap0.Wq`, `bq`, `Wk`, `bk`,
            `stream0.layer0.W`, `stream0.layer0.b`, `readout.W1`, `readout.b1`, ... Matrices are
            (in, out). Elements without an embedding start from zero features.
        **kwargs: Replace arguments of the constructor.

    Returns:
        The model.

    Raises:
        ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
    """
    reader = PortedWeights(weights)
    hidden = reader.array("readout.W1")
    model = model_class(**{"dtype": str(hidden.dtype), **arguments_of(hyperparameters), **kwargs})
    embeddings = np.zeros(model.embedding.embeddings.shape, hidden.dtype)
    for name in [name for name in reader.weights if name.startswith("embedding.")]:
        row = fit(reader.array(name), embeddings.shape[1:], name)
        embeddings[int(name.removeprefix("embedding."))] = row
    reader.values.append((model.embedding.embeddings, embeddings))
    for number, stream in enumerate(model.streams):
        for layer, (attention, value) in enumerate(
            zip(stream.attentions, stream.values, strict=True)
        ):
            prefix = f"stream{number}.layer{layer}"
            _read_overlaps(reader, prefix, attention)
            reader.assign(value.kernel, f"{prefix}.W")
            reader.assign(value.bias, f"{prefix}.b")
    readout = only_readout(model)
    for index, layer in enumerate((readout.hidden, readout.output_scalars), start=1):
        reader.assign(layer.kernel, f"readout.W{index}")
        reader.assign(layer.bias, f"readout.b{index}")
    reader.check_all_used()
    model.assign_weights(reader.values)
    return model


def _read_overlaps(reader: PortedWeights, prefix: str, attention: Any) -> None:
    """Assigns the overlaps of one layer, which this package keeps in one array."""
    variables = {
        "Wq": attention.query_kernel,
        "bq": attention.query_bias,
        "Wk": attention.key_kernel,
        "bk": attention.key_bias,
    }
    for name, variable in variables.items():
        keys = [f"{prefix}.overlap{q}.{name}" for q in range(attention.query_kernel.shape[0])]
        if variable is not None:
            arrays = [reader.array(key) for key in keys]
            shape = tuple(variable.shape)[1:]
            fitted = [fit(array, shape, key) for array, key in zip(arrays, keys, strict=True)]
            reader.values.append((variable, np.stack(fitted)))
        elif name == "bk" and attention.has_query_bias:
            # the value at infinite distance, which this network was asked to leave out
            reader.used.update(keys)
