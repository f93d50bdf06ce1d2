"""Architectures, one per file. A new one is a file and a line here."""

from typing import Any

import keras_mlff.frameworks  # noqa: F401 - before Keras
from keras_mlff import presets
from keras_mlff.core.force_field import ForceField as ForceField
from keras_mlff.layers.readout import AtomFeatures as AtomFeatures
from keras_mlff.models.alphanet import AlphaNet as AlphaNet
from keras_mlff.models.cmret import CMRET as CMRET
from keras_mlff.models.dimenet_pp import DimeNetPP as DimeNetPP
from keras_mlff.models.egnn import EGNN as EGNN
from keras_mlff.models.geomatt import GeomAtt as GeomAtt
from keras_mlff.models.so3krates import So3krates as So3krates
from keras_mlff.models.transformer import DistanceTransformer as DistanceTransformer

ARCHITECTURES: dict[str, type[ForceField]] = {
    name: value
    for name, value in dict(globals()).items()
    if isinstance(value, type) and issubclass(value, ForceField) and value is not ForceField
}


def load_preset(name: str, **kwargs: Any) -> ForceField:
    """Loads a trained model of whichever architecture.

    Args:
        name: Such as `"cmret/ch2"`, or the path of a preset's folder.
        **kwargs: Replace arguments of the constructor, such as `dtype="float64"`.

    Raises:
        ValueError: If there is no such preset or this version does not know its architecture.
    """
    preset = presets.find(name)
    if preset.architecture not in ARCHITECTURES:
        raise ValueError(
            f"The preset '{name}' belongs to an architecture that this version does not know. "
            f"Received: '{preset.architecture}', known are {sorted(ARCHITECTURES)}. "
            "Upgrade: pip install --upgrade keras-mlff."
        )
    return ARCHITECTURES[preset.architecture].from_preset(str(preset.folder), **kwargs)
