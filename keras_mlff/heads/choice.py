"""Which head predicts a quantity."""

from __future__ import annotations

from typing import Any

from keras_mlff import quantities
from keras_mlff.heads.atomic import AtomicHead
from keras_mlff.heads.dipole import DipoleHead
from keras_mlff.heads.energy import EnergyHead
from keras_mlff.heads.head import Head
from keras_mlff.heads.polarizability import PolarizabilityHead
from keras_mlff.heads.scalar import ScalarHead
from keras_mlff.heads.spatial_extent import SpatialExtentHead

# labels that a head computes beside the property it is named after, as QM9 names some of them
_ENERGIES = ("energy", "forces", "stress", "atomic_energies")
_DIPOLES = {"dipole": {}, "dipole_norm": {}, "mu": {"norm_name": "mu"}}
_POLARIZABILITIES = {
    "polarizability": {},
    "polarizability_isotropic": {},
    "polarizability_norm": {},
    "alpha": {"isotropic_name": "alpha"},
}
_EXTENTS = ("spatial_extent", "r2")


def for_label(name: str, **arguments: Any) -> Head:
    """Makes the head that predicts a quantity.

    Energy, forces and stress are an `EnergyHead`'s; dipole moments, polarizabilities and the
    spatial extent have heads of their own, by QM9's names (`mu`, `alpha`, `r2`) too. Other
    quantities of atoms get an `AtomicHead`, other numbers of a structure a `ScalarHead`, which sums
    where the table says that the quantity is extensive and averages where it does not.

    Args:
        name: A registered quantity.
        **arguments: Further arguments of the head's constructor: `total`, `readout`, ...

    Returns:
        The head. Several labels may ask for the same: `energy` and `forces`.

    Raises:
        ValueError: If the quantity is not registered, or if no head predicts its shape.

    Example:
        >>> for_label("gap").pooling, for_label("U0").pooling
        ('mean', 'sum')
    """
    quantity = quantities.get(name)
    if name in _ENERGIES:
        return EnergyHead(**arguments)
    if name in _DIPOLES:
        return DipoleHead(**_DIPOLES[name] | arguments)
    if name in _POLARIZABILITIES:
        return PolarizabilityHead(**_POLARIZABILITIES[name] | arguments)
    if name in _EXTENTS:
        return SpatialExtentHead(name, **arguments)
    if quantity.level == "atom" and quantity.shape in ((), (3,)):
        return AtomicHead(name, **arguments)
    if quantity.level == "structure" and quantity.shape == ():
        pooling = "sum" if quantity.extensive else "mean"
        return ScalarHead(name, **{"pooling": pooling, **arguments})
    raise ValueError(
        f"No head predicts '{name}', a value of each {quantity.level} with the shape "
        f"{quantity.shape}. Write one: a subclass of keras_mlff.heads.Head."
    )


def for_labels(names: list[str] | tuple[str, ...], **arguments: Any) -> list[Head]:
    """Makes the heads that predict several quantities, each head once.

    Args:
        names: Registered quantities, such as `["energy", "forces", "partial_charges"]`.
        **arguments: Further arguments of every head's constructor.

    Raises:
        ValueError: If one of them is not registered, or has no head.
    """
    made: dict[tuple[type[Head], str], Head] = {}
    for name in names:
        head = for_label(name, **arguments)
        key = type(head), head.name
        known = made.get(key)
        # `mu` beside `dipole`: the one with the special name serves both
        if known is None or name not in {*(q.name for q in known.outputs), *_ENERGIES}:
            made[key] = head
    return list(made.values())
