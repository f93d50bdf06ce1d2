"""CMRET on CH2 with several devices of one machine, on TensorFlow or JAX.

Each device gets `training.batch_size` structures a step. Without accelerators, processors are
divided into devices, which shows that it works, not that it is faster. On accelerators,
`keras-mlff recipe run cmret_ch2 --set training.devices=all` does the same.

Run: python recipes/studies/distribute_devices.py --num-devices=2
"""

from __future__ import annotations

import os

import keras

from keras_mlff import cli, distribution
from keras_mlff.experiments import building, recipes, training
from keras_mlff.experiments.data import load

LABELS = ("energy", "forces")


def main(
    num_devices: int = 2,
    settings: tuple[str, ...] = ("training.num_epochs=10",),
    coordinator: str = "",
    num_processes: int = 1,
    process: int = 0,
    folder: str = "runs/distribute_devices",
    resume: bool = False,
    verbose: int = 2,
) -> float:
    """Trains and returns the last loss on validation data.

    Args:
        num_devices: Devices of the machine; of this process, where there are several.
        settings: Settings beside those of the variant `fast` of the recipe `cmret_ch2`.
        coordinator: Several processes (JAX): address and port of process 0.
        num_processes: How many; each runs this command with its own number.
        process: Number of this one.
        folder: Receives log, state and weights of process 0.
        resume: Whether to go on after an interruption.
        verbose: Progress, as in Keras.
    """
    _divide_processors(num_devices)
    distribution.use_devices(None, coordinator or None, num_processes, process)
    keras.utils.set_random_seed(0)
    recipe = recipes.load("cmret_ch2").settle(["fast"], recipes.parse_overrides(settings))
    model = building.make_model(recipe.model, LABELS)
    loaded = load(recipe.data, LABELS)
    building.set_offsets(model, loaded, recipe.offsets, LABELS)
    place = folder if process == 0 else f"{folder}-{process}"
    history = training.fit_model(
        model, loaded.parts, place, recipe.training, LABELS, resume=resume, verbose=verbose
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
    cli.run(main)
