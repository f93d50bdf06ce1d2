"""CMRET on CH2 with several devices of one machine, on TensorFlow or JAX.

Each device gets `batch_size` structures a step. Without accelerators, processors are divided into
devices, which shows that it works, not that it is faster.

Run: python recipes/studies/distribute_devices.py --num-devices=2
"""

from __future__ import annotations

import os

import keras

from keras_mlff import cli, datasets, distribution, models
from keras_mlff.experiments import training


def main(
    num_devices: int = 2,
    num_epochs: int = 10,
    batch_size: int = 25,
    num_features: int = 64,
    num_layers: int = 3,
    coordinator: str = "",
    num_processes: int = 1,
    process: int = 0,
    folder: str = "runs/distribute_devices",
    resume: bool = False,
    verbose: int = 2,
) -> float:
    """Trains and returns the last loss on validation data.

    Args:
        num_devices: Of the machine; of this process, where there are several.
        num_epochs: Epochs in all.
        batch_size: Structures per device and step.
        num_features: Width.
        num_layers: Interaction layers.
        coordinator: Several processes (JAX): address and port of process 0.
        num_processes: How many; each runs this command with its own number.
        process: Number of this one.
        folder: Receives log, state and weights of process 0.
        resume: Goes on after an interruption.
        verbose: As in Keras.
    """
    _divide_processors(num_devices)
    distribution.use_devices(None, coordinator or None, num_processes, process)
    keras.utils.set_random_seed(0)
    model = models.CMRET(num_features=num_features, num_layers=num_layers)
    points = training.with_edges(datasets.load("ch2", split="train"), model)
    model.fit_references(points[100:])
    history = training.train(
        model,
        points[100:],
        points[:100],
        folder if process == 0 else f"{folder}-{process}",
        keras.optimizers.Adam(1e-3),
        loss={"energy": "mse", "forces": "mse"},
        metrics={"energy": "mae", "forces": "mae"},
        batch_size=batch_size,
        num_epochs=num_epochs,
        resume=resume,
        verbose=verbose,
    )
    # nothing is trained where a finished training is resumed
    return float(history.history.get("val_loss", [float("nan")])[-1])


def _divide_processors(num_devices: int) -> None:
    """Makes several devices of a processor, before the framework starts."""
    if keras.backend.backend() == "jax":
        flag = f"--xla_force_host_platform_device_count={num_devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            tf.config.set_logical_device_configuration(
                tf.config.list_physical_devices("CPU")[0],
                [tf.config.LogicalDeviceConfiguration()] * num_devices,
            )


if __name__ == "__main__":
    from keras_mlff import cli

    cli.run(main)
