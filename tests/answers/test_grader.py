import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erprm_cli.answers.equality import canonical_form, parse_number
from erprm_cli.answers.extraction import extract
from erprm_cli.answers.grader import Grader
from erprm_cli.answers.workers import CPU_LIMIT_S
from tests.answers.answer_data import ENDLESS, GSM8K, HOSTILE, MATH500


def respelled(answer: str) -> Iterator[str]:
    """Yield other spellings of `answer`."""
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
    if re.fullmatch(r"-?[\d,]+", answer) and parse_number(answer):
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


@pytest.mark.slow
def test_every_math500_answer_differs_from_the_next_one_and_from_itself_plus_one(grader: Grader) -> None:
    distinct = sorted(set(MATH500))
    same = {frozenset(pair) for pair in [("x=5", "5"), (r"\frac14", r"\frac{1}{4}"), ("1,-2", "-2,1")]}
    for answer, other in zip(distinct, distinct[1:], strict=False):
        if canonical_form(answer) != canonical_form(other) and frozenset((answer, other)) not in same:
            assert not grader.equal(answer, other), (answer, other)
    for answer in distinct:
        if (
            parse_number(answer) is None
            and re.fullmatch(r"[-\d\\a-z{} +^]+", answer)
            and "text" not in answer
        ):
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
        ("3", "3,__import__('os').system('touch X')", False),
        ("3", "3 squared", False),
        ("3", "3 plus one", False),
        ("3", "3 over two", False),
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


@pytest.mark.slow
def test_hostile_answers_are_wrong_soon_and_do_nothing(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Grader() as grader:
        assert grader.equal("x+1", "1+x")
        verdicts = {name: grader.submit("7", answer) for name, answer in HOSTILE.items()}
        for name, answer in HOSTILE.items():
            begin = time.perf_counter()
            assert verdicts[name].equal() is False, name
            assert extract(f"The answer is: {answer}") != "7"
            canonical_form(answer)
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


def test_a_pair_without_a_verdict_is_reported_once() -> None:
    told: list[tuple[str, str, str]] = []
    with Grader(lambda *note: told.append(note)) as grader:
        assert grader.summary() == ""
        for _ in range(2):
            assert grader.reward("x^2", HOSTILE["tower"]) == 0.0
        assert grader.summary() == ", 1 answer without a verdict in time (graded 0)"
    ((place, reason, pair),) = told
    assert place == "answers" and "no verdict" in reason
    assert json.loads(pair) == {"gold": "x^2", "prediction": HOSTILE["tower"]}


def test_a_pair_in_progress_is_asked_once() -> None:
    with Grader() as grader:
        first, second = (grader.submit("x+1", "1+x") for _ in range(2))
        assert first.found is second.found
        assert first.equal() and second.equal()
        assert grader.submit("x+1", "1+x").is_known()


@pytest.mark.slow
def test_pairs_are_reported_in_the_order_in_which_they_are_waited_for() -> None:
    told: list[str] = []
    with Grader(lambda *note: told.append(json.loads(note[2])["gold"]), num_workers=2) as grader:
        verdicts = {gold: grader.submit(gold, ENDLESS) for gold in "789"}
        towers = {gold: grader.submit(gold, HOSTILE["tower"]) for gold in "xy"}
        assert [towers["y"].equal(), verdicts["8"].equal(), verdicts["7"].equal()] == [False] * 3
        assert (told, grader.unknown) == (["y", "8", "7"], 3)


def test_importing_answers_loads_nothing_heavy() -> None:
    heavy = "{'sympy', 'math_verify', 'torch', 'multiprocessing', 'typer'}"
    program = f"import sys, erprm_cli.answers.grader; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
