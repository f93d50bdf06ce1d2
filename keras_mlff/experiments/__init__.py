"""Trainings from data to preset."""

import keras_mlff.frameworks  # noqa: F401 - before Keras
