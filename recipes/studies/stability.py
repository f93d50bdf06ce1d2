"""How stable dynamics with a preset are: 100 ps at 500 K without a broken bond, and energy drift.

Starts from a structure of the preset, holds the temperature (Langevin) and watches every bond; then
goes on at constant energy from the last frame. Works for molecules and any architecture.

Run: python recipes/studies/stability.py --preset=so3krates/md17_ethanol
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff import cli, md, models, plots, publish, saving
from keras_mlff.graph import Array
from keras_mlff.md import observables

BOND = 1.5  # times the sum of the covalent radii, beyond which a bond is broken
FRAMES, FIGURE, RESULTS = "frames.npz", "stability.png", "results.json"


def main(
    preset: str = "so3krates/md17_ethanol",
    data: str = "",
    split: str = "all[:1]",
    temperature: float = 500.0,
    nvt_ps: float = 100.0,
    nve_ps: float = 10.0,
    time_step: float = 0.5,
    friction: float = 0.01,
    interval: int = 10,
    piece_ps: float = 1.0,
    seed: int = 0,
    dtype: str = "float32",
    folder: str = "runs/stability",
) -> dict[str, Any]:
    """Runs in pieces, writes each as it is done, and goes on where it was stopped.

    A finished run may be lengthened. Constant energy begins where constant temperature ends, so it
    is done anew if the latter is lengthened.

    Args:
        preset: Name or folder.
        data: File with the structure to start from; that of the preset's reference where empty.
        split: Which structure of the file; the first is taken.
        temperature: K.
        nvt_ps: Length at constant temperature, ps; 0 leaves it out.
        nve_ps: Length at constant energy, ps; 0 leaves it out.
        time_step: fs.
        friction: 1/fs.
        interval: Steps from one recorded frame to the next.
        piece_ps: Length between two writes, ps.
        seed: Of velocities and random forces.
        dtype: Of the forces, "float32" or "float64".
        folder: Receives `frames.npz`, `results.json` and `stability.png`.

    Returns:
        What `summarize` finds.

    Raises:
        ValueError: If a length rounds to no step, or the folder holds another run.
    """
    lengths = {
        "nvt": count_steps("nvt_ps", nvt_ps, time_step),
        "nve": count_steps("nve_ps", nve_ps, time_step),
    }
    model = models.load_preset(preset)
    assert model.preset is not None
    start = publish.example_structure(model.preset, data, split)
    atoms = md.to_atoms(start)
    atoms.calc = md.MLFFCalculator(model, dtype=dtype)
    file = Path(folder, FRAMES)
    settings = {
        "preset": preset,
        "weights_sha256": model.preset.metadata["weights_sha256"],  # names outlive weights
        "data": data,
        "split": split,
        "temperature": temperature,
        "time_step": time_step,
        "friction": friction,
        "interval": interval,
        "piece_ps": piece_ps,
        "seed": seed,
        "dtype": dtype,
    }
    stored = resume(file, settings)
    if num_done(stored, "nvt") < lengths["nvt"]:  # what began where that ended is done anew
        stored = {name: array for name, array in stored.items() if not name.startswith("nve/")}
    bonds = observables.bonds(start["positions"], start["atomic_numbers"])
    limits = breaking_lengths(start["atomic_numbers"], bonds)
    piece_steps = max(interval, round(piece_ps * 1e3 / time_step))

    def drive(ensemble: str, run: Callable[[int, int, int], md.Trajectory]) -> None:
        length = lengths[ensemble]
        if f"{ensemble}/positions" in stored:
            atoms.set_positions(stored[f"{ensemble}/positions"])
            atoms.set_momenta(stored[f"{ensemble}/momenta"])
        while (done := num_done(stored, ensemble)) < length and not is_broken(stored):
            num_steps = min(piece_steps, length - done)
            if num_steps > interval:
                num_steps -= num_steps % interval  # the rest is a piece of its own
            steps = stored.get(f"{ensemble}/steps", np.zeros(0, np.int64))
            piece = len(steps)
            begun = time.monotonic()
            frames = run(num_steps, piece, min(interval, num_steps))
            first = 0 if piece == 0 else 1  # the last frame of the piece before
            stretches = observables.pair_distances(frames.positions, bonds) / limits
            parts = {
                "times": frames.times + done * time_step,
                "temperatures": frames.temperatures,
                "total_energies": frames.total_energies,
                "stretches": stretches.max(axis=1, initial=0.0),
            }
            for name, values in parts.items():
                before = stored.get(f"{ensemble}/{name}", np.zeros(0))
                stored[f"{ensemble}/{name}"] = np.concatenate([before, values[first:]])
            stored[f"{ensemble}/steps"] = np.append(steps, num_steps)
            stored[f"{ensemble}/positions"] = atoms.get_positions()
            stored[f"{ensemble}/momenta"] = atoms.get_momenta()
            saving.write_npz(file, stored)
            seconds, longest = time.monotonic() - begun, parts["stretches"].max()
            print(
                f"{ensemble.upper()}: {(done + num_steps) * time_step * 1e-3:g} of "
                f"{length * time_step * 1e-3:g} ps, "
                f"{frames.temperatures.mean():.0f} K, longest bond {longest:.2f} of what "
                f"breaks it, {1e3 * seconds / num_steps:.1f} ms per step",
                flush=True,
            )

    md.set_temperature(atoms, temperature, seed=seed)
    drive(
        "nvt",
        lambda num_steps, piece, interval: md.run_nvt(
            atoms,
            temperature,
            num_steps,
            time_step,
            friction,
            seed * 1_000_003 + piece,
            interval,
            max_temperature=np.inf,  # how it breaks is what is looked at
        ),
    )
    drive(
        "nve",
        lambda num_steps, piece, interval: md.run_nve(
            atoms, num_steps, time_step, interval, max_temperature=np.inf
        ),
    )
    results = summarize(stored, len(atoms)) | {"settings": settings}
    saving.write_json(Path(folder, RESULTS), results)
    figure(stored).savefig(Path(folder, FIGURE), dpi=120)
    return results


def count_steps(name: str, length: float, time_step: float) -> int:
    """Converts a length in ps to steps.

    Raises:
        ValueError: If it rounds to no step, and is not 0.
    """
    steps = round(length * 1e3 / time_step)
    if length != 0.0 and steps < 1:
        raise ValueError(
            f"A run is at least one step long. Received: {name}={length} ps, time_step={time_step} "
            f"fs. Pass {time_step * 1e-3:g} or more, or 0 to leave it out."
        )
    return steps


def num_done(stored: dict[str, Array], ensemble: str) -> int:
    """Counts the steps of all pieces so far."""
    return int(np.sum(stored.get(f"{ensemble}/steps", 0)))


def breaking_lengths(atomic_numbers: Array, bonds: Array) -> Array:
    """Lists how long each bond is when it counts as broken, Å."""
    from ase.data import covalent_radii

    return np.asarray(BOND * covalent_radii[atomic_numbers[bonds]].sum(axis=1))


def resume(file: Path, settings: dict[str, Any]) -> dict[str, Array]:
    """Reads what is done, or makes a beginning.

    Raises:
        ValueError: If it was done with other settings, weights or an earlier version.
    """
    text = json.dumps(settings)
    if not file.exists():
        return {"settings": np.asarray(text)}
    with np.load(file) as arrays:
        stored = dict(arrays)
    if "positions" in stored:
        raise ValueError(
            "An earlier version wrote the folder, which kept one last frame for both ensembles. "
            f"Received: '{file}'. Choose another folder, or remove the file to begin again."
        )
    there = json.loads(str(stored["settings"]))
    differing = [key for key in settings if there.get(key) != settings[key]]
    if differing:
        what = "weights" if differing == ["weights_sha256"] else "settings"
        raise ValueError(
            f"The folder holds a run with other {what}. Received: "
            f"{ {key: settings[key] for key in differing} }, there "
            f"{ {key: there.get(key) for key in differing} }. Choose another folder, or remove "
            f"'{file}' to begin again."
        )
    return stored


def is_broken(stored: dict[str, Array]) -> bool:
    """Tells whether a bond has been longer than a bond can be."""
    found = [stored[key] for key in stored if key.endswith("/stretches")]
    return any(bool(np.any(stretches > 1.0)) for stretches in found)


def summarize(stored: dict[str, Array], num_atoms: int) -> dict[str, Any]:
    """Tells for each ensemble how long it ran, how hot, and whether a bond broke; and the drift."""
    results: dict[str, Any] = {}
    for ensemble in ("nvt", "nve"):
        times = stored.get(f"{ensemble}/times", np.zeros(0))
        if not len(times):
            continue
        stretches = stored[f"{ensemble}/stretches"]
        broken = np.flatnonzero(stretches > 1.0)
        results[ensemble] = {
            "length_ps": float(times[-1]) * 1e-3,
            "mean_temperature_K": float(stored[f"{ensemble}/temperatures"].mean()),
            "longest_bond": float(stretches.max()),
            "first_broken_ps": float(times[broken[0]]) * 1e-3 if len(broken) else None,
        }
        if ensemble == "nve":
            energies = stored["nve/total_energies"]
            drift = observables.energy_drift(times, energies, num_atoms)
            results["nve"] |= {
                "drift_meV_per_atom_ps": 1e3 * drift,
                "largest_deviation_meV": 1e3 * float(np.abs(energies - energies[0]).max()),
            }
    return results


def figure(stored: dict[str, Array]) -> Any:
    """Draws temperature and longest bond at constant temperature, and the conserved energy."""
    made, ((heat, bond, energy),) = plots.subplots(1, 3)
    if "nvt/times" in stored:
        times = stored["nvt/times"] * 1e-3
        heat.plot(times, stored["nvt/temperatures"], linewidth=0.5)
        bond.plot(times, stored["nvt/stretches"], linewidth=0.5)
    heat.set(xlabel="time / ps", ylabel="temperature / K", title="constant temperature")
    bond.axhline(1.0, color="tab:red", linewidth=1.0)
    bond.set(xlabel="time / ps", ylabel="longest bond / length that breaks it")
    if "nve/times" in stored:
        energies = stored["nve/total_energies"]
        energy.plot(stored["nve/times"] * 1e-3, 1e3 * (energies - energies[0]), linewidth=0.5)
    energy.set(xlabel="time / ps", ylabel="total energy / meV", title="constant energy")
    return made


if __name__ == "__main__":
    cli.run(main)
