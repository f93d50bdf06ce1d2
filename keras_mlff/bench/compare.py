"""Measures backends against each other: a process each, taking turns on the same cores."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mlff.bench import systems

BACKENDS = ("tensorflow", "jax", "torch")
# TensorFlow without XLA: what a program of its own would be, in the graph mode of TensorFlow
PLAIN = {"tensorflow-graph": "tensorflow"}
TASKS = ("train", "predict")
_TURN = 5  # steps, before another backend has its turn
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
_COLUMNS = {
    "architecture": "architecture",
    "batch": "batch_size",
    "task": "task",
    "backend": "backend",
    "median ms": "median_ms",
    "quartiles ms": "quartiles_ms",
    "ratio": "ratio",
    "atoms/s": "atoms_per_second",
    "compile s": "compile_seconds",
    "compilations": "compilations",
    "memory MiB": "peak_memory_mib",
    "device MiB": "peak_device_memory_mib",
}


def installed_backends() -> list[str]:
    """Lists the backends that can be imported here."""
    return [name for name in BACKENDS if importlib.util.find_spec(name) is not None]


def compare(
    architectures: Sequence[str] = ("CMRET",),
    backends: Sequence[str] | None = None,
    batch_sizes: Sequence[int] = (5, 32),
    system: str = "ethanol",
    repeats: int = 20,
    threads: int = 1,
    arguments: Mapping[str, Any] | None = None,
    report_progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Times training steps and evaluations of energy and forces.

    Each backend is a process of its own. For each case they all get ready, then take turns of a
    few steps, so that whatever else the machine does meets all of them. Steps are those of `fit`
    and `predict_on_batch` on one prepared batch.

    Args:
        architectures: Names of model classes.
        backends: The backends to compare; `None` takes all that are installed. Ratios refer to the
            first. `"tensorflow-graph"` is TensorFlow without XLA.
        batch_sizes: Numbers of structures in a batch, each of which is measured.
        system: What the batch consists of, see `systems.make`.
        repeats: How many steps of each kind are measured.
        threads: How many cores each process may use.
        arguments: Arguments of the constructors, in place of their defaults.
        report_progress: Is called with a line of text whenever something begins.

    Returns:
        A dict with `machine` (processor, versions), `settings` and `results`, a row for each
        architecture, batch size, task and backend, which `table` prints.

    Raises:
        ValueError: If a backend or the system is unknown, or a number is not positive.
        RuntimeError: If a backend fails.
    """
    backends = list(backends or installed_backends())
    known = [*BACKENDS, *PLAIN]
    unknown = sorted(set(backends) - set(known))
    if unknown or not backends:
        raise ValueError(f"Unknown backends. Received: {unknown}. Choose from {known}.")
    if min(repeats, threads, *batch_sizes) < 1:
        raise ValueError(
            "Repeats, threads and batch sizes are at least 1. "
            f"Received: {repeats=}, {threads=}, batch_sizes={list(batch_sizes)}."
        )
    systems.make(system, 1)  # refuses unknown ones before anything starts
    results = []
    workers = {name: _Worker(name, threads) for name in backends}
    try:
        for architecture in architectures:
            for batch_size in sorted(batch_sizes):
                report_progress(f"{architecture}, {system}, batch size {batch_size}")
                case = {
                    "architecture": architecture,
                    "arguments": dict(arguments or {}),
                    "system": system,
                    "batch_size": batch_size,
                }
                results += _measure(workers, case, repeats, report_progress)
    finally:
        for worker in workers.values():
            worker.stop()
    return {
        "machine": _machine(),
        "settings": {
            "system": system,
            "repeats": repeats,
            "threads": threads,
            "arguments": dict(arguments or {}),
        },
        "results": results,
    }


