"""The main job in two minutes: preset, prediction, training, molecular dynamics, plots.

Everything runs on data and a preset that come with the package; nothing is downloaded.

Run: make demo
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ase import Atoms

from keras_mlff import cli, datasets, experiments, md, models, plots


def main(seconds: float = 60.0, num_steps: int = 1000, folder: str = "demo_output") -> Path:
    """Runs the demonstration.

    Args:
        seconds: Time for the training, compilation left out.
        num_steps: Steps of the molecular dynamics.
        folder: Receives the plots.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    print(f"\n1. Load a trained model (Keras backend: {keras.backend.backend()})")
    preset = models.CMRET.from_preset("ch2")
    print(f"   {preset.preset.description}  {preset.count_params():,} parameters")

    print("\n2. Predict CH2 in both spin states, on test points it has never seen")
    figure, axes = plots.subplots(1, 2)
    for column, spin in enumerate(("singlet", "triplet")):
        points = datasets.load(f"ch2/{spin}", split="test")
        predicted = preset.predict(points, batch_size=50)
        energies = np.concatenate([point["energy"] for point in points])
        forces = np.concatenate([point["forces"] for point in points])
        energy_error = 1e3 * np.abs(predicted["energy"] - energies).mean()
        forces_error = 1e3 * np.abs(predicted["forces"] - forces).mean()
        print(f"   {spin}: energy {energy_error:.2f} meV, forces {forces_error:.2f} meV/Å (MAE)")
        plots.parity(axes[0, column], forces, predicted["forces"], "force / eV/Å")
        axes[0, column].set_title(spin)
    figure.savefig(out / "forces.png", dpi=120)

    print("\n3. Train a small model of the same kind on the same data")
    train_small(seconds, out)

    print("\n4. Molecular dynamics of triplet CH2 at constant energy, from 300 K")
    run_dynamics(preset, num_steps, out)
    print(f"\nThe plots are in {out.resolve()}")
    return out


def train_small(seconds: float, out: Path) -> None:
    """Trains for about as long as asked and draws how the error falls."""
    points = datasets.load("ch2", split="train")
    model = models.CMRET(num_features=32, num_layers=2, num_heads=2, num_radial=20)
    clock = StopAfter(seconds)
    print("   compiling ...")
    with tempfile.TemporaryDirectory() as folder:
        results = experiments.train(
            model,
            points[:1400],
            validation=points[1400:],
            test=[],
            folder=folder,
            verbose=0,
            batch_size=50,
            num_epochs=40,
            learning_rate=3e-3,
            callbacks=(clock,),
            report=experiments.ReportSettings(units={"energy": "meV", "forces": "meV/Å"}),
        )
        shutil.copy(Path(folder, "learning_curve.png"), out / "training.png")
    energy, forces = (results.errors[label]["validation_mae"] for label in ("energy", "forces"))
    print(
        f"   {clock.epochs} epochs: energy {energy:.1f} meV, forces {forces:.1f} meV/Å "
        "(MAE on held-out points)"
    )


def run_dynamics(preset: models.ForceField, num_steps: int, out: Path) -> None:
    """Runs a short trajectory and draws whether the energy is conserved."""
    angle = np.deg2rad(134.0)
    positions = [[0, 0, 0], [1.08, 0, 0], [1.08 * np.cos(angle), 1.08 * np.sin(angle), 0]]
    atoms = Atoms("CH2", positions, info={"spin": 3})
    atoms.calc = md.MLFFCalculator(preset)
    md.set_temperature(atoms, 300.0, seed=0)
    started = time.perf_counter()
    trajectory = md.run_nve(atoms, num_steps, time_step=0.5, output=out / "trajectory.xyz")
    speed = num_steps / (time.perf_counter() - started)
    total = 1e3 * (trajectory.total_energies - trajectory.total_energies[0])
    print(
        f"   {num_steps} steps of 0.5 fs, {speed:.0f} steps/s; the total energy stays within "
        f"{np.abs(total).max():.2f} meV"
    )
    figure, axes = plots.subplots(1, 1)
    axis = axes[0, 0]
    potential = 1e3 * (trajectory.potential_energies - trajectory.potential_energies.min())
    axis.plot(trajectory.times, potential, label="potential", linewidth=0.8)
    axis.plot(trajectory.times, total, label="total, change", linewidth=1.2)
    axis.set(xlabel="time / fs", ylabel="energy / meV", title="Triplet CH2, NVE")
    axis.set_ylim(top=1.2 * potential.max())
    axis.legend(frameon=False, ncols=2, loc="upper center")
    figure.savefig(out / "dynamics.png", dpi=120)


class StopAfter(keras.callbacks.Callback):  # type: ignore[misc]
    """Stops a training after some seconds; the first epoch, which compiles, does not count."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.epochs = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks at the clock."""
        self.epochs += 1
        if epoch == 0:
            self.started = time.perf_counter()
        elif time.perf_counter() - self.started > self.seconds:
            self.model.stop_training = True


if __name__ == "__main__":
    cli.run(main)
