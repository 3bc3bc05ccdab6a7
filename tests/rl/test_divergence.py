"""When the PRM's score rises and the outcome falls."""

from erprm_cli.rl.divergence import Divergence, Estimate, Point


def run(*rows: tuple[float, float], error: float = 0.01) -> Divergence:
    watched = Divergence()
    for step, (outcome, score) in enumerate(rows, start=1):
        watched.add(Point(step, Estimate(outcome, error), score, Estimate(score - outcome, error)))
    return watched


def test_rows_count_while_the_score_is_up_and_the_outcome_down() -> None:
    found = run((0.5, 0.5), (0.6, 0.6), (0.5, 0.7), (0.4, 0.8), (0.3, 0.9))
    assert found.rows == 3 and found.best is not None and found.best.step == 2
    assert str(found) == (
        "the PRM's score rises while the outcome falls: from 0.600 and 0.600 at step 2 to 0.900 and 0.300 at "
        "step 5"
    )


def test_a_new_best_outcome_ends_the_count() -> None:
    assert run((0.6, 0.6), (0.4, 0.8), (0.4, 0.8), (0.7, 0.9)).rows == 0


def test_both_falling_is_no_divergence() -> None:
    assert run((0.6, 0.6), (0.4, 0.4), (0.2, 0.2)).rows == 0


def test_a_score_that_only_falls_less_is_no_divergence() -> None:
    assert run((0.6, 0.6), (0.2, 0.5), (0.2, 0.5)).rows == 0


def test_a_score_that_rises_little_while_the_outcome_falls_much_is_one() -> None:
    assert run((0.67, 0.68), (0.42, 0.71), error=0.04).rows == 1


def test_differences_within_two_standard_errors_are_chance() -> None:
    assert run((0.6, 0.6), (0.5, 0.7), (0.5, 0.7), error=0.1).rows == 0


def test_a_single_problem_says_nothing() -> None:
    assert not Estimate.of([1.0]).exceeds(Estimate.of([0.0]))
