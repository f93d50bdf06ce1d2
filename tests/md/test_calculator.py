"""The calculator must say what the model says, compile once and refuse what it cannot know."""

import copy
import importlib
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ase
import keras
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed, PropertyNotImplementedError
from ase.constraints import FixAtoms
from ase.io import Trajectory

from keras_mlff import backend, models, presets
from keras_mlff.graph import structure
from keras_mlff.heads import AtomicHead, DipoleHead, EnergyHead
from keras_mlff.md import MLFFCalculator
from keras_mlff.md.calculator import SkinList
from keras_mlff.neighbors import neighbor_list

SMALL = {"num_features": 16, "num_layers": 1, "num_heads": 2, "num_radial": 8, "cutoff": 3.0}


@pytest.fixture(scope="module")
def model():
    heads = [EnergyHead(references={1: -13.6, 8: -2042.0}), DipoleHead()]
    model = models.CMRET(**SMALL, heads=heads)
    # many shapes, each met once or twice: compiling them would take most of the time
    model.run_eagerly = keras.backend.backend() == "tensorflow"  # JAX compiles each operation
    return model


@pytest.fixture
def water():
    return molecule("H2O")


def preset(**metadata):
    return presets.Preset("invented", "CMRET", Path("nowhere"), metadata)


@pytest.fixture
def trained(model):
    """Lets a test pretend that the model is a preset."""

    def pretend(**metadata):
        model.preset = preset(**metadata)
        return model

    yield pretend
    model.preset = None


