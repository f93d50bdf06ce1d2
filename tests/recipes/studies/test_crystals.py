"""Recipes that take any periodic model: crystals under strain and heat, two layers, scaling."""

import json

import bilayer_graphene
import equation_of_state
import keras
import numpy as np
import pytest
import scaling
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from keras_mlff import md, models
from keras_mlff.graph import structure

pytest.importorskip("matplotlib")
TINY = {"num_features": 8, "num_layers": 1, "num_heads": 2, "chi_features": 8, "cutoff": 4.5}


def test_the_equation_of_state_is_that_of_the_potential(monkeypatch, tmp_path):
    """ASE's own potential for copper stands in for a model; its numbers are in its papers."""
    monkeypatch.setattr(equation_of_state.models, "load_preset", lambda name: None)
    monkeypatch.setattr(equation_of_state.md, "MLFFCalculator", lambda model, dtype: EMT())
    results = equation_of_state.main(
        preset="emt",
        element="Cu",
        structure="fcc",
        lattice_constant=3.65,
        num_npt_steps=20,
        time_step=4.0,
        folder=str(tmp_path),
    )
    assert results["lattice_constant"] == pytest.approx(3.59, abs=0.01)
    assert results["bulk_modulus_gpa"] == pytest.approx(134, abs=6)
    relaxed = results["relaxed"]
    assert relaxed["converged"]
    lengths = [results["lattice_constant"]] * 3
    np.testing.assert_allclose(relaxed["cell_lengths"], lengths, atol=2e-3)
    np.testing.assert_allclose(relaxed["cell_angles"], 90.0, atol=0.05)
    assert 11.0 < results["npt"]["volume_per_atom"] < 13.0
    assert {file.name for file in tmp_path.iterdir()} == {
        "equation_of_state.png",
        "npt.png",
        "results.json",
    }


def test_reference_numbers_come_from_stresses_of_any_strain():
    """Cells strained along one axis, stresses of a made-up cubic crystal."""
    edge, modulus, shear = 4.0, 0.8, 0.3
    cells = []
    for strain in np.linspace(-0.05, 0.05, 9):
        change = np.diag([strain, 0.0, 0.0])
        stress = modulus * np.log1p(strain) * np.eye(3) + shear * (change - strain * np.eye(3) / 3)
        cells.append(
            structure(
                [[0.0, 0.0, 0.0]],
                [29],
                cell=edge * (np.eye(3) + change),
                energy=strain**2,
                stress=stress,
            )
        )

    class TwiceAsStiff:
        def predict(self, graphs):
            energies = np.concatenate([graph["energy"] for graph in graphs])
            return {"energy": energies, "stress": 2 * np.concatenate([g["stress"] for g in graphs])}

    derived, compared = equation_of_state.compare(TwiceAsStiff(), cells, 4)
    for name, factor in (("labels", 1.0), ("predictions", 2.0)):
        assert derived[name]["lattice_constant"] == pytest.approx(4 ** (1 / 3) * edge, rel=1e-6)
        modulus = factor * 0.8 * 160.2176634
        assert derived[name]["bulk_modulus_gpa"] == pytest.approx(modulus, rel=1e-4)
    np.testing.assert_array_equal(compared["model"], compared["reference"])


def test_too_few_strained_cells_are_refused(tmp_path):
    file = tmp_path / "cells.npz"
    np.savez(
        file,
        n_atoms=np.ones(4, int),
        numbers=np.full(4, 14),
        positions=np.zeros((4, 3)),
        energy=np.zeros(4),
        forces=np.asarray([[0.0, 0, 0], [0.2, 0, 0], [0, 0.3, 0], [0, 0, 0.4]]),
        stress=np.zeros((4, 3, 3)),
        cell=np.tile(3 * np.eye(3), (4, 1, 1)),
    )
    with pytest.raises(ValueError, match="1 of 4"):
        equation_of_state.strained_cells(str(file), "all")


def test_cells_relax_and_breathe_with_our_models():
    keras.utils.set_random_seed(3)
    atoms = bulk("Si", cubic=True)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.04 * np.eye(3)[::-1]), scale_atoms=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = md.MLFFCalculator(models.AlphaNet(**TINY, zbl=True), dtype="float64")
    before = atoms.get_potential_energy()
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-3, steps=5)
    assert atoms.get_potential_energy() < before
    md.set_temperature(atoms, 100.0)
    trajectory = md.run_npt(atoms, 100.0, 4, time_step=0.5)
    assert np.all(np.isfinite(trajectory.volumes))
    assert np.ptp(trajectory.volumes) > 0.0


def test_two_layers_bind_and_slide(tmp_path):
    model = models.AlphaNet(**TINY)
    model.save_to_preset(str(tmp_path / "tiny"), elements=[6], properties=["energy", "forces"])
    results = bilayer_graphene.main(
        preset=str(tmp_path / "tiny"),
        num_distances=4,
        nearest=3.0,
        farthest=6.0,
        grid=3,
        folder=str(tmp_path / "run"),
    )
    assert results["cutoff"] == 4.5
    with np.load(tmp_path / "run/energies.npz") as file:
        binding, sliding = file["binding"], file["sliding"]
    np.testing.assert_allclose(binding[-1], 0.0, atol=1e-9)  # layers that do not see each other
    assert abs(binding[0]) > 1e-7
    # AB and BA are mirror images, AA is another stacking
    np.testing.assert_allclose([sliding[1, 2], sliding[2, 1]], 0.0, atol=1e-9)
    assert abs(sliding[0, 0]) > 1e-9


def test_stackings_have_the_bonds_of_graphene():
    graph = bilayer_graphene.bilayer(2.46, 3.35, bilayer_graphene.AB)
    first, second, third, fourth = graph["positions"]
    assert np.linalg.norm(second - first) == pytest.approx(2.46 / 3**0.5)
    np.testing.assert_allclose(third - second, [0.0, 0.0, 3.35], atol=1e-12)
    # the fourth stands above a hollow: no atom of the lower layer within a bond's length
    hollow = bilayer_graphene.bilayer(2.46, None)["positions"][:, :2]
    cell = graph["cell"][0][:2, :2]
    images = [
        atom + shift @ cell for atom in hollow for shift in np.indices((3, 3)).reshape(2, -1).T - 1
    ]
    nearest = min(np.linalg.norm(fourth[:2] - image) for image in images)
    assert nearest == pytest.approx(2.46 / 3**0.5)


@pytest.mark.slow
def test_scaling_measures_each_case_in_a_process_of_its_own(tmp_path):
    results = scaling.main(
        architectures=("CMRET",),
        cells=(8,),
        batch_size=2,
        singles=(8, 16),
        repeats=2,
        settings=("num_features=8", "num_layers=1", "cutoff=5.0"),
        folder=str(tmp_path),
    )
    assert [result["num_atoms"] for result in results] == [16, 8, 16]
    assert all(result["median_ms"] > 0.0 and result["peak_memory_mib"] > 1.0 for result in results)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    failed = scaling.alone(("CMRET", {"cutoff": -1.0}, 8, 1, 1, 0.0))
    assert "above 0" in failed["error"]
