"""Invented data for recipes and studies."""

import numpy as np
import pytest


@pytest.fixture
def trajectory(tmp_path):
    """Writes frames of an invented molecule in kcal/mol and Å, and three splits of them."""
    random = np.random.default_rng(0)
    file = tmp_path / "invented.npz"
    rest = np.asarray([[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [-0.4, 1.0, 0.0], [-0.5, -0.6, 0.9]])
    forces = random.normal(size=(16, 4, 3)) * 10.0
    np.savez(
        file,
        positions=rest + random.normal(scale=0.05, size=(16, 4, 3)),
        atomic_numbers=np.asarray([6, 1, 1, 8]),
        energy=random.normal(size=16) - 1000.0,
        forces=forces - forces.mean(axis=1, keepdims=True),
        learn=np.arange(8),
        choose=np.arange(6, 12),  # two of them are learned
        judge=np.arange(12, 16),
    )
    return file
