"""Intervals of labels against scipy's quantiles, and what holds for every estimator."""

import json
import time
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.errors import RowError
from erprm_cli.labels.estimator import label_of_rate
from erprm_cli.labels.intervals import MAX_TRIALS, label_interval, label_intervals, rate_interval
from erprm_cli.labels.labeller import Labeller
from tests.data_formats.format_rows import SAMPLES

Row = dict[str, Any]

# scipy.stats.beta.ppf([0.025, 0.975], m + 1/2, k - m + 1/2), scipy 1.16
QUANTILES = {
    (1, 4): (0.02847089508714679, 0.7162483204365873),
    (1, 16): (0.006828722055886856, 0.2569214298857736),
    (4, 16): (0.09082819503427621, 0.49072898872646086),
    (8, 16): (0.27223474711847884, 0.727765252881521),
    (15, 16): (0.7430785701142261, 0.9931712779441131),
    (32, 64): (0.3797764576612433, 0.6202235423387567),
    (3, 1000): (0.0008456348018298346, 0.007984367358403443),
    (500, 1000): (0.46904771269911394, 0.5309522873008861),
    (99990, 100000): (0.9998226129285801, 0.999948584390577),
}


@pytest.mark.parametrize(("counts", "ends"), QUANTILES.items())
def test_the_ends_are_the_quantiles_of_jeffreys_posterior(counts: tuple[int, int], ends: Any) -> None:
    assert rate_interval(*counts) == pytest.approx(ends, rel=1e-9)


def test_without_a_success_or_a_failure_the_interval_has_one_end_at_the_rate() -> None:
    assert rate_interval(0, 16) == pytest.approx((0.0, 0.14318413793144472), rel=1e-9)
    assert rate_interval(16, 16) == pytest.approx((0.8568158620685553, 1.0), rel=1e-9)


@given(st.integers(1, 40), st.data(), st.sampled_from([-inf, -3.0, 0.0, 1.0, 10.0, inf]))
def test_every_interval_contains_its_label_and_narrows_with_more_rollouts(
    k: int, data: st.DataObject, eta: float
) -> None:
    wins = data.draw(st.integers(0, k))
    low, high = label_interval(wins, k, eta)
    assert 0 <= low <= label_of_rate(wins / k, eta) <= high <= 1
    if eta == 0:
        narrower = rate_interval(4 * wins, 4 * k)
        assert narrower[1] - narrower[0] < high - low


def test_the_interval_contains_the_rate_about_as_often_as_it_says() -> None:
    """On average over all rates; for a single rate it may be somewhat less (Brown et al. 2001)."""
    from math import comb

    k, rates = 16, [number / 200 for number in range(1, 200)]
    covered = [
        sum(
            comb(k, wins) * rate**wins * (1 - rate) ** (k - wins)
            for wins in range(k + 1)
            if rate_interval(wins, k)[0] <= rate <= rate_interval(wins, k)[1]
        )
        for rate in rates
    ]
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.01)
    assert min(covered) > 0.85


def test_a_hard_label_is_certain_after_a_success_and_unknown_before() -> None:
    assert (label_interval(1, 16, inf), label_interval(0, 16, inf)) == ((1, 1), (0, 1))
    assert (label_interval(15, 16, -inf), label_interval(16, 16, -inf)) == ((0, 0), (0, 1))


def test_the_outcome_is_certain_and_a_step_without_rollouts_has_no_interval() -> None:
    assert label_intervals([[0.0, 1.0], None, [1.0]], eta=inf) == [(1, 1), None, (1, 1)]
    assert label_intervals([[0.0], [0.0]], eta=0) == [(0, pytest.approx(0.8532536836904248)), (0, 0)]
    with pytest.raises(RowError, match="rewards other than 0 and 1, whose labels have no interval"):
        label_intervals([[0.5], [1.0]], eta=1)


def labelled(row: Row, **options: Any) -> Row:
    refused: list[str] = []
    labeller = Labeller(2.0, **options)
    lines = [*labeller.label([json.dumps(row).encode()], lambda line, why: refused.append(why))]
    if refused:
        raise RowError(refused[0])
    return dict(json.loads(lines[0]))


def test_label_adds_intervals_to_old_rollouts_and_to_counts() -> None:
    rollouts = labelled({"x": 1, "rollouts": [[1.0, 0.0, 0.0, 0.0], None, [0.0]]}, intervals=True)
    low, high = label_interval(1, 4, 2.0)
    assert list(rollouts) == ["x", "rollouts", "labels", "label_low", "label_high", "eta", "estimator"]
    assert (rollouts["label_low"], rollouts["label_high"]) == ([low, None, 0.0], [high, None, 0.0])
    counts = labelled({"successes": [1], "trials": 4}, intervals=True)
    assert (counts["label_low"], counts["label_high"]) == ([low], [high])


def test_label_without_intervals_removes_those_of_other_labels() -> None:
    row = {"rollouts": [[1.0], [1.0]], "label_low": [0.1, 0.1], "label_high": [0.9, 0.9]}
    assert labelled(row) == {"rollouts": [[1.0], [1.0]], "labels": [1.0, 1.0], "eta": 2.0, "estimator": "er"}


@pytest.mark.parametrize(
    "row",
    [
        {"rates": [0.5, 1.0]},
        {"problem": "Tom has 2.", "steps": ["So 5."], "rates": [1.0]},
        SAMPLES["math_aps"][0],  # which brings rates of its own
    ],
)
def test_rates_without_counts_have_no_intervals(row: Row) -> None:
    with pytest.raises(RowError, match="success rates without counts have no intervals; give 'successes'"):
        labelled(row, intervals=True)


def test_counts_of_any_size_take_no_time(no_collection: None) -> None:
    began = time.process_time()
    low, high = rate_interval(1, MAX_TRIALS)
    assert 0 < low < 1e-6 < high < 1e-5
    with pytest.raises(RowError, match="a step has 9,223,372,036,854,775,807 trials; intervals are computed"):
        labelled({"successes": [1], "trials": 2**63 - 1}, intervals=True)
    assert time.process_time() - began < 1
