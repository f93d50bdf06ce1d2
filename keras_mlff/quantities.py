"""The table of quantities: what a name means, wherever it is read, learned, predicted or written.

Each quantity is described here once, by the axis it belongs to, its shape, its unit and how that
unit changes when energies or lengths are given in others. Graphs, files, data sets, heads, losses,
the ASE calculator, exports and tables all read this table, so that a further quantity is one call:

    quantities.register("magnetic_moments", level="atom", shape=(), unit="muB", ase="magmoms")

A label may be missing in some structures. In a graph a missing value is NaN, and a graph in which a
label is missing altogether need not have its key.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Literal, NamedTuple

Level = Literal["structure", "atom", "edge", "triplet", "long_edge"]
LEVELS: tuple[Level, ...] = ("structure", "atom", "edge")  # of what may be registered


class Dimension(NamedTuple):
    """Exponents of energy, length and charge in a unit: a force is `Dimension(1, -1)`.

    What does not change when a file states its energies in hartree or its lengths in bohr has the
    dimension `Dimension()`, whatever its unit: a magnetic moment, a spin, a label of a class.
    """

    energy: int = 0
    length: int = 0
    charge: int = 0

    def factor(self, energy: float = 1.0, length: float = 1.0, charge: float = 1.0) -> float:
        """Computes what converts values whose base units have these sizes in eV, Å and e."""
        return energy**self.energy * length**self.length * charge**self.charge


_NONE = Dimension()


@dataclasses.dataclass(frozen=True)
class Quantity:
    """One quantity: an input or a label of structures, or a prediction.

    Attributes:
        name: The key in graphs, predictions, files and presets.
        level: What its first axis counts: `"structure"`, `"atom"` or `"edge"`.
        shape: The shape of one value, without that axis: `()` of a number, `(3,)` of a vector.
        unit: The unit in this package, for display: `"eV/Å"`.
        dimension: How values change with the units of energy, length and charge.
        extensive: Whether the values of two systems far apart add up (of a structure), so that
            a value for each element can be fitted to it.
        ase: The name in ASE's calculators and arrays; `None` where ASE has none.
        needs_volume: Whether it is defined only where the cell has a volume, as a stress is.
        description: What it is and which sign it has, in a few words.
    """

    name: str
    level: Level
    shape: tuple[int, ...] = ()
    unit: str = ""
    dimension: Dimension = _NONE
    extensive: bool = False
    ase: str | None = None
    needs_volume: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(
                "A quantity's name is a key in files and a keyword in Python, so it has letters, "
                f"digits and underscores alone. Received: name='{self.name}'."
            )
        if self.level not in LEVELS:
            raise ValueError(
                f"A quantity belongs to a structure, to its atoms or to its edges. Received: "
                f"'{self.name}' with level='{self.level}'. Choose from {list(LEVELS)}."
            )
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        object.__setattr__(self, "dimension", Dimension(*self.dimension))
        if any(size < 1 for size in self.shape):
            raise ValueError(
                "The shape of one value has sizes of at least 1. "
                f"Received: '{self.name}' with shape={self.shape}."
            )


_ENERGY, _LENGTH, _CHARGE = Dimension(1), Dimension(0, 1), Dimension(0, 0, 1)
_BUILT_IN = (
    # what a model may read
    Quantity("positions", "atom", (3,), "Å", _LENGTH, ase="positions"),
    Quantity("atomic_numbers", "atom", ase="numbers"),
    Quantity("cell", "structure", (3, 3), "Å", _LENGTH, ase="cell", description="vectors in rows"),
    Quantity("pbc", "structure", (3,), ase="pbc", description="whether each direction is periodic"),
    Quantity("total_charge", "structure", (), "e", _CHARGE, extensive=True, ase="charge"),
    Quantity("spin_multiplicity", "structure", (), ase="spin", description="2S+1, 1 = singlet"),
    # the energy and its derivatives
    Quantity("energy", "structure", (), "eV", _ENERGY, extensive=True, ase="energy"),
    Quantity("atomic_energies", "atom", (), "eV", _ENERGY, ase="energies"),
    Quantity("forces", "atom", (3,), "eV/Å", Dimension(1, -1), ase="forces"),
    Quantity(
        "stress",
        "structure",
        (3, 3),
        "eV/Å³",
        Dimension(1, -3),
        ase="stress",
        needs_volume=True,
        description="positive when stretched, which is ASE's sign",
    ),
    # the response to fields, and how charge is distributed
    Quantity("dipole", "structure", (3,), "e·Å", Dimension(0, 1, 1), ase="dipole"),
    Quantity("dipole_norm", "structure", (), "e·Å", Dimension(0, 1, 1)),
    Quantity("polarizability", "structure", (3, 3), "Å³", Dimension(0, 3)),
    Quantity("polarizability_isotropic", "structure", (), "Å³", Dimension(0, 3)),
    Quantity("polarizability_norm", "structure", (), "Å³", Dimension(0, 3)),
    Quantity("spatial_extent", "structure", (), "Å²", Dimension(0, 2), description="<R²>"),
    Quantity("partial_charges", "atom", (), "e", _CHARGE, ase="charges"),
    Quantity(
        "hirshfeld_ratios", "atom", description="volume of the atom over that of the free atom"
    ),
    Quantity(
        "frequencies",
        "atom",
        (3,),
        "1/cm",
        description="harmonic ones of the whole molecule, ascending; rigid motions are zeros first",
    ),
    # QM9, by the names that its papers use
    Quantity("mu", "structure", (), "e·Å", Dimension(0, 1, 1), description="norm of the dipole"),
    Quantity("alpha", "structure", (), "Å³", Dimension(0, 3), description="polarizability"),
    Quantity("homo", "structure", (), "eV", _ENERGY),
    Quantity("lumo", "structure", (), "eV", _ENERGY),
    Quantity("gap", "structure", (), "eV", _ENERGY),
    Quantity("r2", "structure", (), "Å²", Dimension(0, 2), description="spatial extent"),
    Quantity("zpve", "structure", (), "eV", _ENERGY, extensive=True),
    Quantity("U0", "structure", (), "eV", _ENERGY, extensive=True),
    Quantity("U", "structure", (), "eV", _ENERGY, extensive=True),
    Quantity("H", "structure", (), "eV", _ENERGY, extensive=True),
    Quantity("G", "structure", (), "eV", _ENERGY, extensive=True),
    Quantity("Cv", "structure", (), "eV/K", _ENERGY, extensive=True),
    # what single data sets know
    Quantity("reference_energy", "structure", (), "eV", _ENERGY, description="OC20's zero"),
    Quantity("shape", "structure", description="class of a pair of geometries, 0 or 1"),
    Quantity("angle", "structure", (), "degree", description="of a scan, as in ch2"),
    Quantity("length", "structure", (), "Å", _LENGTH, description="of a scan, as in ch2"),
    Quantity("A", "structure", (), "GHz", description="rotational constant of QM9, the largest"),
    Quantity("B", "structure", (), "GHz", description="rotational constant of QM9"),
    Quantity("C", "structure", (), "GHz", description="rotational constant of QM9, the smallest"),
)
_table: dict[str, Quantity] = {quantity.name: quantity for quantity in _BUILT_IN}
_declared: set[str] = set()  # by heads and stores alone, which know less than a user may say


def register(
    name: str,
    level: Level,
    shape: tuple[int, ...] = (),
    unit: str = "",
    dimension: Dimension | tuple[int, ...] = (),
    extensive: bool = False,
    ase: str | None = None,
    description: str = "",
) -> Quantity:
    """Makes a quantity known to the whole package, for as long as the process runs.

    Args:
        name: Its key in graphs, predictions, files and presets.
        level: What its first axis counts: `"structure"`, `"atom"` or `"edge"`.
        shape: The shape of one value, without that axis.
        unit: The unit of its values in this package, for display.
        dimension: Exponents of energy, length and charge in that unit, which convert files in other
            units: `(1, -1)` for a force. Empty for what does not change with them.
        extensive: Whether the values of two systems far apart add up.
        ase: ASE's name for it, where it has one.
        description: What it is, in a few words.

    Returns:
        The quantity. Registering the same one again changes nothing.

    Raises:
        ValueError: If another quantity has that name, or ASE's name, already.

    Example:
        >>> register("shieldings", level="atom", shape=(), unit="ppm").level
        'atom'
        >>> unregister("shieldings")
    """
    made = Quantity(
        name,
        level,
        shape,
        unit,
        Dimension(*dimension),
        extensive,
        ase,
        description=description,
    )
    known = _table.get(name)
    completes = name in _declared and known is not None and _agree(known, made)
    if known is not None and known != made and not completes:
        raise ValueError(
            f"'{name}' means something else already. Received: {made}; there is {known}. "
            "Choose another name."
        )
    other = next((q for q in _table.values() if ase and q.ase == ase and q.name != name), None)
    if other is not None:
        raise ValueError(
            f"ASE's name '{ase}' belongs to '{other.name}'. Received: ase='{ase}' for '{name}'. "
            f"Use the quantity '{other.name}', or leave `ase` out."
        )
    _table[name] = made
    _declared.discard(name)
    return made


def declare(quantity: Quantity) -> Quantity:
    """Makes a quantity known unless it is: what heads do with their predictions when models load.

    A later call of `register` may add what is not stated here, such as ASE's name.

    Returns:
        What the table says now.

    Raises:
        ValueError: If the name is known with another level, shape or unit.
    """
    found = _table.get(quantity.name)
    if found is None:
        taken = quantity.ase is not None and by_ase_name(quantity.ase) is not None
        _table[quantity.name] = dataclasses.replace(quantity, ase=None) if taken else quantity
        _declared.add(quantity.name)
        return _table[quantity.name]
    if not _agree(found, quantity):
        raise ValueError(
            f"'{quantity.name}' is known with another level, shape or unit. Received: "
            f"{_brief(quantity)}; known is {_brief(found)}. Choose another name, or predict and "
            "label it as the table says (keras_mlff.quantities.get)."
        )
    if quantity.name in _declared and found.ase is None and quantity.ase is not None:
        _table[quantity.name] = quantity
    return _table[quantity.name]


def _agree(first: Quantity, second: Quantity) -> bool:
    """Tells whether values of two quantities of one name can be compared."""
    same_unit = first.unit == second.unit or "" in (first.unit, second.unit)
    return (first.level, first.shape) == (second.level, second.shape) and same_unit


def _brief(quantity: Quantity) -> str:
    return f"(level='{quantity.level}', shape={quantity.shape}, unit='{quantity.unit}')"


def unregister(name: str) -> None:
    """Forgets a quantity that was registered; those of this package stay.

    Raises:
        ValueError: If it is one of this package's.
    """
    if is_built_in(name):
        raise ValueError(f"'{name}' belongs to this package and cannot be forgotten.")
    _table.pop(name, None)
    _declared.discard(name)


def is_built_in(name: str) -> bool:
    """Tells whether a quantity is one of this package's, which every process knows."""
    return any(quantity.name == name for quantity in _BUILT_IN)


