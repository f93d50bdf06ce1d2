"""Equation of state, lattice constant and dynamics at constant pressure of a crystal, through ASE.

Energies of scaled cells are fitted by the equation of Birch and Murnaghan; lattice constant and
bulk modulus follow from it, and again from a relaxation of cell and atoms from a strained start. A
run at constant temperature and pressure gives the volume at that temperature. Where a file with
strained cells of the same crystal is given, lattice constant and bulk modulus are derived from its
stresses, and the model's energies of the same cells are drawn beside the file's.

Run: python recipes/studies/equation_of_state.py --preset=alphanet/mlearn_si
    --reference=mlearn_Si.npz
Copper: add --element=Cu --structure=fcc --lattice-constant=3.61
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from keras_mlff import cli, datasets, md, models, plots, saving, units
from keras_mlff.graph import Array, Graph


def main(
    preset: str,
    element: str = "Si",
    structure: str = "diamond",
    lattice_constant: float = 5.431,
    strain: float = 0.06,
    num_points: int = 13,
    reference: str = "",
    reference_split: str = "group_Elastic",
    num_npt_steps: int = 2000,
    temperature: float = 300.0,
    repeat: int = 2,
    time_step: float = 1.0,
    folder: str = "runs/equation_of_state",
) -> dict[str, Any]:
    """Computes both, draws them and writes results.json.

    Args:
        preset: Any periodic one, by name ("alphanet/mlearn_si") or folder.
        element: Chemical symbol.
        structure: Of ASE's `bulk`: "diamond", "fcc", "bcc", ...
        lattice_constant: Å, of the cubic cell to start from.
        strain: Largest change of the lattice constant, as a share.
        num_points: Volumes of the equation of state.
        reference: File with strained cells of the same crystal, with stress.
        reference_split: Which of them.
        num_npt_steps: Of dynamics at constant pressure; 0 leaves it out.
        temperature: K.
        repeat: Cubic cells along each axis in dynamics.
        time_step: fs.
        folder: Receives results.json, equation_of_state.png and npt.png.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    calculator = md.MLFFCalculator(models.load_preset(preset), dtype="float64")
    crystal = bulk(element, structure, a=lattice_constant, cubic=True)
    scales = np.linspace(1.0 - strain, 1.0 + strain, num_points)
    volumes, energies = np.asarray([_evaluate(crystal, scale, calculator) for scale in scales]).T
    fit = EquationOfState(volumes, energies, eos="birchmurnaghan")
    volume, energy, modulus = fit.fit()
    results: dict[str, Any] = {
        "lattice_constant": _edge(volume, crystal),
        "bulk_modulus_gpa": modulus / units.gigapascal,
        "energy_per_atom": energy,
        "relaxed": relax(crystal, calculator),
    }
    compared = None
    if reference:
        cells = strained_cells(reference, reference_split)
        results["strained_cells"], compared = compare(calculator.model, cells, len(crystal))
    draw(volumes, energies, compared, root / "equation_of_state.png")
    if num_npt_steps:
        # from the volume at 0 K, or the cell would ring
        crystal.set_cell(crystal.cell * _edge(volume, crystal) / lattice_constant, scale_atoms=True)
        results["npt"] = heat(
            crystal.repeat(repeat), calculator, temperature, num_npt_steps, time_step, root
        )
    saving.write_json(root / "results.json", results)
    print(json.dumps(results, indent=1))
    return results


def _evaluate(crystal: Atoms, scale: float, calculator: Any) -> tuple[float, float]:
    """Computes volume (Å³) and energy (eV) per atom of a scaled cell."""
    scaled = crystal.copy()
    scaled.set_cell(crystal.cell * scale, scale_atoms=True)
    scaled.calc = calculator
    return scaled.get_volume() / len(scaled), scaled.get_potential_energy() / len(scaled)


def _edge(volume: float, crystal: Atoms) -> float:
    """Computes the edge of the cubic cell, Å, from the volume per atom."""
    return float((volume * len(crystal)) ** (1.0 / 3.0))


