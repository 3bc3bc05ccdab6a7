"""Accuracy against tokens: curves of searches and of samples, and their differences at equal tokens."""

import math
from collections.abc import Iterable
from typing import Any

import pytest

from erprm_cli.answers.grader import Grader
from erprm_cli.errors import RowError, UserError
from erprm_cli.evaluation.best_of_n import BEST, WEIGHTED
from erprm_cli.evaluation.candidates import MAJORITY, Candidates
from erprm_cli.evaluation.equal_tokens import Costs, Searched, TokensResult, Way, evaluate
from erprm_cli.terminal.reporter import Reporter

Row = dict[str, Any]


def sample(id_: str, number: int, score: float | None, right: bool, tokens: int = 10, **more: Any) -> Row:
    row = {
        "id": id_,
        "problem": "How many?",
        "sample": number,
        "solution": "So.",
        "steps": ["So."],
        "prediction": "7" if right else "5",
        "reward": float(right),
        "num_tokens": tokens,
    }
    return row | ({"scores": [score], "prm": "er"} if score is not None else {}) | more


def searched(source: str, rows: Iterable[Row]) -> Searched:
    found = Searched(Candidates(source, ["min"]), Costs())
    check = found.costs.counting(lambda row: row)
    for row in rows:
        found.pool.add(check(row))
    return found


def by_search(id_: str, right: bool, n: int, tokens: int, method: str = "smc", eta: float = 5) -> Row:
    figures = {"n": n, "eta": eta, "prompt_tokens": 3, "generated_tokens": tokens, "prm_tokens": 7}
    return sample(id_, 0, 0.5, right, method=method, search=figures | {"distinct": 1, "log_z": 0.0})


def results(*files: Searched, budgets: Iterable[int] = ()) -> list[TokensResult]:
    with Grader() as grader:
        return evaluate(files, list(budgets), 0, grader, Reporter("bon", quiet=True))


def value(found: list[TokensResult], search: str, tokens: float, method: str = BEST) -> float:
    (one,) = (
        result
        for result in found
        if (result.search, result.minus, result.way.method) == (search, None, method)
        and result.tokens == pytest.approx(tokens)
    )
    return one.estimate.value


# Two problems with four samples of 10 tokens: in p the best score is right, in q the two best are wrong.
SAMPLES = [
    *(sample("p", number, score, score == 0.9) for number, score in enumerate((0.1, 0.9, 0.5, 0.2))),
    *(sample("q", number, score, score < 0.5) for number, score in enumerate((0.1, 0.9, 0.5, 0.2))),
]
PASS_1 = (1 / 4 + 2 / 4) / 2


def test_samples_give_the_accuracy_at_every_number_of_them() -> None:
    found = results(searched("samples.jsonl", SAMPLES), budgets=[1, 2, 4, 8])
    assert [result.tokens for result in found if result.way.method == BEST] == [10, 20, 40]
    # p: the right one is among 2 of 4 with probability 1/2; q: both are right ones with probability 1/6.
    assert value(found, "best-of-n", 20) == pytest.approx((1 / 2 + 1 / 6) / 2)
    assert value(found, "best-of-n", 40) == 0.5
    assert {result.way for result in found} == {Way(WEIGHTED, "min"), Way(BEST, "min")}
    assert all(result.prompt_tokens is None and result.prm_tokens is None for result in found)


def test_problems_that_nobody_graded_are_left_out_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    found = results(searched("one.jsonl", [*SAMPLES, sample("r", 0, 0.3, True, reward=None)]))
    assert value(found, "best-of-n", 10) == PASS_1
    assert "1 problems are left out because 'reward' is missing" in capsys.readouterr().err


def test_a_search_is_one_budget_with_all_its_tokens() -> None:
    found = results(searched("smc.jsonl", [by_search("p", True, 4, 40), by_search("q", False, 4, 60)]))
    assert {(one.n, one.tokens, one.prompt_tokens, one.prm_tokens) for one in found} == {(4, 50, 3, 7)}
    assert value(found, "smc", 50) == 0.5


