"""Molecular dynamics with ASE: a calculator, short runs, and what is measured on them."""

import keras_mlff.frameworks  # noqa: F401 - before Keras

try:
    import ase as ase
except ImportError as error:
    raise ImportError(
        "keras_mlff.md works with ASE, which is not installed. "
        "Install it with `pip install keras-mlff[md]`."
    ) from error

from ase.calculators.calculator import CalculationFailed as CalculationFailed

from keras_mlff.md.calculator import MLFFCalculator as MLFFCalculator
from keras_mlff.md.dynamics import Trajectory as Trajectory
from keras_mlff.md.dynamics import run_npt as run_npt
from keras_mlff.md.dynamics import run_nve as run_nve
from keras_mlff.md.dynamics import run_nvt as run_nvt
from keras_mlff.md.dynamics import set_temperature as set_temperature
from keras_mlff.md.dynamics import to_atoms as to_atoms
from keras_mlff.md.engine.relaxation import Relaxed as Relaxed
from keras_mlff.md.engine.relaxation import relax as relax
from keras_mlff.md.engine.simulation import simulate as simulate
