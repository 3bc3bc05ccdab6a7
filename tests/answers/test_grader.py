import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erprm_cli.answers import workers
from erprm_cli.answers.equality import canonical, number
from erprm_cli.answers.extraction import extract
from erprm_cli.answers.grader import Grader
from erprm_cli.answers.voting import group
from erprm_cli.answers.workers import CPU_LIMIT_S, Worker
from erprm_cli.errors import EngineError, UsageError

DATA = Path(__file__).parents[1] / "data"
GSM8K = [json.loads(line)["answer"] for line in (DATA / "gsm8k_answers.jsonl").open()]
MATH500 = [json.loads(line)["answer"] for line in (DATA / "math500_answers.jsonl").open()]

# Short and flat, so that it is not refused; math-verify does not return from it.
ENDLESS = r"\sum_{n=1}^{10^{9}} n^{n^{7}} !"


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


def worker_processes(parent: int) -> list[int]:
    """The processes that compare answers for `parent`, by /proc: zombies are none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if b"erprm_cli.answers.workers" in command and stat[0] != "Z" and int(stat[1]) == parent:
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---- Extraction


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Step 1: 3 * 4 = 12.\nThe answer is: 37", "37"),
        ("The answer is 0", "0"),
        ("THE ANSWER IS 1,000.", "1,000"),
        ("The answer is 12.50.\n", "12.50"),
        ("**The answer is: 5**", "5"),
        ("**The answer is:** 5", "5"),
        ("The answer is: **5**.", "5"),
        (r"The answer is: $\frac{1}{2}$.", r"\frac{1}{2}"),
        (r"The answer is \(x+1\).", "x+1"),
        (r"The answer is $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"The answer is $\boxed{18}$ dollars.", "18"),
        ("The answer is not 5, so the answer is 6", "6"),
        ("The answer is: 5\nWait.\nThe answer is: 6\nMore text", "6"),
        ("Final Answer: The final answer is $5$. I hope it is correct.", "5"),
        (r"so $\boxed{3}$, no, \boxed{\sqrt{2}}", r"\sqrt{2}"),
        (r"\boxed{\{1, {2}\}}", r"\{1, {2}\}"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\fbox{7}", "7"),
        (r"$\boxed 5$", "5"),
        (r"we get \boxed 5 as said", "5"),
        (r"\boxed{3} and then \boxed{4", "3"),
        (r"\boxed{ \boxed{4}", "4"),
        ("3 + 4 = <<3+4=7>>7\n#### 7", "7"),
        ("#### 6\n#### 1,234\n", "1,234"),
        ("The answer is:\n", None),
        ("\\boxed{}", None),
        ("no answer", None),
        ("", None),
    ],
)
def test_extract_finds_the_final_answer(text: str, answer: str | None) -> None:
    assert extract(text) == answer


def test_extract_tries_the_rules_in_the_order_given() -> None:
    text = "\\boxed{1}\nThe answer is 2\n#### 3"
    assert extract(text) == "2"
    assert extract(text, ["boxed", "phrase"]) == "1"
    assert extract(text, ["hashes"]) == "3"
    assert extract("#### 3", ["phrase", "boxed"]) is None
    with pytest.raises(UsageError, match="phrase, boxed, hashes"):
        extract(text, ["bracket"])


def test_extract_finds_what_gsm8k_and_a_policy_write() -> None:
    for answer in GSM8K:
        assert extract(f"He has 3 left.\n#### {answer}", ["hashes"]) == answer
        assert extract(f"Step 1: 2 + 2 = 4.\nThe answer is: {answer}.\n") == answer
    for answer in MATH500:
        plain = answer.strip()
        assert extract(f"Thus\n\\[x = \\boxed{{{answer}}}.\\]\nDone.", ["boxed"]) == plain
        assert extract(f"The answer is: ${answer}$.") == plain


@pytest.mark.parametrize(
    "unit", [r"\boxed{", "}", r"\boxed 5 ", "The answer is ", "####", "$", "**", "{", "\\", "a. A", " "]
)
def test_extract_takes_linear_time(unit: str) -> None:
    begin = time.perf_counter()
    extract(unit * (1_000_000 // len(unit)))
    assert time.perf_counter() - begin < 5


PIECES = [
    *r"\ { } $ ^ _ ( ) [ ] , . / % - + = 0 1 2 9 x ' \boxed{ \frac \dfrac12 \text{ \left( \! \$".split(),
    *("The answer is ", "#### ", "\n", " ", "**", "\x00", "\ud800", "½", "1,000"),
]
LATEX = st.lists(st.sampled_from(PIECES)).map("".join)


@given(LATEX | st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_without_a_fault(text: str) -> None:
    answer = extract(text)
    assert answer is None or (answer and answer.strip() == answer)
    form = canonical(text)
    assert canonical(form) == form or number(text) is None
    value = number(text)
    if value is not None and not value.percent:
        assert Fraction(form) == value.value


# ---- Numbers and canonical forms


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,000", 1000),
        ("1,234,567.5", Fraction("1234567.5")),
        ("10,\\!080", 10080),
        ("10{,}080", 10080),
        ("0.25", Fraction(1, 4)),
        (".5", Fraction(1, 2)),
        (r"\frac12", Fraction(1, 2)),
        (r"\dfrac{3}4", Fraction(3, 4)),
        (r"-\frac{1}{2}", Fraction(-1, 2)),
        (r"\frac{-1}{2}", Fraction(-1, 2)),
        (r"1\frac{4}{5}", Fraction(9, 5)),
        ("1 1/2", Fraction(3, 2)),
        ("-1 1/2", Fraction(-3, 2)),
        ("12.50", Fraction(25, 2)),
        ("-3", -3),
        ("−3", -3),
        ("+3", 3),
        ("0", 0),
        ("-0", 0),
        ("1e3", 1000),
        (r"3 \times 10^{5}", 300_000),
        (r"3\cdot10^{-2}", Fraction(3, 100)),
        ("$18", 18),
        (r"\$18.00", 18),
        ("18 dollars", 18),
        ("5 cm", 5),
        (r"15\mbox{ cm}^2", 15),
        (r"90^\circ", 90),
        ("90°", 90),
        (r"\frac{270}7\text{ degrees}", Fraction(270, 7)),
        ("60 miles per hour", 60),
    ],
)
def test_a_number_is_read_exactly(text: str, value: Fraction | int) -> None:
    found = number(text)
    assert found is not None and found.value == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1,2",
        "(1,234)",
        "1/0",
        "52_8",
        "2x",
        "3i",
        "5 million",
        r"2\pi",
        "1 2",
        "--3",
        "1.2.3",
        "1-2",
        "e3",
    ],
)
def test_what_is_no_number_is_not_read_as_one(text: str) -> None:
    assert number(text) is None


def test_equal_spellings_share_a_canonical_form() -> None:
    for forms in (
        ["1000", "1,000", "$1,000$", "1000.0", r"\$1000", "1e3"],
        ["1/4", "0.25", r"\frac14", r"\dfrac{1}{4}", r"\tfrac 14", "25/100"],
        [r"\left( 3, \frac{\pi}{2} \right)", r"(3,\dfrac{\pi}{2})", r"$(3, \frac {\pi} {2})$."],
        [r"\text{Evelyn}", "Evelyn", "evelyn"],
        [r"\text{(C)}", "(C)", "C", r"\textbf{(C)}"],
        [r"11\sqrt2", r"11 \sqrt{2}"],
        [r"(2,\infty)", r"\left(2, \infty\right)"],
    ):
        assert len(set(map(canonical, forms))) == 1, forms


def test_different_answers_have_different_canonical_forms() -> None:
    forms = [
        "1",
        "-1",
        "1 2",
        "12",
        "1,2",
        "(1,2)",
        "[1,2]",
        "x",
        "X",
        "xy",
        "15",
        "15%",
        "52_8",
        "52",
        "0",
        "",
    ]
    assert len(set(map(canonical, forms))) == len(forms)


# ---- Equality


def respelled(answer: str) -> Iterator[str]:
    """Yield `answer` as others may write it."""
    yield from (f" {answer} ", f"${answer}$", f"\\boxed{{{answer}}}", f"$\\boxed{{{answer}}}$.", f"{answer}.")
    yield from (f"\\({answer}\\)", f"**{answer}**", answer.replace(" ", ""))
    if "frac" in answer:
        yield re.sub(r"\\d?frac", r"\\dfrac", answer)
        yield re.sub(r"\\d?frac", r"\\tfrac", answer)
    if "(" in answer and "left" not in answer:
        yield answer.replace("(", r"\left(").replace(")", r"\right)").replace("]", r"\right]")
    if "left" in answer:
        yield answer.replace(r"\left", "").replace(r"\right", "")
    if simple := re.fullmatch(r"(-?)\\d?frac\{(\d+)\}\{(\d+)\}", answer):
        sign, above, below = simple[1], int(simple[2]), int(simple[3])
        yield from (
            f"{sign}{above}/{below}",
            f"\\frac{{{sign}{above}}}{{{below}}}",
            f"{sign}{above / below!r}",
        )
    if re.fullmatch(r"-?[\d,]+", answer) and number(answer):
        value = int(answer.replace(",", ""))
        yield from (f"{value}", f"{value:,}", f"{value}.0", f"{value:,}.00", f"{value}/1", f"x = {value}")
        yield from (f"\\${value:,}", f"{value} apples", f"{value}\\text{{ cm}}", f"{2 * value}/2")
        yield f"{value:,}".replace(",", ",\\!")


def test_every_gsm8k_and_math500_answer_equals_itself_however_it_is_written(grader: Grader) -> None:
    failed = [
        (answer, other)
        for answer in sorted({*GSM8K, *MATH500})
        for other in (answer, *respelled(answer))
        if not grader.equal(answer, other)
    ]
    assert failed == []


def test_every_gsm8k_answer_differs_from_its_neighbours(grader: Grader) -> None:
    for answer in GSM8K:
        value = int(answer.replace(",", ""))
        for other in (value + 1, value - 1, value + 0.5, -value if value else 1, 10 * value + 1):
            assert not grader.equal(answer, str(other)), (answer, other)


def test_every_math500_answer_differs_from_the_next_one_and_from_itself_plus_one(grader: Grader) -> None:
    distinct = sorted(set(MATH500))
    same = {frozenset(pair) for pair in [("x=5", "5"), (r"\frac14", r"\frac{1}{4}"), ("1,-2", "-2,1")]}
    for answer, other in zip(distinct, distinct[1:], strict=False):
        if canonical(answer) != canonical(other) and frozenset((answer, other)) not in same:
            assert not grader.equal(answer, other), (answer, other)
    for answer in distinct:
        if number(answer) is None and re.fullmatch(r"[-\d\\a-z{} +^]+", answer) and "text" not in answer:
            assert not grader.equal(answer, f"{answer}+1"), answer


@pytest.mark.parametrize(
    ("gold", "prediction", "equal"),
    [
        ("1,000", "1000", True),
        ("0.25", "1/4", True),
        (r"\frac12", "0.5", True),
        ("0", "0", True),
        ("0", "0.0", True),
        ("0", None, False),
        ("0", "", False),
        ("", "", False),
        ("$", "$", True),  # equal text is equal
        ("12.5", "12", False),
        ("12", "12.5", False),
        ("1,2", "12", False),
        ("1/3", "0.333333", True),
        ("1/3", "0.33", False),
        ("2/21", "0.09523809523809523", True),
        ("15", r"15\%", True),
        ("0.15", "15%", True),
        (r"15\%", "0.15", True),
        ("0.15", "15", False),
        ("1000", "10^3", True),
        ("2k+2", "2(k+1)", True),
        ("x^2y^3z^4", "z^4x^2y^3", True),
        ("2^{10}", "4^5", True),
        ("6 - 5i", "-5i+6", True),
        ("3, 5, 7", "7, 5, 3", True),
        ("(3,4)", "(4,3)", False),
        ("(3,4]", "[3,4]", False),
        ("x=5", "5", True),
        ("5", "x=5", True),
        (r"\sqrt{50}", r"5\sqrt{2}", True),
        (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}", True),
        (r"\text{east}", "East", True),
        (r"\text{east}", "seat", False),
        ("52_8", "52_9", False),
        ("5", "apples", False),
    ],
)
def test_equality_of_some_pairs(grader: Grader, gold: str, prediction: str | None, equal: bool) -> None:
    assert grader.equal(gold, prediction) is equal
    assert grader.reward(gold, prediction) == float(equal)


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
@settings(max_examples=200, deadline=None)
def test_a_ratio_equals_itself_in_every_form_and_not_its_neighbour(
    grader: Grader, above: int, below: int
) -> None:
    forms = [f"{above}/{below}", f"\\frac{{{above}}}{{{below}}}", f"{3 * above:,}/{3 * below:,}"]
    assert all(grader.equal(one, other) for one in forms for other in forms)
    assert not any(grader.equal(one, f"{above + 1}/{below}") for one in forms)


def test_votes_group_equal_answers(grader: Grader) -> None:
    answers = ["1/2", None, r"\frac12", "3", "x+1", "0.5", "1+x", "3.0", None, "4"]
    assert group(answers) == [[0, 2, 5], [3, 7], [4], [6], [9]]
    assert group(answers, grader) == [[0, 2, 5], [3, 7], [4, 6], [9]]
    assert group([], grader) == []
    assert group([None, None], grader) == []


# ---- Hostile answers

HOSTILE = {
    "tower": "9^{9^{9^9}}",
    "tower without braces": "5^5^5^5^5",
    "tower of groups": "5^{5^{5^{5^{5}}}}",
    "tower of brackets": "2^(2^(2^(2^(99))))",
    "large power": "9^{9^{9}}",
    "factorial": "10000000!!",
    "large binomial": r"\binom{10^{9}}{5\cdot10^{8}}",
    "long number": "9" * 1_000_000,
    "long sum": "+".join("x" * 100_000),
    "deep fractions": r"\frac{1}{" * 200 + "2" + "}" * 200,
    "deep brackets": "(" * 5000 + "1" + ")" * 5000,
    "deep roots": r"\sqrt{" * 60 + "2" + "}" * 60,
    "open braces": "{" * 400,
    "matrix": r"\begin{pmatrix}" + " & ".join("1" for _ in range(10_000)) + r"\end{pmatrix}",
    "determinant": r"\det\begin{pmatrix}" + r"\\".join(["x&y&z&w&u&v&a&b"] * 8) + r"\end{pmatrix}",
    "import": "__import__('os').system('touch HACKED')",
    "eval": "exec(\"open('HACKED','w')\")",
    "lambda": "(lambda: [].__class__.__base__.__subclasses__())()",
    "input": r"\input{/etc/passwd}",
    "write18": r"\immediate\write18{touch HACKED}",
    "definition": r"\def\x{\x\x}\x",
    "format": "{0.__class__}%s%n",
    "nul": "3\x00 4",
    "lone surrogate": "\ud800\udfff 5",
    "control": "\x1b[2J\x07",
    "line breaks": "6\n[\"7\", \"7\"]\n8",
    "protocol": '"]\n["7", "7"]\n["',
    "dollars": "$" * 501,
    "right to left": "\u202e7\u202d 1",
    "many numbers": " ".join(map(str, range(120))),
    "not a number": "nan",
    "infinite": "1e999999999",
    "division": r"\frac{7}{0}",
}  # fmt: skip


def test_hostile_answers_are_wrong_soon_and_do_nothing(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Grader() as grader:
        assert grader.equal("x+1", "1+x")
        for name, answer in HOSTILE.items():
            begin = time.perf_counter()
            assert grader.equal("7", answer) is False, name
            assert extract(f"The answer is: {answer}") != "7"
            canonical(answer)
            assert time.perf_counter() - begin < CPU_LIMIT_S + 20, name
        assert 5 <= grader.unknown <= 9  # the others are compared, and differ
        assert grader.equal("x+2", "2+x")
        unknown = grader.unknown
        assert grader.equal("7", HOSTILE["tower"]) is False and grader.unknown == unknown  # remembered
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_hostile_gold_answers_are_survived(grader: Grader) -> None:
    for name in ("tower", "nul", "lone surrogate", "import", "deep fractions", "long number", "protocol"):
        assert grader.equal(HOSTILE[name], "7") is False
        assert grader.equal(HOSTILE[name], HOSTILE[name]) is True


# ---- The worker processes


def test_the_worker_starts_with_the_first_pair_that_needs_it_and_ends_with_the_grader() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader() as grader:
        assert grader.equal("1/2", "0.5")
        assert set(worker_processes(os.getpid())) == before
        assert grader.equal("x+1", "1+x")
        (worker,) = set(worker_processes(os.getpid())) - before
    assert not alive(worker)
    assert grader.equal("x+2", "2+x")  # closed is not broken
    grader.close()
    assert set(worker_processes(os.getpid())) == before


def test_a_worker_ignores_an_interrupt_and_is_replaced_when_killed() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader() as grader:
        assert grader.equal("x+1", "1+x")
        (worker,) = set(worker_processes(os.getpid())) - before
        os.kill(worker, signal.SIGINT)  # is not for it
        assert grader.equal("x+2", "2+x")
        assert alive(worker)
        os.kill(worker, signal.SIGKILL)
        assert grader.equal("x+3", "3+x")
        assert not alive(worker)
        assert grader.unknown == 0


def test_a_pair_without_a_verdict_is_told_once() -> None:
    told: list[tuple[str, str, str]] = []
    with Grader(lambda *note: told.append(note)) as grader:
        assert grader.summary() == ""
        for _ in range(2):
            assert grader.reward("x^2", HOSTILE["tower"]) == 0.0
        assert grader.summary() == ", 1 answer unknown (no verdict in time, graded 0)"
    ((place, reason, pair),) = told
    assert place == "answers" and "no verdict" in reason
    assert json.loads(pair) == {"gold": "x^2", "prediction": HOSTILE["tower"]}


def test_a_worker_that_hangs_is_ended_and_the_pair_counted() -> None:
    with Grader() as grader:
        begin = time.perf_counter()
        assert grader.equal("7", ENDLESS) is False
        assert grader.unknown == 1
        assert time.perf_counter() - begin < 30
        assert grader.equal("x+1", "1+x")


def test_no_worker_outlives_a_killed_command() -> None:
    program = (
        "import sys\nfrom erprm_cli.answers.grader import Grader\ngrader = Grader()\n"
        "grader.equal('x+1', '1+x')\nprint('ready', flush=True)\ngrader.equal('7', sys.argv[1])\n"
    )
    command = subprocess.Popen([sys.executable, "-c", program, ENDLESS], stdout=subprocess.PIPE)
    assert command.stdout is not None and command.stdout.readline() == b"ready\n"
    (worker,) = worker_processes(command.pid)
    time.sleep(0.3)  # into the pair that hangs
    command.kill()
    command.wait()
    command.stdout.close()
    deadline = time.monotonic() + CPU_LIMIT_S + 10
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(worker)


def test_hard_pairs_are_compared_side_by_side_and_hold_nothing_up() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader(num_workers=3) as grader:
        slow = [grader.submit(gold, ENDLESS) for gold in ("7", "8")]
        assert grader.equal("x+1", "1+x")
        assert not any(verdict.is_known() for verdict in slow)
        assert len(set(worker_processes(os.getpid())) - before) == 3
        assert [verdict.reward() for verdict in slow] == [0.0, 0.0]
        assert len(set(worker_processes(os.getpid())) - before) == 1
    assert set(worker_processes(os.getpid())) == before


def test_a_worker_is_started_only_when_none_is_idle() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader(num_workers=3) as grader:
        for number in range(5):
            assert grader.equal(f"x+{number}", f"{number}+x")
        assert len(set(worker_processes(os.getpid())) - before) == 1


def test_no_more_workers_than_allowed_serve_many_threads() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader(num_workers=2) as grader, ThreadPoolExecutor(8) as threads:
        pairs = [(f"x+{number % 9}", f"{number % 3}+x") for number in range(90)]
        verdicts = list(threads.map(lambda pair: grader.equal(*pair), pairs))
        assert verdicts == [number % 9 == number % 3 for number in range(90)]
        assert len(set(worker_processes(os.getpid())) - before) == 2


def test_a_pair_under_way_is_asked_once() -> None:
    with Grader() as grader:
        first, second = (grader.submit("x+1", "1+x") for _ in range(2))
        assert first.found is second.found
        assert first.equal() and second.equal()
        assert grader.submit("x+1", "1+x").is_known()


def test_pairs_are_told_of_in_the_order_in_which_one_waits_for_them() -> None:
    told: list[str] = []
    with Grader(lambda *note: told.append(json.loads(note[2])["gold"]), num_workers=2) as grader:
        verdicts = {gold: grader.submit(gold, ENDLESS) for gold in "789"}
        towers = {gold: grader.submit(gold, HOSTILE["tower"]) for gold in "xy"}
        assert [towers["y"].equal(), verdicts["8"].equal(), verdicts["7"].equal()] == [False] * 3
        assert (told, grader.unknown) == (["y", "8", "7"], 3)


def test_closing_does_not_wait_for_what_is_under_way() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader(num_workers=2) as grader:
        for gold in "6789":
            grader.submit(gold, ENDLESS)
        begin = time.perf_counter()
    assert time.perf_counter() - begin < 1.5
    assert set(worker_processes(os.getpid())) == before
    assert grader.unknown == 0


def test_a_worker_has_a_cap_on_its_memory() -> None:
    before = set(worker_processes(os.getpid()))
    with Grader() as grader:
        assert grader.equal("x+1", "1+x")
        (worker,) = set(worker_processes(os.getpid())) - before
        limits = Path(f"/proc/{worker}/limits").read_text()
    assert re.search(rf"Max address space +{workers.MEMORY_LIMIT_BYTES} ", limits)


def scripted_worker(body: str) -> Worker:
    """A worker that is ready and then does something else than compare."""
    begin = "import socket, time; channel = socket.socket(fileno=0); channel.send(b'r'); channel.recv(999); "
    return Worker([sys.executable, "-c", begin + body])


def test_a_worker_that_sleeps_has_no_more_time_by_the_clock_than_by_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "CPU_LIMIT_S", 0.2)
    with closing(scripted_worker("time.sleep(60)")) as worker:
        begin = time.perf_counter()
        with pytest.raises(TimeoutError):
            worker.ask("1", "2")
        assert time.perf_counter() - begin < workers.WALL_LIMIT_S / 2


def test_a_worker_that_would_compute_has_time_until_the_last_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the scripted one sets itself no limit, it stands for one that gets no processor."""
    monkeypatch.setattr(workers, "CPU_LIMIT_S", 0.2)
    late = "end = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass\nchannel.send(b'1')"
    with closing(scripted_worker(f"exec({late!r})")) as worker:
        assert worker.ask("1", "2")
    monkeypatch.setattr(workers, "WALL_LIMIT_S", 0.5)
    with closing(scripted_worker(f"exec({late!r})")) as worker, pytest.raises(TimeoutError):
        worker.ask("1", "2")


def test_math_verify_that_does_not_start_is_an_engine_error() -> None:
    with closing(Worker([sys.executable, "-c", "pass"])) as worker:
        with pytest.raises(EngineError, match="cannot start math-verify"):
            worker.ask("1", "2")


def test_importing_answers_loads_nothing_heavy() -> None:
    heavy = "{'sympy', 'math_verify', 'torch', 'multiprocessing', 'typer'}"
    program = f"import sys, erprm_cli.answers.grader; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
