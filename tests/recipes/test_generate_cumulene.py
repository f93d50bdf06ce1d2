"""The rotor scans at toy size: two points of the smallest chain in the smallest basis."""

import importlib

import numpy as np
import pytest

from keras_mlff import datasets


@pytest.fixture(scope="module")
def recipe():
    return importlib.import_module("generate_cumulene")


def test_chains_have_the_bonds_of_the_published_scans(recipe):
    positions, numbers = recipe.geometry(5, 90.0)
    assert numbers.tolist() == [6] * 5 + [1] * 4
    np.testing.assert_allclose(np.diff(positions[:5, 2]), [1.315, 1.279, 1.279, 1.315])
    hydrogens = positions[5:]
    np.testing.assert_allclose(
        np.linalg.norm(hydrogens - positions[[0, 0, 4, 4]], axis=1), 1.086, rtol=1e-12
    )
    assert np.abs(hydrogens[:2, 1]).max() == 0.0
    assert np.abs(hydrogens[2:, 0]).max() < 1e-15


def test_angles_above_90_degrees_are_mirror_images(recipe):
    """What turns forces over turns positions over too."""
    low, _ = recipe.geometry(4, 35.0)
    high, _ = recipe.geometry(4, 145.0)
    np.testing.assert_allclose(recipe.mirrored(low), high, atol=1e-14)


def test_points_are_not_solved_twice(recipe, tmp_path, capsys):
    solved = []

    def solve(carbons, angle):
        solved.append((carbons, angle))
        if len(solved) == 2:
            raise KeyboardInterrupt
        values = dict.fromkeys(("energy", "restricted_energy", "spin_square"), np.asarray(1.0))
        return values | {"forces": np.zeros((carbons + 4, 3))}

    points, partial = [(3, 0.0), (3, 90.0)], tmp_path / "partial.npz"
    with pytest.raises(KeyboardInterrupt):
        recipe.solve_all(points, solve, partial, "level")
    assert list(recipe.solve_all(points, solve, partial, "level")) == points
    assert solved == [(3, 0.0), (3, 90.0), (3, 90.0)]
    assert "[1/1] C3H4 at 90.0000 degrees: 1.000000 eV" in capsys.readouterr().out
    with pytest.raises(ValueError, match="another level"):
        recipe.solve_all(points, solve, partial, "other")


@pytest.mark.slow
def test_tiny_run_writes_what_the_package_reads(recipe, tmp_path):
    pytest.importorskip("pyscf", reason="needs the pip extra qm")
    settings = {"num_carbons": (3,), "num_angles": 2, "basis": "sto-3g", "functional": "pbe0"}
    output = recipe.main(output=str(tmp_path / "scan.npz"), **settings)
    assert [file.name for file in tmp_path.iterdir()] == ["scan.npz"]
    points = datasets.load(str(output), "C3H4")
    assert len(points) == 3
    energies = np.concatenate([point["energy"] for point in points])
    assert energies[0] == energies[2]
    assert 1.0 < energies[0] - energies[1] < 4.0  # allene is stable at 90 degrees
    with np.load(output) as file:
        np.testing.assert_allclose(file["dihedral"], [0.0, 90.0, 180.0])
        np.testing.assert_allclose(file["spin_square"], [1.0, 0.0, 1.0], atol=0.3)
        assert file["restricted_energy"][0] > file["energy"][0] + 0.1
    for point in points:
        np.testing.assert_allclose(point["forces"].sum(axis=0), 0.0, atol=1e-4)
