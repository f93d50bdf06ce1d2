"""What each command does."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_mlff import __version__, presets, saving
from keras_mlff.cli.predictions import load_model
from keras_mlff.cli.tables import (
    notice,
    print_table,
    write_table,
)

if TYPE_CHECKING:
    from keras_mlff.core.deviations import Policy

EXTRAS = {
    "tensorflow": ("tensorflow", "tensorboard"),
    "jax": ("jax",),
    "torch": ("torch",),
    "datasets": ("tensorflow", "tensorflow_datasets", "ase", "pandas"),
    "md": ("ase", "vesin"),
    "plots": ("matplotlib",),
    "tables": ("pandas",),
    "parquet": ("pandas", "pyarrow"),
    "qm": ("pyscf",),
    "lmdb": ("ase", "ase_db_backends"),
    "qm9": ("tensorflow_datasets", "qm9pack"),
}


def zoo_list(format: str | None = None, output: str | None = None) -> None:
    """Lists the presets at hand: what they were trained on, what they predict, their size."""
    from keras_mlff import tables

    rows = tables.preset_rows()
    if not rows:
        notice(f"no presets in {[str(folder) for folder in presets.zoo_folders()]}", format, output)
    if rows or output is not None or format not in (None, "table"):
        write_table(rows, format, output, {"cutoff": "Å"})


def zoo_results(sources: list[str], format: str | None = None, output: str | None = None) -> None:
    """Lists errors of presets or experiments beside those that papers published."""
    from keras_mlff import tables

    write_table(tables.result_rows(*sources), format, output)


def zoo_show(preset: str) -> None:
    """Prints everything a preset says about itself."""
    found = presets.find(preset)
    print(f"folder: {found.folder}")
    print(json.dumps(dict(found.metadata), indent=1, ensure_ascii=False))
    card = found.folder / "README.md"
    if card.is_file():
        print(f"\n{card.read_text(encoding='utf-8')}")


def zoo_import(program: str, path: str, long_range_cutoff: float, output: str | None) -> None:
    """Makes a preset of another program's parameters, which a user has."""
    from keras_mlff.publish import so3lr

    preset = so3lr.import_so3lr(path, long_range_cutoff, output)
    print(f"written: {preset.folder}")
    print(
        f'load it: {preset.architecture}.from_preset("{preset.name}"); its limits: README.md there'
    )


def zoo_verify(preset: str) -> None:
    """Measures a preset on this backend and writes the figures into its metadata and card."""
    importlib.import_module("keras_mlff.frameworks")  # before Keras
    import keras

    from keras_mlff import publish

    verified = publish.verify(presets.find(preset).folder)
    figures = verified.metadata["checks"][keras.backend.backend()]
    print_table([["check", "largest deviation"], *([k, f"{v:.2g}"] for k, v in figures.items())])
    print(f"written: {verified.folder}")


