"""Presets of SO3LR, made of parameters that a user has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from keras_mlff import __version__, presets
from keras_mlff.models import So3krates
from keras_mlff.models.so3krates import so3lr
from keras_mlff.publish.card import card

_NOTES = """\
## What it gives

Measured in float64, with all pairs; errors of forces are mean absolute ones beside mean forces:

| | QM7-X, PBE0+MBD | 3BPA, wB97X/6-31G* | SPICE dipeptides, wB97M-D3BJ/TZVPPD |
|---|---|---|---|
| frames | 80 | 20 | 12 |
| forces, meV/Å | 55.9 (1,189) | 117.7 (798) | 90.1 (702) |
| relative energies, meV | 26.0 | 45.0 | |

Interaction energies of 224 neutral dimers of SAPT10k: 1.06 kcal/mol of 2.89. Of 36 charged \
ones: 16.6 against separate monomers, 1.42 with the charge of each monomer kept \
(`graph.structure(..., fragments=..., fragment_charges=...)`) and the reference at a large distance.

## What does not hold

- Stacked benzene is under-bound: -1.4 kcal/mol near 3.9 Å, where the reference has -2.8 at 3.6 Å.
- Energies with a net charge are not size-consistent: embedding and partial charges share the \
charge over all atoms, so that water and ammonium 300 Å apart differ by 0.73 eV from their sum. \
Fragments with charges of their own mend it.
- Energies of different formulas cannot be compared: there are no atomization or reaction energies.
- Energies depend on the cutoff of the long-range terms (alanine dipeptide: -39.472 eV at 12 Å, \
-40.029 eV with all pairs). One cutoff belongs to one study."""
_METADATA: dict[str, Any] = {
    "description": "SO3LR, a general force field of H, C, N, O, F, P, S and Cl by Kabylda et al., "
    "made of its published parameters.",
    "dataset": "3,846,600 structures of the authors, of which forces, dipoles and Hirshfeld ratios "
    "were learned, and no energies",
    "level_of_theory": "PBE0+MBD, as published",
    "license": "MIT, of the authors' program and parameters",
    "citation": "Kabylda et al., 2025, https://doi.org/10.1021/jacs.5c09558",
    "elements": so3lr.ELEMENTS,
    "keras_mlff_version": __version__,
}


def import_so3lr(
    path: str | Path, long_range_cutoff: float = 12.0, folder: str | Path | None = None
) -> presets.Preset:
    """Makes a preset of SO3LR's parameters, with a card that states what it cannot do.

    Args:
        path: What `So3krates.from_so3lr` reads.
        long_range_cutoff: Å, where electrostatics and dispersion end.
        folder: Where to; `so3krates/so3lr` in the user's zoo where `None`.

    Returns:
        The preset, which `So3krates.from_preset("so3lr")` loads if it is in a zoo.

    Raises:
        ValueError: If the file holds something else, or the folder is not a preset's.
    """
    chosen = presets.user_zoo() / "so3krates" / "so3lr" if folder is None else Path(folder)
    presets.check_folder(chosen)
    model = So3krates.from_so3lr(path, long_range_cutoff)
    notes = [f"Electrostatics and dispersion end at {long_range_cutoff:g} Å.", _NOTES]
    preset = presets.save(model, chosen, **_METADATA, notes=notes)
    text = card(preset)
    temporary = preset.folder / ".README.md"
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, preset.folder / "README.md")
    return preset
