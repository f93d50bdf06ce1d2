"""Weights of the So3krates authors' program (mlff, v0.1) -> this package's network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mlff.graph import MAX_ATOMIC_NUMBER, Array
from keras_mlff.heads import EnergyHead
from keras_mlff.models.porting.weights import PortedWeights, by_element, only_readout
from keras_mlff.models.so3krates.variant import VARIANTS

# their name -> our argument; the value is that program's default
_ARGUMENTS: dict[str, tuple[str, Any]] = {
    "features": ("num_features", 132),
    "degrees": ("degrees", (1, 2, 3)),
    "n_layers": ("num_layers", 6),
    "n_heads": ("num_heads", 4),
    "n_rbf": ("num_radial", 32),
    "r_cut": ("cutoff", 5.0),
    "activation": ("activation", "silu"),
}
# their name -> our field of the variant
_SWITCHES: dict[str, tuple[str, Any]] = {
    "parity": ("parity", False),
    "feature_layer_norm": ("feature_layer_norm", False),
    "sphc_layer_norm": ("coordinate_layer_norm", False),
    "layer_norm_eps": ("layer_norm_epsilon", 1e-6),
    "chi_cut_polynomial_p": ("reach_exponent", 6),
    "num_embeddings": ("num_embeddings", 100),
}
_RADIAL_BASES = {
    "phys": "fixed_exponential",
    "gaussian": "fixed_gaussian",
    "bessel": "bessel_from_zero",
    "bernstein": "bernstein",
}
_CUTOFFS = {"cosine_cutoff_fn": "cosine"}
_SPHERICAL = "filter_fn/VmapMLP_1"
_OTHERS = (
    "rad_filter",
    "sph_filter",
    "radial_basis",
    "cutoff_fn",
    "scale",
    "shift",
    "nonlocal",
    "chi_cut",
    "weight_seed",
)


def build(
    model_class: Any,
    hyperparameters: Mapping[str, Any],
    weights: Mapping[str, Array],
    **kwargs: Any,
) -> Any:
    """Builds the authors' network; `So3krates.from_port` calls it.

    Args:
        model_class: `So3krates` or a subclass.
        hyperparameters: By the names of that program; those not given have its defaults.
            `features`, `degrees`, `n_layers`, `n_heads`, `n_rbf`, `r_cut`, `radial_basis` and
            `activation` are arguments of `So3krates`. `rad_filter` and `sph_filter` list the widths
            of the filters, the last one that of the features; `sph_filter=None` is the ablation
            without filters of coordinates. `parity`, `feature_layer_norm`, `sphc_layer_norm`,
            `layer_norm_eps`, `chi_cut_polynomial_p`, `num_embeddings` and `cutoff_fn` are fields of
            `So3krates.Variant`. `nonlocal` says whether there are non-local neighbors, and
            `chi_cut` gives them a fixed limit. `scale` and `shift` are factors and terms of the
            energy, one for all elements, a list by atomic number or a dict.
        weights: Arrays by their flax paths, a prefix `w:` allowed.
        **kwargs: Arguments of the constructor, which replace those of the hyper-parameters.

    Returns:
        The model with these weights, in their precision unless `dtype` is given.

    Raises:
        ValueError: If a hyper-parameter or weight is unknown, missing or misshapen, or heads and
            encodings are asked for that the weights do not belong to.
    """
    weights = {key.removeprefix("w:"): np.asarray(value) for key, value in weights.items()}
    arguments = arguments_of(hyperparameters)
    arguments |= kwargs
    if arguments["spherical_hidden"] is not None and not any(_SPHERICAL in key for key in weights):
        raise ValueError(
            "The weights have no filters of coordinates "
            f"(`{_SPHERICAL}`), an ablation of the paper. Received: hyper-parameters with them. "
            "Pass `sph_filter=None`."
        )
    if kwargs.get("distance_encoding") is not None:
        raise ValueError(
            "That program's weights have no place with distance_encoding. Received: "
            f"distance_encoding={kwargs['distance_encoding']!r}."
        )
    dtype = str(next(iter(weights.values())).dtype) if weights else None
    head = _energy_head(hyperparameters, kwargs)
    model = model_class(**{"heads": [head], "dtype": dtype, **arguments})
    readout = only_readout(model)
    if not model.heads[0].is_differentiated:
        raise ValueError(
            f"The weights are those of an energy. Received: heads={[h.name for h in model.heads]}."
        )
    reader = PortedWeights(weights)
    reader.assign(model.embedding.embeddings, "feature_embeddings_0/Embed_0/embedding")
    for index, interaction in enumerate(model.interactions):
        _read_layer(reader, f"layers_{index}", interaction)
    _dense(reader, readout.hidden, "observables_0/MLP_0/layers_0")
    _dense(reader, readout.output_scalars, "observables_0/MLP_0/layers_1")
    reader.check_all_used()
    model.assign_weights(reader.values)
    return model


def arguments_of(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Translates hyper-parameters into arguments of `So3krates`.

    Args:
        hyperparameters: By that program's names, see `build`; those not given have its defaults.

    Returns:
        Arguments of the constructor.

    Raises:
        ValueError: If a name is unknown, or asks for something that is not offered.
    """
    known = [*_ARGUMENTS, *_SWITCHES, *_OTHERS]
    unknown = sorted(set(hyperparameters) - set(known))
    if unknown:
        raise ValueError(
            f"Unknown hyper-parameters of the So3krates program. Received: {unknown}. "
            f"Known: {sorted(known)}."
        )
    given = {key: value for key, value in hyperparameters.items() if value is not None}
    arguments = {ours: given.get(theirs, default) for theirs, (ours, default) in _ARGUMENTS.items()}
    switches = {ours: given.get(theirs, default) for theirs, (ours, default) in _SWITCHES.items()}
    switches["cutoff_function"] = _pick(_CUTOFFS, given.get("cutoff_fn", "cosine_cutoff_fn"))
    arguments["variant"] = dataclasses.replace(VARIANTS["paper"], reach_in_float32=True, **switches)
    arguments["radial_basis"] = _pick(_RADIAL_BASES, given.get("radial_basis", "phys"))
    arguments["nonlocal_"] = given.get("nonlocal", "chi_cut" in given)
    if arguments["nonlocal_"] and given.get("chi_cut", "1/n") != "1/n":
        arguments["nonlocal_"] = float(given["chi_cut"])
    return arguments | _filters(hyperparameters, arguments["num_features"])


