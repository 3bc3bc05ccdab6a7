"""Run the torture and print one table; see `tests.torture`."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import erprm_cli.engines.transformers_engine
import erprm_cli.prm.scorer
import erprm_cli.training.policy_task  # noqa: F401  # loaded before forking: a process then costs little
from tests.torture import inputs, strange_scoring, strangers, tries
from tests.torture.damage import corruptions, truncations
from tests.torture.hostile import answers
from tests.torture.kills import kills
from tests.torture.program import fresh
from tests.torture.stream import stream
from tests.torture.tries import FAULTS, Tell

PARTS = ("truncations", "corruptions", "rows", "answers", "kills")
# Parts that count tries, tracebacks, hangs and what is written outside: how often in short and in full.
TRIES: dict[str, tuple[Callable[[Path, int, int, Tell], Counter[str]], int, int]] = {
    "folders": (strangers.folders, 60, 5_000),
    "templates": (strangers.templates, 60, 3_000),
    "servers": (strangers.servers, 60, 5_000),
    "prm-servers": (strange_scoring.prm_servers, 40, 2_000),
    "requests": (strange_scoring.requests, 60, 3_000),
    "odd-rows": (inputs.odd_rows, 20, 1_000),
    "earlier-outputs": (inputs.earlier_outputs, 20, 1_000),
    "names": (inputs.names_and_streams, 20, 1_000),
    "prompts": (inputs.prompts, 2, 50),
}


def main() -> None:
    """Run the parts that are asked for; exit 1 if a row was lost or made twice, or a traceback shown."""
    options = argparse.ArgumentParser(description=__doc__)
    parts = [*PARTS, *TRIES]
    options.add_argument("parts", nargs="*", choices=[*parts, []], help="which parts; all of them if none")
    options.add_argument("--short", action="store_true", help="a tenth of it or less")
    options.add_argument("--tries", type=int, metavar="N", help=f"how often, for {', '.join(TRIES)}")
    options.add_argument("--seconds", type=float, metavar="S", help="begin no try of a part after so long")
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()
    short, seed = args.short, args.seed
    tries.LONGEST_S = args.seconds or tries.LONGEST_S
    begin, found = time.monotonic(), Counter[str]()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - begin:6.1f} s  {line}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        for part in args.parts or parts:
            folder = fresh(Path(scratch) / part)
            if part in TRIES:
                attempts, few, many = TRIES[part]
                found += attempts(folder, args.tries or (few if short else many), seed, tell)
            elif part == "kills":
                found += kills(folder, 20 if short else 200, seed, tell)
            elif part == "truncations":
                found += truncations(folder, 60 if short else None, tell)
            elif part == "corruptions":
                found += corruptions(folder, 800 if short else 10_000, seed, tell)
            elif part == "answers":
                found += answers(folder, 6 if short else 30, 100 if short else 10_000, seed, tell)
            elif part == "rows":
                found += stream(50_000 if short else 1_000_000, tell)
    done = ["kills", "truncations", "corruptions", "hostile answers", "fuzzed answers", "rows"]
    done += sorted(name for name in found if name.endswith(" tries"))
    faults = ("lost", "duplicated", *FAULTS, "hostile answers judged right")
    what = ", ".join(f"{found[name]:,} {name}" for name in done if found[name])
    print(f"{what}: " + ", ".join(f"{name} {found[name]}" for name in faults))
    if any(found[name] for name in faults):
        sys.exit(1)


if __name__ == "__main__":
    main()
