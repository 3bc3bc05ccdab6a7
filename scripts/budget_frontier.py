"""Reward models of `tiny` against the number of completions that their labels cost: docs/budgets.md.

    python scripts/tiny_trees.py -o train.jsonl tiny:train -L 600     # every solution with its probability
    python scripts/tiny_trees.py -o test.jsonl tiny:test
    python scripts/budget_frontier.py train.jsonl test.jsonl          # a stopped run continues
    python scripts/budget_frontier.py --plot frontier.png             # table and plot of the results again

Solutions are drawn from the exact trees of the training problems, and a completion is a draw with the exact
success rate of its prefix, so that only the reward models need a neural network. All of them are trained on
counts (`erprm train --target counts`) for the same number of optimizer steps. Equal solutions are one example
with the completions of all of them, which is the same likelihood.

The test is exact as well: Brier score against the true success rates, AUC against labels of 64 rollouts that
no model has seen, best-of-n by the minimum score with the expectation over all solutions. Differences are
from K = 16 with the same seed (the seed decides on solutions, completions and batches); their 95 % intervals
resample both the problems and the seeds.

P problems, R resamples, N prefixes of all test problems, S seeds
"""

import argparse
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from budget_tables import (
    BASELINE_NAME,
    BUDGETS,
    NAMES,
    RESULTS,
    TESTED_AT,
    best_of,
    draw,
    read_results,
    smallest_shares,
    table,
)
from tiny_trees import Node, Tree, read_trees

from erprm_cli.evaluation.arrays import Floats
from erprm_cli.evaluation.best_of_n import exact_best_of_n
from erprm_cli.evaluation.resampling import middle_95, shares_of_problems, shares_of_seeds
from erprm_cli.hashing import derive_seed
from erprm_cli.policy.step_choice import StepChoice, all_steps, bisect
from erprm_cli.policy.stopping import StoppingRule
from erprm_cli.rows.row import Row

LEAST = 3e-3  # test solutions with less probability at all temperatures are left out
SAMPLED_AT = 1.0  # as the completions, so that a solution is a rollout of its own prefixes
BATCH = 16  # distinct solutions per optimizer step; about 52 of those that were drawn for the baseline
RESAMPLES = 2000


class Arm(NamedTuple):
    """One way to make labels: at most `k` completions per prefix of some solutions of each problem.

    With a `pilot`, every prefix gets so many completions, and only those get more that `disputed` returns.
    """

    name: str
    k: int
    rule: StoppingRule = StoppingRule()
    next_steps: StepChoice = all_steps
    count_own: bool = False
    problems: int = 300
    per_problem: int = 8
    pilot: int = 0


twice = partial(Arm, problems=600, per_problem=3)
BASELINE = Arm(BASELINE_NAME, 16)  # as in the demo
ARMS = (  # the most telling ones first: a stopped run has them for more seeds
    BASELINE,
    Arm("K = 3, own", 3, count_own=True),
    Arm("K = 2", 2),
    Arm("K = 4", 4),
    twice("2 x problems, K = 2, own", 2, count_own=True),
    Arm("width 0.45", 16, StoppingRule(0.45)),
    Arm("bisect", 16, next_steps=bisect),
    twice("2 x problems, bisect, width 0.67, own", 16, StoppingRule(0.67), bisect, True),
    Arm("K = 2, own", 2, count_own=True),
    Arm("K = 8", 8),
    Arm("K = 1", 1),
    twice("2 x problems, K = 2", 2),
    Arm("neighbours, width 0.3", 16, StoppingRule(0.3), pilot=2),
    Arm("1/4 of the problems, K = 16", 16, problems=75),
    Arm("width 0.67, own", 16, StoppingRule(0.67), count_own=True),
    twice("2 x problems, K = 1, own", 1, count_own=True),
)

# ---- Labels


class Draws:
    """The completions of prefixes, and how many were needed: each prefix is completed once per arm."""

    def __init__(self, arm: Arm, seed: int) -> None:
        self.arm, self.seed = arm, seed
        self._kept: dict[tuple[str, tuple[str, ...]], int] = {}

    @property
    def completions(self) -> int:
        return sum(self._kept.values())

    def rewards(self, problem: str, node: Node, own: list[float], only: int | None = None) -> list[float]:
        """Return the rewards of a prefix, `only` the first ones; these are the same in every arm."""
        draw = np.random.default_rng(derive_seed(self.seed, problem, *node.steps))
        rewards = (draw.random(self.arm.k) < node.rate).astype(float).tolist()
        kept = rewards[: only or self.arm.rule.needed(self.arm.k, rewards, own)]
        key = problem, node.steps
        self._kept[key] = max(self._kept.get(key, 0), len(kept))
        return list(kept)


