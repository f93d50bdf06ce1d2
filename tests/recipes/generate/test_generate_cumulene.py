"""The rotor scans at toy size: two points of the smallest chain in the smallest basis."""

import copy
import types
from pathlib import Path

import generate_cumulene
import numpy as np
import pytest

from keras_mlff import datasets, units
from keras_mlff.bench.systems import cumulene

SCANS = Path(generate_cumulene.__file__).with_name("cumulene_scans.npz")


def test_chains_have_the_bonds_of_the_published_scans():
    positions, numbers = cumulene(5, 90.0)
    assert numbers.tolist() == [6] * 5 + [1] * 4
    np.testing.assert_allclose(np.diff(positions[:5, 2]), [1.315, 1.279, 1.279, 1.315])
    hydrogens = positions[5:]
    np.testing.assert_allclose(
        np.linalg.norm(hydrogens - positions[[0, 0, 4, 4]], axis=1), 1.086, rtol=1e-12
    )
    assert np.abs(hydrogens[:2, 1]).max() == 0.0
    assert np.abs(hydrogens[2:, 0]).max() < 1e-15


def test_angles_above_90_degrees_are_mirror_images():
    """What turns forces over turns positions over too."""
    low, _ = cumulene(4, 35.0)
    high, _ = cumulene(4, 145.0)
    np.testing.assert_allclose(generate_cumulene.mirrored(low), high, atol=1e-14)


def test_the_scans_beside_the_recipe_are_whole():
    angles = np.arange(0.0, 181.0, 30.0)
    barriers = []
    for carbons in range(3, 10):
        points = datasets.load(str(SCANS), f"C{carbons}H4")
        assert len(points) == len(angles)
        for point, angle in zip(points, angles, strict=True):
            positions, numbers = cumulene(carbons, angle)
            np.testing.assert_allclose(point["positions"], positions, atol=1e-12)
            assert point["atomic_numbers"].tolist() == numbers.tolist()
            np.testing.assert_allclose(point["forces"].sum(axis=0), 0.0, atol=1e-8)
            # the grid of the functional does not turn with the molecule
            np.testing.assert_allclose(torque(point), 0.0, atol=2e-4)
        energies = np.concatenate([point["energy"] for point in points])
        turn = energies[:4] - energies[3] if carbons % 2 else energies[3::-1] - energies[0]
        assert np.all(np.diff(turn) < 0.0)  # odd chains are stable turned, even ones flat
        barriers.append(turn[0])
    assert np.all(np.diff(barriers) < 0.0)  # long chains turn more easily
    np.testing.assert_allclose(barriers[0], 2.16, atol=0.01)


def test_the_scans_have_broken_symmetry_where_the_recipe_says():
    with np.load(SCANS) as file:
        excess = file["restricted_energy"] - file["energy"]
        is_restricted = file["spin_square"] < 1e-3
        allene = file["split_C3H4"][:4]  # from planar to stable, in steps of 30 degrees
    assert (is_restricted.sum(), len(is_restricted)) == (22, 49)
    np.testing.assert_allclose(excess[is_restricted], 0.0, atol=1e-4)
    np.testing.assert_allclose(excess[allene], [0.64, 0.0, 0.0, 0.0], atol=1e-3)
    np.testing.assert_allclose(excess.max(), 1.01, atol=5e-3)


def torque(point):
    return np.cross(point["positions"], point["forces"]).sum(axis=0)


def solution(carbons, is_lowest=True):
    values = dict.fromkeys(("energy", "restricted_energy", "spin_square"), np.asarray(1.0))
    return values | {"forces": np.zeros((carbons + 4, 3)), "is_lowest": np.asarray(is_lowest)}


