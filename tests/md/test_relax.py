"""Relaxed structures must be where ASE finds them, whatever else is in the batch."""

import numpy as np
import pytest
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from keras_mlff.md import MLFFCalculator, relax
from tests.md.springs import Springs
from tests.md.test_simulate import cluster, crystal


@pytest.fixture(scope="module")
def springs():
    return Springs()


def test_many_relax_as_each_does_alone(springs):
    """Five structures in batches of two or three: those that have converged make room."""
    systems = [cluster(seed, size) for seed, size in enumerate((5, 3, 2, 5, 4))]
    relaxed = relax(springs, systems, fmax=1e-3, max_edges=30)
    for result, atoms in zip(relaxed, systems, strict=True):
        assert result.converged
        assert result.max_force <= 1e-3
        atoms.calc = MLFFCalculator(springs)
        BFGS(atoms, logfile=None).run(fmax=1e-3)
        # soft angles may differ, energies do not
        assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=2e-3)
        assert result.atoms.get_potential_energy() == result.energy


@pytest.mark.filterwarnings("ignore:logm result")  # in ASE's filter
def test_a_cell_relaxes_under_pressure():
    model = Springs(dtype="float64")
    atoms = crystal()
    random = np.random.default_rng(0)
    atoms.positions += 0.05 * random.normal(size=atoms.positions.shape)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * random.normal(size=(3, 3))), True)
    result = relax(model, atoms, fmax=2e-3, cell=True, pressure=0.1)
    assert result.converged
    stress = result.atoms.get_stress()
    np.testing.assert_allclose(stress[:3], -0.1 * 0.00624150907, atol=3.2e-4)
    np.testing.assert_allclose(stress[3:], 0.0, atol=3.2e-4)
    atoms.calc = MLFFCalculator(model)
    filtered = FrechetCellFilter(atoms, scalar_pressure=0.1 * 0.00624150907)
    BFGS(filtered, logfile=None).run(fmax=2e-3, steps=100)
    enthalpies = [
        x.get_potential_energy() + 0.1 * 0.00624150907 * x.get_volume()
        for x in (result.atoms, atoms)
    ]
    assert enthalpies[0] == pytest.approx(enthalpies[1], abs=0.02)


def test_fixed_atoms_stay_and_steps_are_counted(springs):
    atoms = cluster()
    atoms.set_constraint(FixAtoms([0, 4]))
    result = relax(springs, atoms, fmax=1e-3)
    np.testing.assert_allclose(result.atoms.positions[[0, 4]], atoms.positions[[0, 4]], atol=1e-6)
    assert result.converged
    assert 0 < result.num_steps < 500
    short = relax(springs, atoms, fmax=1e-8, max_steps=20)
    assert not short.converged
    assert short.num_steps == 20
    already = relax(springs, result.atoms, fmax=1e-2)
    assert already.num_steps == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [({"fmax": 0.0}, "fmax"), ({"cell": True}, "periodic"), ({"pressure": np.nan}, "pressure")],
)
def test_senseless_arguments_are_refused(springs, change, message):
    with pytest.raises(ValueError, match=message):
        relax(springs, cluster(), **change)