def _filters(hyperparameters: Mapping[str, Any], width: int) -> dict[str, Any]:
    """Translates the widths of filters, of which those of coordinates can be left out."""
    radial = hyperparameters.get("rad_filter", [128, width])
    if not radial:
        raise ValueError(
            "Of the So3krates program's filters only those of coordinates can be left out "
            "(`sph_filter=None`, an ablation of the paper); what its attention is without filters "
            f"of distances is not known. Received: rad_filter={radial}. Leave it out for the "
            "program's default, or give widths."
        )
    # given as null or empty: the ablation without spherical filters
    spherical = hyperparameters.get("sph_filter", [32, width])
    return {
        "radial_hidden": _hidden(radial, width, "rad_filter"),
        "spherical_hidden": _hidden(spherical, width, "sph_filter") if spherical else None,
    }


def _energy_head(hyperparameters: Mapping[str, Any], kwargs: Mapping[str, Any]) -> EnergyHead:
    """Makes the head that has the program's factors and terms of each element."""
    scales = _by_element(hyperparameters.get("scale"))
    shifts = _by_element(hyperparameters.get("shift"))
    if "heads" in kwargs and (scales or shifts):
        raise ValueError(
            "`scale` and `shift` belong to the energy head. Received: hyper-parameters with them, "
            "and `heads`. Give them to the head (`element_scales`, `references`) and leave them "
            "out of the hyper-parameters."
        )
    return EnergyHead(references=shifts, element_scales=scales)


def _read_layer(reader: PortedWeights, layer: str, interaction: Any) -> None:
    """Assigns the filters, attention, exchange and norms of one layer."""
    blocks = [f"{layer}/{name}_0" for name in ("FeatureBlock", "GeometricBlock")]
    attention = interaction.attention
    perceptrons = [attention.filters.radial, attention.filters.spherical]
    for number, parallel in enumerate(item for item in perceptrons if item is not None):
        names = [f"{block}/filter_fn/VmapMLP_{number}" for block in blocks]
        _dense(reader, parallel.first, *(f"{name}/layers_0" for name in names))
        for name, chain in zip(names, parallel.chains, strict=True):
            for place, dense in enumerate(chain):
                _dense(reader, dense, f"{name}/layers_{place + 1}")
    for block, maps in zip(
        blocks, (attention.feature_maps, attention.coordinate_maps), strict=True
    ):
        coefficients = f"{block}/attention_fn/VmapConvAttentionCoefficients_0"
        names = [f"{coefficients}/Dense_0", f"{coefficients}/Dense_1"]
        if maps is attention.feature_maps:
            names.append(f"{block}/attention_fn/VmapAttentionAggregation_0/Dense_0")
        _dense(reader, maps, *names)
    exchange = f"{layer}/InteractionBlock_0"
    reader.assign(interaction.coupling.kappa, f"{exchange}/selfmix/params")
    _dense(reader, interaction.mix, f"{exchange}/MLP_0/layers_0")
    _dense(reader, interaction.mix_coupled, f"{exchange}/MLP_1/layers_0")
    for place, norm in enumerate(interaction.feature_norms):
        reader.assign(norm.gamma, f"{layer}/LayerNorm_{place}/scale")
        reader.assign(norm.beta, f"{layer}/LayerNorm_{place}/bias")
    for place, norm in enumerate(interaction.coordinate_norms):
        reader.assign(norm.scale, f"{layer}/SPHCLayerNorm_{place}/scale_weight")


def _dense(reader: PortedWeights, layer: Any, *names: str) -> None:
    """Assigns one map, of heads or not; several names lie side by side in it."""
    reader.assign(layer.kernel, *(f"{name}/kernel" for name in names))
    if layer.bias is not None:
        reader.assign(layer.bias, *(f"{name}/bias" for name in names))


def _hidden(widths: Any, num_features: int, name: str) -> tuple[int, ...]:
    """Takes the last width away, which must be that of the features."""
    if not widths or widths[-1] != num_features:
        raise ValueError(
            f"The filter's last width must be that of the features. Received: {name}={widths}, "
            f"features={num_features}."
        )
    return tuple(widths[:-1])


def _pick(known: Mapping[str, str], name: str) -> str:
    """Translates one word, which must be known."""
    if name not in known:
        raise ValueError(
            f"Not offered of the So3krates program. Received: '{name}'. Choose from {list(known)}."
        )
    return known[name]


def _by_element(values: Any) -> dict[int, float]:
    """Reads values by atomic number: a list that begins at 0, or a dict; or one for all."""
    if values is None:
        return {}
    if isinstance(values, Mapping):
        return {int(number): float(value) for number, value in values.items()}
    if np.size(values) == 1:
        return dict.fromkeys(range(1, MAX_ATOMIC_NUMBER + 1), float(np.ravel(values)[0]))
    return by_element(values)
