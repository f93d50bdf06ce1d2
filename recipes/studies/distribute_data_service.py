"""CMRET on CH2 with batches from tf.data service: a dispatcher and workers of their own processes.

Run: python recipes/studies/distribute_data_service.py --num-workers=2
On several machines: one `--role=dispatcher`, a `--role=worker --dispatcher=host:5000` on each that
prepares data, and a `--role=training --dispatcher=host:5000`, all with a folder that they share.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import keras

from keras_mlff import cli, datasets, models, pipeline
from keras_mlff.packing.loader import GraphLoader
from keras_mlff.pipeline import service


def main(
    role: Literal["all", "dispatcher", "worker", "training"] = "all",
    num_workers: int = 2,
    dispatcher: str = "localhost:5000",
    port: int = 5001,
    host: str = "localhost",
    num_epochs: int = 5,
    folder: str = "runs/distribute_data_service",
) -> float | None:
    """Plays a part, or starts all of them; the training returns its last loss.

    Args:
        role: "all" starts a dispatcher and workers on this machine and trains.
        num_workers: Workers that "all" starts.
        dispatcher: Address and port of the dispatcher.
        port: Port of a worker, of the first one with "all".
        host: Name of a worker's machine.
        num_epochs: Epochs.
        folder: For graphs, batches and the dispatcher's journal.
    """
    if role == "dispatcher":
        service.start_dispatcher(int(dispatcher.rpartition(":")[2]), Path(folder, "journal")).join()
        return None
    if role == "worker":
        service.start_worker(port, dispatcher, host).join()
        return None
    if role == "training":
        return train(dispatcher, num_epochs, folder)
    command = [sys.executable, __file__, f"--dispatcher={dispatcher}", f"--folder={folder}"]
    helpers = [subprocess.Popen([*command, "--role=dispatcher"])]
    for number in range(num_workers):
        helpers.append(subprocess.Popen([*command, "--role=worker", f"--port={port + number}"]))
    try:
        return train(dispatcher, num_epochs, folder)
    finally:
        for helper in helpers:
            helper.terminate()
            helper.wait()


def train(dispatcher: str, num_epochs: int, folder: str) -> float:
    """Trains with batches of the service, and waits for it where it is still starting."""
    keras.utils.set_random_seed(0)
    model = models.CMRET(num_features=64, num_layers=3)
    points = datasets.load("ch2", split="train")
    model.fit_offsets(points)
    graphs = pipeline.with_edges(points, model, cache_dir=folder)
    loader = GraphLoader(graphs, 25, shuffle=True)
    data = service.from_service(loader, dispatcher, Path(folder, "batches"))
    model.compile(keras.optimizers.Adam(1e-3), loss={"energy": "mse", "forces": "mse"})
    return float(model.fit(data, epochs=num_epochs, verbose=2).history["loss"][-1])


if __name__ == "__main__":
    cli.run(main)
