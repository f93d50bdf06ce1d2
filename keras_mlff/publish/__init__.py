"""Publishing a preset: what is measured on it, its pinned values and its card."""

import keras_mlff.frameworks  # noqa: F401 - before Keras
from keras_mlff.publish.card import card as card
from keras_mlff.publish.measure import measure as measure
from keras_mlff.publish.measure import nve_drift as nve_drift
from keras_mlff.publish.measure import pinned_values as pinned_values
from keras_mlff.publish.metadata import Metadata as Metadata
from keras_mlff.publish.publishing import add_figure as add_figure
from keras_mlff.publish.publishing import check as check
from keras_mlff.publish.publishing import describe as describe
from keras_mlff.publish.publishing import example_structure as example_structure
from keras_mlff.publish.publishing import learning_curve as learning_curve
from keras_mlff.publish.publishing import publish as publish
from keras_mlff.publish.publishing import verify as verify
