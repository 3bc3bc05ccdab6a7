"""Rows, earlier outputs, names, streams and prompts that nobody expects: a status and one line."""

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.torture import rows
from tests.torture.mutations import CONTROL, damaged, deep, mutated, odd_value
from tests.torture.program import fresh, start
from tests.torture.tries import Tell, tries

STATUSES = (0, 1, 2, 4, 141)  # docs/reliability.md; 141: the reader of stdout has gone
ROWS_PER_TRY = 20
MANY_STEPS = 20_000


def labelled(number: int) -> rows.Row:
    row = rows.rollouts(number)
    return row | {"labels": [0.5] * len(row["steps"]), "eta": 2.0, "estimator": "er"}


def judged(number: int) -> rows.Row:
    return rows.scores(number) | {
        "label": -1,
        "generator": "g",
        "rollouts": rows.rollouts(number)["rollouts"],
    }


def own(number: int) -> rows.Row:
    """Return a solution as people bring it: without what can be derived, and with counts of its own."""
    row = rows.solution(number) | {"reasoning": "Hm.\n" * 5, "steps_of": ("answer", "reasoning")[number % 2]}
    count = 5 if number % 2 else len(row["steps"])
    kept = {name: row[name] for name in row if name not in ("sample", "steps", "reward")}
    return kept | {"successes": [1] * count, "trials": 2}


PRM = ("--prm", "tiny", "--prm-format", "er-prm")  # no reward model, but one that ships and is read as one
SEARCH = ("search", *PRM, "-n", 2)

COMMANDS: dict[tuple[object, ...], Callable[[int], rows.Row]] = {
    ("label",): rows.rollouts,
    ("grade",): rows.solution,
    ("bon",): rows.scores,
    ("sample", "-n", 1): rows.problem,
    ("rollout", "-k", 1): rows.solution,
    ("score", *PRM): rows.solution,
    (*SEARCH, "--method", "best-of-n"): rows.problem,
    ("convert", "--to", "er-prm"): labelled,
    ("convert", "--to", "trl", "--threshold", 0.5): labelled,
    ("calibrate",): judged,
    ("processbench",): judged,
    ("show",): labelled,
    ("grade", "-q"): own,
    ("label", "--intervals"): own,
    ("show", "--html", "page.html"): own,
}


def run(arguments: Sequence[object], folder: Path, closed: Sequence[int] = ()) -> int:
    """Run `erprm ARGUMENTS` in `folder`; AssertionError for a status or a message that should not be."""
    messages = folder / "stderr.txt"
    messages.unlink(missing_ok=True)
    status = start(arguments, folder, closed=closed).wait()
    text = messages.read_text(errors="replace") if messages.exists() else ""
    shown = f"erprm {' '.join(map(repr, arguments))}: status {status}"
    if status not in STATUSES or "Traceback (most" in text or "Timeout (" in text:
        raise AssertionError(f"{shown}\n{text[-900:]}")
    if not all(character.isprintable() or character in "\n\t" for character in text):
        raise AssertionError(f"{shown}: control codes in {text[:300]!r}")
    return status


def odd_rows(folder: Path, count: int, seed: int, tell: Tell) -> Counter[str]:
    """Change one value of each row, nest it deeply or give it very many steps, for every command of rows."""
    commands = list(COMMANDS)

    def attempt(number: int) -> None:
        draw = random.Random(f"{seed} {number}")
        command = commands[number % len(commands)]
        work, make = fresh(folder / "try"), COMMANDS[command]
        found = [mutated(make(index), draw) for index in range(ROWS_PER_TRY)]
        if draw.random() < 0.2:
            row = make(0)
            row[draw.choice(sorted(row))] = deep(draw.choice((100, 500, 5_000)))
            found.append(row)
        if draw.random() < 0.1:
            found.append(make(0) | {"steps": ["a\n"] * MANY_STEPS, "solution": "a\n" * MANY_STEPS})
        lines = [_line(row) for row in found]
        (work / "in.jsonl").write_bytes(b"".join(lines))
        run((*command, "in.jsonl", "--errors", "errors.jsonl"), work)

    return tries("rows", count, attempt, folder, tell)


def _line(row: Any) -> bytes:
    try:
        return json.dumps(row).encode() + b"\n"
    except RecursionError:  # deeper than Python writes
        return b'{"id": "deep", "problem": ' + b"[" * 5_000 + b"]" * 5_000 + b"}\n"