def relax(crystal: Atoms, calculator: Any, force: float = 1e-4) -> dict[str, Any]:
    """Relaxes cell and atoms from a strained and shaken start."""
    atoms = crystal.copy()
    strain = np.asarray([[0.02, 0.01, 0.0], [0.01, -0.01, 0.0], [0.0, 0.0, 0.015]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.rattle(0.02, seed=0)
    atoms.calc = calculator
    optimizer = BFGS(FrechetCellFilter(atoms), logfile=None)
    converged = bool(optimizer.run(fmax=force, steps=500))
    return {
        "cell_lengths": atoms.cell.lengths().tolist(),
        "cell_angles": atoms.cell.angles().tolist(),
        "largest_force": float(np.abs(atoms.get_forces()).max()),
        "largest_stress_gpa": float(np.abs(atoms.get_stress()).max() / units.gigapascal),
        "steps": optimizer.nsteps,
        "converged": converged,
    }


def heat(
    atoms: Atoms, calculator: Any, temperature: float, num_steps: int, time_step: float, root: Path
) -> dict[str, float]:
    """Runs at constant temperature and pressure and averages over the second half."""
    atoms.calc = calculator
    md.set_temperature(atoms, temperature)
    trajectory = md.run_npt(atoms, temperature, num_steps, time_step=time_step, interval=10)
    half = len(trajectory.times) // 2
    figure, axes = plots.subplots(1, 2)
    for place, values, name in (
        (axes[0, 0], trajectory.volumes / len(atoms), "volume / (Å³/atom)"),
        (axes[0, 1], trajectory.temperatures, "temperature / K"),
    ):
        place.plot(trajectory.times, values, linewidth=1.0)
        place.set(xlabel="time / fs", ylabel=name)
    figure.savefig(root / "npt.png", dpi=150)
    return {
        "volume_per_atom": float(trajectory.volumes[half:].mean() / len(atoms)),
        "temperature": float(trajectory.temperatures[half:].mean()),
    }


def strained_cells(reference: str, split: str, force: float = 0.05) -> list[Graph]:
    """Loads strained cells whose atoms are where symmetry wants them.

    Args:
        reference: File with energies, forces and stress.
        split: Of the file.
        force: eV/Å, the largest component that is let pass.
    """
    cells = datasets.load(reference, split, ("energy", "forces", "stress"))
    kept = [cell for cell in cells if np.abs(cell["forces"]).max() < force]
    if len(kept) < 4:
        raise ValueError(
            f"Four or more strained cells with forces below {force} eV/Å are needed. Received: "
            f"{len(kept)} of {len(cells)} in '{reference}', split '{split}'."
        )
    return kept


def compare(
    model: models.ForceField, cells: Sequence[Graph], num_atoms: int
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Derives lattice constant and bulk modulus of strained cells from labels and predictions.

    Returns:
        The derived numbers of both, and the error of the stress in GPa; volumes, labeled and
        predicted energies per atom.
    """
    sizes = np.asarray([len(cell["positions"]) for cell in cells])
    volumes = np.asarray([abs(np.linalg.det(cell["cell"][0])) for cell in cells]) / sizes
    predicted = model.predict(list(cells))
    known = {key: np.concatenate([cell[key] for cell in cells]) for key in ("energy", "stress")}
    derived: dict[str, Any] = {
        name: from_stress(volumes, values["energy"] / sizes, values["stress"], num_atoms)
        for name, values in (("labels", known), ("predictions", predicted))
    }
    errors = np.abs(predicted["stress"] - known["stress"]) / units.gigapascal
    derived |= {"stress_mae_gpa": float(errors.mean()), "num_cells": len(cells)}
    energies = {"reference": known["energy"] / sizes, "model": predicted["energy"] / sizes}
    return derived, {"volumes": volumes, **energies}


def from_stress(
    volumes: Array, energies: Array, stresses: Array, num_atoms: int
) -> dict[str, float]:
    """Derives lattice constant and bulk modulus from strained cells of a cubic crystal.

    The mean of the three normal stresses is the bulk modulus times the relative change of the
    volume, in whatever direction the crystal is strained, to first order. A cubic polynomial in the
    logarithm of the volume has its zero at the volume without stress.

    Args:
        volumes: `(num_cells,)`, Å³ per atom.
        energies: `(num_cells,)`, eV per atom.
        stresses: `(num_cells, 3, 3)`, eV/Å³.
        num_atoms: Of the cubic cell.
    """
    means = np.trace(stresses, axis1=1, axis2=2) / 3.0
    curve = np.polynomial.Polynomial.fit(np.log(volumes), means, 3)
    roots = curve.roots()
    inside = roots[np.isreal(roots)].real
    zero = inside[np.argmin(np.abs(inside - np.log(volumes[np.argmin(energies)])))]
    return {
        "lattice_constant": float((np.exp(zero) * num_atoms) ** (1.0 / 3.0)),
        "bulk_modulus_gpa": float(curve.deriv()(zero) / units.gigapascal),
        "energy_per_atom": float(energies.min()),
    }


def draw(volumes: Array, energies: Array, compared: Mapping[str, Array] | None, file: Path) -> None:
    """Draws energies against volumes; beside them predictions and labels of strained cells."""
    figure, axes = plots.subplots(1, 1 if compared is None else 2)
    axes[0, 0].plot(volumes, energies - energies.min(), marker=".", label="model, isotropic strain")
    if compared is not None:
        for key, style in (("reference", "ko"), ("model", "x")):
            values = compared[key] - compared[key].min()
            axes[0, 1].plot(compared["volumes"], values, style, ms=4, label=key)
        axes[0, 1].set_title("strained cells of the reference")
    for place in axes[0]:
        place.set(xlabel="volume / (Å³/atom)", ylabel="energy / (eV/atom)")
        place.legend(frameon=False)
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    cli.run(main)
