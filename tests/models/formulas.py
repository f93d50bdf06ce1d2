"""What the comparisons of networks with their formulas in NumPy share."""

import dataclasses

import keras
import numpy as np

from keras_mlff import backend
from keras_mlff.graph import inputs_and_labels, join


def inputs_of(graphs):
    """Puts all structures into one batch, in which they must not mix."""
    inputs, _ = inputs_and_labels(join(graphs))
    return {key: keras.ops.convert_to_tensor(value) for key, value in inputs.items()}


def arguments_of(model_class, options):
    """Puts options that are fields of the variant there; the formulas know no such difference."""
    fields = model_class.Variant.__dataclass_fields__
    switches = {key: value for key, value in options.items() if key in fields}
    others = {key: value for key, value in options.items() if key not in fields}
    variant = model_class.VARIANTS[options.get("variant", "smooth")]
    return others | {"variant": dataclasses.replace(variant, **switches)}


def evaluate(function, inputs):
    outputs = backend.run_once(function, inputs)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def central_forces(energy, positions, step=1e-5):
    """Computes minus the central differences of an energy, `(num_atoms, 3)`.

    The energy's rounding over the step is 1e-11, and what the square of the step leaves is less.
    """
    positions = np.asarray(positions)
    forces = np.empty(positions.shape)
    for place in np.ndindex(positions.shape):
        shift = np.zeros(positions.shape)
        shift[place] = step
        forces[place] = (energy(positions - shift) - energy(positions + shift)) / (2 * step)
    return forces


def central_stress(energy, positions, cell):
    """Computes the slope of `energy(positions, cell)` by strain over the volume, `(3, 3)`."""

    def stretched(strain):
        symmetric = np.eye(3) + (strain + strain.T) / 2
        return energy(positions @ symmetric, cell @ symmetric)

    return -central_forces(stretched, np.zeros((3, 3))) / abs(np.linalg.det(cell))


def silu(x):
    return x / (1.0 + np.exp(-x))


def softplus(x):
    return np.log(1.0 + np.exp(x))
