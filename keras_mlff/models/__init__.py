"""Architectures, one per file. A new one is a file and a line here."""

from keras_mlff.models.cmret import CMRET as CMRET
from keras_mlff.models.force_field import AtomFeatures as AtomFeatures
from keras_mlff.models.force_field import ForceField as ForceField

ARCHITECTURES: dict[str, type[ForceField]] = {
    name: value
    for name, value in dict(globals()).items()
    if isinstance(value, type) and issubclass(value, ForceField) and value is not ForceField
}
