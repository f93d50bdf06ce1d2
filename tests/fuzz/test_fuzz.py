"""Damaged inputs are done right or refused; `python -m tests.fuzz` runs many more cases."""

import os

import pytest

from tests.fuzz.cases import run, shares
from tests.fuzz.registry import FUZZERS

NUM_CASES = shares(FUZZERS, int(os.environ.get("FUZZ_CASES", "400")))


@pytest.mark.parametrize("name", sorted(FUZZERS))
def test_damaged_inputs_are_done_right_or_refused(name):
    tally = run(name, FUZZERS[name], iter(range(NUM_CASES[name])))
    assert not tally.faults
    assert tally.counts["refused"], "the inputs are not damaged enough to test anything"
