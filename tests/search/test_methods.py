"""Best-of-n and the tree searches, on a chain whose values are known."""

import numpy as np
import pytest

from erprm_cli.errors import UsageError
from erprm_cli.search.beam import best
from erprm_cli.search.config import PARAMETERS, TREES, MethodName, SearchConfig
from erprm_cli.search.methods import METHODS
from erprm_cli.search.prefix import Found, Prefix
from tests.search.toy import RATE, exact_rate, reward, run


def found_by(method: MethodName, seed: int = 0, right: float = 0.85, n: int = 8) -> Found:
    random = np.random.default_rng(seed)
    return run(METHODS[method](SearchConfig(method, n=n), exact_rate, random), random, right)


def accuracy(method: MethodName, runs: int = 300, n: int = 8) -> float:
    """The share of runs whose first solution, the best one of a tree search, is right."""
    return float(np.mean([reward(found_by(method, seed, n=n).solutions[0]) for seed in range(runs)]))


@pytest.mark.parametrize("method", METHODS)
def test_as_many_whole_solutions_are_found_as_the_settings_say(method: MethodName) -> None:
    found = found_by(method)
    assert len(found.solutions) == SearchConfig(method, n=8).num_solutions == (2 if method in TREES else 8)
    assert all(one.is_finished and len(one.scores) == len(one.steps) == 4 for one in found.solutions)
    weighted = (found.log_weights, found.ess, found.resamplings, found.log_z)
    assert all((figure is None) == (method != "smc") for figure in weighted)


def test_a_tree_search_with_exact_values_is_right_unless_all_extensions_are_wrong() -> None:
    """Four extensions are all wrong with probability 0.15^4, at each of 4 steps; best-of-n is a draw."""
    for method in ("beam", "dvts", "lookahead"):
        assert accuracy(method) > 0.98
    assert abs(accuracy("best-of-n") - RATE) < 4 * (RATE * (1 - RATE) / 300) ** 0.5


def test_a_beam_lets_the_best_prefixes_take_all_places_and_subtrees_do_not() -> None:
    """A first step that is wrong in one half of the tree is dropped by a beam and kept by a subtree."""

    def first_steps(method: MethodName) -> list[str]:
        search = METHODS[method](SearchConfig(method, n=4, width=2), exact_rate, np.random.default_rng(0))
        asked = next(search)
        texts = ["r1", "r2", "w1", "w2"]
        new = [Prefix(text, steps=(text,), scores=(exact_rate(Prefix(text)),)) for text in texts]
        assert [one.prefix for one in asked] == [Prefix()] * 4
        return [one.prefix.text for one in search.send(new)]

    assert first_steps("beam") == ["r1", "r1", "r2", "r2"]
    assert first_steps("dvts") == ["r1", "r1", "w1", "w1"]


def test_a_prefix_with_the_text_of_a_better_one_comes_last() -> None:
    judged = [(Prefix(text), value) for text, value in (("a", 0.9), ("a", 0.9), ("b", 0.5), ("c", 0.1))]
    assert [prefix.text for prefix, _ in best(judged, 3)] == ["a", "b", "c"]
    assert [prefix.text for prefix, _ in best(judged, 4)] == ["a", "b", "c", "a"]


def test_lookahead_judges_a_prefix_by_what_follows_it_and_goes_on_without_it() -> None:
    config = SearchConfig("lookahead", n=2, width=2, ahead=2)
    search = METHODS["lookahead"](config, lambda prefix: prefix.scores[-1], np.random.default_rng(0))
    asked = next(search)
    grown = [Prefix(text, steps=(text,), scores=(score,)) for text, score in (("a", 0.9), ("b", 0.2))]
    asked = search.send(grown)
    assert [(one.prefix, one.reach) for one in asked] == [(prefix, "greedy step") for prefix in grown]
    later = [Prefix("a1", scores=(0.9, 0.5)), Prefix("b1", scores=(0.2, 0.6), finish_reason="stop")]
    asked = search.send(later)
    assert [one.prefix.text for one in asked] == ["a1"]  # the other is complete already
    asked = search.send([Prefix("a12", scores=(0.9, 0.5, 0.1))])
    assert [(one.prefix, one.reach) for one in asked] == [(grown[1], "step")] * 2


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"method": "smc", "eta": 0.0}, "--eta 0: smc needs a positive finite number"),
        ({"method": "smc", "eta": float("inf")}, "--eta inf"),
        ({"method": "beam", "n": 6}, "--n 6 must be a multiple of --width 4"),
    ],
)
def test_settings_that_no_search_can_use_are_refused(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        SearchConfig(**settings)  # type: ignore[arg-type]


def test_every_method_names_the_parameters_that_it_reads() -> None:
    assert PARAMETERS.keys() == METHODS.keys()
    assert SearchConfig("beam", n=4).row() == {"n": 4, "width": 4, "aggregate": "min"}
