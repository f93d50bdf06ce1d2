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
from keras_mlff.cli.tables import error_rows, prediction_rows, print_table

if TYPE_CHECKING:
    from keras_mlff.graph import Array, Graph

EXTRAS = {
    "tensorflow": ("tensorflow", "tensorboard"),
    "jax": ("jax",),
    "torch": ("torch",),
    "datasets": ("tensorflow", "tensorflow_datasets", "ase"),
    "md": ("ase", "vesin"),
    "plots": ("matplotlib",),
    "qm": ("pyscf",),
}


def zoo_list() -> None:
    """Prints the presets at hand."""
    found = presets.available()
    if not found:
        print(f"no presets in {[str(folder) for folder in presets.zoo_folders()]}")
        return
    rows = [["preset", "elements", "properties", "description"]]
    for name, preset in found.items():
        known = " ".join(map(str, preset.elements))
        rows.append([name, known, " ".join(preset.properties), preset.description])
    print_table(rows)


def zoo_show(preset: str) -> None:
    """Prints everything a preset says about itself."""
    found = presets.find(preset)
    print(f"folder: {found.folder}")
    print(json.dumps(dict(found.metadata), indent=1, ensure_ascii=False))
    card = found.folder / "README.md"
    if card.is_file():
        print(f"\n{card.read_text(encoding='utf-8')}")


def zoo_verify(preset: str) -> None:
    """Measures a preset on this backend and writes the figures into its metadata and card."""
    import keras

    from keras_mlff import publish

    verified = publish.verify(presets.find(preset).folder)
    figures = verified.metadata["checks"][keras.backend.backend()]
    print_table([["check", "largest deviation"], *([k, f"{v:.2g}"] for k, v in figures.items())])
    print(f"written: {verified.folder}")


def predict(file: str, preset: str, output: str | None, dtype: str | None, batch_size: int) -> None:
    """Predicts structures of a file, prints a table and writes them if asked to."""
    from keras_mlff import datasets
    from keras_mlff.datasets.tools.files import check_output, iterate

    if output is not None:
        check_output(output)
    failures: dict[int, str] = {}
    structures = list(iterate(file, labels=(), failures=failures))
    num_structures = len(structures) + len(failures)
    kept = [index for index in range(num_structures) if index not in failures]
    model = _load(preset, dtype)
    found, unpredicted = predict_each(model, structures, batch_size)
    failures |= {kept[index]: message for index, message in unpredicted.items()}
    for index, message in sorted(failures.items()):
        print(f"structure {index} is left out: {message}", file=sys.stderr)
    structures = [item for index, item in enumerate(structures) if index not in unpredicted]
    kept = [index for index in kept if index not in failures]
    if kept:
        predictions = _trained_only(found, model)
        print_table(prediction_rows(structures, predictions, kept))
        if output is not None:
            datasets.save(output, structures, predictions)
            print(f"written: {output}")
    if failures:
        raise RuntimeError(
            f"{len(failures)} of {num_structures} structures could not be predicted."
        )


def predict_each(
    model: Any, structures: Sequence[Graph], batch_size: int
) -> tuple[dict[str, Array], dict[int, str]]:
    """Predicts what can be predicted; those at fault are found by halving.

    Returns:
        Joined predictions of the structures without a failure; messages by index of the others.
    """
    import numpy as np

    failures: dict[int, str] = {}

    def predict_range(start: int, stop: int) -> list[dict[str, Array]]:
        try:
            return [model.predict(structures[start:stop], batch_size)]
        except ValueError as error:
            if stop - start == 1:
                failures[start] = str(error)
                return []
        middle = (start + stop) // 2
        return predict_range(start, middle) + predict_range(middle, stop)

    pieces = predict_range(0, len(structures)) if structures else []
    if any("stress" in piece for piece in pieces):
        for piece in pieces:  # molecules alone have none
            piece.setdefault("stress", np.zeros((len(piece["energy"]), 3, 3)))
    keys = pieces[0] if pieces else ()
    return {key: np.concatenate([piece[key] for piece in pieces]) for key in keys}, failures


def evaluate(
    data: str,
    preset: str,
    split: str,
    about_file: dict[str, Any],
    dtype: str | None,
    batch_size: int,
) -> None:
    """Prints the errors of a preset on labeled data."""
    from keras_mlff import datasets
    from keras_mlff.fit.metrics import errors

    structures = datasets.load(data, split, **about_file)
    model = _load(preset, dtype)
    predictions = _trained_only(model.predict(structures, batch_size), model)
    print(f"{len(structures)} structures of {data}, split {split}")
    print_table(error_rows(errors(structures, predictions), model.heads))


def md(
    file: str,
    preset: str,
    ensemble: str,
    temperature: float,
    num_steps: int,
    time_step: float,
    friction: float,
    pressure: float,
    interval: int,
    output: str | None,
    dtype: str | None,
    seed: int,
) -> None:
    """Runs dynamics from the first structure of a file and prints what is measured on it."""
    from keras_mlff import md as dynamics
    from keras_mlff.datasets.tools.files import constraints, iterate
    from keras_mlff.md import observables

    if output is not None and os.path.abspath(output) == os.path.abspath(file):
        raise ValueError(f"The trajectory would replace its start. Received: --output={output}.")
    atoms = dynamics.to_atoms(next(iterate(file, labels=())))
    atoms.set_constraint(constraints(file))
    atoms.calc = dynamics.MLFFCalculator(_load(preset, None), dtype=dtype)
    dynamics.set_temperature(atoms, temperature, seed)
    common: dict[str, Any] = {"time_step": time_step, "interval": interval, "output": output}
    if ensemble == "nve":
        trajectory = dynamics.run_nve(atoms, num_steps, **common)
    elif ensemble == "npt":
        trajectory = dynamics.run_npt(atoms, temperature, num_steps, pressure, **common)
    else:
        trajectory = dynamics.run_nvt(
            atoms, temperature, num_steps, friction=friction, seed=seed, **common
        )
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

    print(f"written: {export_saved_model(_load(preset, dtype), folder)}")


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
        import keras

        from keras_mlff import backend, models

        devices = backend.devices()
    except Exception as error:  # whatever it is, the doctor says so
        raise RuntimeError(
            f"The backend does not work ({type(error).__name__}: {error}). Install one with "
            "pip install 'keras-mlff[tensorflow]', [jax] or [torch], and set KERAS_BACKEND to "
            "its name."
        ) from error
    print(f"backend: {keras.backend.backend()}, devices: {', '.join(devices)}")
    print(f"precision: {keras.config.dtype_policy().name}, floatx {keras.config.floatx()}")
    print(f"architectures: {', '.join(models.ARCHITECTURES)}")


def _load(preset: str, dtype: str | None) -> Any:
    from keras_mlff import models

    return models.load_preset(preset, **({} if dtype is None else {"dtype": dtype}))


def _trained_only(predictions: dict[str, Array], model: Any) -> dict[str, Array]:
    """Leaves out what the preset was not trained on; stress comes with forces."""
    known = set(model.preset.properties)
    known |= {"stress"} if "forces" in known else set()
    return {key: value for key, value in predictions.items() if key in known}


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