def training_rows(tree: Tree, draws: Draws) -> Iterator[Row]:
    """Yield the different solutions drawn for a training problem, with the rollouts of all their copies."""
    arm = draws.arm
    choose = np.random.default_rng(derive_seed(draws.seed, tree.id))
    copies = Counter(choose.choice(len(tree.solutions), arm.per_problem, p=tree.probability_S).tolist())
    open_ = disputed(tree, [tree.solutions[index] for index in copies], draws) if arm.pilot else set()
    for index, count in copies.items():
        solution = tree.solutions[index]
        *nodes, end = tree.path(solution)
        own = [end.rate] if arm.count_own else []
        found: list[list[float] | None] = [None] * len(nodes)
        while steps := arm.next_steps(found, end.rate):
            for step in steps:
                only = arm.pilot if arm.pilot and id(nodes[step]) not in open_ else None
                found[step] = draws.rewards(tree.id, nodes[step], own, only)
        lists = [own or None if rewards is None else rewards + own for rewards in found] + [[end.rate]]
        yield {
            "id": tree.id,
            "problem": tree.problem,
            "sample": index,
            "solution": "\n".join(solution.steps),
            "steps": list(solution.steps),
            "rollouts": [None if rewards is None else rewards * count for rewards in lists],
        }


def disputed(tree: Tree, solutions: Sequence[Node], draws: Draws) -> set[int]:
    """Return the id() of prefixes whose pilot differs in itself or from that of a neighbour.

    Success rates along a solution are a martingale: where a step, the one before and the one after only
    succeed or only fail, another completion hardly changes the label. The outcome is the last neighbour.
    """
    seen: dict[int, set[float]] = defaultdict(set)
    for solution in solutions:
        *nodes, end = tree.path(solution)
        pilots = [draws.rewards(tree.id, node, [], draws.arm.pilot) for node in nodes] + [[end.rate]]
        for place, node in enumerate(nodes):
            seen[id(node)].update(*pilots[max(0, place - 1) : place + 2])
    return {name for name, rewards in seen.items() if len(rewards) > 1}


# ---- Reward models


def study(train: Path, test: Path, folder: Path, arms: Sequence[Arm], seeds: int, steps: int) -> None:
    """Write the scores of all test prefixes by the model of each arm and seed, those that are missing."""
    from tree_scores import token_trie, tree_scores  # loads torch

    from erprm_cli.prm.scorer import Scorer
    from erprm_cli.training.config import PrmTrainingConfig
    from erprm_cli.training.train import train_prm

    trains = sorted(read_trees(train, SAMPLED_AT), key=lambda tree: tree.id)
    tests = None
    for seed in range(seeds):
        for arm in arms:
            path = folder / f"{arm.name.replace('/', ' of ')}, seed {seed}.json"
            if path.exists():
                continue
            begin, draws = time.process_time(), Draws(arm, seed)
            rows = [row for tree in trains[: arm.problems] for row in training_rows(tree, draws)]
            with TemporaryDirectory() as scratch:
                config = PrmTrainingConfig(
                    output=Path(scratch) / "prm",
                    lr=1e-3,
                    batch_size=BATCH,
                    micro_batch_tokens=768,  # faster than whole batches on a CPU
                    epochs=steps / math.ceil(len(rows) / BATCH),
                    target="counts",
                    seed=seed,
                    save_steps=0,
                )
                last = train_prm(rows, config, lambda _: None)
                scorer = Scorer(str(config.output))
            tests = tests or [token_trie(tree, scorer.tagger) for tree in read_tests(test, SAMPLED_AT)]
            made = {
                "arm": arm.name,
                "seed": seed,
                "steps": last["step"],
                "completions": draws.completions,
                "scores": [score.round(6).tolist() for score in tree_scores(scorer, tests)],
            }
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps(made))
            draft.rename(path)
            seconds = time.process_time() - begin
            print(f"{path.stem}: {draws.completions:,} completions, {seconds:.0f} s", flush=True)


def read_tests(path: Path, temperature: float) -> list[Tree]:
    return read_trees(path, temperature, LEAST)


# ---- Figures


