"""Spherical harmonic coordinates of So3krates, layer by layer (figure 1e of the paper).

The coordinates q of an atom are the coefficients of a function on the sphere, the sum over orders
of q_m Y_m: where it is large, the atom has met others, at first its neighbors, in later layers what
these have met. It is drawn on a map of all directions, with dots where neighbors are.

Run: python recipes/studies/so3krates_coordinates.py --preset=so3krates/md17_ethanol --atoms 0 2
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mlff import cli, models, plots, publish
from keras_mlff.graph import Array, Graph
from keras_mlff.models.so3krates import spherical_harmonics as harmonics
from keras_mlff.neighbors import add_edges

LONGITUDES, LATITUDES = np.linspace(-np.pi, np.pi, 73), np.linspace(-0.5 * np.pi, 0.5 * np.pi, 37)


def main(
    preset: str = "so3krates/md17_ethanol",
    data: str = "",
    split: str = "all[:1]",
    atoms: tuple[int, ...] = (0, 2),
    folder: str = "runs/so3krates_coordinates",
) -> dict[str, Any]:
    """Draws the coordinates of some atoms before and after each layer.

    Args:
        preset: Name or folder of a So3krates.
        data: File with the structure; that of the preset's reference where empty.
        split: Which structure of the file; the first is taken.
        atoms: Which atoms, by their place in the structure.
        folder: Receives `coordinates.png`.

    Returns:
        Largest value of the drawn functions, by atom and layer, the start first.
    """
    model = models.load_preset(preset)
    if not isinstance(model, models.So3krates):
        raise TypeError(f"Only So3krates has such coordinates. Received: preset='{preset}'.")
    assert model.preset is not None
    molecule = publish.example_structure(model.preset, data, split)
    wrong = [atom for atom in atoms if not 0 <= atom < len(molecule["atomic_numbers"])]
    if wrong or not atoms:
        raise ValueError(
            f"`atoms` counts from 0 to {len(molecule['atomic_numbers']) - 1}. Received: {atoms}."
        )
    maps = on_sphere(model, molecule)
    figure = draw(maps[:, list(atoms)], molecule, atoms, model.cutoff)
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.savefig(Path(folder, "coordinates.png"), dpi=120)
    return {str(atom): np.abs(maps[:, atom]).max(axis=(1, 2)).tolist() for atom in atoms}


def on_sphere(model: models.So3krates, molecule: Graph) -> Array:
    """Computes sum q_m Y_m of each atom on the map, before and after each layer.

    Returns:
        `(num_layers + 1, num_atoms, num_latitudes, num_longitudes)`.
    """
    inside = model.inspect(molecule)
    names = ["coordinates", *(f"layer{index}/coordinates" for index in range(model.num_layers))]
    longitudes, latitudes = np.meshgrid(LONGITUDES, LATITUDES)
    directions = np.stack(
        [
            np.cos(latitudes) * np.cos(longitudes),
            np.cos(latitudes) * np.sin(longitudes),
            np.sin(latitudes),
        ],
        axis=-1,
    )
    if model.variant.direction == "receiver_minus_sender":
        directions = -directions
    values = keras.ops.convert_to_numpy(
        harmonics.spherical_harmonics(
            keras.ops.convert_to_tensor(directions.reshape(-1, 3), "float32"), model.degrees
        )
    )
    number = len(molecule["atomic_numbers"])
    maps = [inside[name][:number] @ values.T for name in names]
    return np.stack(maps).reshape(len(names), number, *longitudes.shape)


def draw(maps: Array, molecule: Graph, atoms: tuple[int, ...], cutoff: float) -> Any:
    """Draws maps `(num_layers + 1, num_chosen, ...)`, a row for each atom, and its neighbors."""
    graph = add_edges(molecule, cutoff)
    vectors = graph["positions"][graph["senders"]] - graph["positions"][graph["receivers"]]
    figure, grid = plots.subplots(len(atoms), len(maps), 2.6, 1.6, projection="mollweide")
    for row, atom in enumerate(atoms):
        seen = vectors[graph["receivers"] == atom]
        lengths = np.linalg.norm(seen, axis=1)
        for layer, axes in enumerate(grid[row]):
            values = maps[layer, row]
            largest = np.abs(values).max()
            axes.pcolormesh(
                LONGITUDES, LATITUDES, values, cmap="RdBu_r", vmin=-largest, vmax=largest
            )
            places = np.arctan2(seen[:, 1], seen[:, 0]), np.arcsin(seen[:, 2] / lengths)
            # the nearer, the larger
            axes.scatter(*places, s=60.0 / lengths**2, color="black")
            element = int(molecule["atomic_numbers"][atom])
            step = f"layer {layer}" if layer else f"atom {atom} (Z = {element}), start"
            axes.set_title(step, fontsize="small")
            axes.set(xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    cli.run(main)