def table(comparison: Mapping[str, Any]) -> str:
    """Writes the results of `compare` as a Markdown table.

    Args:
        comparison: What `compare` returned.

    Returns:
        A table with median and quartiles of a step's time in ms, the ratio to the first backend,
        atoms per second, the time that compiling took in s, and memory in MiB. Columns without any
        number are left out.
    """
    rows = [list(_COLUMNS)]
    for result in comparison["results"]:
        rows.append([_cell(result[key]) for key in _COLUMNS.values()])
    empty = {i for i in range(len(_COLUMNS)) if {row[i] for row in rows[1:]} == {"-"}}
    kept = [[cell for i, cell in enumerate(row) if i not in empty] for row in rows]
    widths = [max(len(row[i]) for row in kept) for i in range(len(kept[0]))]
    lines = [
        "| " + " | ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in kept
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    return "\n".join(lines)


class _Worker:
    """The process of one backend."""

    def __init__(self, backend: str, threads: int) -> None:
        self.backend = backend
        environment = dict(os.environ) | {"KERAS_BACKEND": PLAIN.get(backend, backend)}
        environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        if threads == 1:
            flags = [environment.get("XLA_FLAGS", ""), "--xla_cpu_multi_thread_eigen=false"]
            environment["XLA_FLAGS"] = " ".join(flags).strip()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `stop`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "keras_mlff.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
        )
        if hasattr(os, "sched_setaffinity"):  # pools of threads that heed no variable
            cores = sorted(os.sched_getaffinity(0))[:threads]
            os.sched_setaffinity(self._process.pid, cores)

    def ask(self, action: str, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for its answer.

        Args:
            action: Name of what to do: `"prepare"`, `"warm_up"`, `"measure"` or `"finish"`.
            **request: Arguments of the action.

        Returns:
            The answer of the process.

        Raises:
            RuntimeError: If the process has ended or reports an error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        try:
            print(json.dumps({"do": action} | request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            pass  # it has ended: said below
        if not line:
            self._log.seek(0)
            last = self._log.read().strip().splitlines()[-1:]
            raise RuntimeError(
                f"The process of the backend '{self.backend}' ended. Its last words: {last}."
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"On the backend '{self.backend}': {answer['error']}")
        return answer

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()


def _measure(
    workers: Mapping[str, _Worker],
    case: Mapping[str, Any],
    repeats: int,
    report_progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Measures one case on all backends, which take turns of a few steps.

    Args:
        workers: The processes by the name of their backend.
        case: Architecture, arguments, system and batch size.
        repeats: How many steps of each kind are measured.
        report_progress: Is called with a line of text whenever something begins.

    Returns:
        A row for each task and backend.
    """
    first: dict[tuple[str, str], dict[str, Any]] = {}
    times: dict[tuple[str, str], list[float]] = {}
    late = dict.fromkeys([(task, name) for task in TASKS for name in workers], 0)
    for name, worker in workers.items():
        report_progress(f"  {name} compiles")
        worker.ask("prepare", **case, xla=name not in PLAIN)
        for task in TASKS:
            first[task, name] = worker.ask("warm_up", task=task)
            times[task, name] = []
    report_progress("  taking turns")
    for start in range(0, repeats, _TURN):
        for name, worker in workers.items():
            for task in TASKS:
                steps = min(_TURN, repeats - start)
                answer = worker.ask("measure", task=task, repeats=steps)
                times[task, name] += answer["times"]
                late[task, name] += answer["compilations"]
    facts = {name: worker.ask("finish") for name, worker in workers.items()}
    rows = []
    reference = next(iter(workers))
    for task in TASKS:
        for name in workers:
            median = float(np.median(times[task, name]))
            waited = sum(max(seconds - median, 0.0) for seconds in first[task, name]["times"])
            rows.append(
                {
                    "architecture": case["architecture"],
                    "backend": name,
                    "batch_size": case["batch_size"],
                    "task": task,
                    "median_ms": 1e3 * median,
                    "quartiles_ms": (1e3 * np.percentile(times[task, name], [25, 75])).tolist(),
                    "ratio": median / float(np.median(times[task, reference])),
                    "atoms_per_second": facts[name]["num_atoms"] / median,
                    "compile_seconds": waited,
                    "compilations": first[task, name]["compilations"] + late[task, name],
                    "peak_memory_mib": facts[name]["peak_memory"] / 2**20,
                    "peak_device_memory_mib": _mebibytes(facts[name]["peak_device_memory"]),
                    "num_atoms": facts[name]["num_atoms"],
                    "num_edges": facts[name]["num_edges"],
                    "num_parameters": facts[name]["num_parameters"],
                    "times_ms": [1e3 * seconds for seconds in times[task, name]],
                }
            )
    return rows


def _mebibytes(size: int | None) -> float | None:
    return None if size is None else size / 2**20


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return " to ".join(_cell(item) for item in value)
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
    return str(value)


def _machine() -> dict[str, Any]:
    """Describes what the numbers were measured on."""
    processor = platform.processor()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line for line in information.read_text().splitlines() if "model name" in line]
        processor = names[0].partition(":")[2].strip() if names else processor
    versions: dict[str, str | None] = {}
    for package in ("keras-mlff", "keras", "numpy", *BACKENDS):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "platform": platform.platform(),
        "processor": processor,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }
