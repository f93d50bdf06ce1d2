"""Faults put into copies of the package, each of which a test must notice.

Run: `python -m tests.mutants [--only NUMBER ...]`; it prints a table and the score.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = "keras_mlff"


class Mutant(NamedTuple):
    """A fault: in a file of the package, text that stands there once, and what replaces it.

    The last entry are arguments of pytest that choose tests which take seconds.
    """

    file: str
    old: str
    new: str
    tests: str


EGNN = "tests/models/test_contract.py -k EGNN+"
CMRET = "tests/models/test_contract.py -k CMRET+"
MUTANTS = (
    # forces and stress
    Mutant("core/force_field.py", '"forces": -gradients', '"forces": gradients', EGNN + "minus"),
    Mutant(
        "core/force_field.py", "gradients[1] / volumes", "-gradients[1] / volumes", EGNN + "strain"
    ),
    Mutant("ops/geometry.py", 'ops.matmul(graph["cell"], symmetric)', "0.0", EGNN + "strain"),
    Mutant(
        "ops/geometry.py",
        "ops.sum(positions[:, :, None] * per_atom, axis=1)",
        "0.0",
        EGNN + "strain",
    ),
    Mutant(
        "ops/geometry.py", "vectors + ops.sum(shifts", "vectors - ops.sum(shifts", EGNN + "crystal"
    ),
    Mutant("layers/zbl.py", "0.5 *", "1.0 *", "tests/layers/test_zbl.py -k formula"),
    # masks
    Mutant(
        "ops/segment.py",
        'mask(values, graph["atom_mask"])',
        "values",
        "tests/heads/test_heads.py -k padding",
    ),
    Mutant(
        "ops/geometry.py",
        'ops.where(graph["edge_mask"][:, None], vectors, outside)',
        "vectors",
        "tests/models/test_contract.py -k padding_changes",
    ),
    Mutant(
        "packing/offsets.py", "sums + shift, 0.0", "sums, 0.0", "tests/packing -k offsets_leave"
    ),
    Mutant(
        "packing/offsets.py",
        'np.where(graph["graph_mask"], sums + shift, 0.0)',
        "sums + shift",
        "tests/packing -k leave",
    ),
    # cutoffs
    Mutant("layers/cutoff.py", "0.5 * math.pi / cutoff", "math.pi / cutoff", CMRET + "jumps"),
    Mutant(
        "layers/cutoff.py",
        "p * (p + 2) * ops.power",
        "p * (p + 1) * ops.power",
        "tests/models/test_contract.py -k DimeNet+jumps",
    ),
    Mutant("layers/cutoff.py", "1.0 - 1.0 / gap", "1.0 / gap - 1.0", "tests/layers/test_cutoff.py"),
    # losses and metrics
    Mutant(
        "fit/losses.py", "ops.sqrt(ops.sum(", "(ops.sum(", "tests/fit/test_losses.py -k l2_norm"
    ),
    Mutant(
        "fit/objective.py",
        "y_true / counts, y_pred / counts",
        "y_true, y_pred",
        "tests/fit/test_losses.py -k per_atom",
    ),
    Mutant(
        "fit/objective.py",
        "self.weights[key] * ops.sum(values)",
        "ops.sum(values)",
        "tests/fit/test_losses.py -k loss_of_a_batch",
    ),
    Mutant(
        "fit/objective.py",
        "geometry.volumes(cells) > 0.0",
        "geometry.volumes(cells) >= 0.0",
        "tests/test_missing_labels.py -k stress",
    ),
    Mutant(
        "fit/objective.py",
        "ops.logical_not(ops.any(ops.isnan(y_true), axis=-1))",
        "True",
        "tests/test_missing_labels.py -k weight",
    ),
    Mutant(
        "fit/objective.py",
        "metric.update_state(y_true, y_pred, sample_weight=weights)",
        "metric.update_state(y_true, y_pred)",
        "tests/fit/test_losses.py -k epoch",
    ),
    Mutant(
        "fit/objective.py",
        "ops.sum(values) / normalizer",
        "ops.mean(values)",
        "tests/fit/test_losses.py -k loss_of_a_batch",
    ),
    Mutant(
        "fit/metrics.py",
        "difference / sizes[known]",
        "difference",
        "tests/fit/test_metrics.py -k per_atom",
    ),
    Mutant(
        "fit/metrics.py",
        "& (largest < force_threshold)",
        "| (largest < force_threshold)",
        "tests/fit/test_metrics.py -k one_error",
    ),
    Mutant(
        "fit/metrics.py",
        "float(np.sqrt(np.mean(np.square(difference))))",
        "float(np.mean(np.square(difference)))",
        "tests/test_cli.py -k errors_are",
    ),
    # references and scales
    Mutant(
        "heads/statistics.py",
        'np.sum(graph["atomic_numbers"] == z)',
        'np.any(graph["atomic_numbers"] == z)',
        "tests/heads/test_statistics.py -k recovered",
    ),
    Mutant(
        "heads/statistics.py",
        "known.values[:, 0] - np.asarray",
        "known.values[:, 0] + np.asarray",
        "tests/core/test_prediction.py -k adapt",
    ),
    Mutant(
        "heads/head.py",
        "statistics.spread(values) / statistics.spread(extents)",
        "statistics.spread(values)",
        "tests/heads/test_heads.py -k size_alone",
    ),
    Mutant(
        "heads/head.py",
        "self.references.get(number, 0.0) + value",
        "value",
        "tests/core/test_prediction.py -k adapt",
    ),
    Mutant(
        "heads/dipole.py",
        'graph["positions"] - centers',
        'graph["positions"]',
        "tests/heads/test_heads.py -k dipoles_count",
    ),
    # averages, schedules, the best weights, resuming
    Mutant(
        "fit/best_weights.py",
        "logs[self.monitor] < self.best",
        "logs[self.monitor] > self.best",
        "tests/experiments/test_training.py -k without_validation",
    ),
    Mutant(
        "fit/logs.py",
        "int(row[0]) < first_epoch",
        "int(row[0]) <= first_epoch",
        "tests/experiments/test_training.py -k trimmed",
    ),
    Mutant(
        "fit/state.py",
        'about.get("position", 0)',
        "0",
        "tests/experiments/test_training.py -k last_bit",
    ),
    Mutant(
        "fit/state.py",
        '"memory": self._remembered()',
        '"memory": []',
        "tests/experiments/test_training.py -k last_bit",
    ),
    Mutant(
        "fit/state.py",
        "not all(np.all(np.isfinite(array))",
        "False and not all((array)",
        "tests/experiments/test_training.py -k diverges",
    ),
    Mutant(
        "packing/loader.py",
        "(self.seed, epoch)",
        "(self.seed, 0)",
        "tests/packing -k seed_and_epoch",
    ),
    # packing and graphs
    Mutant(
        "packing/budget.py",
        "                    and edges <= free_edges\n",
        "",
        "tests/packing -k every_limit",
    ),
    Mutant(
        "packing/budget.py",
        "* 1.02), largest)",
        "* 1.02), 0)",
        "tests/packing -k holds_the_largest",
    ),
    # neighbors
    Mutant(
        "neighbors.py",
        "inside = lengths <= cutoff",
        "inside = lengths < cutoff",
        "tests/test_neighbors.py -k exactly",
    ),
    Mutant(
        "neighbors.py",
        "np.take(moves, receivers, axis=0) - np.take(moves, senders, axis=0)",
        "np.take(moves, senders, axis=0) - np.take(moves, receivers, axis=0)",
        "tests/test_neighbors.py -k exhaustive_search_in",
    ),
    Mutant(
        "neighbors.py",
        "cell_shifts[triplet_in] + cell_shifts[triplet_out]",
        "cell_shifts[triplet_in] - cell_shifts[triplet_out]",
        "tests/test_neighbors.py -k triplets_are",
    ),
    Mutant(
        "md/calculator.py",
        "(0.5 * self.skin) ** 2",
        "self.skin**2",
        "tests/md/test_calculator.py -k skin",
    ),
    Mutant(
        "md/dynamics.py",
        "np.sqrt(temperature / drawn)",
        "temperature / drawn",
        "tests/md/test_dynamics.py -k velocities",
    ),
    Mutant("md/observables.py", "slope / num_atoms", "slope", "tests/md/test_dynamics.py -k drift"),
    # units and readers
    Mutant("units.py", "4184.0 *", "4186.8 *", "tests/test_units.py"),
    Mutant("units.py", "1e-21 * _joule", "1e-20 * _joule", "tests/test_units.py"),
    Mutant(
        "datasets/tools/rows.py",
        "[0, 1, 2, 2, 2, 1]",
        "[0, 1, 2, 2, 1, 2]",
        "tests/datasets/test_files.py -k come_back",
    ),
    Mutant(
        "datasets/tools/rows.py",
        "-tensor / volume",
        "tensor / volume",
        "tests/datasets/test_files.py -k virial",
    ),
    Mutant(
        "datasets/tools/rows.py",
        "not np.allclose(value, other, 1e-6, 1e-7, equal_nan=True)",
        "False",
        "tests/datasets/test_reading.py -k must_agree",
    ),
    Mutant(
        "datasets/tools/extxyz.py",
        "if len(row) != total:",
        "if len(row) < total:",
        "tests/datasets/test_reading.py -k not_understood",
    ),
    Mutant(
        "datasets/tools/extxyz.py",
        "if len(lines) < count + 1 or count == 0:",
        "if count == 0:",
        "tests/datasets/test_reading.py -k not_understood",
    ),
    Mutant(
        "datasets/tools/splits.py",
        "if not len(rows):",
        "if False:",
        "tests/test_command_lines.py -k all[5:3]",
    ),
    # domain and fitted state
    Mutant(
        "core/domain.py",
        "(unpaired <= electrons) & ~odd",
        "(unpaired <= electrons)",
        "tests/core/test_domain.py -k impossible",
    ),
    Mutant(
        "core/deviations.py",
        "strange[:, list(domain.elements)] = 0",
        "strange[:] = 0",
        "tests/core/test_domain.py -k refused",
    ),
    Mutant(
        "core/state.py",
        'head.fitted = state["heads"][head.name]',
        "pass",
        "tests/core/test_state.py -k references_scale",
    ),
    # files, stores, presets
    Mutant("presets.py", "if digest != expected:", "if False:", "tests/test_presets.py -k flipped"),
    Mutant(
        "saving.py",
        "        except BlockingIOError:\n            raise\n",
        "",
        "tests/test_saving.py -k one_writer",
    ),
    Mutant(
        "saving.py", "unfinished.unlink(missing_ok=True)", "pass", "tests/test_saving.py -k only_by"
    ),
    Mutant(
        "pipeline/seals.py",
        "if _checksum(folder / name) != expected:",
        "if False:",
        "tests/pipeline/test_store.py -k damaged_store_is",
    ),
    Mutant(
        "pipeline/store.py",
        "taken += firsts[numbers[what], column].astype(np.int32)",
        "taken += 0",
        "tests/pipeline/test_store.py -k batches",
    ),
    Mutant(
        "experiments/data.py",
        'shared = names["training"] & names',
        "shared = set() & names",
        "tests/experiments/test_run.py -k parts_come",
    ),
)


def mutated(mutant: Mutant, package: Path) -> str:
    """Reads a file of the package and puts the fault in.

    Raises:
        ValueError: If its text does not stand there exactly once.
    """
    text = (package / mutant.file).read_text("utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.file} has {text.count(mutant.old)} times: {mutant.old!r}")
    return text.replace(mutant.old, mutant.new)


def passes(tests: str, folder: Path) -> bool:
    """Runs tests in a copy of the repository."""
    words = tests.replace("+", " and ").split(maxsplit=2)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *words]
    environment = os.environ | {"KERAS_BACKEND": "torch", "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=600)
    if done.returncode not in (0, 1):  # no test, or none that can be collected
        raise RuntimeError(
            f"{tests}:\n{done.stdout.decode()[-2000:]}{done.stderr.decode()[-2000:]}"
        )
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", type=int, default=range(len(MUTANTS)))
    parser.add_argument("--baseline", action="store_true", help="run the tests without faults too")
    arguments = parser.parse_args()
    survived = []
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name, "copy")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "*.pyc", "runs"))
        print("| number | file | fault | noticed | seconds |\n|---|---|---|---|---|", flush=True)
        for number in arguments.only:
            mutant = MUTANTS[number]
            target = copy / PACKAGE / mutant.file
            whole, start = target.read_text("utf-8"), time.perf_counter()
            if arguments.baseline and not passes(mutant.tests, copy):
                raise RuntimeError(f"The tests fail without a fault: {mutant.tests}.")
            target.write_text(mutated(mutant, copy / PACKAGE), "utf-8")
            noticed = not passes(mutant.tests, copy)
            target.write_text(whole, "utf-8")
            survived += [] if noticed else [number]
            fault = " ".join(f"`{mutant.old.strip()}` becomes `{mutant.new.strip()}`".split())
            fault = fault.replace("|", "\\|")
            seconds = f"{time.perf_counter() - start:.0f}"
            row = [str(number), mutant.file, fault, "yes" if noticed else "NO", seconds]
            print(f"| {' | '.join(row)} |", flush=True)
    total = len(list(arguments.only))
    print(f"\n{total - len(survived)} of {total} faults were noticed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
