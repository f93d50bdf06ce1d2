"""Trainings from data to preset: `train` in Python, recipes in TOML, one runner for both."""

import keras_mlff.frameworks  # noqa: F401 - before Keras
from keras_mlff.experiments.data import Parts as Parts
from keras_mlff.experiments.data import join_parts as join_parts
from keras_mlff.experiments.data import load_parts as load_parts
from keras_mlff.experiments.data import random_parts as random_parts
from keras_mlff.experiments.data import with_known_elements as with_known_elements
from keras_mlff.experiments.evaluation import measure_errors as measure_errors
from keras_mlff.experiments.recipes import available as available
from keras_mlff.experiments.run import Results as Results
from keras_mlff.experiments.run import run_recipe as run_recipe
from keras_mlff.experiments.run import train as train
from keras_mlff.experiments.settings import CardSettings as CardSettings
from keras_mlff.experiments.settings import DataSettings as DataSettings
from keras_mlff.experiments.settings import ModelSettings as ModelSettings
from keras_mlff.experiments.settings import OffsetSettings as OffsetSettings
from keras_mlff.experiments.settings import Recipe as Recipe
from keras_mlff.experiments.settings import ReportSettings as ReportSettings
from keras_mlff.experiments.settings import Settings as Settings
