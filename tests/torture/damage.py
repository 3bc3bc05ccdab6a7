"""Files cut short and flipped bits: what was not touched must come out as if nothing had been."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.torture import rows
from tests.torture.program import fresh, run, tracebacks


def truncations(folder: Path, most: int | None, tell: Callable[[str], object]) -> Counter[str]:
    """Cut the outputs of sample and rollout at every byte of their last 3 rows (or `most`), and continue."""
    found: Counter[str] = Counter()
    problems = rows.write(folder / "problems.jsonl", [rows.problem(number) for number in range(2)])
    solutions = rows.write(folder / "solutions.jsonl", [rows.solution(number) for number in range(4)])
    for arguments in (("sample", problems, "-n", 3), ("rollout", solutions, "-k", 2)):
        work = fresh(folder / arguments[0])
        command = (*arguments, "-o", "out.jsonl", "-q")
        assert run(command, work) == 0, (work / "stderr.txt").read_text()
        path = work / "out.jsonl"
        whole = path.read_bytes()
        expected = Counter(whole.splitlines())
        begin = len(whole) - sum(map(len, whole.splitlines(keepends=True)[-3:]))
        sizes = range(begin, len(whole))
        step = 1 if most is None else max(1, len(sizes) * 2 // most)
        for size in sizes[::step]:
            path.write_bytes(whole[:size])
            assert run(command, work) == 0, (work / "stderr.txt").read_text()
            ours = Counter(path.read_bytes().splitlines())
            found["truncations"] += 1
            found["lost"] += (expected - ours).total()
            found["duplicated"] += (ours - expected).total()
        found["tracebacks"] += tracebacks(work)
        tell(f"{arguments[0]}: {found['truncations']} cuts")
    return found


def corruptions(folder: Path, wanted: int, seed: int, tell: Callable[[str], object]) -> Counter[str]:
    """Flip one bit in each of `wanted` rows of twice as many, for each command that needs no model."""
    draw, found = random.Random(seed), Counter[str]()
    kinds: dict[tuple[object, ...], Callable[[int], rows.Row]] = {
        ("label",): rows.rollouts,
        ("grade",): rows.solution,
        ("bon",): rows.scores,
        ("sample", "-n", 1): rows.problem,
        ("rollout", "-k", 1): rows.solution,
    }
    for arguments, make in kinds.items():
        work = fresh(folder / str(arguments[0]))
        count = wanted // len(kinds) * 2
        lines = rows.write(work / "in.jsonl", [make(number) for number in range(count)]).read_bytes()
        command = (*arguments, "in.jsonl", "-q", "--errors", "errors.jsonl", "-o")
        assert run((*command, "clean.jsonl"), work) == 0, (work / "stderr.txt").read_text()
        damaged, touched = flip(lines.splitlines(keepends=True), wanted // len(kinds), draw)
        (work / "in.jsonl").write_bytes(damaged)
        status = run((*command, "out.jsonl"), work)
        assert status in (0, 1), (work / "stderr.txt").read_text()
        ours = Counter(_by_id(work / "out.jsonl"))
        untouched = {rows.problem(number)["id"] for number in range(count) if number not in touched}
        expected = Counter(
            {line: n for line, n in _by_id(work / "clean.jsonl").items() if line[0] in untouched}
        )
        found["corruptions"] += wanted // len(kinds)
        found["rows refused"] += (work / "errors.jsonl").read_bytes().count(b"\n")
        found["lost"] += (expected - ours).total()
        found["duplicated"] += sum(ours[key] > 1 for key in expected)
        found["tracebacks"] += tracebacks(work)
        tell(f"{arguments[0]}: {dict(found)}")
    return found


def flip(lines: list[bytes], wanted: int, draw: random.Random) -> tuple[bytes, set[int]]:
    """Flip one bit in each of `wanted` lines; return the whole and the lines that are not what they were."""
    changed, touched = list(lines), set[int]()
    for number in draw.sample(range(len(lines)), wanted):
        line = bytearray(lines[number])
        place = draw.randrange(len(line))
        line[place] ^= 1 << draw.randrange(8)
        changed[number] = bytes(line)
        touched.add(number)
        if place == len(line) - 1:
            touched.add(number + 1)  # the newline is gone: two lines are one
    return b"".join(changed), touched


def _by_id(path: Path) -> Counter[tuple[str, bytes]]:
    """Return the lines of a file with the id that each has."""
    import orjson

    return Counter((str(orjson.loads(line).get("id")), line) for line in path.read_bytes().splitlines())
