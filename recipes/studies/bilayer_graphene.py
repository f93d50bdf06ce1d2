"""Binding curve and sliding surface of bilayer graphene, from any periodic model (figure 3c).

Two stiff layers of graphene: the energy of AB stacking against the distance of the layers, and at a
fixed distance the energy of every in-plane shift, relative to AB. What a model knows of the layers'
attraction ends at its cutoff; with 4 to 6 Å only part of dispersion is seen, and a model whose
energy jumps at the cutoff shows it in the binding curve.

Run: python recipes/studies/bilayer_graphene.py --preset=runs/alphanet_graphene/model
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write

from keras_mlff import cli, models, plots, saving
from keras_mlff.graph import Array, Graph, structure

AB = (1 / 3, 2 / 3)  # shift in units of the lattice vectors
_VACUUM = 40.0  # Å, more than any cutoff


def main(
    preset: str,
    lattice_constant: float = 2.466,
    distance: float = 3.35,
    nearest: float = 2.6,
    farthest: float = 8.0,
    num_distances: int = 109,
    grid: int = 18,
    reference: str = "",
    folder: str = "runs/bilayer_graphene",
) -> dict[str, Any]:
    """Computes both and writes a figure, the energies and the structures.

    Args:
        preset: Any periodic one that knows carbon, by name or folder.
        lattice_constant: Å, of a layer.
        distance: Å, between the layers of the sliding surface.
        nearest: Å, where the binding curve begins.
        farthest: Å, where it ends.
        num_distances: Its points.
        grid: Shifts along each lattice vector.
        reference: npz with `distances` and `binding` (eV/atom) and, for the same grid, `sliding`
            (eV/atom), to be drawn beside the model's.
        folder: Receives bilayer_graphene.png, energies.npz, binding.xyz and results.json.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    model = models.load_preset(preset, dtype="float64")
    distances = np.linspace(nearest, farthest, num_distances)
    layer = bilayer(lattice_constant, None)
    curve = [bilayer(lattice_constant, d, AB) for d in distances]
    single = model.predict(layer)["energy"][0] / 2
    binding = model.predict(curve)["energy"] / 4 - single
    shifts = np.stack(np.meshgrid(*[np.arange(grid) / grid] * 2, indexing="ij"), axis=-1)
    slid = [bilayer(lattice_constant, distance, shift) for shift in shifts.reshape(-1, 2)]
    stacked = bilayer(lattice_constant, distance, AB)
    sliding = model.predict(slid)["energy"] - model.predict(stacked)["energy"]
    sliding = sliding.reshape(grid, grid) / 4
    known: dict[str, Array] = {}
    if reference:
        with np.load(reference) as file:
            known = dict(file)
    lowest = int(np.argmin(binding))
    results = {
        "cutoff": model.cutoff,
        "equilibrium_distance": float(distances[lowest]),
        "binding_mev_per_atom": float(1e3 * binding[lowest]),
        "aa_minus_ab_mev_per_atom": float(1e3 * sliding[0, 0]),
        "largest_step_mev_per_atom": float(1e3 * np.abs(np.diff(binding[lowest:])).max()),
    }
    if "sliding" in known:
        difference = np.abs(sliding - known["sliding"])
        results["largest_sliding_error_mev_per_atom"] = float(1e3 * difference.max())
    draw(distances, binding, sliding, known, model.cutoff, root / "bilayer_graphene.png")
    energies = {"distances": distances, "binding": binding, "sliding": sliding}
    saving.write_npz(root / "energies.npz", energies)
    write(root / "binding.xyz", [_atoms(graph) for graph in curve])
    saving.write_json(root / "results.json", results)
    print(json.dumps(results, indent=1))
    return results


def bilayer(lattice_constant: float, distance: float | None, shift: Any = (0.0, 0.0)) -> Graph:
    """Makes the primitive cell of two layers, the upper one shifted in units of the cell.

    Args:
        lattice_constant: Å.
        distance: Å, between the layers; `None` for one layer alone.
        shift: Of the upper layer; (0, 0) is AA, `AB` is a bond.
    """
    a = lattice_constant
    cell = np.asarray([[a, 0.0, 0.0], [-a / 2, a * 3**0.5 / 2, 0.0], [0.0, 0.0, _VACUUM]])
    # vectors at 120 degrees: the two atoms of a layer differ by a bond, (1/3, 2/3)
    lower = np.asarray([[0.0, 0.0], [1 / 3, 2 / 3]])
    if distance is None:
        return structure(lower @ cell[:2], [6, 6], cell=cell, pbc=[True, True, False])
    upper = (lower + np.asarray(shift)) @ cell[:2] + [0.0, 0.0, distance]
    positions = np.concatenate([lower @ cell[:2], upper])
    return structure(positions, [6] * 4, cell=cell, pbc=[True, True, False])


def _atoms(graph: Graph) -> Atoms:
    return Atoms(
        graph["atomic_numbers"], graph["positions"], cell=graph["cell"][0], pbc=graph["pbc"][0]
    )


def draw(
    distances: Array,
    binding: Array,
    sliding: Array,
    known: dict[str, Array],
    cutoff: float,
    file: Path,
) -> None:
    """Draws the binding curve and the surface, with a reference also that and the difference."""
    surfaces = {"energy above AB, model": sliding}
    if "sliding" in known:
        surfaces["energy above AB, reference"] = known["sliding"]
        surfaces["model minus reference"] = sliding - known["sliding"]
    figure, axes = plots.subplots(1, 1 + len(surfaces))
    left, *others = axes[0]
    left.plot(distances, 1e3 * binding, label="model")
    if "binding" in known:
        left.plot(known["distances"], 1e3 * known["binding"], "ko", ms=3, label="reference")
    left.axvline(cutoff, color="0.7", linestyle=":", label="cutoff")
    left.set(xlabel="distance of the layers / Å", ylabel="binding energy / (meV/atom)")
    left.legend(frameon=False)
    for panel, (what, surface) in zip(others, surfaces.items(), strict=True):
        image = panel.imshow(1e3 * surface.T, origin="lower", extent=(0, 1, 0, 1))
        figure.colorbar(image, ax=panel, label=f"{what} / (meV/atom)")
        panel.set(xlabel="shift along a", ylabel="shift along b")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    cli.run(main)
