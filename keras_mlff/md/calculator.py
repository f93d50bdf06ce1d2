"""A trained model as an ASE calculator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    CalculationFailed,
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)
from ase.stress import full_3x3_to_voigt_6_stress

from keras_mlff import presets, quantities
from keras_mlff.graph import Array, Graph, count, structure
from keras_mlff.graph.far_pairs import with_long_edges
from keras_mlff.models import ForceField
from keras_mlff.neighbors import (
    NeighborList,
    edge_vectors,
    neighbor_list,
    with_edge_list,
)
from keras_mlff.packing.budget import Budget
from keras_mlff.packing.loader import GraphLoader

# A preset that was trained on one may answer for the other: derivatives and shares of one energy
_IMPLIED_BY = {"stress": "forces", "atomic_energies": "energy"}
_GROWTH = 1.2  # of what a batch must hold, when it must hold more


class MLFFCalculator(Calculator):
    """Computes for ASE what a model predicts and ASE has a name for.

    `implemented_properties` lists the names: `energy` (eV), `free_energy`, `energies` of the atoms,
    `forces` (eV/Å), `stress` (eV/Å³, Voigt), `dipole` (e·Å), `charges` (e), and those of quantities
    that were registered with an ASE name, such as `magmoms`.

    Total charge and spin multiplicity are read from `atoms.info["charge"]` (default 0) and
    `atoms.info["spin"]` (2S+1, default 1). Forces are the model's own; constraints are applied by
    ASE where `atoms.get_forces()` asks for them.

    Neighbors are searched within `cutoff + skin` and searched anew once an atom has moved by half
    the skin, or cell or atoms have changed. The model sees exactly the edges within its cutoff,
    padded to a size that grows when it must, so that a trajectory is compiled once.

    Args:
        model: A model, such as `CMRET.from_preset("ch2")`.
        dtype: `"float64"` computes with a copy of the model in that precision, for tight
            relaxations, vibrations and energy conservation. `None` leaves the model as it is.
        skin: Å. 0 searches neighbors at every step.
        **kwargs: Of ASE's `Calculator`.

    Raises:
        TypeError: If `model` is not a model of this package.
        ValueError: If the skin is negative, or if a preset has never seen an element.

    Example:
        ```python
        atoms = ase.io.read("ch2.xyz")
        atoms.info["spin"] = 3
        atoms.calc = MLFFCalculator(CMRET.from_preset("ch2"), dtype="float64")
        atoms.get_forces()
        ```
    """

    ignored_changes: ClassVar[set[str]] = {"initial_charges", "initial_magmoms"}

    def __init__(
        self, model: ForceField, dtype: str | None = None, skin: float = 0.5, **kwargs: Any
    ) -> None:
        if not isinstance(model, ForceField):
            raise TypeError(
                "MLFFCalculator needs a model, such as CMRET.from_preset('ch2'). "
                f"Received: model={model!r}."
            )
        if not 0.0 <= skin < math.inf:
            raise ValueError(f"The skin is a length in Å, at least 0. Received: skin={skin}.")
        super().__init__(**kwargs)
        self.model = _in_dtype(model, dtype)
        self.skin = float(skin)
        self._quantities = {
            quantity.ase: quantity
            for quantity in map(quantities.get, model.outputs_with_stress)
            if quantity.ase is not None
        }
        if "energy" in self._quantities:
            self._quantities["free_energy"] = self._quantities["energy"]
        self.implemented_properties = list(self._quantities)
        self.num_searches = 0  # of neighbors, since the calculator was made
        self._neighbors: SkinList | None = None
        self._far: SkinList | None = None  # pairs of the model's long-range terms
        self._budgets: dict[tuple[int, bool], Budget] = {}

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """Computes one property, or refuses it where the model was not trained on it.

        Args:
            name: ASE's name of the property, one of `implemented_properties`.
            atoms: The atoms; those of the last calculation where `None`.
            allow_calculation: Whether to compute what is not known yet.

        Raises:
            PropertyNotImplementedError: If the model does not predict it, or if its preset was not
                trained on it.
        """
        if name in self.implemented_properties:
            self._check_trained(name)
        return super().get_property(name, atoms, allow_calculation)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Lists what has changed since the last calculation, charge and spin included.

        Args:
            atoms: The atoms now.
            tol: The largest change, in ASE's units, that does not count.
        """
        changes = list(super().check_state(atoms, tol))
        if self.atoms is not None and _charge_and_spin(self.atoms) != _charge_and_spin(atoms):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Computes everything the model knows about the atoms, and keeps it in `results`.

        Properties of atoms are arrays `(num_atoms, ...)`, numbers of the structure are floats, and
        the stress has ASE's six components; all in float64. What a preset was not trained on is
        left out, and so is the stress where the cell has no volume.

        Args:
            atoms: The atoms.
            properties: ASE's names of what is asked for.
            system_changes: What has changed since the last calculation; everything is computed
                in any case.

        Raises:
            CalculationFailed: If a prediction is NaN or infinite.
            PropertyNotImplementedError: If the preset was not trained on what is asked for.
            ValueError: If the preset has never seen an element.
        """
        super().calculate(atoms, properties, system_changes)
        for name in set(properties) & set(self.implemented_properties):
            self._check_trained(name)
        graph = self._graph(self.atoms)
        predicted = self.model.predict(GraphLoader([graph], budget=self._budget(graph)))
        self._check_finite(predicted)
        results: dict[str, Any] = {}
        for name, quantity in self._quantities.items():
            if not self._is_trained(name) or (quantity.needs_volume and not _has_volume(graph)):
                continue
            value = predicted[quantity.name]
            value = value if quantity.level == "atom" else value[0]
            results[name] = float(value) if np.ndim(value) == 0 else value
        if "stress" in results:
            results["stress"] = full_3x3_to_voigt_6_stress(results["stress"])
        self.results = {key: _as_float64(value) for key, value in results.items()}

    @property
    def compilations(self) -> int:
        """Number of batch shapes that the model has been compiled for."""
        return len(self.model.compilations["predict"])

    def _graph(self, atoms: Atoms) -> Graph:
        charge, spin = _charge_and_spin(atoms)
        periodic = bool(np.any(atoms.pbc))
        graph = structure(
            atoms.positions,
            atoms.numbers,
            cell=atoms.cell.array if periodic else None,
            pbc=atoms.pbc if periodic else None,
            total_charge=charge,
            spin_multiplicity=spin,
        )
        if self._neighbors is None or not self._neighbors.covers(graph):
            self._neighbors = SkinList(graph, self.model.cutoff, self.skin)
            self.num_searches += 1
            if self.model.long_range_cutoff is not None:
                self._far = SkinList(graph, self.model.long_range_cutoff, self.skin)
        complete = with_edge_list(graph, self._neighbors.edges(graph), self.model.uses_triplets)
        return complete if self._far is None else with_long_edges(complete, self._far.edges(graph))

    def _budget(self, graph: Graph) -> Budget:
        num_atoms, num_edges = count(graph, "atom"), count(graph, "edge")
        num_triplets = count(graph, "triplet")
        key = (num_atoms, "cell" in graph)
        budget = self._budgets.get(key, Budget(1, num_atoms, 0, 0, num_atoms))
        if num_edges > budget.num_edges:
            # a molecule cannot have more edges than ordered pairs
            most = math.inf if "cell" in graph else num_atoms * (num_atoms - 1)
            room = int(min(math.ceil(_GROWTH * num_edges), most))
            budget = budget._replace(num_edges=room)
        if num_triplets > budget.num_triplets:
            budget = budget._replace(num_triplets=math.ceil(_GROWTH * num_triplets))
        num_long_edges = count(graph, "long_edge")
        if num_long_edges > budget.num_long_edges:
            most = math.inf if "cell" in graph else num_atoms * (num_atoms - 1) // 2
            room = int(min(math.ceil(_GROWTH * num_long_edges), most))
            budget = budget._replace(num_long_edges=room)
        self._budgets[key] = budget
        return budget

    def _is_trained(self, name: str) -> bool:
        preset = self.model.preset
        quantity = self._quantities[name].name
        return preset is None or not {quantity, _IMPLIED_BY.get(quantity)}.isdisjoint(
            preset.properties
        )

    def _check_trained(self, name: str) -> None:
        if self._is_trained(name):
            return
        quantity = self._quantities[name].name
        try:
            presets.check_property(
                _IMPLIED_BY.get(quantity, quantity), cast("presets.Preset", self.model.preset)
            )
        except ValueError as error:
            # ASE's own kind, or its writers of trajectories would stop here
            raise PropertyNotImplementedError(str(error)) from error

    def _check_finite(self, predicted: dict[str, Array]) -> None:
        wrong = [key for key, value in predicted.items() if not np.all(np.isfinite(value))]
        if not wrong:
            return
        numbers, positions = self.atoms.numbers, self.atoms.positions
        forces = predicted.get("forces", np.zeros_like(positions))
        rows = np.flatnonzero(~np.isfinite(forces).all(axis=1))
        rows = rows if len(rows) else np.arange(len(numbers))
        symbols = self.atoms.symbols
        named = ", ".join(f"{symbols[row]}{row}" for row in rows[:10])
        if len(rows) > 10:
            named += f" and {len(rows) - 10} more"
        raise CalculationFailed(
            f"The model predicts NaN or infinite values of {wrong}. Received: atoms {named}, "
            f"{len(numbers)} in all. Look for atoms that are too close or far from the training "
            "data; in dynamics, take a shorter time step."
        )


class SkinList:
    """Neighbors within cutoff and skin, and which of them are within the cutoff now.

    Args:
        graph: The structure for which they are searched.
        cutoff: Å, the model's.
        skin: Å, how much farther the search looks. Within it an atom may move by half of it before
            a pair can have come within the cutoff unnoticed.
    """

    def __init__(self, graph: Graph, cutoff: float, skin: float) -> None:
        periodic = "cell" in graph
        self.cutoff, self.skin = cutoff, skin
        self.graph = graph
        self.wide = neighbor_list(
            graph["positions"],
            cutoff + skin,
            graph["cell"][0] if periodic else None,
            graph["pbc"][0] if periodic else None,
        )

    def covers(self, graph: Graph) -> bool:
        """Tells whether no pair can have come within the cutoff unnoticed."""
        for key in ("atomic_numbers", "cell", "pbc"):
            before, now = self.graph.get(key), graph.get(key)
            if not np.array_equal(cast("Array", before), cast("Array", now)):
                return False
        moves = graph["positions"] - self.graph["positions"]
        return bool(np.max(np.sum(np.square(moves), axis=1)) < (0.5 * self.skin) ** 2)

    def edges(self, graph: Graph) -> NeighborList:
        """Picks the pairs within the cutoff; the order stays."""
        senders, receivers, shifts = self.wide
        vectors = edge_vectors(graph, self.wide)
        inside = np.einsum("ij,ij->i", vectors, vectors) <= self.cutoff**2
        return NeighborList(senders[inside], receivers[inside], shifts[inside])


def _in_dtype(model: ForceField, dtype: str | None) -> ForceField:
    """Returns the model, or a copy with the same weights in another precision."""
    if dtype is None or dtype == model.compute_dtype:
        return model
    if dtype not in ("float32", "float64"):
        raise ValueError(f"`dtype` is 'float32', 'float64' or None. Received: dtype='{dtype}'.")
    return model.copy(dtype)


def _charge_and_spin(atoms: Atoms) -> tuple[float, int]:
    return float(atoms.info.get("charge", 0.0)), atoms.info.get("spin", 1)


def _has_volume(graph: Graph) -> bool:
    return "cell" in graph and abs(float(np.linalg.det(graph["cell"][0]))) > 0.0


def _as_float64(value: Any) -> Any:
    return value if isinstance(value, float) else np.asarray(value, np.float64)
