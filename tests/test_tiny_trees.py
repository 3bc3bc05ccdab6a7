"""Exact trees of tiny (scripts/tiny_trees.py): exact against enumeration, sampling and the model itself."""

import math
from itertools import product
from typing import Any, cast

import numpy as np
import pytest
import torch
from tiny_trees import LEAST, Tree, enumerate_solutions, list_solutions, optimal_accuracy
from transformers import LlamaConfig, LlamaForCausalLM

from erprm_cli.data_formats.problems import as_problem
from erprm_cli.evaluation.best_of_n import exact_best_of_n
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import read_rows
from erprm_cli.labels.estimator import label_of_rate
from erprm_cli.models.loading import load_causal_lm, load_tokenizer
from erprm_cli.policy.prompts import make_prompt
from erprm_cli.policy.templates import load_template

Row = dict[str, Any]


@pytest.fixture(scope="module")
def listed() -> list[Row]:
    """Two problems of tiny with all their likely solutions."""
    return list(list_solutions(read_rows("tiny:test", as_problem, BadRows(), 2), least=1e-3))


def small_model() -> Any:
    """Return a random model with five tokens, of which token 2 ends a solution."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = LlamaConfig(vocab_size=5, eos_token_id=2, initializer_range=1.0, **sizes)
    return LlamaForCausalLM(config).eval()


def test_the_solutions_are_all_those_of_a_brute_force_search() -> None:
    """Every sequence of at most four tokens with its probability by the model, at two temperatures."""
    model, prompts, temperatures, least = small_model(), [[1, 3], [4, 0]], (0.7, 1.5), 1e-3
    found = enumerate_solutions(model, prompts, temperatures, least, max_tokens=4)
    for prompt, solutions in zip(prompts, found, strict=True):
        expected = {}
        for length in range(4):
            for start in product([0, 1, 3, 4], repeat=length):
                ids = [*start, 2]
                with torch.inference_mode():
                    logits_TV = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
                log_ps = [
                    sum((logits_TV / t).log_softmax(-1)[range(len(ids)), ids].tolist()) for t in temperatures
                ]
                if max(log_ps) >= math.log(least):
                    expected[tuple(ids)] = log_ps
        assert {tuple(one.ids) for one in solutions} == set(expected)
        assert len(expected) > 20
        for one in solutions:
            assert one.log_p_T == pytest.approx(expected[tuple(one.ids)], abs=1e-4)


def test_the_probability_of_a_solution_is_that_of_the_policy(listed: list[Row]) -> None:
    model, tokenizer = load_causal_lm("tiny", dtype=torch.float32).eval(), load_tokenizer("tiny")
    template = load_template("tiny")
    for row in listed:
        solution = max(row["solutions"], key=lambda one: one["log_probs"][1])
        prompt = list(cast(tuple[int, ...], make_prompt(template, tokenizer, row["problem"])))
        text = "\n".join(solution["steps"])
        ids = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        assert sum(solution["num_tokens"]) == len(ids)
        with torch.inference_mode():
            log_p_TV = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        log_p = float(log_p_TV[range(len(ids)), ids].sum())
        assert log_p == pytest.approx(solution["log_probs"][1], abs=1e-3)


def test_the_listed_solutions_hold_nearly_all_of_the_probability(listed: list[Row]) -> None:
    for row in listed:
        missing = [Tree(row, temperature).missing for temperature in row["temperatures"]]
        assert 0 <= missing[0] < 0.001 and missing[0] < missing[1] < missing[2] < 0.1
        assert all(max(one["log_probs"]) >= math.log(1e-3) for one in row["solutions"])
    assert LEAST <= 1e-3


def test_a_tree_has_the_exact_success_rate_and_label_of_every_prefix(listed: list[Row]) -> None:
    """A rate is the probability of the correct solutions that begin so, over that of all of them."""
    tree = Tree(listed[1], 1.3)
    assert sum(tree.probability_S) == pytest.approx(1)
    for node in tree.nodes:
        below = [one for one in tree.solutions if one.steps[: len(node.steps)] == node.steps]
        total = sum(one.probability for one in below)
        right = sum(one.probability * one.rate for one in below)
        assert [node.probability, node.rate] == pytest.approx([total, right / total])
        assert node.label(2.0) == pytest.approx(label_of_rate(min(node.rate, 1.0), 2.0))
        if node.children:  # the rates are a martingale, and so is e^(eta v)
            children = [(child.probability / node.probability, child) for child in node.children.values()]
            assert sum(p * child.rate for p, child in children) == pytest.approx(node.rate)
            twist = sum(p * math.exp(2 * child.label(2.0)) for p, child in children)
            assert twist == pytest.approx(math.exp(2 * node.label(2.0)))


def test_rewards_are_those_of_the_answers(listed: list[Row]) -> None:
    for row in listed:
        for one in row["solutions"]:
            assert one["reward"] == float(one["steps"][-1] == f"The answer is: {row['answer']}")


def test_best_of_n_is_exact() -> None:
    """Against all n-tuples of three solutions, two of which are tied."""
    p, score, reward = [0.5, 0.2, 0.3], [0.4, 0.9, 0.9], [1.0, 0.0, 1.0]
    for n in (1, 2, 3, 4):
        expected = 0.0
        for drawn in product(range(3), repeat=n):
            best = [i for i in drawn if score[i] == max(score[j] for j in drawn)]
            expected += math.prod(p[i] for i in drawn) * float(np.mean([reward[i] for i in best]))
        assert exact_best_of_n(p, score, reward, [n])[0] == pytest.approx(expected)


def test_with_exact_rates_as_scores_best_of_n_is_pass_at_n(listed: list[Row]) -> None:
    tree = Tree(listed[0], 1.0)
    (found,) = tree.best_of_n(tree.reward_S, [8])
    assert found == pytest.approx(1 - (1 - tree.root.rate) ** 8)


@pytest.mark.parametrize("eta", [0.5, 2.0, 5.0])
def test_the_accuracy_of_the_optimal_policy_is_that_of_reweighted_solutions(
    listed: list[Row], eta: float
) -> None:
    tree = Tree(listed[1], 1.3)
    weight_S = tree.probability_S * np.exp(eta * tree.reward_S)
    assert tree.optimal_accuracy(eta) == pytest.approx(weight_S @ tree.reward_S / weight_S.sum())
    assert optimal_accuracy(0.0, eta) == 0.0 and optimal_accuracy(1.0, eta) == 1.0


def test_a_solution_and_a_longer_one_that_begins_so_are_two_nodes() -> None:
    solutions = [
        {"steps": ["a"], "num_tokens": [2], "reward": 0.0, "log_probs": [math.log(0.25)]},
        {"steps": ["a", "b"], "num_tokens": [2, 3], "reward": 1.0, "log_probs": [math.log(0.75)]},
    ]
    tree = Tree({"id": "p", "problem": "How many?", "temperatures": [1.0], "solutions": solutions}, 1.0)
    whole, begun = tree.root.children.values()
    assert (whole.steps, whole.probability, whole.rate) == (("a",), 0.25, 0)
    assert (begun.steps, begun.probability, begun.rate) == (("a",), 0.75, 1)
    assert [node.num_tokens for node in tree.solutions] == [2, 5]
