"""Weights of the AlphaNet authors' program -> this package's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mlff.graph import Array
from keras_mlff.heads import EnergyHead
from keras_mlff.models.alphanet.learned_bessel import LearnedBesselBasis
from keras_mlff.models.porting.weights import ReferenceWeights, by_element, fit

# their name -> ours; the value is that program's default
_HYPERPARAMETERS: dict[str, tuple[str, Any]] = {
    "hidden_channels": ("num_features", 128),
    "num_layers": ("num_layers", 3),
    "cutoff": ("cutoff", 5.0),
    "num_radial": ("num_radial", None),
    "head": ("num_heads", 16),
    "hidden_channels_chi": ("chi_features", 96),
    "chi2": ("chi_outputs", 6),
    "mp_chi1": ("num_phases", 24),
    "main_chi1": ("state_features", 24),
    "max_num_neighbors": ("max_num_neighbors", "variant"),
    "eps": ("epsilon", None),
    "layer_norm_eps": ("norm_epsilon", 1e-5),
    "reduce_mode": ("reduce", "sum"),
    "n_z_embeddings": ("num_embeddings", 95),
    "variant": ("variant", None),
}
# what the network needs to have, or it is another network than ours
_FIXED: dict[str, tuple[Any, ...]] = {
    "readout": ("sum", "add"),
    "use_sigmoid": (False,),
    "output_dim": (1,),
    "num_targets": (1,),
}
_FLAGS = ("has_norm_before_flag", "has_norm_after_flag", "has_dropout_flag", "zbl")
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


def arguments_of(hyperparameters: Mapping[str, Any], variant: str) -> dict[str, Any]:
    """Translates hyper-parameters; those not given have the program's defaults.

    Args:
        hyperparameters: By that program's names.
        variant: Used where they do not name one.

    Raises:
        ValueError: If one is unknown, or asks for something that is not offered.
    """
    known = [*_HYPERPARAMETERS, *_FIXED, *_FLAGS, *_IGNORED]
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
        ours: hyperparameters.get(theirs, default)
        for theirs, (ours, default) in _HYPERPARAMETERS.items()
    }
    arguments["variant"] = arguments["variant"] or variant
    before = hyperparameters.get("has_norm_before_flag", True)
    after = hyperparameters.get("has_norm_after_flag", False)
    if before and after:
        raise ValueError(
            "Messages are normalized once. Received: has_norm_before_flag=True, "
            "has_norm_after_flag=True."
        )
    arguments["message_norm"] = "all" if before else "phases" if after else "none"
    arguments["zbl"] = dict(_ZBL) if hyperparameters.get("zbl", False) else False
    arguments["dropout"] = 0.5 if hyperparameters.get("has_dropout_flag", True) else 0.0
    arguments["message_epsilon"] = arguments["norm_epsilon"]
    return arguments


def build_alphanet(
    model_class: Any,
    hyperparameters: Mapping[str, Any],
    weights: Mapping[str, Array],
    **kwargs: Any,
) -> Any:
    """Builds the network; see `AlphaNet.from_reference`."""
    reader = ReferenceWeights({key.removeprefix("w:"): value for key, value in weights.items()})
    variant = "v1" if "radial_emb.bessel_weights" in reader.weights else "p"
    scales, references = (by_element(reader.array(name)) for name in ("a", "b"))
    head = EnergyHead(references=references, element_scales=scales)
    for key in ("use_phase", "use_frame_transition"):
        if not kwargs.get(key, True):
            raise ValueError(
                f"That program's weights have no place without this part. Received: {key}=False. "
                "Ablations are trained from fresh weights."
            )
    model = model_class(
        **{
            "heads": [head],
            "dtype": str(reader.array("kernel1").dtype),
            **arguments_of(hyperparameters, variant),
            **kwargs,
        }
    )
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
    reader.check_all_used()
    model.assign_weights(reader.values)
    return model


def _read_layer(reader: ReferenceWeights, model: Any, index: int) -> None:
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


def _dense(reader: ReferenceWeights, layer: Any, name: str) -> None:
    """Assigns one map, which that program stores as (out, in)."""
    kernel = np.transpose(reader.array(f"{name}.weight"))
    reader.values.append((layer.kernel, fit(kernel, layer.kernel.shape, f"{name}.weight")))
    if layer.bias is not None:
        reader.assign(layer.bias, f"{name}.bias")


def _norm(reader: ReferenceWeights, layer: Any, name: str) -> None:
    reader.assign(layer.gamma, f"{name}.weight")
    reader.assign(layer.beta, f"{name}.bias")
