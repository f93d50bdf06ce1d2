"""Structures with invented labels, for tests that train."""

import numpy as np

from keras_mlff.graph import structure


def make_frames(count=20, shift=0.0):
    """Distorted CH2 with invented labels, in eV and Å."""
    random = np.random.default_rng(0)
    rest = np.asarray([[0.0, 0.0, 0.0], [0.0, 0.9, 0.6], [0.0, -0.9, 0.6]])
    forces = random.normal(size=(count, 3, 3))
    return [
        structure(
            rest + random.normal(scale=0.05, size=(3, 3)),
            [6, 1, 1],
            energy=-1000.0 + shift + random.normal(),
            forces=force - force.mean(axis=0),
        )
        for force in forces
    ]