def md(
    file: str,
    preset: str,
    ensemble: str,
    temperature: float,
    num_steps: int,
    time_step: float,
    friction: float | None,
    pressure: float | None,
    interval: int,
    output: str | None,
    dtype: str | None,
    seed: int,
    domain: Policy | None,
) -> None:
    """Runs dynamics from the first structure of a file and prints what is measured on it."""
    from keras_mlff import md as dynamics
    from keras_mlff.datasets.tools.ase_files import constraints
    from keras_mlff.datasets.tools.files import iterate
    from keras_mlff.md import observables

    for name, value, owner in (("friction", friction, "nvt"), ("pressure", pressure, "npt")):
        if value is not None and ensemble != owner:
            raise ValueError(
                f"--{name} has an effect with --ensemble {owner} alone. Received: --{name} {value} "
                f"and --ensemble {ensemble}."
            )
    if output is not None and os.path.abspath(output) == os.path.abspath(file):
        raise ValueError(f"The trajectory would replace its start. Received: --output={output}.")
    atoms = dynamics.to_atoms(next(iterate(file, labels=())))
    atoms.set_constraint(constraints(file))
    atoms.calc = dynamics.MLFFCalculator(load_model(preset, None), dtype, domain=domain)
    dynamics.set_temperature(atoms, temperature, seed)
    common: dict[str, Any] = {"time_step": time_step, "interval": interval, "output": output}
    if ensemble == "nve":
        trajectory = dynamics.run_nve(atoms, num_steps, **common)
    elif ensemble == "npt":
        trajectory = dynamics.run_npt(atoms, temperature, num_steps, pressure or 0.0, **common)
    else:
        if friction is not None:
            common["friction"] = friction
        trajectory = dynamics.run_nvt(atoms, temperature, num_steps, seed=seed, **common)
    temperatures = trajectory.temperatures
    print(f"{ensemble.upper()}, {num_steps} steps of {time_step} fs, {len(atoms)} atoms")
    print(f"temperature: {temperatures.mean():.1f} ± {temperatures.std():.1f} K")
    if ensemble == "npt":
        volumes = trajectory.volumes
        print(f"volume: {volumes.mean():.2f} ± {volumes.std():.2f} Å³")
    if ensemble == "nve" and len(trajectory.times) > 1:
        energies = trajectory.total_energies
        drift = observables.energy_drift(trajectory.times, energies, len(atoms))
        print(f"energy drift: {1e3 * drift:.4f} meV per atom and ps")
    if not atoms.pbc.any():
        for first, second in observables.bonds(trajectory.positions[0], atoms.numbers):
            lengths = observables.pair_distances(trajectory.positions, [first, second])
            pair = f"{atoms.symbols[first]}{first}-{atoms.symbols[second]}{second}"
            print(f"bond {pair}: {lengths.mean():.4f} ± {lengths.std():.4f} Å")
    if output is not None:
        print(f"written: {output}")


def export(folder: str, preset: str, dtype: str | None) -> None:
    """Writes a preset as a SavedModel."""
    from keras_mlff.export import export_saved_model

    print(f"written: {export_saved_model(load_model(preset, dtype), folder)}")


def bench(settings: list[str], json_file: str | None, **arguments: Any) -> None:
    """Compares backends and prints a table."""
    from keras_mlff import bench as benchmark

    comparison = benchmark.compare(
        **arguments,
        arguments=_parsed(settings),
        report_progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(benchmark.table(comparison))
    if json_file is not None:
        saving.write_json(json_file, comparison)
        print(f"written: {json_file}")


def doctor() -> None:
    """Prints what is installed and what works."""
    print(f"keras_mlff {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in ("keras", "numpy", "h5py", "tensorflow", "jax", "torch"):
        print(f"{package}: {_version(package)}")
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        advice = f"{', '.join(missing)} missing: pip install 'keras-mlff[{extra}]'"
        print(f"extra {extra}: {advice if missing else 'present'}")
    folders = presets.zoo_folders()
    for folder in folders:
        print(f"zoo: {folder}")
    print(f"presets: {', '.join(presets.available()) or 'none'}")
    try:
        importlib.import_module("keras_mlff.frameworks")  # before Keras
        import keras

        from keras_mlff import backend, models
        from keras_mlff.backend import host_memory

        devices = backend.devices()
    except Exception as error:  # whatever it is, the doctor says so
        raise RuntimeError(
            f"The backend does not work ({type(error).__name__}: {error}). Install one with "
            "pip install 'keras-mlff[tensorflow]', [jax] or [torch], and set KERAS_BACKEND to "
            "its name."
        ) from error
    print(f"backend: {keras.backend.backend()}, devices: {', '.join(devices)}")
    print(f"precision: {keras.config.dtype_policy().name}, floatx {keras.config.floatx()}")
    print(f"host memory: {host_memory.status()}")
    tf32 = "allowed" if backend.tf32_is_allowed() else "off inside of models"
    print(f"matrix products in float32: TF32 {tf32} (backend.allow_tf32)")
    print(f"architectures: {', '.join(models.ARCHITECTURES)}")


def _parsed(settings: Sequence[str]) -> dict[str, Any]:
    """Reads `name=value` pairs; values are Python's literals or text."""
    parsed = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"A setting is written as name=value. Received: '{setting}'.")
        try:
            parsed[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            parsed[name] = text
    return parsed


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
