"""The CH2 data set of CMRET, figures 2 and 3: energies and forces of singlet and triplet carbene.

Writes the file that ships as `keras_mlff/datasets/ch2.npz`: 10 x 10 x 10 geometries (two C-H
lengths and the angle) for each of the two spin states, the angle scan of figure 2 and the energy
surface of figure 3. Level: B3LYP/cc-pVDZ in PySCF, restricted (RKS) for the singlet and
unrestricted (UKS) for the triplet.

The two lengths run over the same values and the energy does not care which hydrogen comes first,
so only the pairs with length_1 <= length_2 are solved: 550 of 1,000 geometries per spin. The
others follow by exchanging the hydrogens and turning the molecule over, forces included. Each of
the 2,000 structures then gets its own random rotation and translation.

Along the angle every SCF starts from the density of the point before. That keeps the singlet on
its lowest restricted state, with both electrons in the orbital of the plane: a start at 180
degrees may put them into the one across the plane, which is 1.4 eV higher at 140 degrees. The
singlet stays restricted as in the paper; a broken-symmetry one lies 0.2 eV lower at 100 degrees
and 1.3 eV at 180, with <S^2> up to 1.

Three choices the paper leaves open: B3LYP contains VWN5 (`b3lyp5`), PySCF's definition before 2.3
and the one that gives the energies of the paper's repository; the triplet is UKS everywhere, while
that repository has UKS in its training set and ROKS in its surface; the surface has 51 x 46 points
instead of 100 x 100.

Run: python recipes/generate/generate_ch2.py
    (40 minutes on one core; continues where it was stopped)
"""

import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keras_mlff import cli, saving, units
from keras_mlff.experiments.study import solve_missing

Array = npt.NDArray[Any]

MULTIPLICITIES = (1, 3)
BOX = 14.0  # Å; the paper's repository translates by 0 to 14 Å along each axis
CONVERGENCE = {"conv_tol": 1e-11, "conv_tol_grad": 1e-7, "grids_level": 3}  # hartree, hartree/bohr


class AnglePath(NamedTuple):
    """Geometries of one spin state that differ only in the angle."""

    multiplicity: int
    length_1: float  # Å
    length_2: float  # Å
    angles: tuple[float, ...]  # degrees
    forces: bool

    @property
    def key(self) -> str:
        """Names the path in the partial file and in the progress line."""
        return (
            f"spin {self.multiplicity}, {self.length_1:.4f} Å, {self.length_2:.4f} Å, "
            f"{self.angles[0]:.3f} to {self.angles[-1]:.3f} degrees in {len(self.angles)} points"
            + (" with forces" if self.forces else "")
        )


def geometry(length_1: float, length_2: float, angle: float) -> Array:
    """Places C at the origin and the hydrogens on both sides of the x axis, its bisector.

    The mirror symmetry of equal bonds is then also one of the integration grid.

    Args:
        length_1: C-H distance of the first hydrogen, Å.
        length_2: C-H distance of the second hydrogen, Å.
        angle: H-C-H, degrees.

    Returns:
        Positions `(3, 3)` of C, H, H, Å.
    """
    half = np.deg2rad(0.5 * angle)
    cosine, sine = np.cos(half), np.sin(half)
    return np.array(
        [
            [0.0, 0.0, 0.0],
            [length_1 * cosine, length_1 * sine, 0.0],
            [length_2 * cosine, -length_2 * sine, 0.0],
        ]
    )


