"""Parameters of SO3LR -> this package's network.

SO3LR is the general force field of the So3krates authors: one network for H, C, N, O, F, P, S and
Cl, with Coulomb and dispersion terms of long range. Its parameters are not part of this package.

Reference: Kabylda et al., 2025, https://doi.org/10.1021/jacs.5c09558
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff.graph import Array
from keras_mlff.heads import EnergyHead, HirshfeldHead, PartialChargesHead
from keras_mlff.models.porting.weights import PortedWeights, by_element

ELEMENTS = (1, 6, 7, 8, 9, 15, 16, 17)
# what the authors' program does not keep among the parameters
ARGUMENTS: dict[str, Any] = {
    "degrees": (1, 2, 3, 4),
    "cutoff": 4.5,
    "neighbor_scale": 13.168995780096482,
    "radial_basis": "bernstein_so3lr",
    "variant": "so3lr",
    "charge_spin": True,
    "element_affine": True,
    "zbl": {
        "cutoff": 4.5,
        "cutoff_function": "polynomial3",
        "learned": True,
        "switch": 1.5,
        "codata": 2014,
    },
}
_CHARGES = "observables_0/electrostatic_energy/partial_charges"
_RATIOS = "observables_2"
# Classes that pickles of NumPy arrays in plain containers name
_SAFE = {
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class _Unpickler(pickle.Unpickler):
    """Makes arrays and containers alone, where a pickle could call anything."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _SAFE:
            raise ValueError(f"it holds {module}.{name}, not arrays in plain containers alone")
        return super().find_class(module, name)


