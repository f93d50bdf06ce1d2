"""Time against system size for every architecture (figure 4 of AlphaNet), and memory.

Two series of periodic silicon: batches of 10 cells of growing size, as in the figure, and single
cells of 100 to 10,000 atoms. Architectures for molecules get pieces of diamond with as many atoms.
Each case has a process of its own, so that its peak of memory is its own; a series ends where a
case fails or takes longer than allowed. Times are those of energy, forces and stress after
compilation; the search for neighbors is measured apart.

Run: python recipes/studies/scaling.py --architectures CMRET AlphaNet
"""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

# Keras is imported where it is needed: each case starts anew


def main(
    architectures: tuple[str, ...] = (),
    cells: tuple[int, ...] = (8, 16, 32, 64, 96, 192),
    batch_size: int = 10,
    singles: tuple[int, ...] = (96, 216, 512, 1000, 2000, 4096, 10000),
    repeats: int = 10,
    settings: tuple[str, ...] = ("cutoff=5.0",),
    longest: float = 120.0,
    memory_limit: float = 0.0,
    folder: str = "runs/scaling",
) -> list[dict[str, Any]]:
    """Measures, writes results.json and draws scaling.png.

    Args:
        architectures: Names; all where empty.
        cells: Atoms in each cell of a batch, multiples of 8.
        batch_size: Cells in a batch.
        singles: Atoms in a single cell, multiples of 8.
        repeats: Measured evaluations of each case; the paper's figure has 200.
        settings: Arguments of the models, the same for all, such as `num_features=64`.
        longest: Seconds; a series ends after a case whose evaluation takes longer.
        memory_limit: GiB that a case may take; 0 is no limit.
        folder: Receives results and figure.
    """
    from keras_mlff import models, saving
    from keras_mlff.experiments import recipes

    names = architectures or tuple(models.ARCHITECTURES)
    arguments = recipes.parse_overrides(settings)
    results: list[dict[str, Any]] = []
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        for series, counts, number in (("batch", cells, batch_size), ("single", singles, 1)):
            for num_atoms in counts:
                case = (name, arguments, 8 * round(num_atoms / 8), number, repeats, memory_limit)
                found = alone(case)
                results.append({"series": series, **found})
                print(json.dumps(results[-1]), flush=True)
                saving.write_json(Path(folder, "results.json"), results)
                if "error" in found or found["median_ms"] > 1e3 * longest:
                    break
    draw(results, Path(folder, "scaling.png"))
    return results


def alone(case: tuple[Any, ...]) -> dict[str, Any]:
    """Measures one case in a process that ends with it."""
    name, _, num_atoms, number, *_ = case
    about = {"architecture": name, "atoms_per_cell": num_atoms, "cells": number}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return about | pool.submit(measure, *case).result()
        except Exception as error:  # out of memory has many names, death of the process among them
            return about | {
                "error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            }


def measure(
    name: str,
    arguments: dict[str, Any],
    num_atoms: int,
    number: int,
    repeats: int,
    memory_limit: float,
) -> dict[str, Any]:
    """Times evaluations of one prepared batch, and the search for its neighbors."""
    if memory_limit:
        import resource

        limit = int(memory_limit * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    import keras

    from keras_mlff import models
    from keras_mlff.bench import systems
    from keras_mlff.bench.worker import Case

    periodic = models.ARCHITECTURES[name].supports_periodic
    system = f"{'silicon' if periodic else 'cluster'}:{num_atoms}"
    structures = systems.make(system, number)
    case = Case(name, arguments, system, number)
    searches = []
    for _ in range(3):
        start = time.perf_counter()
        for item in structures:
            case.model.graph_spec.add_edges(item)
        searches.append(time.perf_counter() - start)
    first = case.warm_up("predict")["times"]
    times = case.measure("predict", repeats)["times"]
    facts = case.facts()
    return {
        "backend": keras.backend.backend(),
        "system": system,
        "num_atoms": facts["num_atoms"],
        "num_edges": facts["num_edges"],
        "num_parameters": facts["num_parameters"],
        "mean_ms": 1e3 * float(np.mean(times)),
        "median_ms": 1e3 * float(np.median(times)),
        "first_ms": 1e3 * first[0],
        "neighbors_ms": 1e3 * float(np.median(searches)),
        "peak_memory_mib": facts["peak_memory"] / 2**20,
        "peak_device_memory_mib": (facts["peak_device_memory"] or 0) / 2**20,
    }


def draw(results: list[dict[str, Any]], file: Path) -> None:
    """Draws time of batches, and time and memory of single cells, against atoms."""
    from keras_mlff import plots

    figure, axes = plots.subplots(1, 3)
    panels = (
        ("batch", "atoms_per_cell", "median_ms", 1e-3, "10 cells", "time / s"),
        ("single", "num_atoms", "median_ms", 1e-3, "one cell", "time / s"),
        ("single", "num_atoms", "peak_memory_mib", 2**-10, "one cell", "peak memory / GiB"),
    )
    for place, (series, across, up, unit, title, label) in zip(axes[0], panels, strict=True):
        for name in dict.fromkeys(result["architecture"] for result in results):
            points = [
                (result[across], result[up] * unit)
                for result in results
                if result["architecture"] == name
                and result["series"] == series
                and "error" not in result
            ]
            if points:
                place.plot(*np.asarray(points).T, marker=".", label=name)
        place.set(xlabel="atoms in a cell", ylabel=label, xscale="log", yscale="log", title=title)
    if axes[0][-1].lines:  # the same colors in all
        axes[0][-1].legend(frameon=False, fontsize="small")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    from keras_mlff.cli import run

    run(main)
