"""Weights of the authors' CMRET program -> this package's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_mlff.graph import Array
from keras_mlff.heads import (
    DipoleHead,
    EnergyHead,
    Head,
    PolarizabilityHead,
    SpatialExtentHead,
)
from keras_mlff.models.cmret.variant import VARIANTS
from keras_mlff.models.porting.weights import PortedWeights
from keras_mlff.models.variants import gather_switches

# their name -> ours; the value is that program's default
_HYPERPARAMETERS: dict[str, tuple[str, Any]] = {
    "n_atom_basis": ("num_features", 128),
    "n_features": ("num_features", 128),
    "n_kernel": ("num_radial", 50),
    "n_rbf": ("num_radial", 50),
    "n_interaction": ("num_layers", 6),
    "n_interactions": ("num_layers", 6),
    "num_head": ("num_heads", 4),
    "n_heads": ("num_heads", 4),
    "temperature_coeff": ("temperature_coeff", 2.0),
    "n_output": ("num_output_blocks", 2),
    "n_output_blocks": ("num_output_blocks", 2),
    "cutoff": ("cutoff", 5.0),
    "rbf": ("radial_basis", "gaussian"),
    "rbf_type": ("radial_basis", "gaussian"),
    "attention_activation": ("attention_activation", "softmax"),
    "attention": ("attention_activation", "softmax"),
    "charge_spin": ("charge_spin_channels", "vector"),
    "norm_mode": ("norm_mode", "component_shift"),
}
_HEADS: dict[str, Any] = {
    "scalar": EnergyHead,
    "dipole": DipoleHead,
    "alpha": PolarizabilityHead,
    "r2": SpatialExtentHead,
}
_IGNORED = ("arch", "max_neighbours", "max_neighbors")


def arguments_of(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Translates hyper-parameters; those not given have the program's defaults.

    Args:
        hyperparameters: Settings by the names that `build` lists.

    Returns:
        Arguments of the constructor, and switches of the variant beside them.

    Raises:
        ValueError: If one is unknown, or asks for something that is not offered.
    """
    arguments = dict(_HYPERPARAMETERS.values())
    for key, value in hyperparameters.items():
        if key in _IGNORED:
            if key != "arch" and value is not None:
                raise ValueError(
                    "A limit of neighbors makes the energy jump and is not offered. "
                    f"Received: {key}={value}. Pass None."
                )
        elif key in _HYPERPARAMETERS:
            arguments[_HYPERPARAMETERS[key][0]] = value
        else:
            raise ValueError(
                f"Unknown hyper-parameter of the CMRET program. Received: '{key}'. "
                f"Known: {sorted(_HYPERPARAMETERS)}."
            )
    for key in ("radial_basis", "attention_activation"):
        arguments[key] = str(arguments[key]).lower()
    return arguments


def build(
    model_class: Any,
    hyperparameters: Mapping[str, Any],
    weights: Mapping[str, Array],
    **kwargs: Any,
) -> Any:
    """Builds the network of the authors' program; called by `CMRET.from_port`.

    Hyper-parameters are `n_atom_basis` (or `n_features`), `n_kernel` (`n_rbf`), `n_interaction`
    (`n_interactions`), `num_head` (`n_heads`), `temperature_coeff`, `n_output` (`n_output_blocks`),
    `cutoff`, `rbf` (`rbf_type`) and `attention_activation` (`attention`). Two more name what the
    program always does, for comparison with other ways: `charge_spin`, `"vector"` unless it is one
    of `charge_spin_channels`, and `norm_mode`, `"component_shift"` unless it or the channels say
    otherwise: invariant channels, which the program has not, get `"smooth"`.

    Args:
        model_class: `CMRET` or a class derived from it.
        hyperparameters: Settings by the names above; those not given have the program's defaults.
        weights: Arrays by the names `embed`, `rbf.centers`, `rbf.betas`, `layer0.filter_self`,
            `filter_nbr`, `phi`, `mix`, `q`, `k`, `v`, `O`, `U`, `res1`, `res2`, `norm.gamma`,
            `norm.beta`, `head_scalar.block0.Vu`, `Vv`, `mlp1`, `mlp2`, `head_scalar.out`,
            `head_dipole.out_s`, `out_v` (also `head_alpha`, `head_r2`), with `.W` and `.b` behind.
            Matrices are (in, out). Heads are made for the weights that are there.
        **kwargs: Replace arguments of the constructor.

    Returns:
        The model.

    Raises:
        ValueError: If a hyper-parameter or weight is unknown, missing or misshapen.
    """
    reader = PortedWeights(weights)
    weights = reader.weights
    present = [name for name in _HEADS if any(f"head_{name}." in key for key in weights)]
    arguments = {"heads": [_HEADS[name]() for name in present], **arguments_of(hyperparameters)}
    arguments |= {"dtype": str(reader.array("embed.W").dtype)} | kwargs
    if "invariant" in arguments["charge_spin_channels"] and "norm_mode" not in hyperparameters:
        # not that program's modes: its shift would break the invariance they are there for
        arguments["norm_mode"] = "smooth"
    arguments.pop("variant", None)
    arguments = gather_switches(arguments, VARIANTS, renamed={}, changes={}) | kwargs
    if arguments.get("attention") == "projected" or "distance_encoding" in arguments:
        raise ValueError(
            "That program's weights have no place with attention='projected' or "
            f"distance_encoding. Received: {sorted(kwargs)}."
        )
    model = model_class(**arguments)
    if len(model.heads) != len(present):
        raise ValueError(
            f"The weights are those of the heads {present}. Received: {len(model.heads)} `heads`."
        )
    reader.dense(model.embedding.dense, "embed")
    if arguments["radial_basis"] == "gaussian":
        reader.assign(model.radial_basis.centers, "rbf.centers")
        reader.assign(model.radial_basis.betas, "rbf.betas")
    for index, interaction in enumerate(model.interactions):
        layer = f"layer{index}"
        reader.dense(interaction.filters, f"{layer}.filter_self", f"{layer}.filter_nbr")
        reader.dense(interaction.phi, f"{layer}.phi")
        reader.dense(interaction.mix, f"{layer}.mix")
        attention = interaction.attention
        if attention is not None:
            reader.dense(attention.query_key_value, f"{layer}.q", f"{layer}.k", f"{layer}.v")
        reader.dense(interaction.update, f"{layer}.O")
        reader.dense(interaction.vector_maps, f"{layer}.U")
        if interaction.residual_mlp:
            reader.dense(interaction.residual_1, f"{layer}.res1")
            reader.dense(interaction.residual_2, f"{layer}.res2")
    reader.assign(model.normalization.gamma, "norm.gamma")
    reader.assign(model.normalization.beta, "norm.beta")
    for name, head, readout in zip(present, model.heads, model.readouts, strict=True):
        _read_head(reader, f"head_{name}", head, readout)
    reader.check_all_used()
    model.assign_weights(reader.values)
    return model


def _read_head(reader: PortedWeights, prefix: str, head: Head, readout: Any) -> None:
    """Assigns the gated blocks and the last maps of one head."""
    for index, block in enumerate(readout.blocks):
        name = f"{prefix}.block{index}"
        reader.dense(block.vector_maps, f"{name}.Vu", f"{name}.Vv")
        reader.dense(block.hidden, f"{name}.mlp1")
        reader.dense(block.outputs, f"{name}.mlp2")
    scalars = f"{prefix}.out" if head.is_differentiated else f"{prefix}.out_s"
    reader.dense(readout.output_scalars, scalars)
    if readout.output_vectors is not None:
        reader.dense(readout.output_vectors, f"{prefix}.out_v")
