"""Weights of the transformer's reference program -> this package's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_mlff.graph import Array
from keras_mlff.models.porting.encodings import (
    read_elements,
    read_encoding,
    read_perceptron,
    translate,
)
from keras_mlff.models.porting.weights import PortedWeights, only_readout

_HYPERPARAMETERS = {
    "dim": "num_features",
    "heads": "num_heads",
    "n_layers": "num_layers",
    "ffn": "feed_forward_features",
    "bias_hidden": "bias_features",
    "bias_per_layer": "bias_per_layer",
    "max_z": "max_z",
}


def build_transformer(
    model_class: Any,
    hyperparameters: Mapping[str, Any],
    weights: Mapping[str, Array],
    smoothness: float | None = None,
    **kwargs: Any,
) -> Any:
    """Builds the network; see `DistanceTransformer.from_reference`."""
    reader = PortedWeights(weights)
    arguments = translate("DistanceTransformer", hyperparameters, _HYPERPARAMETERS, smoothness)
    arguments.pop("max_z", None)
    arguments.setdefault("feed_forward_features", 512)
    given = reader.array("atom_embedding")
    model = model_class(**{"dtype": str(given.dtype), **arguments, **kwargs})
    read_elements(reader, model.embedding.embeddings, "atom_embedding")
    for index, bias in enumerate(model.biases):
        per_layer = arguments.get("bias_per_layer", True)
        prefix = f"layer{index}" if per_layer else "bias"
        read_perceptron(reader, f"{prefix}.biasmlp", bias.hidden, bias.outputs)
        read_encoding(reader, bias.encoding, f"{prefix}.posenc", f"{prefix}.mlpenc")
    for index, block in enumerate(model.blocks):
        prefix = f"layer{index}"
        reader.dense(block.query_key_value, f"{prefix}.q", f"{prefix}.k", f"{prefix}.v")
        reader.dense(block.mix, f"{prefix}.o")
        read_perceptron(reader, f"{prefix}.ffn", block.hidden, block.outputs)
        _read_normalization(reader, block.normalization_1, f"{prefix}.ln1")
        _read_normalization(reader, block.normalization_2, f"{prefix}.ln2")
    _read_normalization(reader, model.normalization, "lnf")
    readout = only_readout(model)
    read_perceptron(reader, "out", readout.hidden, readout.output_scalars)
    reader.check_all_used()
    model.assign_weights(reader.values)
    return model


def _read_normalization(reader: PortedWeights, layer: Any, prefix: str) -> None:
    reader.assign(layer.gamma, f"{prefix}.gamma")
    reader.assign(layer.beta, f"{prefix}.beta")
