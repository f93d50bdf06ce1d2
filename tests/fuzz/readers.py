"""Fuzzers of what reads structures."""

from tests.fuzz.cases import Fuzzer

FUZZERS: dict[str, Fuzzer] = {}
