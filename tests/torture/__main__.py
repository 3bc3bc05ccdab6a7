"""Run the torture and print one table; see `tests.torture`."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.torture.damage import corruptions, truncations
from tests.torture.hostile import answers
from tests.torture.kills import kills
from tests.torture.program import fresh
from tests.torture.stream import stream

PARTS = ("truncations", "corruptions", "rows", "answers", "kills")  # the last loads torch


def main() -> None:
    """Run the parts that are asked for; exit 1 if a row was lost or made twice, or a traceback shown."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which parts; all of them if none")
    options.add_argument("--short", action="store_true", help="a tenth of it or less")
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()
    short, seed = args.short, args.seed
    begin, found = time.monotonic(), Counter[str]()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - begin:6.1f} s  {line}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        for part in args.parts or PARTS:
            folder = fresh(Path(scratch) / part)
            if part == "kills":
                found += kills(folder, 20 if short else 200, seed, tell)
            elif part == "truncations":
                found += truncations(folder, 60 if short else None, tell)
            elif part == "corruptions":
                found += corruptions(folder, 800 if short else 10_000, seed, tell)
            elif part == "answers":
                found += answers(folder, 6 if short else 30, 100 if short else 10_000, seed, tell)
            elif part == "rows":
                found += stream(50_000 if short else 1_000_000, tell)
    done = ("kills", "truncations", "corruptions", "hostile answers", "fuzzed answers", "rows")
    faults = ("lost", "duplicated", "tracebacks", "hostile answers judged right")
    what = ", ".join(f"{found[name]:,} {name}" for name in done if found[name])
    print(f"{what}: " + ", ".join(f"{name} {found[name]}" for name in faults))
    if any(found[name] for name in faults):
        sys.exit(1)


if __name__ == "__main__":
    main()
