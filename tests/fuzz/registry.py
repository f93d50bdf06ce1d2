"""All fuzzers by their names."""

from tests.fuzz import readers
from tests.fuzz.cases import Fuzzer

FUZZERS: dict[str, Fuzzer] = {**readers.FUZZERS}
