"""Weights of the authors' DimeNet++ program -> this package's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mlff.graph import Array
from keras_mlff.models.dimenet_pp.triplet_bases import BesselTripletBasis
from keras_mlff.models.dimenet_pp.variant import VARIANTS
from keras_mlff.models.porting.encodings import (
    read_elements,
    read_encoding,
    read_perceptron,
    translate,
)
from keras_mlff.models.porting.weights import PortedWeights, fit, only_readout
from keras_mlff.models.variants import gather_switches

_HYPERPARAMETERS = {
    "emb_size": "num_features",
    "out_emb_size": "output_features",
    "int_emb_size": "interaction_features",
    "basis_emb_size": "basis_features",
    "num_blocks": "num_layers",
    "num_spherical": "num_spherical",
    "num_radial": "num_radial",
    "cutoff": "cutoff",
    "envelope_exponent": "envelope_exponent",
    "num_before_skip": "num_before_skip",
    "num_after_skip": "num_after_skip",
    "num_dense_output": "num_dense_output",
    "use_envelope": "use_envelope",
    "sbf_combine": "sbf_combine",
}


def build(
    model_class: Any,
    hyperparameters: Mapping[str, Any],
    weights: Mapping[str, Array],
    smoothness: float | None = None,
    **kwargs: Any,
) -> Any:
    """Builds the network of the authors' program; called by `DimeNetPP.from_port`.

    Hyper-parameters are `emb_size`, `out_emb_size`, `int_emb_size`, `basis_emb_size`, `num_blocks`,
    `num_spherical`, `num_radial`, `cutoff`, `envelope_exponent`, `num_before_skip`,
    `num_after_skip`, `num_dense_output`, and for encodings `mlp_enc`, `mlp_hidden`, `posenc`,
    `n_bin`, `s`, `xmin`, `xmax`, `mode`, `scaled_slopes`, `init`, `lambda`, `use_envelope` and
    `sbf_combine`. What this package does otherwise, the program's way is taken: the variant
    `"authors"`.

    Args:
        model_class: `DimeNetPP` or a class derived from it.
        hyperparameters: Settings by the names above; those not given have the program's defaults.
        weights: Arrays by the names `rbf.frequencies`, `emb.embeddings`, `emb.rbf`, `emb`,
            `out0.rbf`, `out0.up`, `out0.dense0`, `out0.final`, `int0.rbf1`, `rbf2`, `sbf1`, `sbf2`,
            `ji`, `kj`, `down`, `up`, `skip`, `before0`, `after0`, and `posenc_rbf`, `posenc_sbf_d`,
            `posenc_sbf_a` (`.h`, `.g`), with `.W` and `.b` behind. Matrices are (in, out). Elements
            without an embedding start from zero features.
        smoothness: Factor of the smoothness loss, averaged over tables; by default that of the
            hyper-parameters (`lambda`), or none.
        **kwargs: Replace arguments of the constructor.

    Returns:
        The model.

    Raises:
        ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
    """
    reader = PortedWeights(weights)
    arguments = {
        "output_features": 256,
        "interaction_features": 64,
        "sbf_over_distance": True,
        "radial_factor": "kj",
        "rbf_embedding": "activated",
        **translate("DimeNet++", hyperparameters, _HYPERPARAMETERS, smoothness),
    }
    arguments = gather_switches(arguments, VARIANTS, renamed={}, changes={})
    dtype = str(reader.array("emb.W").dtype)
    model = model_class(**{"dtype": dtype, **arguments, **kwargs})
    if isinstance(model.basis, BesselTripletBasis):
        reader.assign(model.basis.frequencies, "rbf.frequencies")
    else:
        encodings = {
            "rbf": model.basis.edge,
            "sbf_d": model.basis.distance,
            "sbf_a": model.basis.angle,
        }
        for name, encoding in encodings.items():
            read_encoding(reader, encoding, f"posenc_{name}", f"mlpenc_{name}")
    read_elements(reader, model.elements.embeddings, "emb.embeddings")
    reader.dense(model.rbf_embedding, "emb.rbf")
    reader.dense(model.embedding, "emb")
    for index, block in enumerate(model.outputs_per_block):
        prefix = f"out{index}"
        reader.dense(block.rbf, f"{prefix}.rbf")
        reader.dense(block.up, f"{prefix}.up")
        for number, layer in enumerate(block.dense):
            reader.dense(layer, f"{prefix}.dense{number}")
    for index, block in enumerate(model.interactions):
        _read_interaction(reader, f"int{index}", block)
    readout = only_readout(model)
    names = [f"out{index}.final.W" for index in range(len(model.outputs_per_block))]
    kernel = readout.output_scalars.kernel
    finals = np.concatenate([reader.array(name) for name in names], axis=0)
    reader.values.append((kernel, fit(finals, kernel.shape, " + ".join(names))))
    reader.check_all_used()
    model.assign_weights(reader.values)
    return model


def _read_interaction(reader: PortedWeights, prefix: str, block: Any) -> None:
    """Assigns one interaction block."""
    layers = {
        "rbf1": block.rbf_1,
        "rbf2": block.rbf_2,
        "sbf1": block.sbf_1,
        "sbf2": block.sbf_2,
        "ji": block.own,
        "kj": block.other,
        "down": block.down,
        "up": block.up,
        "skip": block.skip,
    }
    for name, layer in layers.items():
        reader.dense(layer, f"{prefix}.{name}")
    for name, residuals in (("before", block.before), ("after", block.after)):
        for number, residual in enumerate(residuals):
            read_perceptron(reader, f"{prefix}.{name}{number}", residual.dense_1, residual.dense_2)
