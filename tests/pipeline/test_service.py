"""Every batch comes once an epoch from the service, also if a worker dies."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_mlff import pipeline
from keras_mlff.graph import structure
from keras_mlff.neighbors import GraphSpec
from keras_mlff.packing.loader import GraphLoader
from keras_mlff.pipeline import service

NUM_BATCHES = 400
DISPATCHER = (
    "import sys; from keras_mlff.pipeline import service\n"
    "service.start_dispatcher(int(sys.argv[1]), sys.argv[2]).join()\n"
)
WORKER = (
    "import sys; from keras_mlff.pipeline import service\n"
    "service.start_worker(int(sys.argv[1]), sys.argv[2]).join()\n"
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})


def wait_for(port):
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError


def test_workers_of_another_user_can_read_the_batches(tmp_path):
    positions = np.eye(3)[:2]
    structures = [structure(positions, [1, 8], energy=float(i)) for i in range(2)]
    loader = GraphLoader(pipeline.with_edges(structures, GraphSpec(6.0)), 1)
    umask = os.umask(0o022)
    try:
        folder = service._write(loader, tmp_path)
    finally:
        os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in folder.iterdir()) == [
        "0.batch",
        "1.batch",
        "checksums.json",
    ]
    whole = (folder / "1.batch").read_bytes()
    (folder / "1.batch").write_bytes(b"x" + whole[1:])
    assert service._write(loader, tmp_path) == folder
    assert (folder / "1.batch").read_bytes() == whole  # damaged ones are written anew
    assert list(tmp_path.iterdir()) == [folder]


def test_other_labels_are_other_batches(tmp_path):
    def write(energies):
        structures = [structure(np.eye(3)[:2], [1, 8], energy=energy) for energy in energies]
        return service._write(
            GraphLoader(pipeline.with_edges(structures, GraphSpec(6.0)), 1), tmp_path
        )

    assert write(range(7)) == write(range(7)) != write([0, 1, 9, 3, 4, 5, 6])


@pytest.mark.slow
def test_no_batch_is_lost_or_doubled_when_a_worker_is_killed_and_restarted(tmp_path):
    pytest.importorskip("tensorflow")
    positions = np.arange(6.0).reshape(2, 3)
    structures = [structure(positions + i, [1, 8], energy=float(i)) for i in range(NUM_BATCHES)]
    loader = GraphLoader(pipeline.with_edges(structures, GraphSpec(6.0), cache_dir=tmp_path), 1)
    ports = [free_port() for _ in range(3)]
    address = f"localhost:{ports[0]}"
    processes = [start(DISPATCHER, ports[0], tmp_path / "journal")]
    try:
        wait_for(ports[0])
        processes += [start(WORKER, port, address) for port in ports[1:]]
        for port in ports[1:]:
            wait_for(port)
        dataset = service.from_service(loader, address, tmp_path / "batches")
        orders = []
        for kill in (False, True):
            order = []
            for inputs, labels in dataset.as_numpy_iterator():
                index = int(labels["energy"][0])
                order.append(index)
                for one, other in zip((inputs, labels), loader[index], strict=True):
                    assert one.keys() == other.keys()
                    for key in one:
                        np.testing.assert_array_equal(one[key], other[key])
                if kill and len(order) == 30:
                    processes[2].send_signal(signal.SIGKILL)
                    processes[2].wait()
                if kill and len(order) == 60:
                    processes[2] = start(WORKER, ports[2], address)
            assert sorted(order) == list(range(NUM_BATCHES))
            orders.append(order)
            wait_for(ports[2])
        assert orders[0] != sorted(orders[0])
        assert orders[0] != orders[1]
    finally:
        for process in processes:
            process.kill()
            process.wait()