class Figures:
    """The quality of reward models on the test problems."""

    def __init__(self, test: Path) -> None:
        self.trees = {temperature: read_tests(test, temperature) for temperature in (SAMPLED_AT, *TESTED_AT)}
        trees = self.trees[SAMPLED_AT]
        nodes = [(tree, node) for tree in trees for node in tree.prefixes()]
        self.rate_N = np.array([min(node.rate, 1.0) for _, node in nodes])
        self.weight_N = np.array([node.probability for _, node in nodes])  # as often as it is sampled
        self.problem_N = np.repeat(np.arange(len(trees)), [len(tree.nodes) - 1 for tree in trees])
        seeds = [derive_seed("test", tree.id, *node.steps) for tree, node in nodes]
        draws = [np.random.default_rng(seed) for seed in seeds]
        self.right_N = np.array(
            [draw.binomial(64, rate) > 0 for draw, rate in zip(draws, self.rate_N, strict=True)]
        )
        # The prefixes of each solution, as indices into the nodes of its problem
        self.paths = []
        for tree in trees:
            place = {id(node): index for index, node in enumerate(tree.prefixes())}
            self.paths.append([[place[id(node)] for node in tree.path(one)] for one in tree.solutions])

    def of_problems(self, scores: Sequence[Sequence[float]]) -> dict[str, Floats]:
        """Return the figures that are means over problems, [P] each."""
        score_N = np.concatenate([np.asarray(part) for part in scores])
        error = np.bincount(self.problem_N, self.weight_N * (score_N - self.rate_N) ** 2)
        found = {"Brier": error / np.bincount(self.problem_N, self.weight_N)}
        lowest = [
            [min(part[index] for index in path) for path in paths]
            for part, paths in zip(scores, self.paths, strict=True)
        ]
        for temperature in TESTED_AT:
            right_PB = np.array(
                [
                    exact_best_of_n(tree.probability_S, low, tree.reward_S, BUDGETS)
                    for tree, low in zip(self.trees[temperature], lowest, strict=True)
                ]
            )
            for place, n in enumerate(BUDGETS):
                found[best_of(n, temperature)] = right_PB[:, place]
        return found

    def aucs(self, scores: Sequence[Sequence[float]], weight_RP: Floats) -> Floats:
        """Return the AUC [R] over all prefixes, with the weights of problems."""
        score_N = np.concatenate([np.asarray(part) for part in scores])
        order = score_N.argsort()
        ordered = score_N[order]
        tie = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        found = []
        for weight_P in weight_RP:
            weight_N = (weight_P[self.problem_N] * self.weight_N)[order]
            right = np.add.reduceat(weight_N * self.right_N[order], tie)
            wrong = np.add.reduceat(weight_N * ~self.right_N[order], tie)
            found.append(right @ (wrong.cumsum() - wrong / 2) / (right.sum() * wrong.sum()))
        return np.array(found)


def summarize(folder: Path, test: Path) -> Iterator[Row]:
    """Yield a row per arm and figure: its mean, and the difference from the baseline with its interval."""
    found: dict[str, list[Row]] = defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        row = json.loads(path.read_text())
        found[row["arm"]].append(row)
    figures = Figures(test)
    num_problems = len(figures.trees[SAMPLED_AT])
    # The first one is all problems as they are.
    problem_RP = np.vstack(
        [np.full((1, num_problems), 1 / num_problems), shares_of_problems(num_problems, RESAMPLES)]
    )
    base: dict[int, dict[str, Floats]] = {}  # of each seed [R]
    costs: dict[int, float] = {}
    for arm in ARMS:
        of_seed: dict[int, dict[str, Floats]] = {}
        for row in found[arm.name]:
            values = figures.of_problems(row["scores"])
            of_seed[row["seed"]] = {name: problem_RP @ value_P for name, value_P in values.items()}
            of_seed[row["seed"]]["AUC"] = figures.aucs(row["scores"], problem_RP)
        base, costs = base or of_seed, costs or {row["seed"]: row["completions"] for row in found[arm.name]}
        seeds = sorted(of_seed)
        if not seeds:
            continue
        seed_RS = shares_of_seeds(len(seeds), RESAMPLES)
        cost = np.mean([row["completions"] for row in found[arm.name]])
        for name in NAMES:
            value_RS, base_RS = (
                np.stack([all_of[seed][name] for seed in seeds], axis=1) for all_of in (of_seed, base)
            )
            difference_RS = value_RS - base_RS
            low, high = middle_95((difference_RS[1:] * seed_RS).sum(1))
            yield {
                "arm": arm.name,
                "completions": round(float(cost)),
                "share": round(float(cost / np.mean([costs[seed] for seed in seeds])), 4),
                "seeds": len(seeds),
                "problems": num_problems,
                "figure": name,
                "value": round(float(value_RS[0].mean()), 5),
                "difference": round(float(difference_RS[0].mean()), 5),
                "low": round(low, 5),
                "high": round(high, 5),
            }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path, nargs="?", help="trees of the training problems")
    parser.add_argument("test", type=Path, nargs="?", help="trees of the test problems")
    parser.add_argument("--run", type=Path, default=Path("runs/budget_frontier"), help="folder of the scores")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", type=int, default=len(ARMS), help="the first arms only")
    parser.add_argument("--steps", type=int, default=114, help="optimizer steps of every training")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the figures")
    parser.add_argument("--plot", type=Path, help="draw the figures to this file")
    args = parser.parse_args()
    if args.train:
        args.run.mkdir(parents=True, exist_ok=True)
        study(args.train, args.test, args.run, ARMS[: args.arms], args.seeds, args.steps)
        rows = list(summarize(args.run, args.test))
        args.results.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for temperature in (SAMPLED_AT, *TESTED_AT):
            missing = np.mean([tree.missing for tree in read_tests(args.test, temperature)])
            print(f"temperature {temperature}: the solutions left out have the probability {missing:.4f}")
    found = read_results(args.results)
    print(smallest_shares(found), table(found), sep="\n\n")
    if args.plot:
        draw(found, args.plot)


if __name__ == "__main__":
    main()
