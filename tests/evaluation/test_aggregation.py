import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.evaluation.aggregation import AGGREGATORS, aggregate


@pytest.mark.parametrize(
    ("name", "expected"), [("min", 0.25), ("last", 0.5), ("prod", 0.125), ("mean", 1.75 / 3), ("max", 1.0)]
)
def test_each_aggregator_by_hand(name: str, expected: float) -> None:
    assert aggregate([0.25, 1.0, 0.5], name) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_aggregates_lie_in_their_order_and_agree_on_one_step(scores: list[float]) -> None:
    value = {name: aggregate(scores, name) for name in AGGREGATORS}
    assert 0 <= value["prod"] <= value["min"] <= value["last"] <= value["max"] <= 1
    assert value["min"] - 1e-12 <= value["mean"] <= value["max"] + 1e-12
    assert {aggregate(scores[:1], name) for name in AGGREGATORS} == {scores[0]}
