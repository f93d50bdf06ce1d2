"""Heads: numbers of each atom -> a property."""

import keras_mlff.frameworks  # noqa: F401 - before Keras
from keras_mlff.heads.atomic import AtomicHead as AtomicHead
from keras_mlff.heads.charges import HirshfeldHead as HirshfeldHead
from keras_mlff.heads.charges import PartialChargesHead as PartialChargesHead
from keras_mlff.heads.choice import for_label as for_label
from keras_mlff.heads.choice import for_labels as for_labels
from keras_mlff.heads.collection import AtomNumbers as AtomNumbers
from keras_mlff.heads.dipole import DipoleHead as DipoleHead
from keras_mlff.heads.energy import EnergyHead as EnergyHead
from keras_mlff.heads.head import Head as Head
from keras_mlff.heads.polarizability import PolarizabilityHead as PolarizabilityHead
from keras_mlff.heads.scalar import ScalarHead as ScalarHead
from keras_mlff.heads.spatial_extent import SpatialExtentHead as SpatialExtentHead