def test_points_that_are_not_the_lowest_are_marked_and_left_out(tmp_path, capsys, monkeypatch):
    pytest.importorskip("pyscf", reason="needs the pip extra qm")
    monkeypatch.setattr(
        generate_cumulene, "solve", lambda carbons, angle, *_: solution(carbons, angle > 0.0)
    )
    output = generate_cumulene.main(
        output=str(tmp_path / "scan.npz"), num_carbons=(3, 4), num_angles=2
    )
    assert "['C3H4 at 0.0000 degrees', 'C4H4 at 0.0000 degrees']" in capsys.readouterr().out
    assert len(datasets.load(str(output), "C4H4")) == 1
    with np.load(output) as file:
        np.testing.assert_array_equal(file["is_lowest"], [False, True, False] * 2)
        assert file["split_C4H4"].tolist() == [4]


class Grids:
    """Stands for the points of an integral."""

    def __init__(self, mol=None):
        self.level = 3


class Solver:
    """Stands for one of PySCF's, whose energy depends on where it started."""

    converged, mo_occ, mo_coeff = True, None, np.eye(3)
    mol = types.SimpleNamespace(nelectron=2)
    grids = Grids()

    def __init__(self, kind, dihedral, energies):
        self.kind, self.dihedral, self.energies, self.e_tot = kind, dihedral, energies, -1.0

    def kernel(self, dm0=None):
        if self.kind == "UKS" and self.dihedral == 20.0:
            self.e_tot = self.energies.pop(0)

    def make_rdm1(self):
        return np.eye(3)

    def copy(self):
        return copy.copy(self)

    def stability(self, return_status):
        assert self.grids.level == 0
        return None, None, True, None

    def spin_square(self):
        return 1.0, 3.0

    def nuc_grad_method(self):
        return types.SimpleNamespace(kernel=lambda: np.zeros((7, 3)))


@pytest.mark.parametrize(
    ("energies", "chosen", "is_lowest"),
    [
        ([-1.1], -1.1, True),  # a higher solution is not looked for
        ([-0.9, -1.2], -1.2, True),  # from a neighbor's orbitals
        ([-0.9, -0.7, -0.8, -1.0], -1.0, True),  # from the restricted ones
        ([-0.7, -0.9, -0.8, -0.6], -0.9, False),
    ],
)
def test_points_above_the_restricted_solution_get_other_starts(
    monkeypatch, energies, chosen, is_lowest
):
    left = list(energies)
    monkeypatch.setattr(
        generate_cumulene, "solver", lambda kind, _, dihedral, *level: Solver(kind, dihedral, left)
    )
    found = generate_cumulene.solve(3, 20.0, "pbe0", "sto-3g")
    assert not left
    assert bool(found["is_lowest"]) is is_lowest
    np.testing.assert_allclose(found["energy"], chosen * units.hartree)


@pytest.mark.slow
def test_instabilities_are_followed_downwards():
    pytest.importorskip("pyscf", reason="needs the pip extra qm")
    restricted, unrestricted = (
        generate_cumulene.solver(kind, 3, 0.0, "pbe0", "sto-3g") for kind in ("RKS", "UKS")
    )
    restricted.kernel()
    unrestricted.kernel(dm0=np.stack([0.5 * restricted.make_rdm1()] * 2))
    np.testing.assert_allclose(unrestricted.e_tot, restricted.e_tot, atol=1e-7)
    assert not generate_cumulene.descend(unrestricted, num_rounds=0)
    assert generate_cumulene.descend(unrestricted)
    assert unrestricted.e_tot < restricted.e_tot - 1e-3


@pytest.mark.slow
def test_tiny_run_writes_what_the_package_reads(tmp_path):
    pytest.importorskip("pyscf", reason="needs the pip extra qm")
    settings = {"num_carbons": (3,), "num_angles": 2, "basis": "sto-3g", "functional": "pbe0"}
    output = generate_cumulene.main(output=str(tmp_path / "scan.npz"), **settings)
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
        assert file["is_lowest"].all()
    for point in points:
        np.testing.assert_allclose(point["forces"].sum(axis=0), 0.0, atol=1e-4)
