"""Singlet and triplet carbene, which come with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from keras_mlff.datasets.tools.shipped import ShippedDataset
from keras_mlff.graph import Array, Graph, structure

FILE = Path(__file__).with_name("ch2.npz")
MULTIPLICITIES = {"both": (1, 3), "singlet": (1,), "triplet": (3,)}


class CH2(ShippedDataset):
    """Carbene with two lengths and the angle on a grid, 1,000 geometries per spin state.

    Computed by recipes/generate/generate_ch2.py as the CMRET paper describes, and part of
    the package, so nothing is downloaded. `train` and `test` are shuffled once for all, so that
    their slices are random samples.
    """

    name = "ch2"
    CONFIGS: ClassVar[dict[str, str]] = {
        "both": "Singlet and triplet.",
        "singlet": "Singlet, restricted Kohn-Sham.",
        "triplet": "Triplet, unrestricted Kohn-Sham.",
    }
    HOMEPAGE = "https://arxiv.org/abs/2308.10752"
    CITATION = """@misc{tao2023cmret,
  title = {Comprehensive Molecular Representation from Equivariant Transformer},
  author = {Tao, Nianze and Morimoto, Hiromi and Leoni, Stefano},
  year = {2023},
  eprint = {2308.10752},
  archivePrefix = {arXiv},
}"""
    LICENSE = "Apache-2.0"
    LEVEL_OF_THEORY = "B3LYP/cc-pVDZ (VWN5), PySCF"
    STRUCTURES = "1,000 in each spin state"
    ELEMENTS = "H C"

    @classmethod
    def read(cls, config: str) -> dict[str, list[Graph]]:
        """Reads the structures of one spin state or of both.

        Args:
            config: `"both"`, `"singlet"` or `"triplet"`.

        Returns:
            `train` and `test` with energy (eV) and forces (eV/Å). `scan` (the angle at both
            lengths 1.1 Å) and `surface` (angle by length, equal lengths) have no forces, but
            `angle` in degrees and `length` in Å.
        """
        with FILE.open("rb") as stream:
            data = dict(np.load(stream))
        multiplicities = MULTIPLICITIES[config]
        parts = {}
        for name in ("train", "test"):
            rows = np.random.default_rng(0).permutation(data[f"split_{name}"])
            parts[name] = [
                structure(
                    data["positions"][row],
                    data["atomic_numbers"],
                    spin_multiplicity=int(data["spin_multiplicity"][row]),
                    energy=data["energy"][row],
                    forces=data["forces"][row],
                )
                for row in rows
                if data["spin_multiplicity"][row] in multiplicities
            ]
        scan_energy = data["scan_energy"][:, :, None]  # (spin, angle, length), as surface_energy
        parts["scan"] = _points(data, multiplicities, "scan", np.asarray([1.1]), scan_energy)
        parts["surface"] = _points(
            data, multiplicities, "surface", data["surface_length"], data["surface_energy"]
        )
        return parts


def metadata() -> dict[str, Any]:
    """Tells how the file of the package was computed: theory, grid, units, program."""
    with np.load(FILE) as file:
        return dict(json.loads(str(file["metadata"])))


def _points(
    data: dict[str, Array],
    multiplicities: tuple[int, ...],
    name: str,
    lengths: Array,
    energies: Array,
) -> list[Graph]:
    """Makes the structures of a scan or a surface, whose bonds have equal lengths.

    Args:
        data: The arrays of the file.
        multiplicities: The spin states to include.
        name: `"scan"` or `"surface"`.
        lengths: `(num_lengths,)`, Å.
        energies: `(2, num_angles, num_lengths)`, eV, singlet first.
    """
    points = []
    for spin, multiplicity in enumerate((1, 3)):
        if multiplicity not in multiplicities:
            continue
        for row, angle in enumerate(data[f"{name}_angle"]):
            half = np.deg2rad(0.5 * angle)
            direction = np.asarray([np.cos(half), np.sin(half), 0.0])
            hydrogens = np.stack([direction, direction * [1.0, -1.0, 1.0]])  # of length 1 Å
            for column, length in enumerate(lengths):
                points.append(
                    structure(
                        np.concatenate([np.zeros((1, 3)), length * hydrogens]),
                        data["atomic_numbers"],
                        spin_multiplicity=multiplicity,
                        energy=energies[spin, row, column],
                        angle=angle,
                        length=length,
                    )
                )
    return points
