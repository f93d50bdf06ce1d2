"""A trained model as an ASE calculator."""

from __future__ import annotations

import math
import threading
import warnings
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
from keras_mlff.backend import keras_private
from keras_mlff.core.deviations import Policy, check_policy
from keras_mlff.graph import Array, Graph, charge_and_spin, count, has_volume, structure
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
_GROWTH = 1.25  # of what a batch must hold, when it must hold more
_WASTE = 1.5  # places for atoms over atoms, up to which another size's compiled batch is used
_MOST_SHAPES = 32  # that stay compiled
_MOST_LISTS, _MOST_PAIRS = 32, 2_000_000  # neighbor lists that are kept, and pairs in them


class MLFFCalculator(Calculator):
    """Computes for ASE what a model predicts and ASE has a name for.

    `implemented_properties` lists the names: `energy` (eV), `free_energy`, `energies` of the atoms,
    `forces` (eV/Å), `stress` (eV/Å³, Voigt), `dipole` (e·Å), `charges` (e), and those of quantities
    that were registered with an ASE name, such as `magmoms`.

    Total charge and spin multiplicity are read from `atoms.info["charge"]` (0 where it is missing
    or `None`) and `atoms.info["spin"]` (2S+1, 1 where it is missing), plain numbers. Forces are the
    model's own; constraints are applied by ASE where `atoms.get_forces()` asks for them.

    Neighbors are searched within `cutoff + skin` and searched anew once an atom has moved by half
    the skin, or cell or atoms have changed; lists of several images, as of a band, are kept. The
    model sees exactly the edges within its cutoff, padded to a size that grows when it must, so
    that a trajectory is compiled once, and molecules of many sizes a few times.

    Threads may share a calculator: `get_property`, and so `atoms.get_forces()` and the like, lets
    one after the other compute. A calculator for each, of one model, computes at the same time.

    Args:
        model: A model, such as `CMRET.from_preset("ch2")`.
        dtype: `"float64"` computes with a copy of the model in that precision, for tight
            relaxations, vibrations and energy conservation. `None` leaves the model as it is.
        skin: Å. 0 searches neighbors at every step.
        domain: What happens to atoms unlike those that the model has learned from: `"refuse"`,
            `"warn"` or `"ignore"`; see `ForceField.predict` for what `None` does.
        **kwargs: Of ASE's `Calculator`.

    Raises:
        TypeError: If `model` is not a model of this package.
        ValueError: If the skin is negative or `domain` is no such word.

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
        self,
        model: ForceField,
        dtype: str | None = None,
        skin: float = 0.5,
        domain: Policy | None = None,
        **kwargs: Any,
    ) -> None:
        check_policy(domain)
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
        self.domain = domain
        self._has_told = False  # that charges or moments of the atoms do not fit `info`
        self._quantities = {
            quantity.ase: quantity
            for quantity in map(quantities.get, model.outputs_with_stress)
            if quantity.ase is not None
        }
        if "energy" in self._quantities:
            self._quantities["free_energy"] = self._quantities["energy"]
        self.implemented_properties = list(self._quantities)
        self.num_searches = 0  # of neighbors, since the calculator was made
        self._lists: list[SkinList] = []  # the last one that was used first
        self._budgets: dict[bool, list[Budget]] = {False: [], True: []}  # by: is periodic
        self._lock = _Lock()

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """Computes one property, or refuses it where the model was not trained on it.

        Args:
            name: ASE's name of the property, one of `implemented_properties`.
            atoms: The atoms; those of the last calculation where `None`.
            allow_calculation: Whether to compute what is not known yet.

        Raises:
            PropertyNotImplementedError: If the model does not predict it, if its preset was not
                trained on it, or if it is a stress and the cell has no volume.
        """
        with self._lock:
            if name in self.implemented_properties:
                self._check_trained(name)
                asked = self.atoms if atoms is None else atoms
                if self._quantities[name].needs_volume and asked is not None:
                    _check_volume(name, asked)
            return super().get_property(name, atoms, allow_calculation)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Lists what has changed since the last calculation, charge and spin included.

        Args:
            atoms: The atoms now.
            tol: The largest change, in ASE's units, that does not count.
        """
        changes = list(super().check_state(atoms, tol))
        before = {} if self.atoms is None else charge_and_spin(self.atoms.info)
        if self.atoms is not None and before != charge_and_spin(atoms.info):
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
            CalculationFailed: If a prediction is NaN, infinite, or far beyond anything learned.
            PropertyNotImplementedError: If the preset was not trained on what is asked for.
            ValueError: If the model cannot answer for the atoms, see `domain`.
        """
        with self._lock:
            super().calculate(atoms, properties, system_changes)
            self._calculate(properties)

    def _calculate(self, properties: Sequence[str]) -> None:
        for name in set(properties) & set(self.implemented_properties):
            self._check_trained(name)
        graph = self._graph(self.atoms)
        loader = GraphLoader([graph], budget=self._budget(graph))
        try:
            predicted = self.model.predict(loader, domain=self.domain)
        except FloatingPointError as error:  # ASE's own kind
            raise CalculationFailed(str(error)) from error
        if not _has_volume(self.atoms):
            keys = [key for key in predicted if not quantities.get(key).needs_volume]
            predicted = {key: predicted[key] for key in keys}
        results: dict[str, Any] = {}
        for name, quantity in self._quantities.items():
            if not self._is_trained(name) or quantity.name not in predicted:
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
        self._compare_initial(atoms)
        graph = to_graph(atoms)
        edges = self._skin_list(graph, self.model.cutoff).edges(graph)
        complete = with_edge_list(graph, edges, self.model.uses_triplets)
        far = self.model.long_range_cutoff
        if far is None:
            return complete
        return with_long_edges(complete, self._skin_list(graph, far).edges(graph))

    def _skin_list(self, graph: Graph, cutoff: float) -> SkinList:
        known = (item for item in self._lists if item.cutoff == cutoff and item.covers(graph))
        found = next(known, None)
        if found is None:
            found = SkinList(graph, cutoff, self.skin)
            self.num_searches += cutoff == self.model.cutoff
        others = [item for item in self._lists if item is not found][: _MOST_LISTS - 1]
        ends = np.cumsum([len(item.wide.senders) for item in others])
        self._lists = [found, *others[: int(np.searchsorted(ends, _MOST_PAIRS))]]
        return found

    def _budget(self, graph: Graph) -> Budget:
        """Finds room for a graph: exact for the first size, then for a range of sizes."""
        periodic = "cell" in graph
        known = self._budgets[periodic]
        num_atoms, num_edges, num_triplets, num_long_edges = (
            count(graph, what) for what in ("atom", "edge", "triplet", "long_edge")
        )
        near = [room for room in known if num_atoms <= room.num_atoms <= _WASTE * num_atoms]
        for room in sorted(near):
            if np.all([1, num_atoms, num_edges, num_triplets, num_long_edges] <= room.room):
                return room
        if len(known) == _MOST_SHAPES:
            known.clear()
            keras_private.forget_compiled_functions(self.model)
        size = min(near).num_atoms if near else math.ceil((_GROWTH if known else 1) * num_atoms)
        growth = _GROWTH * size / num_atoms
        # a molecule cannot have more edges than ordered pairs
        most = math.inf if periodic else size * (size - 1)
        edges = int(min(math.ceil(growth * num_edges), most))
        far = int(min(math.ceil(growth * num_long_edges), most / 2))
        room = Budget(1, size, max(edges, 1), math.ceil(growth * num_triplets), size, far)
        known.append(room)
        return room

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

    def _compare_initial(self, atoms: Atoms) -> None:
        """Warns once of charges and moments of the atoms that do not fit what is read."""
        state = charge_and_spin(atoms.info)
        charge, spin = state.get("total_charge", 0.0), state.get("spin_multiplicity", 1)
        found = {}
        for name, total in (("initial_charges", charge), ("initial_magmoms", spin - 1)):
            if atoms.has(name) and abs(np.sum(atoms.arrays[name])) != 0.0:
                found[name] = abs(np.sum(atoms.arrays[name]) - total)
        if max(found.values(), default=0.0) > 1e-3 and not self._has_told:
            self._has_told = True
            warnings.warn(
                f"{sorted(found)} of the atoms are not read, and do not fit what is: "
                f"info['charge']={charge:g}, info['spin']={spin:g}. Set both in `atoms.info`: the "
                "total charge, and 2S+1, the number of unpaired electrons plus one.",
                stacklevel=2,
            )


def to_graph(atoms: Atoms) -> Graph:
    """Makes the structure of ASE's atoms, with what `info` states of charge and spin."""
    periodic = bool(np.any(atoms.pbc))
    stated = charge_and_spin(atoms.info)
    return structure(
        atoms.positions,
        atoms.numbers,
        cell=atoms.cell.array if periodic else None,
        pbc=atoms.pbc if periodic else None,
        total_charge=stated.get("total_charge"),
        spin_multiplicity=stated.get("spin_multiplicity"),
    )