def test_results_are_those_of_the_model(model, water):
    water.calc = MLFFCalculator(model)
    expected = model.predict(structure(water.positions, water.numbers))
    # float32; the padding of the batch changes the order of sums
    assert water.get_potential_energy() == pytest.approx(expected["energy"][0], rel=1e-7)
    np.testing.assert_allclose(water.get_forces(), expected["forces"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(water.get_dipole_moment(), expected["dipole"][0], atol=1e-5)
    assert water.calc.results["free_energy"] == water.calc.results["energy"]
    assert water.get_forces().dtype == np.float64


def test_a_molecule_has_no_stress_and_a_crystal_has_one(model, water):
    water.calc = MLFFCalculator(model)
    slab = ase.Atoms("MgO", [[0, 0, 0], [0, 2, 0]], cell=[4, 4, 0], pbc=[True, True, False])
    flat = ase.Atoms("MgO", [[0, 0, 0], [0, 2, 0]], cell=[4, 4, 1e-9], pbc=[True, True, False])
    slab.calc = flat.calc = water.calc
    for atoms in (water, slab, flat):
        with pytest.raises(PropertyNotImplementedError, match=r"no volume.* use_stress=False"):
            atoms.get_stress()
        assert np.isfinite(atoms.get_forces()).all()
        assert "stress" not in atoms.calc.results
    crystal = bulk("MgO", "rocksalt", a=4.2)
    crystal.calc = MLFFCalculator(model)
    expected = model.predict(structure(crystal.positions, crystal.numbers, crystal.cell.array))
    voigt = expected["stress"][0][[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(crystal.get_stress(), voigt, rtol=1e-4, atol=1e-6)


def test_what_ase_has_a_name_for_is_returned(water):
    heads = [EnergyHead(references={1: -13.6, 8: -2042.0}), AtomicHead("partial_charges")]
    model = models.EGNN(num_features=8, num_layers=1, heads=heads)
    water.calc = MLFFCalculator(model)
    expected = model.predict(structure(water.positions, water.numbers))
    np.testing.assert_allclose(water.get_charges(), expected["partial_charges"], atol=1e-6)
    energies = water.get_potential_energies()
    np.testing.assert_allclose(energies, expected["atomic_energies"], rtol=1e-6)
    assert energies.sum() == pytest.approx(water.get_potential_energy(), rel=1e-7)
    assert set(water.calc.implemented_properties) == {
        *("energy", "free_energy", "energies", "forces", "stress", "charges")
    }
    with pytest.raises(PropertyNotImplementedError):
        water.get_magnetic_moments()


def test_charge_and_spin_are_read_and_their_change_is_noticed(model, water):
    water.calc = MLFFCalculator(model)
    neutral = water.get_potential_energy()
    water.info["charge"], water.info["spin"] = 1, 2
    expected = model.predict(
        structure(water.positions, water.numbers, total_charge=1.0, spin_multiplicity=2)
    )
    assert water.get_potential_energy() == pytest.approx(expected["energy"][0], rel=1e-7)
    assert water.get_potential_energy() != neutral


@pytest.mark.parametrize("key", ["charge", "spin"])
def test_charge_and_spin_are_absent_or_plain_numbers(model, water, key):
    water.calc = MLFFCalculator(model)
    energy = water.get_potential_energy()
    water.info[key] = None
    assert water.get_potential_energy() == energy
    for value in (np.array([1, 1]), "1", True, np.nan):
        water.info[key] = value
        with pytest.raises(ValueError, match=rf"'{key}' (is one finite|needs) number"):
            water.get_potential_energy()


@pytest.mark.parametrize("periodic", [False, True])
def test_the_skin_hides_nothing(periodic):
    """Positions wander through the cutoff: at each step the edges are those of a new search."""
    random = np.random.default_rng(0)
    cell = bulk("Si", cubic=True)
    lattice = cell.cell.array if periodic else None
    positions, neighbors, num_searches = cell.positions, None, 0
    for _ in range(40):
        positions = positions + random.normal(scale=0.03, size=positions.shape)
        graph = structure(positions, cell.numbers, lattice)
        if neighbors is None or not neighbors.covers(graph):
            neighbors = SkinList(graph, cutoff=4.0, skin=0.5)
            num_searches += 1
        expected = neighbor_list(positions, 4.0, lattice)
        for found, searched in zip(neighbors.edges(graph), expected, strict=True):
            np.testing.assert_array_equal(found, searched)
    assert 1 < num_searches < 15


def test_a_trajectory_is_compiled_once(monkeypatch):
    model = models.CMRET(**SMALL)
    traced = []
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda *args, **kw: traced.append(1) or embed(*args, **kw))
    crystal = bulk("Si", cubic=True)
    crystal.calc = MLFFCalculator(model, skin=0.1)
    random = np.random.default_rng(0)
    for _ in range(10):
        crystal.positions += random.normal(scale=0.03, size=crystal.positions.shape)
        crystal.get_forces()
    assert crystal.calc.num_searches > 3
    assert crystal.calc.compilations == 1
    assert len(traced) == (1 if backend.COMPILES else 10)


def test_the_room_for_edges_grows_when_it_must(model):
    crystal = bulk("Si", cubic=True)
    crystal.calc = MLFFCalculator(model)
    before = model.compilations["predict"].copy()
    for scale, num_shapes in ((1.0, 1), (0.99, 1), (0.6, 2), (1.0, 2)):
        crystal.set_cell(scale * bulk("Si", cubic=True).cell, scale_atoms=True)
        crystal.get_forces()
        assert len(model.compilations["predict"] - before) == num_shapes


@pytest.mark.filterwarnings("ignore:`predict` has met")  # what other tests compiled counts too
def test_molecules_of_many_sizes_share_few_shapes(model):
    calculator = MLFFCalculator(model)
    before = model.compilations["predict"].copy()
    energies = {}
    for size in (*range(3, 28), 5, 3, 27):
        chain = ase.Atoms(f"O{size}", np.outer(np.arange(size), [1.4, 0.0, 0.0]))
        chain.calc = calculator
        energies[size] = chain.get_potential_energy()
    assert len(model.compilations["predict"] - before) <= 8
    positions = np.outer(np.arange(26), [1.4, 0.0, 0.0])
    alone = model.predict(structure(positions, [8] * 26))["energy"][0]
    assert energies[26] == pytest.approx(alone, rel=1e-7)  # padding changes nothing


def test_images_of_a_band_keep_their_neighbors(model):
    calculator = MLFFCalculator(model)
    images = [molecule("H2O") for _ in range(5)]
    for index, image in enumerate(images):
        image.positions[1] *= 1.0 + 0.5 * index
        image.calc = calculator
    for _ in range(4):
        for image in images:
            image.positions[0, 2] += 0.01
            image.get_forces()
    assert calculator.num_searches == 5


def test_threads_may_share_a_calculator(model):
    def forces(step):
        atoms = molecule("H2O")
        atoms.positions[0, 2] += 0.01 * (step % 7)
        return calculator.get_forces(atoms)

    calculator = MLFFCalculator(model)
    expected = [forces(step) for step in range(7)]
    with ThreadPoolExecutor(4) as pool:
        for step, found in enumerate(pool.map(forces, range(28))):
            np.testing.assert_allclose(found, expected[step % 7], atol=1e-6)


def test_forces_do_not_depend_on_where_the_atoms_lie(model):
    crystal = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    crystal.rattle(0.1, seed=0)
    crystal.calc = MLFFCalculator(model)
    forces, stress = crystal.get_forces(), crystal.get_stress()
    crystal.positions += 1e4
    crystal.positions[::2] += 1e4 * crystal.cell.array.sum(axis=0)
    np.testing.assert_allclose(crystal.get_forces(), forces, atol=1e-5)
    np.testing.assert_allclose(crystal.get_stress(), stress, atol=1e-6)


def test_a_changed_cell_or_element_is_noticed(model):
    crystal = bulk("MgO", "rocksalt", a=4.2)
    crystal.calc = MLFFCalculator(model)
    before = crystal.get_potential_energy()
    crystal.set_cell(0.95 * crystal.cell, scale_atoms=True)
    compressed = crystal.get_potential_energy()
    crystal.numbers[0] = 20
    assert len({before, compressed, crystal.get_potential_energy()}) == 3
    assert crystal.calc.num_searches == 3


def test_forces_of_the_calculator_know_no_constraints(model, water):
    water.calc = MLFFCalculator(model)
    raw = water.get_forces()
    water.set_constraint(FixAtoms([0]))
    np.testing.assert_array_equal(water.calc.get_forces(water), raw)
    np.testing.assert_array_equal(water.get_forces()[0], 0.0)


def test_float64_is_a_copy_whose_forces_are_the_slope_of_the_energy(model, water):
    water.calc = MLFFCalculator(model, dtype="float64")
    water.calc.model.run_eagerly = keras.backend.backend() == "tensorflow"
    assert model.compute_dtype == "float32"
    single = model.predict(structure(water.positions, water.numbers))
    np.testing.assert_allclose(water.get_forces(), single["forces"], rtol=1e-3, atol=1e-5)
    force, step, energies = water.get_forces()[1, 2], 1e-4, []
    for sign in (1, -1):
        water.positions[1, 2] += sign * step
        energies.append(water.get_potential_energy())
        water.positions[1, 2] -= sign * step
    # differences of 2000 eV in float64 leave 1e-9 eV/Å; the rest is the step's square
    assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(force, abs=1e-6)


def test_elements_a_preset_has_not_seen_are_refused(trained, water):
    water.calc = MLFFCalculator(trained(elements=[1, 6], properties=["energy", "forces"]))
    with pytest.raises(ValueError, match=r"atomic_numbers=\[8\], preset='invented'"):
        water.get_potential_energy()


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_copies_of_a_calculator_refuse_what_it_refuses(trained, water, how):
    water.calc = MLFFCalculator(trained(elements=[1, 8], properties=["energy", "forces"]))
    copied = pickle.loads(pickle.dumps(water)) if how == "pickle" else copy.deepcopy(water)
    assert copied.calc.model is not water.calc.model
    with pytest.raises(PropertyNotImplementedError, match="not trained on 'dipole'"):
        copied.get_dipole_moment()
    copied.numbers[0] = 79
    with pytest.raises(ValueError, match=r"atomic_numbers=\[79\], preset='invented'"):
        copied.get_potential_energy()


def test_properties_a_preset_was_not_trained_on_are_refused(trained, water, tmp_path):
    water.calc = MLFFCalculator(trained(elements=[1, 8], properties=["energy", "forces"]))
    with pytest.raises(PropertyNotImplementedError, match="not trained on 'dipole'"):
        water.get_dipole_moment()
    water.get_forces()
    assert "dipole" not in water.calc.results
    with Trajectory(tmp_path / "water.traj", "w", water) as writer:  # asks for all properties
        writer.write()


@pytest.mark.parametrize("value", [np.nan, 1e12])
def test_numbers_without_meaning_are_an_error_that_names_the_atoms(
    model, water, monkeypatch, value
):
    original = model.predict_on_batch

    def broken(inputs):
        predicted = {key: keras.ops.convert_to_numpy(x) for key, x in original(inputs).items()}
        predicted["forces"] = predicted["forces"].copy()
        predicted["forces"][2, 0] = value
        return predicted

    monkeypatch.setattr(model, "predict_on_batch", broken)
    water.calc = MLFFCalculator(model)
    message = r"of \['forces'\]. Received: structure 0, atoms 2 \(element 1\) of 3"
    with pytest.raises(CalculationFailed, match=message):
        water.get_forces()


def test_charges_and_moments_of_atoms_that_are_not_read_are_told(model, water):
    water.calc = MLFFCalculator(model)
    water.set_initial_magnetic_moments([2.0, 0.0, 0.0])
    with pytest.raises(UserWarning, match=r"initial_magmoms.*info\['spin'\]=1"):
        water.get_potential_energy()
    water.info["spin"] = 3
    water.get_potential_energy()  # they fit now


def test_a_lone_atom_has_no_force(model):
    atom = ase.Atoms("O", info={"spin": 3}, calculator=MLFFCalculator(model))
    np.testing.assert_array_equal(atom.get_forces(), 0.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "cmret/ch2"}, TypeError, "from_preset"),
        ({"skin": -1.0}, ValueError, "skin=-1.0"),
        ({"dtype": "float16"}, ValueError, "dtype='float16'"),
        ({"domain": "all"}, ValueError, "Received: 'all'"),
    ],
)
def test_wrong_arguments_are_refused(model, arguments, error, message):
    with pytest.raises(error, match=message):
        MLFFCalculator(**{"model": model, **arguments})


def test_without_ase_the_error_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("keras_mlff.md")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ase", None)
    with pytest.raises(ImportError, match=r"pip install keras-mlff\[md\]"):
        importlib.import_module("keras_mlff.md")
