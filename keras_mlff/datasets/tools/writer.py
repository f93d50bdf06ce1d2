"""Structures and predictions written as extended XYZ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_mlff import quantities, saving
from keras_mlff.datasets.tools.ase_files import import_ase
from keras_mlff.datasets.tools.rows import label_is_missing, to_voigt
from keras_mlff.graph import INPUT_LEVELS, Array, Graph, level

LABEL_PREFIX = "label_"  # of labels beside predictions, which have the plain names


def save_structures(
    path: str | Path,
    structures: Sequence[Graph],
    predictions: Mapping[str, Array] | None = None,
) -> None:
    """Writes structures as extended XYZ, which `load_structures` and ASE read.

    Quantities that ASE knows are written as results of a calculator under ASE's names, so that
    `atoms.get_charges()` works; the others are columns or information under their own names. A
    label that a structure does not have is left out.

    Args:
        path: Name of the file, which ends in `.xyz` or `.extxyz`.
        structures: With or without labels.
        predictions: What `model.predict(structures)` returns. They get the plain names (`energy`,
            `forces`), and the labels of the structures are called `label_energy` and so on.

    Raises:
        ValueError: If the name has another ending.
        ImportError: If ASE is not installed.
    """
    check_output(path)
    ase = import_ase()
    images, first_atom = [], 0
    for index, graph in enumerate(structures):
        last_atom = first_atom + len(graph["atomic_numbers"])
        labels = {
            key: value if level(key) == "atom" else value[0]
            for key, value in graph.items()
            if key not in INPUT_LEVELS
        }
        predicted = {
            key: value[first_atom:last_atom] if level(key) == "atom" else value[index]
            for key, value in (predictions or {}).items()
        }
        first_atom = last_atom
        images.append(_image(ase, graph, labels, None if predictions is None else predicted))
    with saving.replacing(path) as file:
        ase.io.write(str(file), images, format="extxyz")


def check_output(path: str | Path) -> None:
    """Refuses names that `save_structures` would refuse; call it before the work, not after.

    Raises:
        ValueError: If the name does not end in `.xyz` or `.extxyz`.
    """
    if Path(path).suffix not in (".xyz", ".extxyz"):
        raise ValueError(
            f"Structures are written as extended XYZ. Received: '{path}'. Choose a name that ends "
            "in .xyz or .extxyz."
        )


def _image(
    ase: Any,
    graph: Graph,
    labels: Mapping[str, Array],
    predicted: Mapping[str, Array] | None,
) -> Any:
    """Makes ASE's atoms of a structure; predictions, where given, take the plain names."""
    from ase.calculators.singlepoint import SinglePointCalculator

    periodic = {"cell": graph["cell"][0], "pbc": graph["pbc"][0]} if "cell" in graph else {}
    atoms = ase.Atoms(graph["atomic_numbers"], graph["positions"], **periodic)
    atoms.info[quantities.get("total_charge").ase] = float(graph["total_charge"][0])
    atoms.info[quantities.get("spin_multiplicity").ase] = int(graph["spin_multiplicity"][0])
    plain = labels if predicted is None else predicted
    results = {}
    for key, value in plain.items():
        if _is_absent(key, value, graph):
            continue
        quantity = quantities.find(key)
        name = None if quantity is None else quantity.ase
        if name in _names_of_results():
            results[name] = to_voigt(value) if key == "stress" else value
        else:
            _attach(atoms, key, key, value)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    for key, value in {} if predicted is None else labels.items():
        if not _is_absent(key, value, graph):
            _attach(atoms, key, LABEL_PREFIX + key, value)
    return atoms


def _attach(atoms: Any, key: str, name: str, value: Array) -> None:
    """Writes a quantity where ASE keeps what it does not know: beside the atoms, or as `info`."""
    (atoms.arrays if level(key) == "atom" else atoms.info)[name] = value


def _is_absent(key: str, value: Array, graph: Graph) -> bool:
    """Tells whether there is nothing to write; a molecule has no stress."""
    quantity = quantities.find(key)
    needs_cell = quantity is not None and quantity.needs_volume
    return label_is_missing(value) or (needs_cell and "cell" not in graph)


def _names_of_results() -> set[str]:
    """Lists what ASE writes of a calculator's results, by its own names."""
    from ase.calculators.calculator import all_properties

    return {*all_properties}
