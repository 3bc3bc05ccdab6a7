import math
from typing import Any

import pytest

from erprm_cli.prm.server_answers import read_pooling, read_prm, read_scores
from tests.prm.scoring_server import PRM, pooled


def test_probabilities_of_one_number_or_of_classes() -> None:
    assert read_pooling(pooled([[0.5], [1], [0]]).body, 3).tolist() == [[0.5], [1.0], [0.0]]
    assert read_pooling(pooled([0.5, 0.25]).body).tolist() == [[0.5], [0.25]]
    assert read_pooling(pooled([[0.25, 0.75]]).body).tolist() == [[0.25, 0.75]]


def test_null_is_how_json_says_nan() -> None:
    assert math.isnan(read_pooling(pooled([[None], [0.5]]).body)[0, 0])
    assert math.isnan(read_scores({"scores": [[None, 0.5]], "prm": PRM}, 2)[0][0])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([[0.5]] * 2, "numbers for 2 tokens, not for 3"),
        ([[7.0]] * 3, "outside 0 to 1"),
        ([[0.5], [0.5], [0.5, 0.5]], "tokens with different counts of numbers"),
        ([[]] * 3, "tokens with different counts of numbers"),
        ([[0.75, 0.75]] * 3, "do not add up to 1"),
        ([["0.5"]] * 3, "not a number"),
        ([[True]] * 3, "not a number"),
        ([[10**400]] * 3, "too large"),
        ("AAAA", "no numbers in it"),
        ([], "no numbers in it"),
    ],
)
def test_outputs_that_cannot_be_right_are_refused(data: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_pooling(pooled(data).body, 3)


@pytest.mark.parametrize("value", [None, [], {}, {"data": []}, {"data": [{}, {}]}, {"data": ["x"]}])
def test_what_is_not_an_output_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not the output for one input"):
        read_pooling(value)


@pytest.mark.parametrize(
    "changes", [{"model": ""}, {"hash": 5}, {"kind": None}, {"eta": "2"}, {"format": "x" * 501}]
)
def test_what_does_not_describe_a_prm_is_refused(changes: dict[str, Any]) -> None:
    assert read_prm(PRM | {"more": 1}).model == "m"
    with pytest.raises(ValueError, match="not a description of a PRM"):
        read_prm(PRM | changes)
