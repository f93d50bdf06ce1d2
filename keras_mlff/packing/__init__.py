"""Graphs -> batches of fixed size, in NumPy, read by every backend's loader."""

import keras_mlff.frameworks  # noqa: F401 - before Keras
from keras_mlff.packing.budget import Batch as Batch
from keras_mlff.packing.budget import Budget as Budget
from keras_mlff.packing.budget import Packable as Packable
from keras_mlff.packing.budget import choose_budget as choose_budget
from keras_mlff.packing.budget import empty as empty
from keras_mlff.packing.budget import pack as pack
from keras_mlff.packing.budget import plan as plan
from keras_mlff.packing.budget import sizes as sizes
from keras_mlff.packing.loader import GraphLoader as GraphLoader
from keras_mlff.packing.loader import unpack_batch as unpack_batch