def solve(path: AnglePath, functional: str, basis: str) -> dict[str, Array]:
    """Solves the Kohn-Sham equations along a path.

    Returns:
        `energy` `(num_angles,)` in eV, `spin_square` `(num_angles,)` and, if the path asks for
        them, `forces` `(num_angles, 3, 3)` in eV/Å.
    """
    from pyscf import dft, gto

    energies, spin_squares, forces = [], [], []
    density = None
    for angle in path.angles:
        positions = geometry(path.length_1, path.length_2, angle)
        molecule = gto.M(
            # bohr, so that the conversion is ours and not that of PySCF's version
            atom=[
                (symbol, tuple(row))
                for symbol, row in zip("CHH", positions / units.bohr, strict=True)
            ],
            unit="Bohr",
            basis=basis,
            spin=path.multiplicity - 1,
            verbose=0,
        )
        solver = dft.RKS(molecule) if path.multiplicity == 1 else dft.UKS(molecule)
        solver.xc = functional
        solver.chkfile = None
        solver.max_cycle = 100
        solver.conv_tol = CONVERGENCE["conv_tol"]
        solver.conv_tol_grad = CONVERGENCE["conv_tol_grad"]
        solver.grids.level = CONVERGENCE["grids_level"]
        solver.kernel(dm0=density)
        if not solver.converged:
            raise RuntimeError(
                f"The SCF did not converge. Received: {path.key}, at {angle} degrees."
            )
        density = solver.make_rdm1()
        energies.append(solver.e_tot * units.hartree)
        spin_squares.append(solver.spin_square()[0])
        if path.forces:
            gradients = solver.nuc_grad_method()
            gradients.grid_response = True  # without it the net force is 1e-4 eV/Å
            forces.append(-gradients.kernel() * units.hartree_per_bohr)
    solution = {"energy": np.array(energies), "spin_square": np.array(spin_squares)}
    return solution | ({"forces": np.array(forces)} if path.forces else {})


def random_motion(positions: Array, forces: Array, seed: int) -> tuple[Array, Array]:
    """Turns and moves each structure at random, uniformly over SO(3) and over a cube.

    Args:
        positions: `(num_graphs, 3, 3)`, Å.
        forces: `(num_graphs, 3, 3)`, eV/Å.
        seed: Of both draws.
    """
    from scipy.spatial.transform import Rotation

    generator = np.random.default_rng(seed)
    quaternions = generator.normal(size=(len(positions), 4))  # their directions are uniform
    rotations = np.swapaxes(Rotation.from_quat(quaternions).as_matrix(), 1, 2)  # for row vectors
    shifts = generator.uniform(0.0, BOX, size=(len(positions), 1, 3))
    return positions @ rotations + shifts, forces @ rotations