def known() -> dict[str, Quantity]:
    """Lists all quantities by name, those registered by users last."""
    return dict(_table)


def find(name: str) -> Quantity | None:
    """Finds a quantity by its name; `None` where it is not registered."""
    return _table.get(name)


def get(name: str) -> Quantity:
    """Finds a quantity by its name.

    Raises:
        ValueError: If it is not registered, with the call that registers it.
    """
    found = _table.get(name)
    if found is None:
        near = difflib.get_close_matches(name, _table, n=3)
        raise ValueError(
            f"'{name}' is not a registered quantity, so its shape and unit are not known. "
            + (f"Did you mean {' or '.join(near)}? " if near else "")
            + "Register it before it is used: keras_mlff.quantities.register("
            f"'{name}', level='atom', shape=(), unit='...') for a number of each atom, "
            "level='structure' for a number of the whole structure; on the command line, "
            f"--set quantities.{name}.level=atom."
        )
    return found


def by_ase_name(name: str) -> Quantity | None:
    """Finds a quantity by ASE's name for it; `None` where there is none."""
    return next((quantity for quantity in _table.values() if quantity.ase == name), None)


def unit(name: str) -> str:
    """Tells the unit of a quantity in this package; empty where it has none or is not known."""
    found = _table.get(name)
    return "" if found is None else found.unit


def to_config(quantity: Quantity) -> dict[str, object]:
    """Describes a quantity in plain values, as presets and stores keep it."""
    config = dataclasses.asdict(quantity)
    config["shape"], config["dimension"] = list(quantity.shape), list(quantity.dimension)
    return {key: value for key, value in config.items() if value not in (None, "", False)}
