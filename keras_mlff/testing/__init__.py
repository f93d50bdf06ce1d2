"""The contracts of architectures, heads and data sets, for this package and for others.

As test classes, or as one call each:

    class TestMyNetwork(keras_mlff.testing.ArchitectureTests):
        architecture = MyNetwork


    keras_mlff.testing.check_architecture(MyNetwork)
"""

import keras_mlff.frameworks  # noqa: F401 - before Keras
from keras_mlff.testing.architecture import ArchitectureTests as ArchitectureTests
from keras_mlff.testing.architecture import check_architecture as check_architecture
from keras_mlff.testing.checks import CheckReport as CheckReport
from keras_mlff.testing.checks import NotApplicable as NotApplicable
from keras_mlff.testing.files import write_stored as write_stored
from keras_mlff.testing.head import HeadTests as HeadTests
from keras_mlff.testing.head import check_head as check_head
