"""All fuzzers by their names."""

from tests.fuzz import command_lines, presets, readers, stores
from tests.fuzz.cases import Fuzzer

FUZZERS: dict[str, Fuzzer] = {
    **readers.FUZZERS,
    **presets.FUZZERS,
    **stores.FUZZERS,
    **command_lines.FUZZERS,
}
