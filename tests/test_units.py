"""Factors against other sources; digits that CODATA revisions change are not compared."""

import math

import pytest

from keras_mlff import units


def test_factors_agree_with_ase():
    ase_units = pytest.importorskip("ase.units")
    pairs = {
        "hartree": ase_units.Hartree,
        "bohr": ase_units.Bohr,
        "kcal_per_mol": ase_units.kcal / ase_units.mol,
        "kJ_per_mol": ase_units.kJ / ase_units.mol,
        "per_cm": ase_units.invcm,
        "kelvin": ase_units.kB,
        "debye": ase_units.Debye,
        "gigapascal": ase_units.GPa,
        "femtosecond": ase_units.fs,
        "electron_mass": ase_units._me / ase_units._amu,
    }
    for name, expected in pairs.items():
        # ASE uses CODATA 2014, whose Boltzmann constant is 3e-7 smaller
        assert getattr(units, name) == pytest.approx(expected, rel=1e-6), name


def test_published_conversions():
    assert units.hartree / units.kcal_per_mol == pytest.approx(627.5094740631, rel=1e-10)
    assert units.bohr / units.debye == pytest.approx(2.541746473, rel=1e-9)
    assert units.hartree_per_bohr == pytest.approx(51.422067476, rel=1e-9)
    assert units.hartree_per_bohr_cubed / units.gigapascal == pytest.approx(29421.015697, rel=1e-9)
    assert units.coulomb_constant == pytest.approx(14.3996454785, rel=1e-9)
    assert units.cal_per_mol_kelvin == pytest.approx(4.3364104242e-5, rel=1e-9)


def test_atomic_time_unit_follows_from_the_others():
    """The atomic unit of time is bohr * sqrt(electron mass / hartree), 0.02418884 fs."""
    atomic_time = units.bohr * math.sqrt(units.electron_mass / units.hartree)
    assert atomic_time / units.femtosecond == pytest.approx(0.02418884326, rel=1e-9)
