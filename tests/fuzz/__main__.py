"""Runs the fuzzers and prints a table: `python -m tests.fuzz --cases 20000 --seed 0`."""

import argparse
import sys
import time

from tests.fuzz.cases import run, shares
from tests.fuzz.registry import FUZZERS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="of all fuzzers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=sorted(FUZZERS), choices=sorted(FUZZERS))
    parser.add_argument("--number", type=int, help="run this case of the fuzzers alone")
    arguments = parser.parse_args()
    chosen = {name: FUZZERS[name] for name in arguments.only}
    faults = {}
    print("| what is damaged | cases | done right | refused | faults | seconds |")
    print("|---|---|---|---|---|---|")
    for name, count in shares(chosen, arguments.cases).items():
        start = time.perf_counter()
        numbers = range(count) if arguments.number is None else (arguments.number,)
        tally = run(name, chosen[name], iter(numbers), arguments.seed)
        counts = [tally.counts[kind] for kind in ("right", "refused", "fault")]
        row = [name, sum(counts), *counts, f"{time.perf_counter() - start:.0f}"]
        print(f"| {' | '.join(map(str, row))} |", flush=True)
        faults |= {f"{name} --number {number}": text for number, text in tally.faults.items()}
    for case, text in faults.items():
        print(f"fault: --seed {arguments.seed} --only {case}: {text}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
