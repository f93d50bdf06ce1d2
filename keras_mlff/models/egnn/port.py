"""Weights of the authors' EGNN programs -> this package's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_mlff.graph import Array
from keras_mlff.models.egnn.variant import VARIANTS
from keras_mlff.models.porting.encodings import read_encoding, read_perceptron, translate
from keras_mlff.models.porting.weights import PortedWeights, only_readout
from keras_mlff.models.variants import gather_switches

# their name -> ours
_QM9 = {
    "species": "species",
    "charge_scale": "charge_scale",
    "charge_power": "charge_power",
    "hidden": "num_features",
    "n_layers": "num_layers",
    "attention": "attention",
    "node_attr": "node_attributes",
}
_EQUIVARIANT = {
    "in_node": "num_inputs",
    "hidden": "num_features",
    "out_node": "num_outputs",
    "n_layers": "num_layers",
    "attention": "attention",
    "normalize": "normalize",
    "tanh": "tanh",
    "coords_agg": "coordinate_sum",
}


def build(
    model_class: Any,
    hyperparameters: Mapping[str, Any],
    weights: Mapping[str, Array],
    smoothness: float | None = None,
    **kwargs: Any,
) -> Any:
    """Builds the authors' network, of QM9 or of moving positions; called by `EGNN.from_port`.

    - The program of QM9 has the hyper-parameters `species`, `charge_scale`, `charge_power`,
      `hidden`, `n_layers`, `attention` and `node_attr`,
    - that of moving positions `in_node`, `hidden`, `out_node`, `n_layers`, `attention`,
      `normalize`, `tanh` and `coords_agg`,
    - and both, for encodings, `mlp_enc`, `mlp_hidden`, `posenc`, `n_bin`, `s`, `xmin`, `xmax`,
      `mode`, `scaled_slopes`, `init` and `lambda`.

    The program of moving positions is meant if `in_node` is given or `arch` holds "equivariant".
    Its inputs are any features of the atoms, see `EGNN.transform`; the embedding of elements and
    the heads, which it has not, start fresh.

    Args:
        model_class: `EGNN` or a class derived from it.
        hyperparameters: Settings by the names above.
        weights: Arrays by the names `embedding`, `layer0.edge`, `layer0.att`, `layer0.node`,
            `node_dec`, `graph_dec` (QM9) or `layer0.edge1`, `layer0.coord1`, `out` (moving
            positions), and `layer0.posenc.h`, with `.W`, `.b`, `.W1`, ... behind. Matrices are
            (in, out).
        smoothness: Factor of the smoothness loss, averaged over tables; by default that of the
            hyper-parameters (`lambda`), or none.
        **kwargs: Replace arguments of the constructor.

    Returns:
        The model.

    Raises:
        ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
    """
    reader = PortedWeights(weights)
    equivariant = "in_node" in hyperparameters or "equivariant" in str(
        hyperparameters.get("arch", "")
    )
    names = _EQUIVARIANT if equivariant else _QM9
    arguments = translate("EGNN", hyperparameters, names, smoothness)
    for key in ("attention", "node_attributes", "tanh"):
        if key in arguments:
            arguments[key] = bool(arguments[key])
    if equivariant:
        # that program's own choices, where nothing is said
        defaults = {"num_layers": 4, "attention": False, "coordinate_sum": "mean"}
        arguments = {**defaults, **arguments, "equivariant": True}
        arguments["normalize"] = "detached" if arguments.get("normalize") else False
    else:
        defaults = {"species": [1, 6, 7, 8, 9], "readout": "graph"}
        arguments = {**defaults, **arguments}
    arguments = gather_switches(arguments, VARIANTS, renamed={}, changes={})
    dtype = str(reader.array("embedding.W").dtype)
    model = model_class(**{"dtype": dtype, "all_pairs": True, **arguments, **kwargs})
    reader.dense(model.embedding, "embedding")
    for index, layer in enumerate(model.interactions):
        prefix = f"layer{index}"
        if equivariant:
            _read_equivariant(reader, prefix, layer)
        else:
            read_perceptron(reader, f"{prefix}.edge", layer.edge_1, layer.edge_2)
            read_perceptron(reader, f"{prefix}.node", layer.node_1, layer.node_2)
        if layer.gate is not None:
            reader.dense(layer.gate, f"{prefix}.att")
        read_encoding(reader, layer.encoding, f"{prefix}.posenc", f"{prefix}.mlpenc")
    if equivariant:
        reader.dense(model.decoder[0], "out")
    else:
        read_perceptron(reader, "node_dec", *model.decoder)
        readout = only_readout(model)
        read_perceptron(reader, "graph_dec", readout.hidden, readout.output_scalars)
    reader.check_all_used()
    model.assign_weights(reader.values)
    return model


def _read_equivariant(reader: PortedWeights, prefix: str, layer: Any) -> None:
    """Assigns one layer of the program of moving positions."""
    names = {
        "edge1": layer.edge_1,
        "edge2": layer.edge_2,
        "node1": layer.node_1,
        "node2": layer.node_2,
        "coord1": layer.coordinate_1,
        "coord2": layer.coordinate_2,
    }
    for name, dense in names.items():
        reader.dense(dense, f"{prefix}.{name}")