def earlier_outputs(folder: Path, count: int, seed: int, tell: Tell) -> Counter[str]:
    """Damage what an earlier run wrote, or the file that says how, and run the same command again."""
    sources = {
        ("sample", "-n", 2): rows.problem,
        ("rollout", "-k", 2): rows.solution,
        ("label",): rows.rollouts,
        ("grade",): rows.solution,
        ("score", *PRM): rows.solution,
        (*SEARCH, "--method", "best-of-n"): rows.problem,
    }
    wholes = []
    for command, make in sources.items():
        whole = fresh(folder / str(command[0]))
        rows.write(whole / "in.jsonl", [make(number) for number in range(4)])
        run((*command, "in.jsonl", "-o", "out.jsonl", "-q"), whole)
        wholes.append((command, whole))

    def attempt(number: int) -> None:
        draw = random.Random(f"{seed} {number}")
        command, whole = wholes[number % len(wholes)]
        work = folder / "try"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(whole, work)
        files = [work / "out.jsonl", work / "out.jsonl.meta.json"]
        file = draw.choice([one for one in files if one.exists()])
        content = file.read_bytes()
        if draw.random() < 0.4:
            file.write_bytes(damaged(content, draw))
        elif file.suffix == ".json":
            file.write_text(json.dumps(mutated(json.loads(content), draw)))
        else:
            lines = content.splitlines(keepends=True)
            place = draw.randrange(len(lines))
            lines[place] = _line(mutated(json.loads(lines[place]), draw))
            file.write_bytes(b"".join(lines))
        run((*command, "in.jsonl", "-o", "out.jsonl", "-q"), work)

    return tries("earlier outputs", count, attempt, folder, tell)


NAMES: tuple[str | bytes, ...] = (
    *("", "-", ".", "..", "/", "/dev/null", "/dev/full", "/dev/zero/x", "gone/x", "a" * 300, "~", "-x"),
    *(
        CONTROL,
        "new\nline.jsonl",
        "in.jsonl",
        "folder",
        "fifo/../in.jsonl",
        "\u202egpj.jsonl",
        "out.jsonl.gz",
    ),
    *(b"\xff\xfe.jsonl", b"\xed\xa0\x80", "tiny:test", "tiny:none", "hf://", "hf://x", "a.parquet", "a.csv"),
)


def names_and_streams(folder: Path, count: int, seed: int, tell: Tell) -> Counter[str]:
    """Give every command names of all kinds for INPUT and outputs, or close one of its streams."""
    commands = list(COMMANDS)

    def attempt(number: int) -> None:
        draw = random.Random(f"{seed} {number}")
        command = commands[number % len(commands)]
        work = fresh(folder / "try")
        (work / "folder").mkdir()
        rows.write(work / "in.jsonl", [COMMANDS[command](index) for index in range(3)])
        before = (work / "in.jsonl").read_bytes()
        source, output, errors = (os.fsdecode(draw.choice(NAMES)) for _ in range(3))
        arguments: list[object] = [*command, "-L", 2] if command[0] != "show" else [*command]
        arguments.append(source if draw.random() < 0.5 else "in.jsonl")
        if draw.random() < 0.5 and command[0] != "show":
            arguments += ["-o", output]
        if draw.random() < 0.3:
            arguments += ["--errors", errors]
        closed = draw.sample((0, 1, 2), draw.choice((1, 1, 2))) if draw.random() < 0.3 else ()
        run(arguments, work, closed)
        assert (work / "in.jsonl").read_bytes() == before, f"{arguments}: the input is changed"

    return tries("names and streams", count, attempt, folder, tell)


PROMPTS: tuple[str, ...] = (
    *(
        CONTROL,
        "\x00",
        "\ud800",
        "",
        " ",
        "\n" * 1_000,
        "{problem}",
        "{{ 1/0 }}",
        "%s%s%n",
        "</s><s>",
        "<|im_end|>",
    ),
    *("a" * 100_000, "\u0301" * 1_000, "\U0001f600" * 500, "Answer: 5\nQuestion:", "9" * 5_000, "<pad>" * 50),
)


def prompts(folder: Path, count: int, seed: int, tell: Tell) -> Counter[str]:
    """Let the shipped policy answer problems that are no problems."""

    def attempt(number: int) -> None:
        draw = random.Random(f"{seed} {number}")
        work = fresh(folder / "try")
        texts = [draw.choice(PROMPTS) + draw.choice(("", "2 + 3?", draw.choice(PROMPTS))) for _ in range(6)]
        found = [{"problem": text, "answer": draw.choice(("5", odd_value(draw)))} for text in texts]
        (work / "in.jsonl").write_bytes(b"".join(map(_line, found)))
        engine = ("--engine", "transformers", "-m", "tiny", "--max-tokens", 4, "-n", 1)
        arguments = ("sample", "in.jsonl", *engine, "--errors", "errors.jsonl", "-o", "out.jsonl")
        status = start(arguments, work, real_engine=True).wait()
        text = (work / "stderr.txt").read_text(errors="replace")
        assert status in STATUSES and "Traceback (most" not in text, text[-2000:]

    return tries("prompts", count, attempt, folder, tell)
