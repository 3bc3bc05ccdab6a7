from typing import Any

from erprm_cli.evaluation.candidates import Candidates, answer_classes


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
