"""A data set of any size takes the same memory."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading, time
from pathlib import Path
import numpy as np
from keras_mlff.datasets.tools import builder as b, catalog
import tensorflow_datasets as tfds
from keras_mlff import neighbors, pipeline
from keras_mlff.packing import GraphLoader

NUM_FRAMES, FOLDER = int(sys.argv[1]), sys.argv[2]

class Stream(b.AtomisticDatasetBuilder):
    '''Frames that are invented one by one.'''

    name = "invented_stream"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [b.AtomisticConfig(name="water")]
    HOMEPAGE = LICENSE = LEVEL_OF_THEORY = CITATION = "none"

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        water = np.asarray([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
        for index in range(NUM_FRAMES):
            moved = water * (1.0 + 1e-8 * index)
            yield index, self.example(
                positions=moved, atomic_numbers=[8, 1, 1], energy=float(index), forces=0 * moved
            )

def memory():
    '''Of the process alone, in MiB: pages of mapped files can be taken back at any time.'''
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

def prepared(*args):
    stream = Stream(config="water", data_dir=FOLDER)
    stream.download_and_prepare()
    return stream

catalog.prepare = prepared
peak = 0.0
def watch():
    global peak
    while True:
        peak = max(peak, memory())
        time.sleep(0.05)
prepared()
start = peak = memory()
threading.Thread(target=watch, daemon=True).start()
began = time.time()
graphs = pipeline.store_of_tfds("invented_stream", "train", neighbors.GraphSpec(2.0))
stored = time.time()
loader = GraphLoader(graphs, 64, shuffle=True)
planned = time.time()
total = sum(float(labels["energy"].sum()) for _, labels in loader)
ended = time.time()
assert total == NUM_FRAMES * (NUM_FRAMES - 1) / 2
print(peak - start, NUM_FRAMES / (stored - began), planned - stored, NUM_FRAMES / (ended - planned))
"""


def growth(num_frames, folder):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(num_frames), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    return float(done.stdout.splitlines()[-1].split()[0])


@pytest.mark.parametrize(
    "num_frames", [10_000, pytest.param(1_000_000, marks=pytest.mark.slow, id="million")]
)
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path, num_frames):
    pytest.importorskip("tensorflow_datasets")
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not tell the memory of a process")
    grown = growth(num_frames, tmp_path)
    # buffers of TensorFlow and of the store; and per frame its sizes, offsets and place in the plan
    assert grown < 250.0 + num_frames * 300e-6
