"""One backend's part of a comparison: a process that measures what it is told to.

It reads a request per line from its standard input and answers with a line of JSON each.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mlff import backend
from keras_mlff.bench import systems
from keras_mlff.models import ARCHITECTURES
from keras_mlff.packing.budget import Batch, choose_budget, pack

_WARM_UP = 3  # steps: JAX may compile the first two


class Case:
    """A model and a batch, ready to be measured.

    Args:
        architecture: Name of a model class.
        arguments: Arguments of its constructor.
        system: What the batch consists of, see `systems.make`.
        batch_size: The number of structures in the batch.
        xla: Whether XLA compiles the steps, on backends that have it.

    Attributes:
        num_traces: How often Python has run the network, which compiled steps do not.
    """

    def __init__(
        self,
        architecture: str,
        arguments: dict[str, Any],
        system: str,
        batch_size: int,
        xla: bool = True,
    ) -> None:
        if architecture not in ARCHITECTURES:
            raise ValueError(
                f"There is no such architecture. Received: '{architecture}', known are "
                f"{sorted(ARCHITECTURES)}."
            )
        _reset_peak_memory()
        keras.utils.set_random_seed(0)
        self.model = ARCHITECTURES[architecture](**arguments)
        self.model.compile(
            keras.optimizers.Adam(1e-4),
            loss={"energy": "mse", "forces": "mse"},
            loss_weights={"energy": 0.2, "forces": 0.8},
            jit_compile="auto" if xla else False,
        )
        graphs = [
            self.model.graph_spec.add_edges(graph) for graph in systems.make(system, batch_size)
        ]
        packed = pack(graphs, choose_budget(graphs, batch_size))
        labels = {key: packed.pop(key) for key in ("energy", "forces")}
        self.batch: Batch = (packed, labels)
        self.num_atoms = int(np.sum(packed["atom_mask"]))
        self.num_edges = int(np.sum(packed["edge_mask"]))
        self.warm: set[str] = set()
        self.num_traces = 0
        self._count_traces()

    def measure(self, task: str, repeats: int) -> dict[str, Any]:
        """Times single steps up to the moment their result is a number on the host.

        Args:
            task: `"train"` for steps as `fit` makes them, `"predict"` for energies and forces.
            repeats: How many steps.

        Returns:
            `times`, a list in seconds, and `compilations`, how many of the steps had to compile.
        """
        timer = _StepTimer(self)
        if task == "train":
            # the first step of a `fit` starts the input pipeline, which is no part of the others
            skipped = int("train" in self.warm)
            data = _Repeat(self.batch, repeats + skipped)
            self.model.fit(data, verbose=0, callbacks=[timer])
            del timer.times[:skipped]
        else:
            for index in range(repeats):
                timer.on_train_batch_begin(index)
                predicted = self.model.predict_on_batch(self.batch[0])  # NumPy: nothing is pending
                timer.on_train_batch_end(index, {"loss": predicted["energy"][0]})
        self.warm.add(task)
        return {"times": timer.times, "compilations": timer.compilations * backend.COMPILES}

    def warm_up(self, task: str) -> dict[str, Any]:
        """Measures the first steps, compilation included; arguments and returns as in `measure`."""
        return self.measure(task, _WARM_UP)

    def facts(self) -> dict[str, Any]:
        """Tells the size of the case and the memory it took at most (bytes)."""
        return {
            "num_atoms": self.num_atoms,
            "num_edges": self.num_edges,
            "num_parameters": self.model.count_params(),
            "peak_memory": _peak_memory(),
            "peak_device_memory": backend.peak_device_memory(),
        }

    def _count_traces(self) -> None:
        embed = self.model.embed

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.num_traces += 1
            return embed(*args, **kwargs)

        self.model.embed = counted  # type: ignore[method-assign]


class _Repeat(keras.utils.PyDataset):
    """Gives the same prepared batch again and again."""

    def __init__(self, batch: Batch, steps: int) -> None:
        super().__init__()
        self.batch, self.steps = batch, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> Batch:
        return self.batch


class _StepTimer(keras.callbacks.Callback):
    """Times each step up to the moment its loss is a number on the host."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case
        self.times: list[float] = []
        self.compilations = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._num_traces = self.case.num_traces
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Waits for the device and stops the clock."""
        float(logs["loss"])
        self.times.append(time.perf_counter() - self._start)
        # TensorFlow traces a first call twice and compiles it once
        self.compilations += self.case.num_traces > self._num_traces


def _reset_peak_memory() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux: the peak is that of the whole process
        return


def _peak_memory() -> int:
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _answer(cases: dict[str, Case], request: dict[str, Any]) -> dict[str, Any]:
    action = request.pop("do")
    if action == "prepare":
        cases["now"] = Case(**request)
        return {}
    if action == "finish":
        return cases.pop("now").facts()
    result: dict[str, Any] = getattr(cases["now"], action)(**request)
    return result


def serve() -> None:
    """Answers requests on the standard input until there are no more.

    What frameworks print goes to the standard error, so that the answers are all that the other
    side reads.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    cases: dict[str, Case] = {}
    for line in sys.stdin:
        try:
            answer = _answer(cases, json.loads(line))
        except Exception as error:  # whatever it is, the other side reports it
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
