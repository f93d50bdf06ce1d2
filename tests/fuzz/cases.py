"""Seeded cases of fuzzers, each of which is done right, refused with a clear error, or a fault."""

import signal
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")
Outcome = Literal["right", "refused"]
SECONDS = 20  # that a case may take; what takes longer counts as a hang


class Hang(BaseException):
    """A case took too long."""


class Fuzzer(NamedTuple):
    """Makes one damaged or strange input, gives it to the package and judges what came of it.

    Attributes:
        case: Draws all it needs from the generator, writes into the empty folder, and returns what
            happened. Everything that it raises is a fault: it asserts what must be true, and
            catches the one kind of error that the package promises.
        share: Of all cases, relative to the other fuzzers; small where a case takes long.
    """

    case: Callable[[np.random.Generator, Path], Outcome]
    share: float = 1.0


class Tally(NamedTuple):
    """What came of the cases of one fuzzer.

    Attributes:
        counts: Of each outcome.
        faults: What was wrong with which case, by its number.
    """

    counts: Counter[str]
    faults: dict[int, str]


def attempt(read: Callable[[], T]) -> tuple[T | None, str]:
    """Gives what is read, or the message of the one kind of error that is promised."""
    try:
        return read(), ""
    except ValueError as error:
        return None, str(error) or "no message"


def shares(fuzzers: Mapping[str, Fuzzer], num_cases: int) -> dict[str, int]:
    """Divides cases among fuzzers, at least one each."""
    total = sum(fuzzer.share for fuzzer in fuzzers.values())
    return {name: max(1, round(num_cases * f.share / total)) for name, f in fuzzers.items()}


def run(name: str, fuzzer: Fuzzer, numbers: Iterator[int], seed: int = 0) -> Tally:
    """Runs cases by their numbers; a case depends on its number, the name and the seed alone."""
    tally = Tally(Counter(), {})
    for number in numbers:
        random = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with _limited_time():
                    outcome: str = fuzzer.case(random, Path(folder))
            except (Exception, Hang) as error:  # of whatever kind: the package promised another
                outcome = "fault"
                tally.faults[number] = f"{type(error).__name__}: {error}"
        tally.counts[outcome] += 1
    return tally


@contextmanager
def _limited_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
