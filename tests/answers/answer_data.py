"""Answers that tests share: the gold answers of two data sets, and hostile answers."""

import json
from pathlib import Path

from hypothesis import strategies as st

DATA = Path(__file__).parents[1] / "data"
GSM8K = [json.loads(line)["answer"] for line in (DATA / "gsm8k_answers.jsonl").open()]
MATH500 = [json.loads(line)["answer"] for line in (DATA / "math500_answers.jsonl").open()]

# Short and flat, so that it is not refused; the gamma function to 18,000 digits takes minutes.
ENDLESS = r"(x + \frac{1}{2999!})!"

PIECES = [
    *r"\ { } $ ^ _ ( ) [ ] , . / % - + = 0 1 2 9 x ' \boxed{ \frac \dfrac12 \text{ \left( \! \$".split(),
    *("The answer is ", "#### ", "\n", " ", "**", "\x00", "\ud800", "½", "1,000"),
]
LATEX = st.lists(st.sampled_from(PIECES)).map("".join)

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
