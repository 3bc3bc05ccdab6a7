"""SIGKILL at random moments, the same command again, and the result against that of an unbroken run."""

import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.torture import rows
from tests.torture.program import fresh, run, start, tracebacks

MOST_KILLS_OF_ONE_RUN = 5
TIMES = 1.3  # kills fall within so many times what an unbroken run takes

Content = Counter[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Case:
    """A command, with its output in the folder it runs in, and how its result is read."""

    name: str
    arguments: tuple[object, ...]
    real_engine: bool = False


def content(folder: Path) -> Content:
    """Return every row of every file that a command left, and of other files the hash."""
    found: Content = Counter()
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or name in ("stdout.txt", "stderr.txt") or name.endswith(".meta.json"):
            continue
        if path.suffix == ".jsonl":
            found.update((name, line) for line in path.read_bytes().splitlines())
        elif path.suffix == ".safetensors":
            found[name, hashlib.sha256(path.read_bytes()).digest()] += 1
        elif path.suffix not in (".json", ".md"):  # of a model, which tell the time that training took
            found[name, b""] += 1
    return found


def kill_often(case: Case, folder: Path, wanted: int, draw: random.Random) -> Counter[str]:
    """Kill `case` `wanted` times, in runs that come to their end between; count kills, rows lost and more."""
    found: Counter[str] = Counter()
    whole = fresh(folder / "whole")
    begin = time.monotonic()
    status = run(case.arguments, whole, real_engine=case.real_engine)
    seconds = time.monotonic() - begin
    assert status == 0, f"{case.name}: {(whole / 'stderr.txt').read_text()}"
    expected = content(whole)
    while found["kills"] < wanted:
        broken, first = fresh(folder / "broken"), None
        for _ in range(min(MOST_KILLS_OF_ONE_RUN, wanted - found["kills"])):
            process = start(case.arguments, broken, real_engine=case.real_engine)
            first = first or process
            begin = time.monotonic()
            if not process.kill_after(draw.uniform(0, TIMES * seconds)):
                if process is first:
                    seconds = time.monotonic() - begin  # the first run of all was slower
                break
            found["kills"] += 1
        status = run(case.arguments, broken, real_engine=case.real_engine)
        assert status == 0, f"{case.name}: {(broken / 'stderr.txt').read_text()}"
        ours = content(broken)
        found["lost"] += (expected - ours).total()
        found["duplicated"] += (ours - expected).total()
        found["tracebacks"] += tracebacks(broken)
        found["finished runs"] += 1
    return found


def scripted_cases(folder: Path) -> list[Case]:
    """Return the commands that need no model, with inputs that take them long enough to be hit."""
    problems = rows.write(folder / "problems.jsonl", [rows.problem(number) for number in range(150)])
    solutions = rows.write(folder / "solutions.jsonl", [rows.solution(number) for number in range(60)])
    rollouts = rows.write(folder / "rollouts.jsonl", [rows.rollouts(number) for number in range(6_000)])
    candidates = [rows.scores(number, sample) for number in range(700) for sample in range(4)]
    to_grade = rows.write(folder / "to-grade.jsonl", [rows.solution(number) for number in range(6_000)])
    scored = rows.write(folder / "scored.jsonl", candidates)
    return [
        Case("sample", ("sample", problems, "-n", 4, "-o", "out.jsonl", "-q")),
        Case("rollout", ("rollout", solutions, "-k", 4, "-o", "out.jsonl", "-q")),
        Case("label", ("label", rollouts, "-o", "out.jsonl", "-q")),
        Case("grade", ("grade", to_grade, "-o", "out.jsonl", "-q")),
        Case("bon", ("bon", scored, "-o", "out.jsonl", "--report", "report.jsonl", "-q")),
    ]


def tiny_cases(folder: Path) -> list[Case]:
    """Return the commands on the shipped policy, which load and run it."""
    solutions = rows.write(folder / "to-score.jsonl", [rows.solution(number) for number in range(250)])
    # One row in a pass: what stands beside it in one changes the last bits of its scores.
    score = ("score", solutions, "--prm", "tiny", "--prm-format", "er-prm", "--batch-tokens", 1)
    short = ("--max-tokens", 96, "-q")
    raft = (
        "--prm",
        "tiny",
        "--prm-format",
        "er-prm",
        "-n",
        2,
        "--iterations",
        2,
        "--slice-size",
        6,
        "--lr",
        1e-4,
        "--batch-size",
        4,
    )
    return [
        Case("sample tiny", ("sample", "tiny:train", "-L", 12, "-n", 2, *short, "-o", "out.jsonl"), True),
        Case("score tiny", (*score, "-o", "out.jsonl", "-q"), True),
        Case("rlhf tiny", ("rlhf", "tiny:train", "-L", 12, *raft, *short, "-o", "raft"), True),
    ]


def kills(folder: Path, wanted: int, seed: int, tell: Callable[[str], object]) -> Counter[str]:
    """Kill all commands `wanted` times altogether: one time in twenty each of those on the shipped policy."""
    draw, found = random.Random(seed), Counter[str]()
    on_tiny, light = tiny_cases(folder), scripted_cases(folder)
    per_tiny = max(1, wanted // 20)
    per_light, rest = divmod(wanted - per_tiny * len(on_tiny), len(light))
    for number, case in enumerate([*light, *on_tiny]):
        count = per_tiny if case.real_engine else per_light + (number < rest)
        result = kill_often(case, folder / case.name.replace(" ", "-"), count, draw)
        tell(f"{case.name}: {dict(result)}")
        found += result
    return found
