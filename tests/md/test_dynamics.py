"""Dynamics must conserve energy, hold the temperature and be measured rightly."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.io import read

from keras_mlff import models
from keras_mlff.md import (
    CalculationFailed,
    MLFFCalculator,
    observables,
    run_npt,
    run_nve,
    run_nvt,
    set_temperature,
)


@pytest.fixture
def water():
    return molecule("H2O")


def test_nve_conserves_energy(water):
    model = models.CMRET(
        num_features=16,
        num_layers=1,
        num_heads=2,
        num_radial=8,
        variant={"num_output_blocks": 1},
        cutoff_function="smooth",
        cutoff=4.0,
    )
    water.calc = MLFFCalculator(model, dtype="float64")
    set_temperature(water, 300.0)
    trajectory = run_nve(water, num_steps=50, time_step=0.25)
    energies = trajectory.total_energies
    exchanged = np.ptp(trajectory.kinetic_energies)
    # velocity Verlet errs by the step's square; wrong forces would exchange what they please
    assert np.ptp(energies) < 1e-2 * exchanged
    assert water.calc.compilations == 1
    assert trajectory.times[-1] == pytest.approx(12.5)


def test_velocities_have_the_temperature_and_no_drift(water):
    set_temperature(water, 450.0, seed=3)
    assert water.get_temperature() == pytest.approx(450.0)
    np.testing.assert_allclose(water.get_momenta().sum(axis=0), 0.0, atol=1e-10)
    np.testing.assert_allclose(water.get_angular_momentum(), 0.0, atol=1e-10)


def test_npt_relaxes_the_volume():
    """A crystal that starts under tension shrinks to where ASE's own potential has no pressure."""
    crystal = bulk("Cu", cubic=True) * (2, 2, 2)
    crystal.calc = EMT()
    crystal.set_cell(crystal.cell * 1.03, scale_atoms=True)
    set_temperature(crystal, 50.0)
    start = crystal.get_volume()
    trajectory = run_npt(
        crystal, 50.0, 300, time_step=4.0, thermostat_time=100.0, barostat_time=200.0, interval=10
    )
    assert trajectory.volumes[0] == pytest.approx(start)
    assert trajectory.volumes[-10:].mean() == pytest.approx(start / 1.03**3, rel=0.02)
    with pytest.raises(ValueError, match="periodic"):
        run_npt(molecule("H2O"), 300.0, 1)


def test_nvt_holds_the_temperature_and_writes_frames(tmp_path):
    atoms = molecule("C6H6")
    atoms.calc = MorsePotential(r0=2.0, epsilon=0.5)  # the thermostat does not ask for a model
    set_temperature(atoms, 300.0)
    center = atoms.get_center_of_mass()
    options = {"interval": 10, "output": tmp_path / "run.xyz", "max_temperature": np.inf}
    trajectory = run_nvt(atoms, 300.0, 2000, friction=0.1, **options)
    # 33 degrees of freedom fluctuate by a quarter; 100 fs of memory leave about 10 samples
    assert 200.0 < trajectory.temperatures[50:].mean() < 400.0
    np.testing.assert_allclose(atoms.get_center_of_mass(), center, atol=1e-6)
    assert not atoms.constraints
    frames = read(tmp_path / "run.xyz", ":")
    assert len(frames) == len(trajectory.times) == 201
    np.testing.assert_allclose(frames[7].positions, trajectory.positions[7], atol=1e-6)


def test_drift_is_the_slope_per_atom_and_ps():
    times = np.arange(0.0, 500.0, 2.5)
    assert observables.energy_drift(times, 7.0 + 6e-6 * times, 3) == pytest.approx(2e-3)
    with pytest.raises(ValueError, match="two frames"):
        observables.energy_drift(times[:1], times[:1], 3)


def test_bonds_and_angles_of_water(water):
    pairs = observables.bonds(water.positions, water.numbers)
    assert pairs.tolist() == [[0, 1], [0, 2]]
    frames = water.positions[None]
    np.testing.assert_allclose(
        observables.pair_distances(frames, pairs), [[water.get_distance(*pair) for pair in pairs]]
    )
    np.testing.assert_allclose(observables.angles(frames, [1, 0, 2]), [[water.get_angle(1, 0, 2)]])


@pytest.mark.parametrize(
    ("run", "settings"),
    [
        (run_nve, {"num_steps": -5}),
        (run_nve, {"num_steps": 1.5}),
        (run_nve, {"num_steps": 5, "interval": 0}),
        (run_nve, {"num_steps": 5, "time_step": 0.0}),
        (run_nvt, {"num_steps": 5, "time_step": np.nan, "temperature": 300.0}),
        (run_nvt, {"num_steps": 5, "temperature": np.nan}),
        (run_nvt, {"num_steps": 5, "temperature": 300.0, "friction": -0.1}),
        (run_npt, {"num_steps": 5, "temperature": -1.0}),
        (run_npt, {"num_steps": 5, "temperature": 300.0, "barostat_time": 0.0}),
        (run_npt, {"num_steps": 5, "temperature": 300.0, "pressure": np.inf}),
        (set_temperature, {"temperature": np.nan}),
    ],
)
def test_settings_without_sense_are_refused_by_name(run, settings):
    crystal = bulk("Cu", cubic=True)
    crystal.calc = EMT()
    name, value = next(item for item in settings.items() if item[1] not in (5, 300.0))
    with pytest.raises(ValueError, match=f"`{name}` is .* Received: {name}={value}"):
        run(crystal, **settings)


@pytest.mark.parametrize(("time_step", "what"), [(0.2, r"\d{5,} K"), (40.0, r"energy .* -> ")])
def test_a_run_that_runs_away_stops_and_names_the_fastest_atoms(time_step, what):
    atoms = Atoms("H3", [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [30.0, 0.0, 0.0]])
    atoms.calc = MorsePotential(r0=1.0, epsilon=5.0)
    with pytest.raises(CalculationFailed, match=f"{what}.* fastest atoms are H[01], H[01]. Look"):
        run_nve(atoms, 200, time_step=time_step)
    atoms.positions[1, 0] = 0.5
    run_nve(atoms, 5, time_step=time_step, max_temperature=np.inf)
