"""Dynamics on the device must have the right distributions, and be what ASE computes."""

import h5py
import keras
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed
from ase.constraints import FixAtoms
from ase.io import read

from keras_mlff import units
from keras_mlff.heads import EnergyHead, PartialChargesHead
from keras_mlff.md import MLFFCalculator, relax, run_nve, set_temperature, simulate
from keras_mlff.models import EGNN
from tests.md.springs import Springs

stats = pytest.importorskip("scipy.stats")
# a step is the same code everywhere, and PyTorch makes one at a time
long = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="distributions are drawn once, by TensorFlow"
)


@pytest.fixture(scope="module")
def springs():
    return Springs()


@pytest.fixture(scope="module")
def precise():
    return Springs(dtype="float64")


def cluster(seed=0, num_atoms=5):
    shape = np.random.default_rng(seed).normal(size=(num_atoms, 3))
    places = [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0], [0, 0, 2.5], [2.0, 2.0, 2.0]]
    return Atoms(["Ar"] * num_atoms, np.asarray(places)[:num_atoms] + 0.05 * shape)


def crystal(temperature=0.0):
    """A crystal of 64 atoms whose neighbors change."""
    atoms = bulk("Ar", "fcc", a=3.6, cubic=True) * (2, 2, 4)
    set_temperature(atoms, temperature)
    return atoms


def agree(trajectory, reference, atol):
    np.testing.assert_allclose(trajectory.positions, reference.positions, atol=atol)
    np.testing.assert_allclose(
        trajectory.potential_energies, reference.potential_energies, atol=1e-3 * atol + 1e-5
    )


@pytest.mark.parametrize("make", [cluster, crystal])
def test_nve_is_what_ase_computes(springs, make):
    """A crystal's neighbors are searched anew on the way, a cluster has all pairs."""
    atoms = make()
    set_temperature(atoms, 900.0, seed=1)
    mine = simulate(springs, atoms, num_steps=100, time_step=2.0, interval=50, skin=0.3)
    atoms.calc = MLFFCalculator(springs)
    reference = run_nve(atoms, num_steps=100, time_step=2.0, interval=50)
    agree(mine, reference, 2e-5)
    np.testing.assert_allclose(mine.times, reference.times)
    assert np.abs(mine.positions[-1] - mine.positions[0]).max() > 0.3


def test_the_energy_error_is_of_second_order(precise):
    atoms = cluster()
    set_temperature(atoms, 300.0, seed=2)
    errors = []
    for time_step in (4.0, 2.0, 1.0):
        steps = int(200 / time_step)
        run = simulate(precise, atoms, num_steps=steps, time_step=time_step, interval=steps // 50)
        errors.append(np.std(run.total_energies))
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4.0, rtol=0.2)


@long
def test_float32_conserves_as_float64_does(springs, precise):
    """Positions are sums of two float32: short steps do not drown in rounding."""
    atoms = cluster()
    set_temperature(atoms, 100.0, seed=3)
    spread = [
        np.std(
            simulate(
                model, atoms, num_steps=20_000, time_step=0.02, interval=1000
            ).positions.reshape(21, -1)[-1]
        )
        for model in (springs, precise)
    ]
    np.testing.assert_allclose(spread[0], spread[1], rtol=1e-5)


def test_a_batch_is_its_systems(springs):
    systems = [cluster(0), cluster(1, 3), crystal(), cluster(2)]
    for index, atoms in enumerate(systems):
        set_temperature(atoms, 300.0, seed=index)
    together = simulate(springs, systems, num_steps=40, time_step=2.0, interval=20)
    in_parts = simulate(springs, systems, num_steps=40, time_step=2.0, interval=20, max_edges=1)
    assert len(together) == 4
    for run, alone, atoms in zip(together, in_parts, systems, strict=True):
        agree(run, alone, 2e-5)
        agree(run, simulate(springs, atoms, num_steps=40, time_step=2.0, interval=20), 2e-5)