def read(path: str | Path) -> dict[str, Array]:
    """Reads the arrays of a file of parameters.

    Args:
        path: An npz file of arrays by their flax paths, or a pickle of NumPy arrays in dicts, of
            which nothing else is ever made.

    Returns:
        Arrays by path, such as `"layers_0/attention_block/Wq1"`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds something else.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                found: Any = dict(file)
        else:
            with path.open("rb") as file:
                found = _Unpickler(file).load()
        arrays = dict(_flatten(found))
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever a damaged file makes of the readers
        raise ValueError(
            "The file is not one of SO3LR's parameters: params.pkl of the authors' repository, or "
            f"an npz file of its arrays by path. Received: '{path}', which cannot be read: {error}."
        ) from error
    wrong = sorted(name for name, array in arrays.items() if not np.all(np.isfinite(array)))
    if wrong:
        raise ValueError(f"Parameters are finite numbers. Received: '{path}' with NaN in {wrong}.")
    return arrays


def _flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Array]]:
    """Lists the arrays of dicts in dicts by path; the name that flax gives the root is left out."""
    if not isinstance(tree, Mapping):
        array = np.asarray(tree)
        if array.dtype.kind != "f":
            raise ValueError(f"'{prefix}' is no array of floating-point numbers")
        yield prefix.removeprefix("params/"), array
        return
    for key, value in tree.items():
        yield from _flatten(value, f"{prefix}/{key}" if prefix else str(key))


def build(
    model_class: Any, weights: Mapping[str, Array], long_range_cutoff: float, **kwargs: Any
) -> Any:
    """Builds the network of SO3LR; `So3krates.from_so3lr` calls it.

    Args:
        model_class: `So3krates` or a subclass.
        weights: Arrays by path, as `read` gives them.
        long_range_cutoff: Å, where electrostatics and dispersion end.
        **kwargs: Arguments of the constructor, which replace those of SO3LR.

    Returns:
        The model with these weights, in float32 unless `dtype` is given.

    Raises:
        ValueError: If a weight is missing, unknown or misshapen.
    """
    reader = PortedWeights(weights)
    width = reader.array("feature_embeddings_0/Embed_0/embedding").shape[-1]
    radial = reader.array("layers_0/attention_block/radial_filter1_layer_1/kernel").shape
    spherical = reader.array("layers_0/attention_block/spherical_filter1_layer_1/kernel").shape
    heads = [
        EnergyHead(),
        PartialChargesHead(references=by_element(reader.array(f"{_CHARGES}/Embed_0/embedding"))),
        HirshfeldHead(references=by_element(reader.array(f"{_RATIOS}/Embed_0/embedding"))),
    ]
    long_range = {"cutoff": long_range_cutoff, "codata": 2014}
    sizes = {
        "num_features": width,
        "num_layers": 1 + max(_layer_numbers(weights)),
        "num_heads": len(reader.array("layers_0/attention_block/Wq1")),
        "num_radial": radial[0],
        "radial_hidden": (radial[1],),
        "spherical_hidden": (spherical[1],),
    }
    physics = {"long_range": long_range | {"electrostatics": True, "dispersion": True}}
    arguments = {"dtype": "float32", **ARGUMENTS, **sizes, **physics, "heads": heads, **kwargs}
    model = model_class(**arguments)
    _assign(reader, model)
    reader.check_all_used()
    model.assign_weights(reader.values)
    return model


def _layer_numbers(weights: Mapping[str, Array]) -> Iterator[int]:
    for name in weights:
        first, _, _ = name.partition("/")
        if first.startswith("layers_") and first.removeprefix("layers_").isdigit():
            yield int(first.removeprefix("layers_"))


def _assign(reader: PortedWeights, model: Any) -> None:
    reader.assign(model.embedding.embeddings, "feature_embeddings_0/Embed_0/embedding")
    for place, maps in enumerate(model.charge_spin.maps):
        name = f"feature_embeddings_{place + 1}/ChargeSpinEmbedSparse_0"
        for number, variables in enumerate(
            (model.charge_spin.queries, model.charge_spin.keys, model.charge_spin.values)
        ):
            reader.assign(variables[place], f"{name}/Embed_{number}/embedding")
        for number, layer in enumerate(maps):
            reader.assign(layer.kernel, f"{name}/Residual_0/layers_{number}/kernel")
    for index, interaction in enumerate(model.interactions):
        _assign_layer(reader, f"layers_{index}", interaction)
    energy, charges, ratios = model.readouts
    _dense(reader, energy.hidden, "observables_0/energy_dense_regression")
    _dense(reader, energy.output_scalars, "observables_0/energy_dense_final")
    reader.assign(model.element_affine.factors, "observables_0/atomic_scales")
    reader.assign(model.element_affine.terms, "observables_0/energy_offset")
    _dense(reader, charges.hidden, f"{_CHARGES}/charge_dense_regression_vec")
    _dense(reader, charges.output_scalars, f"{_CHARGES}/charge_dense_final_vec")
    _dense(reader, ratios.hidden, f"{_RATIOS}/hirshfeld_ratios_dense_regression")
    _dense(reader, ratios.outputs, f"{_RATIOS}/hirshfeld_ratios_dense_final")
    table = reader.array(f"{_RATIOS}/Embed_1/embedding")
    rows = np.zeros(tuple(ratios.table.shape), table.dtype)
    rows[: len(table)] = table
    reader.values.append((ratios.table, rows))
    _assign_repulsion(reader, model.repulsion)


def _assign_layer(reader: PortedWeights, name: str, interaction: Any) -> None:
    """Assigns attention, exchange, norms and perceptron of one layer."""
    block, attention = f"{name}/attention_block", interaction.attention
    for parallel, kind in (
        (attention.filters.radial, "radial"),
        (attention.filters.spherical, "spherical"),
    ):
        _dense(reader, parallel.first, *(f"{block}/{kind}_filter{k}_layer_1" for k in (1, 2)))
        for k, (last,) in enumerate(parallel.chains, start=1):
            _dense(reader, last, f"{block}/{kind}_filter{k}_layer_2")
    for maps, letters in (
        (attention.feature_maps, ("Wq1", "Wk1", "Wv1")),
        (attention.coordinate_maps, ("Wq2", "Wk2")),
    ):
        # theirs are (head, out, in)
        values = [reader.array(f"{block}/{letter}").swapaxes(1, 2) for letter in letters]
        reader.values.append((maps.kernel, np.concatenate(values, axis=2)))
    _dense(reader, interaction.mix, f"{name}/exchange_block/mlp_layer_2")
    for place, norm in enumerate(interaction.feature_norms, start=1):
        reader.assign(norm.gamma, f"{name}/layer_normalization_{place}/scale")
        reader.assign(norm.beta, f"{name}/layer_normalization_{place}/bias")
    for place, layer in enumerate(interaction.after_norm[0].maps, start=1):
        _dense(reader, layer, f"{name}/res_mlp_1_layer_{place}")


def _assign_repulsion(reader: PortedWeights, repulsion: Any) -> None:
    """Assigns the screening of nuclei; theirs has the inverse of our length."""
    theirs = {
        key: reader.array(f"observables_0/zbl_repulsion/{key}").astype(np.float64)
        for key in (*(f"{letter}{k}" for letter in "ac" for k in (1, 2, 3, 4)), "p", "d")
    }
    length = 1.0 / np.log1p(np.exp(theirs["d"]))
    weights, rates, own_length, power = repulsion.constants
    for variable, letter in ((weights, "c"), (rates, "a")):
        values = np.concatenate([theirs[f"{letter}{k}"] for k in (1, 2, 3, 4)])
        reader.values.append((variable, values))
    reader.values += [(own_length, np.log(np.expm1(length))), (power, theirs["p"])]


def _dense(reader: PortedWeights, layer: Any, *names: str) -> None:
    """Assigns one map; several names lie side by side in it."""
    reader.assign(layer.kernel, *(f"{name}/kernel" for name in names))
    reader.assign(layer.bias, *(f"{name}/bias" for name in names))
