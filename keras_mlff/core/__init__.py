"""What every architecture shares: energy, forces and stress, training steps, offsets."""

import keras_mlff.frameworks  # noqa: F401 - before Keras
