"""What is simulated: structures with masses, velocities and fixed atoms."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from keras_mlff import units
from keras_mlff.graph import Array, Graph, count
from keras_mlff.md.calculator import name_atoms, to_graph
from keras_mlff.md.dynamics import to_atoms


@dataclasses.dataclass
class System:
    """One structure and its motion, in float64.

    Attributes:
        atoms: ASE's atoms, of which nothing is changed.
        graph: The structure without edges; its `positions` and `cell` move on.
        masses: `(num_atoms,)`, amu.
        velocities: `(num_atoms, 3)`, Å·sqrt(eV/amu); zero where none were given.
        fixed: `(num_atoms,)` bool, the atoms that stay where they are.
    """

    atoms: Atoms
    graph: Graph
    masses: Array
    velocities: Array
    fixed: Array

    @property
    def is_periodic(self) -> bool:
        """Whether there is a cell."""
        return "cell" in self.graph

    @property
    def is_held(self) -> bool:
        """Whether the system may drift, held by fixed atoms or being a single atom."""
        return bool(self.fixed.any()) or len(self.fixed) == 1

    @property
    def kinetic_energy(self) -> float:
        """The kinetic energy in eV."""
        return 0.5 * float(np.sum(self.masses[:, None] * np.square(self.velocities)))

    def name(self, rows: Sequence[int] | Array) -> str:
        """Lists atoms by symbol and index, the first ten of them."""
        return name_atoms(self.atoms, np.asarray(rows))

    def to_atoms(self) -> Atoms:
        """Returns ASE's atoms where they are now, with their momenta."""
        atoms = self.atoms.copy()
        if self.is_periodic:
            atoms.set_cell(self.graph["cell"][0])
        atoms.set_positions(self.graph["positions"], apply_constraint=False)
        atoms.set_momenta(self.masses[:, None] * self.velocities, apply_constraint=False)
        return atoms


def collect(systems: Any) -> tuple[list[System], bool]:
    """Makes systems of what users have.

    Args:
        systems: ASE's atoms, a graph of one structure, a SMILES (with RDKit), or a list of them.

    Returns:
        The systems, and whether a single one was given.

    Raises:
        TypeError: If it is something else.
        ValueError: If there is none, or a constraint is not `FixAtoms`.
    """
    single = isinstance(systems, (Atoms, Mapping, str))
    found = [_system(item) for item in ([systems] if single else systems)]
    if not found:
        raise ValueError("There is nothing to simulate. Received: an empty list of systems.")
    return found, single


def _system(item: Any) -> System:
    if isinstance(item, str):
        atoms = _from_smiles(item)
    elif isinstance(item, Mapping):
        if count(item, "structure") != 1 or not np.all(item["atom_mask"]):
            raise ValueError(
                "A system is one structure without padding. Received: a graph of "
                f"{count(item, 'structure')} structures. Split it with `keras_mlff.graph.split`."
            )
        atoms = to_atoms(dict(item))
    elif isinstance(item, Atoms):
        atoms = item.copy()
    else:
        raise TypeError(
            "A system is an `ase.Atoms`, a graph of one structure or a SMILES. Received: "
            f"{type(item).__name__}."
        )
    fixed = np.zeros(len(atoms), np.bool_)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise ValueError(
                "Atoms may be fixed (ase.constraints.FixAtoms); other constraints are ASE's own, "
                f"see `run_nve`. Received: {type(constraint).__name__}."
            )
        fixed[constraint.index] = True
    masses = atoms.get_masses()
    velocities = np.where(fixed[:, None], 0.0, atoms.get_momenta() / masses[:, None])
    return System(atoms, to_graph(atoms), masses, velocities, fixed)


def _from_smiles(smiles: str) -> Atoms:
    """Builds a molecule by RDKit's distance geometry and its force field."""
    try:
        from rdkit import Chem
        from rdkit.Chem import AllChem
    except ImportError as error:
        raise ImportError(
            f"A SMILES is made a structure by RDKit, which is not installed. Received: '{smiles}'. "
            "Install it with `pip install rdkit`, or pass ASE's atoms."
        ) from error
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(f"RDKit does not understand the SMILES. Received: '{smiles}'.")
    molecule = Chem.AddHs(molecule)
    if AllChem.EmbedMolecule(molecule, randomSeed=0) != 0:
        raise ValueError(f"RDKit finds no structure of the SMILES. Received: '{smiles}'.")
    AllChem.MMFFOptimizeMolecule(molecule)
    radicals = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    info = {"charge": float(Chem.GetFormalCharge(molecule)), "spin": 1 + radicals}
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    return Atoms(numbers, molecule.GetConformer().GetPositions(), info=info)


def draw_velocities(system: System, temperature: float, random: np.random.Generator) -> None:
    """Draws velocities of exactly this temperature, without drift or, for molecules, rotation."""
    normal = random.normal(size=(len(system.masses), 3))
    drawn = normal / np.sqrt(system.masses[:, None])
    system.velocities = np.where(system.fixed[:, None], 0.0, drawn)
    remove_drift(system, rotation=True)
    freedom = degrees_of_freedom(system)
    kinetic = system.kinetic_energy
    wanted = 0.5 * freedom * units.kelvin * temperature
    system.velocities *= np.sqrt(wanted / kinetic) if freedom and kinetic > 0.0 else 0.0


def remove_drift(system: System, rotation: bool) -> None:
    """Takes the motion of a free system as a whole out of its velocities."""
    if system.fixed.any():
        return
    masses, velocities = system.masses[:, None], system.velocities
    if len(masses) > 1:
        velocities = velocities - np.sum(masses * velocities, axis=0) / np.sum(masses)
        if rotation and not system.is_periodic and len(masses) > 2:
            arms, inertia = _arms(system)
            spin = np.linalg.pinv(inertia, rcond=1e-8) @ _angular_momentum(arms, masses, velocities)
            velocities = velocities - np.cross(spin, arms)
    system.velocities = velocities


def degrees_of_freedom(system: System) -> int:
    """Counts the motions that share the kinetic energy.

    A free system does not drift. A molecule that does not rotate now does not begin to, if nothing
    but its own forces, or a factor, changes its velocities.
    """
    num_free = 3 * int(np.sum(~system.fixed))
    if system.is_held:
        return num_free
    if system.is_periodic or len(system.fixed) < 3:
        return num_free - 3
    arms, inertia = _arms(system)
    masses, speeds = system.masses[:, None], np.abs(system.velocities)
    momentum = np.abs(_angular_momentum(arms, masses, system.velocities))
    if np.max(momentum) > 1e-6 * np.sum(masses * speeds * np.abs(arms).max()):
        return num_free - 3
    return num_free - 3 - int(np.linalg.matrix_rank(inertia, tol=1e-8 * np.trace(inertia)))


def _arms(system: System) -> tuple[Array, Array]:
    """Returns positions from the center of mass, and the tensor of inertia."""
    masses, positions = system.masses[:, None], system.graph["positions"]
    arms = positions - np.sum(masses * positions, axis=0) / np.sum(masses)
    squares = np.sum(masses * np.square(arms))
    return arms, squares * np.eye(3) - (masses * arms).T @ arms


def _angular_momentum(arms: Array, masses: Array, velocities: Array) -> Array:
    return np.sum(masses * np.cross(arms, velocities), axis=0)
