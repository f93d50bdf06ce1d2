"""Joins pieces of QM9 by the molecules' index into one file that `datasets.load` reads.

For machines without the original archive: there, `keras_mlff.datasets.load("qm9")` is the way. The
folder holds npz files, every one with `index`, the number in the names of QM9's own files:

    qm9_structures.npz       index, n_atoms (molecules,); numbers (atoms,), positions (atoms, 3), Å
    qm9_properties.npz       index and mu alpha homo lumo gap r2 zpve U0 U H G Cv (molecules,), in
                             the units of QM9's files: D, bohr³, hartree, bohr², cal/(mol K)
    qm9_uncharacterized.npz  index of the molecules that failed the consistency check

Kept are molecules with a structure and all 12 properties that did not fail the check. The result is
ordered by index and holds `index`, `n_atoms`, `atomic_numbers`, `positions` and the 12 labels, in
e·Å, Å³, eV, Å² and eV/K.

Run: python recipes/generate/convert_qm9.py --folder=qm9 --output=runs/qm9.npz
Then: keras_mlff.datasets.load("runs/qm9.npz", labels=["U0", "mu"])
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keras_mlff import cli, saving
from keras_mlff.datasets.tools.qm9_format import FACTORS, TARGETS

NEEDED = {
    "structures": ("index", "n_atoms", "numbers", "positions"),
    "properties": ("index", *TARGETS),
    "uncharacterized": ("index",),
}


def main(folder: str = "qm9", output: str = "runs/qm9.npz") -> int:
    """Writes the file and returns the number of molecules in it.

    Args:
        folder: Holds the three files above. Others are not read.
        output: Name of the new file. Written under another name first, so that it is never half
            a file.
    """
    pieces = {}
    for name, keys in NEEDED.items():
        path = Path(folder, f"qm9_{name}.npz")
        if not path.is_file():
            raise ValueError(f"There is no '{path}'. Put it there, or give another folder.")
        with np.load(path) as file:
            missing = sorted(set(keys) - set(file.files))
            if missing:
                raise ValueError(f"'{path}' lacks {missing}. Received: arrays {file.files}.")
            pieces[name] = {key: file[key] for key in keys}
    atoms, properties = pieces["structures"], pieces["properties"]
    shared, rows, label_rows = np.intersect1d(
        atoms["index"], properties["index"], assume_unique=True, return_indices=True
    )
    labels = {key: properties[key][label_rows].astype(np.float64) for key in TARGETS}
    usable = ~np.isin(shared, pieces["uncharacterized"]["index"])
    usable &= np.all([np.isfinite(values) for values in labels.values()], axis=0)
    rows, sizes = rows[usable], atoms["n_atoms"].astype(np.int64)
    starts = np.cumsum(sizes) - sizes
    places = np.concatenate([np.arange(starts[row], starts[row] + sizes[row]) for row in rows])
    arrays = {
        "index": shared[usable],
        "n_atoms": sizes[rows].astype(np.int32),
        "atomic_numbers": atoms["numbers"][places],
        "positions": atoms["positions"][places],
    }
    arrays |= {key: labels[key][usable] * FACTORS[key] for key in TARGETS}
    saving.write_npz(output, arrays)
    print(f"{len(rows)} molecules, {len(places)} atoms: {output}")
    return len(rows)


if __name__ == "__main__":
    cli.run(main)
