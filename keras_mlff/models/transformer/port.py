"""Weights of another program's transformer -> this package's network.

No program of the authors is known; the names are those of an independent one that the tests compare
with.
"""

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


def build(
    model_class: Any,
    hyperparameters: Mapping[str, Any],
    weights: Mapping[str, Array],
    smoothness: float | None = None,
    **kwargs: Any,
) -> Any:
    """Builds the network of the other program; called by `DistanceTransformer.from_port`.

    Hyper-parameters are `dim`, `heads`, `n_layers`, `ffn`, `bias_hidden`, `bias_per_layer`,
    `max_z`, and for encodings `mlp_enc`, `mlp_hidden`, `posenc`, `n_bin`, `s`, `xmin`, `xmax`,
    `mode`, `scaled_slopes`, `init` and `lambda`.

    Args:
        model_class: `DistanceTransformer` or a class derived from it.
        hyperparameters: Settings by the names above.
        weights: Arrays by the names `atom_embedding`, `layer0.q`, `k`, `v`, `o`, `ffn`, `ln1`,
            `ln2`, `layer0.biasmlp` (or `bias.biasmlp`), `layer0.posenc.h`, `lnf`, `out`, with `.W`,
            `.b`, `.W1`, `.gamma`, ... behind. Matrices are (in, out). Elements without an embedding
            start from zero features.
        smoothness: Factor of the smoothness loss, averaged over tables; by default that of the
            hyper-parameters (`lambda`), or none.
        **kwargs: Replace arguments of the constructor.

    Returns:
        The model.

    Raises:
        ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
    """
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
    """Assigns scale and shift of a layer normalization."""
    reader.assign(layer.gamma, f"{prefix}.gamma")
    reader.assign(layer.beta, f"{prefix}.beta")
