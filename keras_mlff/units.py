"""Conversion factors to the units of this package: eV, Å, e and amu (time in Å·sqrt(amu/eV)).

Multiply to convert into package units, divide to convert out of them: `energy = 5.0 * kcal_per_mol`
is in eV. The values are CODATA 2018, in which `_elementary_charge`, `_avogadro`, `_light_speed` and
the Boltzmann constant are exact.

Reference: Tiesinga et al., 2021, https://doi.org/10.1103/RevModPhys.93.025010
"""

# ruff: noqa: N816 (units keep their capital letters)

_elementary_charge = 1.602176634e-19  # C
_avogadro = 6.02214076e23  # 1/mol
_light_speed = 299792458.0  # m/s
_atomic_mass = 1.66053906660e-27  # kg
_joule = 1.0 / _elementary_charge  # eV

# Energy, eV
hartree = 27.211386245988  # atomic unit of energy
rydberg = 0.5 * hartree  # half an atomic unit, common in plane-wave codes
kcal_per_mol = 4184.0 * _joule / _avogadro  # thermochemical kilocalorie, 0.0434 eV
kJ_per_mol = 1000.0 * _joule / _avogadro  # 0.0104 eV
meV = 1e-3  # the usual display unit of errors
per_cm = 1.239841984332003e-4  # wavenumber times h c
kelvin = 8.617333262145179e-5  # temperature times the Boltzmann constant

# Length, area and volume, Å, Å² and Å³
bohr = 0.529177210903  # atomic unit of length
nanometer = 10.0  # the unit of GROMACS and OpenMM
bohr_squared = bohr**2  # electronic spatial extent, <R²> of QM9
bohr_cubed = bohr**3  # polarizability volume, alpha of QM9

# Forces, eV/Å
hartree_per_bohr = hartree / bohr  # what quantum chemistry codes print
kcal_per_mol_per_angstrom = kcal_per_mol  # the unit of MD17
kJ_per_mol_per_nanometer = kJ_per_mol / nanometer  # the unit of GROMACS and OpenMM

# Stress, eV/Å³
gigapascal = 1e-21 * _joule  # 1e9 J/m³
hartree_per_bohr_cubed = hartree / bohr_cubed  # atomic unit of pressure

# Charge and dipole, e and e·Å
electron_bohr = bohr  # atomic unit of the dipole moment
debye = 1e-11 / (_light_speed * _elementary_charge)  # 1e-18 statC·cm, 0.2082 e·Å
coulomb_constant = hartree * bohr  # e²/(4π ε0), eV·Å: energy of two unit charges 1 Å apart

# Energy and length of the atomic unit and the fine structure constant, by the year of CODATA, for
# models that were fitted with older values
CODATA = {
    2014: (27.211386024367243, 0.5291772105638411, 0.007297352566206496),
    2018: (hartree, bohr, 7.2973525693e-3),
}

# Mass and time, amu and Å·sqrt(amu/eV)
electron_mass = 5.48579909065e-4  # atomic unit of mass
femtosecond = 1e-5 * (_elementary_charge / _atomic_mass) ** 0.5  # 0.0982 Å·sqrt(amu/eV)

# Heat capacity, eV/K
cal_per_mol_kelvin = 1e-3 * kcal_per_mol  # Cv of QM9
