"""Trains a small model on the devices that it is told, and writes what comes out.

Run: python distribution_program.py RESULTS NUM_DEVICES [DATA [PROCESS PORT]]
"""

import os
import sys

import keras
import numpy as np

from keras_mlff import distribution, models
from keras_mlff.fit.losses import PerAtom
from keras_mlff.graph import structure
from keras_mlff.neighbors import add_edges
from keras_mlff.packing.loader import GraphLoader


def graphs():
    random = np.random.default_rng(0)
    base = np.asarray([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [-0.3, 1.0, 0.0]])
    for index in range(9):
        yield add_edges(
            structure(
                base + random.normal(scale=0.05, size=(3, 3)),
                [6, 1, 1],
                # what some lack must not count on any device
                energy=random.normal() - 1000.0 if index != 2 else np.nan,
                forces=random.normal(size=(3, 3)) if index != 5 else None,
            ),
            5.0,
        )


def main(results, num_devices, data="loader", process=-1, port=0):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        logical = [tf.config.LogicalDeviceConfiguration()] * num_devices
        processor = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(processor, logical)
    if process >= 0:
        found = distribution.use_devices(None, f"localhost:{port}", 2, process)
        assert found == num_devices
    elif num_devices > 1:
        names = [f"cpu:{index}" for index in range(num_devices)]
        assert distribution.use_devices(names) == num_devices
    keras.utils.set_random_seed(0)
    model = models.CMRET(num_features=8, num_layers=1, num_heads=1, num_radial=4)
    listed = list(graphs())
    model.fit_offsets(listed)
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss={"energy": PerAtom("mse"), "forces": "mse"},
        metrics={"energy": "mae"},
    )
    # the same four graphs in a step, however many devices share them
    loader = GraphLoader(listed, 4 // num_devices)
    if data == "tf.data":
        from keras_mlff import pipeline

        loader = pipeline.from_graphs(listed, 4 // num_devices, verbose=0)
    history = model.fit(loader, validation_data=loader, epochs=2, verbose=0).history
    history |= {f"predicted {key}": value for key, value in model.predict(listed).items()}
    history |= {f"weight {index}": value for index, value in enumerate(model.get_weights())}
    if process <= 0:
        np.savez(results, **history)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:4], *map(int, sys.argv[4:]))
