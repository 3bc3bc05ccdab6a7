"""Answers that are to hang, to break or to run something, among thousands of random pieces of LaTeX."""

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from erprm_cli.answers.extraction import extract
from erprm_cli.answers.grader import Grader
from erprm_cli.answers.workers import CPU_LIMIT_S
from erprm_cli.worker_process import START_LIMIT_S

GOLD = r"\frac{x^2+1}{7}"  # no number, so that nothing is decided the cheap way
LONGEST_S = CPU_LIMIT_S + START_LIMIT_S  # of one answer, with a new worker on a busy machine


def hostile_answers(canary: Path) -> list[str]:
    """Return 30 answers that no evaluator should see; those that run code would make the file `canary`."""
    touch = f"__import__('os').system('touch {canary}')"
    return [
        "9^{9^{9^9}}",
        "5^{5^{5^{5^5}}}",
        "9**9**9**9",
        "10^{10^{10}}!",
        "((((((9!)!)!)!)!)!)",
        r"\binom{10^{12}}{10^{11}}",
        r"\sum_{n=1}^{10^{12}} \frac{1}{n^{n}}",
        r"\prod_{k=1}^{10^{9}} k",
        r"\int_0^{\infty} x^{x^{x}} e^{-x^{x}} dx",
        r"\lim_{x\to 0} \sin(\cos(\tan(1/x)))^{1/x^{99}}",
        r"\sqrt{" * 200 + "2" + "}" * 200,
        "{" * 5_000 + "1" + "}" * 5_000,
        "(" * 100 + "x" + ")" * 100,
        r"\frac{1}{" * 100 + "2" + "}" * 100,
        "1" * 1_000_000,
        "0." + "3" * 1_000_000,
        "1" * 500,
        "1e999999999",
        "x^{" + "9" * 400 + "}",
        "(x+1)^{99999999}",
        "(a+b+c+d+e+f)^{60}",
        r"\left|" * 50 + "x" + r"\right|" * 50,
        touch,
        f"\\text{{{touch}}}",
        f'eval("{touch}")',
        f"x.__class__.__mro__[1].__subclasses__(); {touch}",
        f"lambda: {touch}",
        f"$$\\input{{/etc/passwd}}$$ \\write18{{touch {canary}}}",
        "\x00\x1b]0;x\x07\ud800\u202e" + touch,
        r"\begin{pmatrix}" + "&".join("x^{y^{z}}" for _ in range(40)) + r"\end{pmatrix}",
    ]


PIECES = (
    r"\frac{1}{2} \sqrt{ \pi x y 7 0.5 , ; = + - / * ^ _ { } ( ) [ ] \{ \} | ! % \% $ \left( \right) \cup "
    r"\infty \text{ cm} \begin{pmatrix} \end{pmatrix} & \\ \log \sin \binom{5}{2} 1,000 10^ \circ \le "
    r"\in \mathbb{R} \boxed{ \cdot e i \overline{3} 3\frac12 . ' ^2 \pm \emptyset \sum_{i=1}^{3} \int_0^1 dx"
).split(" ")


def fuzzed(draw: random.Random) -> str:
    """Return a random piece of LaTeX, mostly broken."""
    return "".join(draw.choice(PIECES) for _ in range(draw.randint(1, 9)))


def answers(folder: Path, hostile: int, fuzz: int, seed: int, tell: Callable[[str], object]) -> Counter[str]:
    """Grade hostile answers scattered among fuzzed ones; an exception anywhere ends the torture."""
    canary = folder / "canary"
    draw, found = random.Random(seed), Counter[str]()
    bad = hostile_answers(canary)[:hostile] if hostile < 30 else hostile_answers(canary)
    load = [*bad, *(fuzzed(draw) for _ in range(fuzz))]
    draw.shuffle(load)
    longest = 0.0
    with Grader(lambda *_: found.update(noted=1)) as grader:
        for answer in load:
            begin = time.monotonic()
            equal = grader.equal(GOLD, extract(f"The answer is: {answer}") or answer)
            longest = max(longest, time.monotonic() - begin)
            found["hostile answers" if answer in bad else "fuzzed answers"] += 1
            found["hostile answers judged right"] += equal and answer in bad
        assert grader.equal(GOLD, r"\frac{1+x^2}{7}"), "the grader no longer grades"
        assert found["noted"] == grader.unknown
        found["without a verdict"] = grader.unknown
    assert longest < LONGEST_S, f"one answer took {longest:.1f} s"
    assert not canary.exists(), "an answer was run"
    tell(f"{dict(found)}; the longest took {longest:.1f} s")
    return found