def name_atoms(atoms: Atoms, rows: Array) -> str:
    """Lists atoms by symbol and index, the first ten of them."""
    named = ", ".join(f"{atoms.symbols[row]}{row}" for row in rows[:10])
    return named if len(rows) <= 10 else f"{named} and {len(rows) - 10} more"


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
        inside = np.einsum("ij,ij->i", vectors, vectors) <= self.cutoff * self.cutoff
        return NeighborList(senders[inside], receivers[inside], shifts[inside])


def _in_dtype(model: ForceField, dtype: str | None) -> ForceField:
    """Returns the model, or a copy with the same weights in another precision."""
    if dtype is None or dtype == model.compute_dtype:
        return model
    if dtype not in ("float32", "float64"):
        raise ValueError(f"`dtype` is 'float32', 'float64' or None. Received: dtype='{dtype}'.")
    return model.copy(dtype)


class _Lock:
    """Lets one thread after the other into a block; copies, as of a calculator, are new locks."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[_Lock], tuple[()]]:
        return _Lock, ()


def _has_volume(atoms: Atoms) -> bool:
    return bool(np.any(atoms.pbc) and has_volume(atoms.cell.array))


def _check_volume(name: str, atoms: Atoms) -> None:
    if not _has_volume(atoms):
        raise PropertyNotImplementedError(
            f"There is no volume, so there is no {name}. Received: cell={atoms.cell.tolist()}, "
            f"pbc={atoms.pbc.tolist()}. Ask for energy and forces alone (a socket client: "
            "use_stress=False), or give a slab a third lattice vector."
        )


def _as_float64(value: Any) -> Any:
    return value if isinstance(value, float) else np.asarray(value, np.float64)
