"""Search on exact trees (scripts/tree_search.py, search_study.py): agreement with closed forms."""

import math
from random import Random
from typing import Any

import numpy as np
import pytest
from search_settings import greedy_particles
from search_study import judge, vote
from tiny_trees import Tree
from tree_search import Playground, Reading

from erprm_cli.search.config import SearchConfig
from erprm_cli.search.methods import METHODS
from erprm_cli.search.prefix import Value
from erprm_cli.search.smc import smc

RIGHT, STEPS = 0.7, 3  # a solution is right if all three of its steps are; all others are wrong


def tree() -> Tree:
    """Return a chain of steps as a tree: r is a right step, w a wrong one."""
    solutions: list[dict[str, Any]] = []
    for number in range(2**STEPS):
        steps = [f"{index}: {'rw'[number >> index & 1]}" for index in range(STEPS)]
        wrong = sum(step.endswith("w") for step in steps)
        log_p = wrong * math.log(1 - RIGHT) + (STEPS - wrong) * math.log(RIGHT)
        steps.append(f"The answer is: {wrong}")
        solutions.append(
            {"steps": steps, "num_tokens": [2] * 4, "reward": float(not wrong), "log_probs": [log_p]}
        )
    return Tree({"id": "p", "problem": "?", "temperatures": [1.0], "solutions": solutions}, 1.0)


def exact(found: Tree) -> list[Reading]:
    """Return readings whose scores are the exact success rates; ten tokens of the PRM per step."""
    rate = {node.steps: min(node.rate, 1.0) for node in found.nodes}
    return [
        (
            tuple(rate[node.steps[:count]] for count in range(1, 5)),
            tuple(10 * count for count in range(1, 5)),
        )
        for node in found.solutions
    ]


@pytest.fixture(scope="module")
def playground() -> Playground:
    found = tree()
    return Playground(found, exact(found))


def value_of(playground: Playground, config: SearchConfig) -> Value:
    """Return the exact value for SMC, the minimum of the scores for the other methods."""
    if config.method != "smc":
        return lambda prefix: min(prefix.scores)
    return lambda prefix: playground.exact_value(prefix, config.eta)


def mean_of(playground: Playground, config: SearchConfig, way: str, runs: int = 400) -> float:
    """Return how often a way of choosing is right, over many searches."""
    random, value = Random(0), value_of(playground, config)
    accuracies = []
    for _ in range(runs):
        search = METHODS[config.method](config, value, random)  # type: ignore[arg-type]
        accuracies.append(judge(playground, playground.play(search, random).found)[way])
    return float(np.mean(accuracies))


def test_best_of_n_is_the_exact_one(playground: Playground) -> None:
    scores = [min(reading[0]) for reading in exact(playground.tree)]
    expected = playground.tree.best_of_n(scores, [4])[0]
    assert mean_of(playground, SearchConfig("best-of-n", 4), "min") == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("eta", [1.0, 5.0])
def test_smc_with_exact_values_draws_from_the_optimal_policy(playground: Playground, eta: float) -> None:
    expected = playground.tree.optimal_accuracy(eta)
    assert mean_of(playground, SearchConfig("smc", 64, eta), "one draw") == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("method", ["beam", "dvts", "lookahead"])
def test_the_other_methods_find_right_solutions(playground: Playground, method: Any) -> None:
    config = SearchConfig(method, 8)
    assert mean_of(playground, config, "min", 100) > playground.tree.root.rate + 0.2


def test_greedy_particles_end_with_copies_of_one_solution(playground: Playground) -> None:
    random = Random(0)
    config = SearchConfig("smc", 8)
    searches = (greedy_particles(config, lambda prefix: 0.0, random) for _ in range(50))
    found = [playground.play(search, random).found for search in searches]
    assert np.mean([len({one.text for one in each.solutions}) for each in found]) < 1.5
    assert np.mean([judge(playground, each)["last"] for each in found]) > 0.9


def test_tokens_are_counted(playground: Playground) -> None:
    """Without resampling every particle writes 8 tokens; the PRM reads what differs."""
    config, random = SearchConfig("smc", 4, 1.0, 0.0), Random(0)
    answered = playground.play(smc(config, lambda prefix: 0.0, random), random)  # type: ignore[arg-type]
    assert answered.generated == 4 * 8
    texts = {one.text for one in answered.found.solutions}
    prefixes = {one.steps[:count] for one in answered.found.solutions for count in range(1, 5)}
    assert len(texts) <= 4 and answered.prm_new == 10 * len(prefixes)
    assert answered.prm == sum(10 * len(prefix) for prefix in prefixes)
    config = SearchConfig("best-of-n", 4)
    search = METHODS["best-of-n"](config, value_of(playground, config), random)  # type: ignore[arg-type]
    answered = playground.play(search, random)
    assert answered.prm == 40 * len({one.text for one in answered.found.solutions})


def test_answers_vote_with_the_sum_of_their_weights() -> None:
    weights, rewards = np.array([0.4, 0.4, 0.7, 0.9]), np.array([1.0, 1.0, 0.0, 0.0])
    assert vote(["7", "7", "5", None], weights, rewards) == 1.0
    assert vote(["7", "7", "5", "5"], weights, rewards) == 0.0
    assert vote(["7", None, "5", None], np.array([0.5, 1, 0.5, 1]), rewards) == 0.5
    assert vote([None] * 4, weights, rewards) == 0.0


def test_a_prefix_of_the_tree_is_as_the_command_has_it(playground: Playground) -> None:
    random = Random(0)
    search = smc(SearchConfig("smc", 1), lambda prefix: 0.0, random)  # type: ignore[arg-type]
    (solution,) = playground.play(search, random).found.solutions
    assert solution.is_finished and len(solution.scores) == len(solution.steps) == 4
    assert solution.text == "\n".join(solution.steps) and playground.answer(solution) is not None