@long
@pytest.mark.parametrize("ensemble", ["langevin", "svr", "nhc"])
def test_kinetic_energies_are_canonical(springs, ensemble):
    systems = [cluster(seed) for seed in range(24)]
    runs = simulate(
        springs,
        systems,
        ensemble,
        300.0,
        8000,
        4.0,
        interval=400,
        friction=0.02,
        thermostat_time=40.0,
    )
    # the noise of a bath turns a cluster, which does not rotate otherwise
    freedom = 12 if ensemble == "langevin" else 9
    kinetic = np.concatenate([run.kinetic_energies[3:] for run in runs])
    law = stats.gamma(freedom / 2, scale=units.kelvin * 300.0)
    assert stats.kstest(kinetic, law.cdf).pvalue > 0.01
    temperatures = np.concatenate([run.temperatures[3:] for run in runs])
    assert np.mean(temperatures) == pytest.approx(300.0, rel=0.05)
    drift = [np.abs(run.final.get_momenta().sum(axis=0)).max() for run in runs]
    assert np.max(drift) < 5e-3  # of 0.8 in the mean; chains make what float32 leaves grow


@pytest.mark.slow
@long
@pytest.mark.parametrize("ensemble", ["npt", "npt_anisotropic"])
def test_volumes_of_an_ideal_gas_have_its_law(ensemble):
    """Of N atoms that do not drift, volumes are distributed as V^(N-1) exp(-P V / kT)."""
    gas, pressure, temperature, num_atoms = Springs(depth=0.0, cutoff=0.3), 0.2, 500.0, 8
    scale = units.kelvin * temperature / (pressure * units.gigapascal)
    edge = (num_atoms * scale) ** (1 / 3)
    random = np.random.default_rng(5)
    systems = [
        Atoms(["Ar"] * num_atoms, random.random((num_atoms, 3)) * edge, cell=[edge] * 3, pbc=True)
        for _ in range(24)
    ]
    runs = simulate(
        gas,
        systems,
        ensemble,
        temperature,
        6000,
        2.0,
        interval=400,
        pressure=pressure,
        thermostat_time=40.0,
        barostat_time=100.0,
        compressibility=1 / pressure,
        skin=4.0,
    )
    volumes = np.concatenate([run.volumes[3:] for run in runs])
    assert stats.kstest(volumes, stats.gamma(num_atoms, scale=scale).cdf).pvalue > 0.01
    lengths = np.linalg.norm(runs[0].cells[-1], axis=1)
    assert (np.ptp(lengths) < 1e-3 * edge) == (ensemble == "npt")


@long
def test_a_crystal_answers_to_pressure(springs):
    """The mean pressure inside is that outside, and V times their difference has the mean kT."""
    systems = [crystal() for _ in range(2)]
    runs = simulate(
        springs,
        systems,
        "npt",
        60.0,
        2000,
        4.0,
        interval=20,
        pressure=0.5,
        thermostat_time=40.0,
        barostat_time=200.0,
    )
    atoms, inside = systems[0].copy(), []
    for run in runs:
        for positions, velocities, cell in zip(
            run.positions[25::5], run.velocities[25::5], run.cells[25::5], strict=True
        ):
            atoms.set_cell(cell)
            atoms.set_positions(positions)
            atoms.set_velocities(velocities)
            atoms.calc = MLFFCalculator(springs) if atoms.calc is None else atoms.calc
            stress = atoms.get_stress(include_ideal_gas=True)
            inside.append(-stress[:3].mean() / units.gigapascal)
    error = np.std(inside) / np.sqrt(len(inside) / 4)
    assert np.mean(inside) == pytest.approx(0.5, abs=4 * error)
    assert runs[0].volumes[-1] < runs[0].volumes[0]


def test_fixed_atoms_stay_and_a_ramp_is_followed(springs):
    atoms = cluster()
    atoms.set_constraint(FixAtoms([1, 3]))
    run = simulate(springs, atoms, "langevin", (50.0, 900.0), 400, 2.0, interval=100, friction=0.1)
    np.testing.assert_allclose(run.positions[:, [1, 3]] - atoms.positions[[1, 3]], 0.0, atol=1e-6)
    assert run.temperatures[-1] > 2 * run.temperatures[0]
    assert np.all(run.final.get_momenta()[[1, 3]] == 0.0)


class KilledError(Exception):
    """Ends a run as a kill does."""


