from typing import Any

import pytest

from erprm_cli.errors import RowError, UsageError
from erprm_cli.evaluation.candidates import CandidateCheck, Candidates, answer_classes


def candidate(sample: int, score: float, reward: float | None = 1.0) -> dict[str, Any]:
    return {"id": "a", "sample": sample, "scores": [score], "reward": reward, "prediction": str(sample)}


def chosen(*rows: dict[str, Any]) -> dict[str, Any]:
    candidates = Candidates("-", ["min"])
    for row in rows:
        candidates.add(row)
    (choice,) = candidates.choices()
    return choice


def test_of_tied_candidates_the_first_one_is_chosen() -> None:
    assert chosen(candidate(0, 0.5), candidate(1, 0.9), candidate(2, 0.9))["sample"] == 1
    assert chosen(candidate(2, 0.9), candidate(1, 0.9), candidate(0, 0.5))["sample"] == 2


def test_the_choice_says_whether_it_is_correct() -> None:
    assert chosen(candidate(0, 0.9, 1.0))["correct"] is True
    assert chosen(candidate(0, 0.9, 0.0))["correct"] is False
    assert chosen(candidate(0, 0.9, None))["correct"] is None


def test_equal_answers_are_one_class_and_null_is_none() -> None:
    assert answer_classes(["1/2", None, "0.5", "3"]).tolist() == [0, -1, 0, 1]


def unscored(sample: int, prediction: str | None, reward: float | None = 1.0) -> dict[str, Any]:
    text = "Step 1."
    row = {"id": "a", "problem": "p", "sample": sample, "solution": text, "steps": [text]}
    return row | {"prediction": prediction, "reward": reward}


def test_without_scores_the_first_candidate_with_the_most_frequent_answer_is_chosen() -> None:
    choice = chosen(*(unscored(n, text) for n, text in enumerate(["3", "5", "4", "5.0", None])))
    assert (choice["sample"], choice["score"], choice["n"]) == (1, 0.4, 5)
    assert choice["aggregate"] == "majority vote"


def test_without_scores_one_row_per_answer_stays_in_memory() -> None:
    candidates = Candidates("-", ["min"])
    for sample in range(100):
        candidates.add(unscored(sample, str(sample % 3)))
    (problem,) = candidates.problems.values()
    assert list(problem.first_rows) == ["0", "1", "2"]


def test_without_scores_a_problem_has_none_of_any_model() -> None:
    candidates = Candidates("-", ["min"])
    for sample in range(3):
        candidates.add(unscored(sample, "5", float(sample > 0)))
    (problem,) = candidates.graded()
    assert (problem.score_KAN.shape, problem.correct_N.tolist()) == ((0, 1, 3), [False, True, True])


def test_the_first_candidate_decides_whether_all_have_scores() -> None:
    plain = unscored(0, "5")
    scored = plain | {"scores": [0.5]}
    for first, other, message in ((plain, scored, "this row has scores"), (scored, plain, "no 'scores'")):
        check = CandidateCheck()
        assert check(first) is first
        with pytest.raises(RowError, match=message):
            check(other)
        assert check(first) is first


def test_a_bad_candidate_does_not_decide_whether_all_have_scores() -> None:
    check = CandidateCheck()
    with pytest.raises(RowError, match="'scores' has 2 numbers"):
        check(unscored(0, "5") | {"scores": [0.5, 0.5]})
    assert check(unscored(0, "5"))


def test_flags_that_need_scores_are_named_at_the_first_candidate() -> None:
    with pytest.raises(UsageError, match="--compare cannot be used without scores"):
        CandidateCheck("--compare")(unscored(0, "5"))
    assert CandidateCheck("--compare")(unscored(0, "5") | {"scores": [0.5]})