def test_files_of_one_search_are_one_curve_interpolated_in_the_logarithm_of_tokens() -> None:
    """The search has 0 at 10 tokens and 1 at 40; samples 1/2 at 40, and 1/2 at 10 too (half are right)."""
    smc = [searched(f"{n}.jsonl", [by_search(id_, n == 4, n, 10 * n) for id_ in "pq"]) for n in (1, 4)]
    files = [*smc, searched("samples.jsonl", SAMPLES)]
    for order, sign in ((files, 1), (files[::-1], -1)):
        found = results(*order, budgets=[2, 4])
        assert {one.search for one in found if one.minus is None} == {"smc", "best-of-n"}
        at = {one.tokens: sign * one.estimate.value for one in found if one.minus and one.way.method == BEST}
        assert at == {10: pytest.approx(0 - PASS_1), 40: pytest.approx(1 - 0.5)}
    between = searched("beam.jsonl", [by_search(id_, True, 4, 20, "beam") for id_ in "pq"])
    (difference,) = (one for one in results(*smc, between) if one.minus and one.way.method == BEST)
    assert [difference.tokens, difference.estimate.value] == pytest.approx([20, 1 / 2 - 1])
    (difference,) = (one for one in results(between, *smc) if one.minus and one.way.method == BEST)
    assert [difference.tokens, difference.estimate.value] == pytest.approx([20, 1 - 1 / 2])


def test_between_two_numbers_of_samples_the_accuracy_is_interpolated() -> None:
    files = searched("samples.jsonl", SAMPLES), searched("s.jsonl", [by_search(i, True, 1, 25) for i in "pq"])
    (difference,) = (one for one in results(*files) if one.minus and one.way.method == BEST)
    two, three = (1 / 2 + 1 / 6) / 2, (3 / 4 + 0) / 2
    part = math.log(2.5 / 2) / math.log(3 / 2)
    assert difference.estimate.value == pytest.approx(two + part * (three - two) - 1)


def test_beyond_the_tokens_of_one_search_there_is_no_difference() -> None:
    files = searched("samples.jsonl", SAMPLES), searched("s.jsonl", [by_search(i, True, 8, 80) for i in "pq"])
    assert not [one for one in results(*files) if one.minus]


def test_curves_are_named_by_what_differs() -> None:
    files = [searched(f"{eta}.jsonl", [by_search("p", True, 4, 40, eta=eta)]) for eta in (2, 5)]
    assert {one.search for one in results(*files)} == {"smc, eta 2", "smc, eta 5"}
    same = [searched(name, [by_search("p", True, 4, 40)]) for name in ("a.jsonl", "b.jsonl")]
    assert {one.search for one in results(*same)} == {"smc, a", "smc, b"}


def test_negative_scores_cannot_vote() -> None:
    rows = [row | {"scores": None, "model_reward": row["scores"][0] - 1} for row in SAMPLES]
    found = results(searched("samples.jsonl", rows), budgets=[4])
    assert {result.way for result in found} == {Way(BEST, "min")}
    assert value(found, "best-of-n", 40) == 0.5


def test_without_scores_the_majority_is_compared() -> None:
    rows = [row | {"scores": None} for row in SAMPLES]
    found = results(searched("samples.jsonl", rows), budgets=[4])
    assert {result.way for result in found} == {Way(MAJORITY)}
    assert value(found, "best-of-n", 40, MAJORITY) == pytest.approx((0 + 0.5) / 2)


def test_all_files_have_the_same_problems() -> None:
    files = searched("samples.jsonl", SAMPLES), searched("s.jsonl", [by_search("p", True, 1, 25)])
    with pytest.raises(
        UserError, match="samples and s differ by 1 problems, such as id 'q'; a comparison needs"
    ):
        results(*files)


def test_rows_of_two_searches_are_refused() -> None:
    with pytest.raises(
        RowError, match="this row comes from another search, PRM or policy than the rows before"
    ):
        searched("s.jsonl", [by_search("p", True, 4, 40), by_search("q", True, 8, 80)])


def test_rows_without_tokens_are_refused() -> None:
    for fields in ({"num_tokens": None}, {"num_tokens": "ten"}, {"method": "smc", "search": {"n": 4}}):
        with pytest.raises(RowError, match="--x tokens needs 'num_tokens', which"):
            searched("s.jsonl", [sample("p", 0, 0.5, True) | fields])


def test_other_fields_of_these_names_do_not_make_a_search() -> None:
    rows = [row | {"method": 3, "search": "by hand"} for row in SAMPLES]
    assert value(results(searched("samples.jsonl", rows), budgets=[4]), "best-of-n", 40) == 0.5
