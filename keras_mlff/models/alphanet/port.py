"""Weights of the AlphaNet authors' program -> this package's network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mlff.graph import Array
from keras_mlff.heads import EnergyHead
from keras_mlff.models.alphanet.learned_bessel import LearnedBesselBasis
from keras_mlff.models.alphanet.variant import VARIANTS, AlphaNetVariant
from keras_mlff.models.porting.weights import PortedWeights, by_element, fit
from keras_mlff.models.variants import choose

# their name -> our argument; the value is that program's default
_ARGUMENTS: dict[str, tuple[str, Any]] = {
    "hidden_channels": ("num_features", 128),
    "num_layers": ("num_layers", 3),
    "cutoff": ("cutoff", 5.0),
    "num_radial": ("num_radial", None),
    "head": ("num_heads", 16),
    "hidden_channels_chi": ("chi_features", 96),
    "chi2": ("chi_outputs", 6),
    "mp_chi1": ("num_phases", 24),
    "main_chi1": ("state_features", 24),
}
# their name -> our field of the variant; `None` leaves it to the named variant
_SWITCHES: dict[str, tuple[str, Any]] = {
    "eps": ("epsilon", None),
    "layer_norm_eps": ("norm_epsilon", 1e-5),
    "reduce_mode": ("reduce", "sum"),
    "n_z_embeddings": ("num_embeddings", 95),
}
# what the network needs to have, or it is another network than ours
_FIXED: dict[str, tuple[Any, ...]] = {
    "readout": ("sum", "add"),
    "use_sigmoid": (False,),
    "output_dim": (1,),
    "num_targets": (1,),
}
_OTHERS = (
    "variant",
    "max_num_neighbors",
    "has_norm_before_flag",
    "has_norm_after_flag",
    "has_dropout_flag",
    "zbl",
)
_ZBL = {"cutoff": 1.0, "screening": "alphanet", "cutoff_function": "cosine"}
# what does not change the energy
_IGNORED = (
    "seed",
    "n_ab",
    "name",
    "compute_forces",
    "compute_stress",
    "use_pbc",
    "device",
    "dtype",
)


def build(
    model_class: Any,
    hyperparameters: Mapping[str, Any],
    weights: Mapping[str, Array],
    **kwargs: Any,
) -> Any:
    """Builds the authors' network; `AlphaNet.from_port` calls it.

    Args:
        model_class: `AlphaNet` or a subclass.
        hyperparameters: By the names of that program; those not given have its defaults.
            `hidden_channels`, `num_layers`, `cutoff`, `num_radial`, `head`, `hidden_channels_chi`,
            `chi2`, `mp_chi1` and `main_chi1` are arguments of `AlphaNet`, in this order
            `num_features`, `num_layers`, `cutoff`, `num_radial`, `num_heads`, `chi_features`,
            `chi_outputs`, `num_phases` and `state_features`. `max_num_neighbors`, `eps`,
            `layer_norm_eps`, `reduce_mode`, `n_z_embeddings`, `has_norm_before_flag` and
            `has_norm_after_flag` are fields of `AlphaNet.Variant`. `has_dropout_flag` and `zbl` are
            flags. `variant` is `"p"`, `"v1"` or `"v2"`; if it is not given, the weights tell
            whether it is `"p"` or `"v1"`.
        weights: Arrays by that program's names, a prefix `w:` allowed.
        **kwargs: Arguments of the constructor, which replace those of the hyper-parameters. The
            name of a `variant` replaces the name alone.

    Returns:
        The model with these weights, in their precision unless `dtype` is given. Its energy head
        has the program's factors `a` and terms `b` of each element.

    Raises:
        ValueError: If a hyper-parameter or weight is unknown, missing or misshapen, or if the
            network would leave out a part that has weights.
    """
    reader = PortedWeights({key.removeprefix("w:"): value for key, value in weights.items()})
    variant = "v1" if "radial_emb.bessel_weights" in reader.weights else "p"
    missing = sorted({"phase", "frame_transition"} & set(kwargs.get("without", ())))
    if missing:
        raise ValueError(
            "That program's weights have no place without these parts. Received: "
            f"without={missing}. Ablations are trained from fresh weights."
        )
    if isinstance(kwargs.get("variant"), str):
        hyperparameters = {**hyperparameters, "variant": kwargs.pop("variant")}
    scales, references = (by_element(reader.array(name)) for name in ("a", "b"))
    head = EnergyHead(references=references, element_scales=scales)
    model = model_class(
        **{
            "heads": [head],
            "dtype": str(reader.array("kernel1").dtype),
            **arguments_of(hyperparameters, variant),
            **kwargs,
        }
    )
    _read_model(reader, model)
    reader.check_all_used()
    model.assign_weights(reader.values)
    return model


def arguments_of(hyperparameters: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """Translates hyper-parameters into arguments of `AlphaNet`.

    Args:
        hyperparameters: By that program's names, see `build`; those not given have its defaults.
        variant: Name of the variant where they do not say.

    Returns:
        Arguments of the constructor.

    Raises:
        ValueError: If a name is unknown, or asks for something that is not offered.
    """
    known = [*_ARGUMENTS, *_SWITCHES, *_FIXED, *_OTHERS, *_IGNORED]
    unknown = sorted(set(hyperparameters) - set(known))
    if unknown:
        raise ValueError(
            f"Unknown hyper-parameters of the AlphaNet program. Received: {unknown}. "
            f"Known: {sorted(known)}."
        )
    for key, offered in _FIXED.items():
        value = hyperparameters.get(key, offered[0])
        if value not in offered:
            raise ValueError(
                f"Not offered of the AlphaNet program. Received: {key}={value!r}, "
                f"offered: {offered}."
            )
    arguments = {
        ours: hyperparameters.get(theirs, default) for theirs, (ours, default) in _ARGUMENTS.items()
    }
    arguments["dropout"] = 0.5 if hyperparameters.get("has_dropout_flag", True) else 0.0
    arguments["zbl"] = dict(_ZBL) if hyperparameters.get("zbl", False) else False
    arguments["variant"] = _variant_of(hyperparameters, variant)
    return arguments


def _variant_of(hyperparameters: Mapping[str, Any], variant: str) -> AlphaNetVariant:
    """Makes the variant that hyper-parameters ask for, starting from a named one."""
    before = hyperparameters.get("has_norm_before_flag", True)
    after = hyperparameters.get("has_norm_after_flag", False)
    if before and after:
        raise ValueError(
            "Messages are normalized once. Received: has_norm_before_flag=True, "
            "has_norm_after_flag=True."
        )
    given = {
        ours: hyperparameters.get(theirs, default) for theirs, (ours, default) in _SWITCHES.items()
    }
    switches = {name: value for name, value in given.items() if value is not None}
    if "max_num_neighbors" in hyperparameters:
        switches["max_num_neighbors"] = hyperparameters["max_num_neighbors"]
    return dataclasses.replace(
        choose(VARIANTS, hyperparameters.get("variant") or variant),
        message_norm="all" if before else "phases" if after else "none",
        message_epsilon=switches["norm_epsilon"],
        **switches,
    )


def _read_model(reader: PortedWeights, model: Any) -> None:
    """Assigns what belongs to no layer, then each layer."""
    reader.assign(model.embedding.embeddings, "z_emb.weight")
    reader.assign(model.neighbor_embedding.embeddings, "neighbor_emb.embedding.weight")
    if isinstance(model.radial_basis, LearnedBesselBasis):
        reader.assign(model.radial_basis.frequencies, "radial_emb.bessel_weights")
    reader.assign(model.start_map.kernel, "kernel1")
    for layer, name in (
        (model.radial_hidden, "radial_lin.0"),
        (model.radial_filter, "radial_lin.2"),
        (model.structure_map, "S_vector.lin1.0"),
        (model.scalarization.hidden, "lin.0"),
        (model.scalarization.output_map, "lin.2"),
        (model.readouts[0].from_features, "last_layer"),
        (model.readouts[0].from_state, "last_layer_quantum"),
    ):
        _dense(reader, layer, name)
    for index in range(model.num_layers):
        _read_layer(reader, model, index)


def _read_layer(reader: PortedWeights, model: Any, index: int) -> None:
    """Assigns messages, state and frame transition of one layer."""
    interaction = model.interactions[index]
    prefix, phases = f"message_layers.{index}", interaction.phase_message
    for layer, name in (
        (interaction.atom_hidden, "x_proj.0"),
        (interaction.atom_output, "x_proj.2"),
        (interaction.radial_map, "rbf_proj"),
        (interaction.edge_hidden, "dir_proj.0"),
        (interaction.edge_output, "dir_proj.2"),
        (interaction.angle_map, "scale2.0"),
        (phases.heads_map, "scale"),
        (phases.gate_hidden, "diagonal.0"),
        (phases.gate_output, "diagonal.2"),
        (phases.diagonal_map, "dia"),
        (phases.phase_map, "fc_mps"),
    ):
        _dense(reader, layer, f"{prefix}.{name}")
    _norm(reader, interaction.normalization, f"{prefix}.x_layernorm")
    if interaction.sum_normalization is not None:
        _norm(reader, interaction.sum_normalization, f"{prefix}.dx_layer_norm")
    reader.assign(phases.diagonal, f"{prefix}.diachi1")
    reader.assign(phases.kernel_real, f"{prefix}.kernel_real")
    reader.assign(phases.kernel_imag, f"{prefix}.kernel_imag")
    # made by that program and never read
    unread = [f"{prefix}.{name}" for name in ("unitary", "fc_dx.weight", "fc_dx.bias")]
    if interaction.sum_normalization is None:
        unread += [f"{prefix}.dx_layer_norm.{name}" for name in ("weight", "bias")]
    reader.used |= set(unread) & set(reader.weights)
    connection = model.connections[index]
    for kernel, name in (
        (connection.kernel_real, "kernels_real"),
        (connection.kernel_imag, "kernels_imag"),
    ):
        reader.values.append((kernel, fit(reader.array(name)[index], kernel.shape, name)))
    transition = model.transitions[index]
    _dense(reader, transition.vector_maps, f"FTEs.{index}.vec_proj")
    _dense(reader, transition.hidden, f"FTEs.{index}.xvec_proj.0")
    _dense(reader, transition.outputs, f"FTEs.{index}.xvec_proj.2")


def _dense(reader: PortedWeights, layer: Any, name: str) -> None:
    """Assigns one map, which that program stores as (out, in)."""
    kernel = np.transpose(reader.array(f"{name}.weight"))
    reader.values.append((layer.kernel, fit(kernel, layer.kernel.shape, f"{name}.weight")))
    if layer.bias is not None:
        reader.assign(layer.bias, f"{name}.bias")


def _norm(reader: PortedWeights, layer: Any, name: str) -> None:
    """Assigns one layer normalization."""
    reader.assign(layer.gamma, f"{name}.weight")
    reader.assign(layer.beta, f"{name}.bias")