def random_split(multiplicities: Array, train_fraction: float, seed: int) -> tuple[Array, Array]:
    """Draws the same share of each spin state for training; the rest is for testing."""
    generator = np.random.default_rng([seed, 1])
    train, test = [], []
    for multiplicity in MULTIPLICITIES:
        rows = generator.permutation(np.flatnonzero(multiplicities == multiplicity))
        num_train = round(train_fraction * len(rows))
        train.append(rows[:num_train])
        test.append(rows[num_train:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def main(
    output: str = "keras_mlff/datasets/ch2.npz",
    num_grid: int = 10,
    num_scan: int = 91,
    num_surface_lengths: int = 51,
    num_surface_angles: int = 46,
    train_fraction: float = 0.75,
    functional: str = "b3lyp5",
    basis: str = "cc-pvdz",
    seed: int = 0,
) -> Path:
    """Computes the data set and writes it to `output`.

    Args:
        output: The npz file; finished paths are kept beside it until the end.
        num_grid: Values of each length (0.95 to 1.20 Å) and of the angle (90 to 140 degrees).
        num_scan: Angles from 90 to 180 degrees, both lengths 1.1 Å.
        num_surface_lengths: Lengths from 0.9 to 1.4 Å, the same for both bonds.
        num_surface_angles: Angles from 90 to 180 degrees.
        train_fraction: Share of each spin state that is for training.
        functional: PySCF's name.
        basis: PySCF's name.
        seed: Of the random rotations, translations and split.

    Returns:
        The path of the written file.

    Raises:
        ImportError: If PySCF is not installed.
    """
    try:
        import pyscf
    except ImportError as error:
        raise ImportError(
            "Computing the CH2 data set needs PySCF. Install it with `pip install keras-mlff[qm]`."
        ) from error
    pyscf.lib.num_threads(1)  # the molecule is too small for more

    lengths = np.linspace(0.95, 1.20, num_grid)
    angles = np.linspace(90.0, 140.0, num_grid)
    scan_angle = np.linspace(90.0, 180.0, num_scan)
    surface_length = np.linspace(0.9, 1.4, num_surface_lengths)
    surface_angle = np.linspace(90.0, 180.0, num_surface_angles)

    # keyed by spin and both indices, or by spin and the surface's index
    grid = {
        (multiplicity, i, j): AnglePath(multiplicity, lengths[i], lengths[j], tuple(angles), True)
        for multiplicity in MULTIPLICITIES
        for i in range(num_grid)
        for j in range(i, num_grid)
    }
    scan = [AnglePath(spin, 1.1, 1.1, tuple(scan_angle), False) for spin in MULTIPLICITIES]
    surface = [
        [AnglePath(spin, length, length, tuple(surface_angle), False) for length in surface_length]
        for spin in MULTIPLICITIES
    ]

    theory = {
        "functional": functional,
        "basis": basis,
        "singlet": "restricted (RKS)",
        "triplet": "unrestricted (UKS)",
        "scf": CONVERGENCE | {"grids_prune": "nwchem_prune"},
        "gradients": "analytic, with the response of the integration grid",
        "pyscf": pyscf.__version__,
    }
    file = Path(output)
    unfinished = file.with_name(f"{file.name}.partial")
    paths = [*grid.values(), *scan, *surface[0], *surface[1]]
    solvers = {path.key: partial(solve, path, functional, basis) for path in paths}
    solutions = solve_missing(solvers, unfinished, json.dumps(theory))

    positions: list[Array] = []
    energy: list[float] = []
    forces: list[Array] = []
    multiplicities: list[int] = []
    over = np.diag([1.0, -1.0, -1.0])  # turns the molecule over, about the bisector
    for multiplicity in MULTIPLICITIES:
        for i in range(num_grid):
            for j in range(num_grid):
                solution = solutions[grid[multiplicity, min(i, j), max(i, j)].key]
                path_forces = solution["forces"]
                if i > j:
                    path_forces = path_forces[:, [0, 2, 1]] @ over
                positions.extend(geometry(lengths[i], lengths[j], angle) for angle in angles)
                energy.extend(solution["energy"])
                forces.extend(path_forces)
                multiplicities.extend([multiplicity] * num_grid)
    spin_multiplicity = np.array(multiplicities, dtype="int32")
    moved_positions, moved_forces = random_motion(np.array(positions), np.array(forces), seed)
    split_train, split_test = random_split(spin_multiplicity, train_fraction, seed)

    spin_squares = np.concatenate(
        [solutions[path.key]["spin_square"] for path in paths if path.multiplicity == 3]
    )
    metadata = {
        "content": "CH2 singlet and triplet: grid, angle scan and energy surface",
        "recipe": "recipes/generate/generate_ch2.py",
        "units": "Å, degrees, eV, eV/Å (CODATA 2018); scf thresholds in hartree, hartree/bohr",
        "theory": theory,
        "functional_note": "b3lyp5 is 0.08 Slater + 0.72 B88 + 0.2 exact exchange + 0.81 LYP + "
        "0.19 VWN5, which PySCF called b3lyp before 2.3",
        "triplet_spin_square": {"min": spin_squares.min(), "max": spin_squares.max()},
        "axes": {
            "structure": "spin, length 1, length 2, angle; the last runs fastest",
            "scan_energy": "spin (1, 3), angle",
            "surface_energy": "spin (1, 3), angle, length",
        },
        "seed": seed,
    }
    saving.write_npz(
        file,
        {
            "atomic_numbers": np.array([6, 1, 1], dtype="int32"),
            "positions": moved_positions,
            "energy": np.array(energy),
            "forces": moved_forces,
            "spin_multiplicity": spin_multiplicity,
            "split_train": split_train.astype("int32"),
            "split_test": split_test.astype("int32"),
            "scan_angle": scan_angle,
            "scan_energy": np.array([solutions[path.key]["energy"] for path in scan]),
            "surface_length": surface_length,
            "surface_angle": surface_angle,
            "surface_energy": np.array(
                [[solutions[path.key]["energy"] for path in row] for row in surface]
            ).swapaxes(1, 2),
            "metadata": np.array(json.dumps(metadata, ensure_ascii=False)),
        },
    )
    unfinished.unlink()
    return file


if __name__ == "__main__":
    cli.run(main)
