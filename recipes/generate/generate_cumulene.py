"""Rotor scans of cumulenes C3H4 to C9H4, beside which figure 2a of So3krates is drawn.

One end of a rigid chain of carbons turns against the other: energies and forces at dihedral angles
of 0 to 180 degrees. Bonds and angles are those of the scans of the GNL cumulenes (C=C 1.315 Å at
the ends and 1.279 Å within, C-H 1.086 Å, H-C-H 118.71 degrees), so that models trained on those are
drawn at the same geometries.

Level: PBE0/def2-SVP in PySCF, integrals by density fitting; the paper does not name its own. State:
the lowest singlet. Twisting breaks a pi bond, and where it is broken a restricted determinant has a
cusp and is too high, by 0.64 eV in planar C3H4 and up to 1.01 eV in the others (C4H4 at 90
degrees). So every point is solved unrestricted (UKS), from the restricted orbitals with the highest
occupied and the lowest empty one mixed by 45 degrees, in opposite senses for the two spins: the
broken-symmetry singlet, not spin-projected. Near the stable angle it falls back onto the restricted
solution, where <S²> is 0: in C3H4 at 30 and 60 degrees from there still, and at 22 of the 49 points
of cumulene_scans.npz, beside this file, in all. Energies of that one and <S²> are written too.

What converges need not be the lowest: from these orbitals planar allene ends on a saddle, 0.57 eV
too high. So instabilities are followed downwards (stability analysis on a coarse grid, second-order
steps) until there is none, and the energy must not lie above the restricted one. Where it does,
other starts are tried: orbitals of neighboring angles, then the restricted ones. A point at which
all fail is reported, marked by `is_lowest` and left out of the split of its chain.

Angles above 90 degrees are mirror images of those below.

Run: python recipes/generate/generate_cumulene.py  (continues where it was stopped)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_mlff import cli, saving, units
from keras_mlff.bench.systems import cumulene
from keras_mlff.experiments.study import solve_missing

Array = npt.NDArray[Any]

CONVERGENCE = {"conv_tol": 1e-9, "conv_tol_grad": 1e-5, "grids_level": 3}  # hartree, hartree/bohr
STABILITY_GRID = 0  # level
LOWEST = 1e-6  # hartree, by which rounding may lift the singlet above the restricted solution
NEIGHBOR = 5.0  # degrees, to the angles whose orbitals are tried next
NAMES = ("energy", "restricted_energy", "spin_square", "is_lowest", "forces")


def mirrored(forces: Array) -> Array:
    """Gives the forces at 180 degrees minus the angle: y reversed, the last hydrogens exchanged."""
    order = [*range(len(forces) - 2), -1, -2]
    return np.asarray(forces[order] * [1.0, -1.0, 1.0])


def solve(num_carbons: int, dihedral: float, functional: str, basis: str) -> dict[str, Array]:
    """Solves the Kohn-Sham equations of one point.

    Returns:
        `energy` and `restricted_energy` in eV, `spin_square`, `is_lowest`, `forces`
        `(num_atoms, 3)` in eV/Å.

    Raises:
        RuntimeError: If the unrestricted equations do not converge from any start.
    """
    restricted = solver("RKS", num_carbons, dihedral, functional, basis)
    restricted.kernel()

    def starts() -> Iterator[Array]:
        yield mixed(restricted)
        for turned in (dihedral - NEIGHBOR, dihedral + NEIGHBOR):
            neighbor = solver("RKS", num_carbons, turned, functional, basis)
            neighbor.kernel()
            start = mixed(neighbor)
            neighbor = solver("UKS", num_carbons, turned, functional, basis)
            neighbor.kernel(dm0=start)
            yield neighbor.make_rdm1()
        yield np.stack([0.5 * restricted.make_rdm1()] * 2)

    found: list[tuple[bool, float, Any]] = []
    for start in starts():
        unrestricted = solver("UKS", num_carbons, dihedral, functional, basis)
        unrestricted.kernel(dm0=start)
        is_stable = descend(unrestricted)
        # where two states cross, the restricted equations may have no solution
        excess = unrestricted.e_tot - restricted.e_tot if restricted.converged else 0.0
        if unrestricted.converged:
            found.append((is_stable and excess <= LOWEST, unrestricted.e_tot, unrestricted))
            if found[-1][0]:
                break
    if not found:
        raise RuntimeError(
            f"The SCF did not converge. Received: C{num_carbons}H4 at {dihedral} degrees."
        )
    # the last is the only one that can be the lowest; else the least wrong
    is_lowest, energy, unrestricted = found[-1] if found[-1][0] else min(found, key=lambda x: x[1])
    gradients = unrestricted.nuc_grad_method()
    gradients.grid_response = True  # without it the forces do not add up to zero
    return {
        "energy": np.asarray(energy * units.hartree),
        "restricted_energy": np.asarray(
            restricted.e_tot * units.hartree if restricted.converged else np.nan
        ),
        "spin_square": np.asarray(unrestricted.spin_square()[0]),
        "is_lowest": np.asarray(is_lowest),
        "forces": -gradients.kernel() * units.hartree_per_bohr,
    }


def solver(kind: str, num_carbons: int, dihedral: float, functional: str, basis: str) -> Any:
    """Sets up `"RKS"` or `"UKS"` of one point."""
    from pyscf import dft, gto

    positions, numbers = cumulene(num_carbons, dihedral)
    molecule = gto.M(
        # bohr, so that the conversion is ours and not that of PySCF's version
        atom=list(zip(numbers.tolist(), positions / units.bohr, strict=True)),
        unit="Bohr",
        basis=basis,
        verbose=0,
    )
    made = getattr(dft, kind)(molecule).density_fit()
    made.xc, made.chkfile, made.max_cycle = functional, None, 100
    made.conv_tol, made.conv_tol_grad = CONVERGENCE["conv_tol"], CONVERGENCE["conv_tol_grad"]
    made.grids.level = CONVERGENCE["grids_level"]
    return made


def mixed(restricted: Any) -> Array:
    """Mixes the highest occupied and the lowest empty orbital: densities of both spins."""
    num_pairs = restricted.mol.nelectron // 2
    densities = []
    for sign in (1.0, -1.0):
        orbitals = restricted.mo_coeff[:, :num_pairs].copy()
        empty = restricted.mo_coeff[:, num_pairs]
        orbitals[:, -1] = (orbitals[:, -1] + sign * empty) * np.sqrt(0.5)
        densities.append(orbitals @ orbitals.T)
    return np.stack(densities)


def descend(unrestricted: Any, num_rounds: int = 5) -> bool:
    """Follows instabilities of a solution downwards and tells whether it is stable in the end."""
    for num_left in reversed(range(num_rounds + 1)):
        # a grid of level 3 changes the lowest eigenvalue by up to 4e-4 and takes four times as long
        coarse = unrestricted.copy()
        coarse.grids = type(unrestricted.grids)(unrestricted.mol)
        coarse.grids.level = STABILITY_GRID
        orbitals, _, is_stable, _ = coarse.stability(return_status=True)
        if is_stable or not num_left:
            break
        steps = unrestricted.newton()
        steps.kernel(orbitals, unrestricted.mo_occ)
        unrestricted.kernel(dm0=steps.make_rdm1())
    return is_stable


def _key(num_carbons: int, dihedral: float) -> str:
    return f"C{num_carbons}H4 at {dihedral:.4f} degrees"


def main(
    output: str = "runs/cumulene_scans.npz",
    num_carbons: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 9),
    num_angles: int = 19,
    functional: str = "pbe0",
    basis: str = "def2-svp",
) -> Path:
    """Computes the scans and writes them to `output`.

    Args:
        output: The npz file, which `datasets.load` reads, with a split for each chain, `C3H4` and
            so on; finished points are kept beside it until the end.
        num_carbons: Lengths of the chains.
        num_angles: Dihedral angles from 0 to 90 degrees, to be solved.
        functional: PySCF's name.
        basis: PySCF's name.

    Returns:
        The path of the written file.

    Raises:
        ImportError: If PySCF is not installed.
    """
    try:
        import pyscf
    except ImportError as error:
        raise ImportError(
            "Computing the scans needs PySCF. Install it with `pip install keras-mlff[qm]`."
        ) from error
    pyscf.lib.num_threads(1)
    solved_angles = np.linspace(0.0, 90.0, num_angles).tolist()
    theory = {
        "functional": functional,
        "basis": basis,
        "state": "lowest singlet, unrestricted (UKS) from orbitals of broken symmetry, stable and "
        "not above the restricted one",
        "integrals": "density fitting, PySCF's default auxiliary basis",
        "scf": CONVERGENCE,
        "gradients": "analytic, with the response of the integration grid",
        "pyscf": pyscf.__version__,
    }
    file = Path(output)
    unfinished = file.with_name(f"{file.name}.partial")
    solvers = {
        _key(carbons, angle): partial(solve, carbons, angle, functional, basis)
        for carbons in num_carbons
        for angle in solved_angles
    }
    solutions = solve_missing(solvers, unfinished, json.dumps(theory))
    if failed := [key for key, solution in solutions.items() if not solution["is_lowest"]]:
        print(
            f"Not the lowest singlet, from no start, and left out of the splits: {failed}. "
            "The rows are there, with `is_lowest` false.",
            flush=True,
        )
    rows: dict[str, list[Any]] = {name: [] for name in NAMES}
    positions, numbers, splits = [], [], {}
    dihedrals: list[float] = []
    for carbons in num_carbons:
        first = len(dihedrals)
        above = [180.0 - angle for angle in reversed(solved_angles[:-1])]
        for angle in [*solved_angles, *above]:
            solution = dict(solutions[_key(carbons, min(angle, 180.0 - angle))])
            if angle > 90.0:
                solution["forces"] = mirrored(solution["forces"])
            place, kinds = cumulene(carbons, angle)
            positions.append(place)
            numbers.append(kinds)
            dihedrals.append(angle)
            for name in NAMES:
                rows[name].append(solution[name])
        lowest = np.flatnonzero(rows["is_lowest"][first:]).astype(np.int32)
        splits[f"split_C{carbons}H4"] = first + lowest
    metadata = {
        "content": "rigid rotor scans of cumulenes",
        "recipe": "recipes/generate/generate_cumulene.py",
        "units": "Å, degrees, eV, eV/Å (CODATA 2018); scf thresholds in hartree, hartree/bohr",
        "theory": theory,
    }
    saving.write_npz(
        file,
        {
            "positions": np.concatenate(positions),
            "atomic_numbers": np.concatenate(numbers),
            "n_atoms": np.asarray([len(kinds) for kinds in numbers], np.int32),
            "energy": np.asarray(rows["energy"]),
            "forces": np.concatenate(rows["forces"]),
            "restricted_energy": np.asarray(rows["restricted_energy"]),
            "spin_square": np.asarray(rows["spin_square"]),
            "is_lowest": np.asarray(rows["is_lowest"]),
            "dihedral": np.asarray(dihedrals),
            **splits,
            "metadata": np.array(json.dumps(metadata, ensure_ascii=False)),
        },
    )
    unfinished.unlink(missing_ok=True)
    return file


if __name__ == "__main__":
    cli.run(main)
