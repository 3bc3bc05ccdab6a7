import time

import pytest

from erprm_cli.answers.extraction import extract
from erprm_cli.errors import UsageError
from tests.answers.answer_data import GSM8K, MATH500


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
