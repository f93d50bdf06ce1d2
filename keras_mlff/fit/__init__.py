"""Fitting: losses, metrics, schedules, averages, and a training that survives a kill."""

import keras_mlff.frameworks  # noqa: F401 - before Keras
from keras_mlff.fit.averages import AveragedWeights as AveragedWeights
from keras_mlff.fit.best_weights import BestWeights as BestWeights
from keras_mlff.fit.logs import InputWait as InputWait
from keras_mlff.fit.losses import L2Norm as L2Norm
from keras_mlff.fit.losses import PerAtom as PerAtom
from keras_mlff.fit.metrics import errors as errors
from keras_mlff.fit.metrics import s2ef as s2ef
from keras_mlff.fit.schedules import TriangularCycles as TriangularCycles
from keras_mlff.fit.schedules import warmup_cosine as warmup_cosine
from keras_mlff.fit.state import TrainingState as TrainingState
from keras_mlff.fit.weight_schedules import WeightSchedule as WeightSchedule
