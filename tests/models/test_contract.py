"""Every architecture keeps the contract of `keras_mlff.testing`.

The stored numbers were written by
`keras_mlff.testing.write_stored(models.NAME, "tests/golden/contract")`.
"""

from pathlib import Path

from keras_mlff import models
from keras_mlff.testing import ArchitectureTests

STORED = Path(__file__).parents[1] / "golden/contract"


class TestAlphaNet(ArchitectureTests):
    architecture = models.AlphaNet
    stored = STORED


class TestCMRET(ArchitectureTests):
    architecture = models.CMRET
    stored = STORED


class TestDimeNetPP(ArchitectureTests):
    architecture = models.DimeNetPP
    stored = STORED


class TestDistanceTransformer(ArchitectureTests):
    architecture = models.DistanceTransformer
    stored = STORED


class TestEGNN(ArchitectureTests):
    architecture = models.EGNN
    stored = STORED


class TestGeomAtt(ArchitectureTests):
    architecture = models.GeomAtt
    stored = STORED


class TestSo3krates(ArchitectureTests):
    architecture = models.So3krates
    stored = STORED


def test_every_architecture_is_tested():
    suites = [value for name, value in globals().items() if name.startswith("Test")]
    assert {suite.architecture for suite in suites} == set(models.ARCHITECTURES.values())
