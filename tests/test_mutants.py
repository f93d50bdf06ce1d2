"""The list of faults fits the package, so that `python -m tests.mutants` can put each in."""

from tests.mutants import MUTANTS, PACKAGE, ROOT, mutated


def test_each_fault_can_be_put_in_and_has_tests():
    for mutant in MUTANTS:
        assert compile(mutated(mutant, ROOT / PACKAGE), mutant.file, "exec")
        assert (ROOT / mutant.tests.split()[0]).exists(), mutant.tests
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS) >= 40