@pytest.mark.parametrize(
    "ensemble",
    ["npt", *(pytest.param(name, marks=pytest.mark.once) for name in ("langevin", "nhc"))],
)
def test_a_killed_run_goes_on_bit_for_bit(springs, ensemble, tmp_path, monkeypatch):
    from keras_mlff.md.engine import checkpoint, frames

    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)
    atoms = crystal(600.0)
    settings = {"num_steps": 30, "time_step": 4.0, "interval": 5, "skin": 0.2}
    whole = simulate(springs, atoms, ensemble, 600.0, **settings)
    saved, output = tmp_path / "run.npz", tmp_path / "run.xyz"
    record = frames.Frames.record

    def die(self, step, driver):
        if step == 20:
            raise KilledError
        record(self, step, driver)

    with monkeypatch.context() as patch:
        patch.setattr(frames.Frames, "record", die)
        with pytest.raises(KilledError):
            simulate(springs, atoms, ensemble, 600.0, **settings, checkpoint=saved, output=output)
    with pytest.raises(ValueError, match="another run"):
        simulate(springs, atoms, ensemble, 500.0, **settings, checkpoint=saved)
    rest = simulate(springs, atoms, ensemble, 600.0, **settings, checkpoint=saved, output=output)
    np.testing.assert_array_equal(rest.positions, whole.positions)
    np.testing.assert_array_equal(rest.velocities, whole.velocities)
    assert not saved.exists()
    written = read(output, index=":")
    np.testing.assert_allclose([frame.positions for frame in written], whole.positions, atol=1e-7)


def test_files_hold_the_frames(springs, tmp_path):
    systems = [cluster(0), crystal(100.0)]
    runs = simulate(springs, systems, num_steps=20, output=tmp_path / "run.h5")
    again = simulate(springs, systems, num_steps=20, output=tmp_path / "run.xyz")
    for index, (run, same) in enumerate(zip(runs, again, strict=True)):
        np.testing.assert_array_equal(run.positions, same.positions)
        with h5py.File(tmp_path / f"run_{index}.h5") as file:
            part = file["particles/all/position"]
            np.testing.assert_array_equal(part["value"], run.positions)
            np.testing.assert_array_equal(part["time"], run.times)
            assert part["value"].attrs["unit"] == "Angstrom"
            found = file["observables/potential_energy/value"]
            np.testing.assert_array_equal(found, run.potential_energies)
        frames = read(tmp_path / f"run_{index}.xyz", index=":")
        energies = [frame.get_potential_energy() for frame in frames]
        np.testing.assert_allclose(energies, run.potential_energies, atol=1e-7)


def test_what_was_given_stays_and_a_run_goes_on(springs):
    atoms = cluster()
    set_temperature(atoms, 300.0)
    before = atoms.copy()
    half = simulate(springs, atoms, num_steps=20, interval=20)
    assert atoms == before
    whole = simulate(springs, atoms, num_steps=40, interval=20)
    going_on = simulate(springs, half.final, num_steps=20, interval=20)
    np.testing.assert_allclose(going_on.positions[-1], whole.positions[-1], atol=1e-6)


def test_runs_that_run_away_name_atoms(springs):
    atoms = cluster()
    momenta = np.zeros((5, 3))
    momenta[4] = 1e5
    atoms.set_momenta(momenta)
    with pytest.raises(CalculationFailed, match="the fastest atoms are Ar4"):
        simulate(springs, atoms, num_steps=1, interval=1)
    atoms = crystal()
    momenta = np.zeros((64, 3))
    momenta[7] = 1e7
    atoms.set_momenta(momenta)
    with pytest.raises(CalculationFailed, match="Ar7"):
        simulate(springs, atoms, num_steps=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ensemble": "nvt"}, "one of"),
        ({"temperature": -1.0}, "at least 0 K"),
        ({"temperature": np.ones(3)}, "one for each step"),
        ({"temperature": np.nan}, "at least 0 K"),
        ({"time_step": 0.0}, "time_step"),
        ({"num_steps": 2.5}, "num_steps"),
        ({"interval": 0}, "interval"),
        ({"ensemble": "npt"}, "periodic in all directions"),
        ({"systems": []}, "nothing to simulate"),
        ({"systems": ["CCO"]}, "RDKit"),
    ],
)
def test_senseless_arguments_are_refused(springs, change, message):
    arguments = {"systems": molecule("CH4"), "num_steps": 5} | change
    with pytest.raises((ValueError, ImportError), match=message):
        simulate(springs, **arguments)


def test_models_with_far_pairs_are_left_to_ase():
    heads = [EnergyHead(), PartialChargesHead()]
    far = {"cutoff": 9.0, "electrostatics": True}
    model = EGNN(num_features=4, num_layers=1, heads=heads, long_range=far)
    for act in (simulate, relax):
        with pytest.raises(ValueError, match="no list of far pairs"):
            act(model, molecule("CH4"))
