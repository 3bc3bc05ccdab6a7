"""Reward models of `tiny` against the number of completions that their labels cost: docs/budgets.md.

    python scripts/tiny_trees.py -o train.jsonl tiny:train -L 600     # every solution with its probability
    python scripts/tiny_trees.py -o test.jsonl tiny:test              # about ten minutes for 500 problems
    python scripts/budget_frontier.py train.jsonl test.jsonl -o frontier

Solutions are drawn from the trees of the training problems, and a completion is a draw with the exact success
rate of its prefix, so that only the reward models need a neural network. Every arm is trained on counts for
the same number of optimizer steps, for each seed. The test is exact as well: Brier score against the true
rates of prefixes, best-of-n by enumeration, AUC of steps against labels of 64 rollouts of their own.

Differences are from K = 16 on all problems, with 95 % intervals over the test problems, averaged over seeds.
DIR gets results.jsonl (a row per arm and seed; a stopped study continues), frontier.jsonl and frontier.png.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from tiny_trees import END, Node, Tree, exact_best_of_n, read_trees

from erprm_cli.evaluation.arrays import Floats
from erprm_cli.evaluation.calibration_metrics import auc
from erprm_cli.evaluation.intervals import Estimate, paired_difference
from erprm_cli.hashing import derive_seed
from erprm_cli.policy.step_choice import StepChoice, all_steps, bisect
from erprm_cli.policy.stopping import StoppingRule
from erprm_cli.prm.scorer import Scorer
from erprm_cli.reports.charts import Chart, Curve
from erprm_cli.reports.plots import save_plot
from erprm_cli.rows.row import Row
from erprm_cli.training.config import PrmTrainingConfig
from erprm_cli.training.train import train_prm

SAMPLED_AT = 1.0  # as the completions, so that a solution is a rollout of its own prefixes
TESTED_AT = (0.7, 1.3)
BUDGETS = (16, 64)
BATCH = 64


class Arm(NamedTuple):
    """One way to make labels: at most `k` completions on a share of the problems."""

    name: str
    k: int
    rule: StoppingRule = StoppingRule()
    next_steps: StepChoice = all_steps
    count_own: bool = False
    share: float = 1.0


BASELINE = Arm("K = 16", 16)
ARMS = (
    BASELINE,
    *(Arm(f"K = {k}", k) for k in (8, 4, 2, 1)),
    *(Arm(f"K = {k}, 1/4 of the problems", k, share=0.25) for k in (16, 8)),
    *(Arm(f"width {width}", 16, StoppingRule(width)) for width in (0.3, 0.45, 0.6)),
    Arm("bisect, K = 16", 16, next_steps=bisect),
    Arm("K = 2 and own", 2, count_own=True),
    Arm("bisect, width 0.45 and own", 16, StoppingRule(0.45), bisect, count_own=True),
)


class Draws:
    """The completions of prefixes, and how many were needed: each prefix is completed once per arm."""

    def __init__(self, arm: Arm, seed: int) -> None:
        self.arm, self.seed = arm, seed
        self._kept: dict[tuple[str, tuple[str, ...]], int] = {}

    @property
    def completions(self) -> int:
        return sum(self._kept.values())

    def rewards(self, problem: str, node: Node, own: list[float]) -> list[float]:
        """Return the rewards of a prefix; the first ones are the same in every arm."""
        draw = np.random.default_rng(derive_seed(self.seed, problem, *node.steps))
        rewards = (draw.random(self.arm.k) < node.rate).astype(float).tolist()
        kept = rewards[: self.arm.rule.needed(self.arm.k, rewards, own)]
        key = problem, node.steps
        self._kept[key] = max(self._kept.get(key, 0), len(kept))
        return list(kept)


def prefixes(tree: Tree, solution: Node) -> list[Node]:
    """Return the nodes of a solution: of each prefix, and last its own."""
    nodes, steps = [tree.root], solution.steps
    for index, step in enumerate(steps):
        nodes.append(nodes[-1].children[step + END * (index == len(steps) - 1)])
    return nodes[1:]


def solution_row(tree: Tree, solution: Node, sample: int) -> Row:
    text = "".join(f"{step}\n" for step in solution.steps)
    row = {"id": tree.id, "problem": tree.problem, "sample": sample, "solution": text}
    return row | {"steps": list(solution.steps), "reward": solution.rate}


def labelled_rows(trees: Sequence[Tree], per_problem: int, draws: Draws) -> Iterator[Row]:
    """Yield solutions of the training problems with the rollouts that an arm makes."""
    for tree in trees[: math.ceil(draws.arm.share * len(trees))]:
        choose = np.random.default_rng(derive_seed(draws.seed, tree.id))
        chosen = choose.choice(len(tree.solutions), per_problem, p=tree.probability_S)
        for sample, index in enumerate(chosen):
            solution = tree.solutions[index]
            *nodes, end = prefixes(tree, solution)
            own = [end.rate] if draws.arm.count_own else []
            found: list[list[float] | None] = [None] * len(nodes)
            while steps := draws.arm.next_steps(found, end.rate):
                for step in steps:
                    found[step] = draws.rewards(tree.id, nodes[step], own)
            rollouts = [own or None if rewards is None else rewards + own for rewards in found]
            yield solution_row(tree, solution, sample) | {"rollouts": [*rollouts, [end.rate]]}


def measure(prm: Path, tests: dict[float, list[Tree]]) -> Row:
    """Return the figures of a reward model on the test problems: per problem [P], and of steps [P][n]."""
    scorer, made = Scorer(str(prm)), Row()
    trees = tests[SAMPLED_AT]
    solutions = [solution_row(tree, one, place) for tree in trees for place, one in enumerate(tree.solutions)]
    scored = {(row["id"], tuple(row["steps"])): row["scores"] for row in scorer.score(solutions)}
    made["brier"], made["score"], made["rate"] = [], [], []
    for tree in trees:
        of_node = {}  # a prefix has one score, whatever follows it
        for solution in tree.solutions:
            scores = scored[tree.id, solution.steps]
            for node, score in zip(prefixes(tree, solution), scores, strict=True):
                of_node[id(node)] = node, score
        nodes = [(node, score) for node, score in of_node.values() if node.children]
        weights = [node.probability for node, _ in nodes]
        errors = [(score - node.rate) ** 2 for node, score in nodes]
        made["brier"].append(float(np.average(errors, weights=weights)) if nodes else 0.0)
        draw = np.random.default_rng(derive_seed("steps", tree.id))
        picked: list[int] = []
        if nodes:
            picked = draw.choice(len(nodes), 8, p=np.array(weights) / sum(weights)).tolist()
        made["score"].append([nodes[index][1] for index in picked])
        made["rate"].append([nodes[index][0].rate for index in picked])
    for temperature in TESTED_AT:
        for tree in tests[temperature]:
            lowest = [min(scored[tree.id, one.steps]) for one in tree.solutions]
            rewards = [one.rate for one in tree.solutions]
            right = exact_best_of_n(tree.probability_S, lowest, rewards, BUDGETS)
            for n, value in zip(BUDGETS, right, strict=True):
                made.setdefault(f"best of {n}, T = {temperature}", []).append(float(value))
    return made


def study(
    trains: list[Tree],
    tests: dict[float, list[Tree]],
    seeds: int,
    steps: int,
    per_problem: int,
    results: Path,
) -> None:
    """Add the figures of every arm and seed to the file `results`, if it does not have them."""
    lines = results.read_text().splitlines() if results.exists() else []
    done = {(row["arm"], row["seed"]) for row in map(json.loads, lines)}
    for seed in range(seeds):
        for arm in ARMS:
            if (arm.name, seed) in done:
                continue
            draws = Draws(arm, seed)
            rows = list(labelled_rows(trains, per_problem, draws))
            with TemporaryDirectory() as folder:
                config = PrmTrainingConfig(
                    output=Path(folder) / "prm",
                    lr=1e-3,
                    batch_size=BATCH,
                    epochs=steps / math.ceil(len(rows) / BATCH),
                    target="counts",
                    seed=seed,
                )
                last = train_prm(rows, config, lambda _: None)
                found = measure(config.output, tests)
            about = {"arm": arm.name, "seed": seed, "steps": last["step"], "completions": draws.completions}
            with results.open("a") as file:
                file.write(json.dumps(about | found) + "\n")
            print(
                f"{arm.name}, seed {seed}: {draws.completions:,} completions, {last['step']} steps",
                flush=True,
            )


def of_problems(rows: Sequence[Row], name: str) -> Floats:
    """Return the mean over the seeds of a figure of each problem [P]."""
    mean_P: Floats = np.array([row[name] for row in rows], dtype=np.float64).mean(axis=0)
    return mean_P


def auc_of(rows: Sequence[Row], chosen: Sequence[int]) -> float:
    """Return the AUC of the steps of `chosen` problems, averaged over seeds: any success in 64 rollouts."""
    found = []
    for row in rows:
        score = [value for place in chosen for value in row["score"][place]]
        rate = [value for place in chosen for value in row["rate"][place]]
        draw = np.random.default_rng(0)
        found.append(auc(score, draw.binomial(64, np.minimum(rate, 1)) > 0) or math.nan)
    return float(np.mean(found))


def auc_difference(ours: Sequence[Row], theirs: Sequence[Row], resamples: int = 200) -> Estimate:
    """Return the difference of the AUCs with a bootstrap interval over problems."""
    count = len(ours[0]["score"])
    draw = np.random.default_rng(0)
    samples = [draw.integers(count, size=count).tolist() for _ in range(resamples)]
    values = [auc_of(ours, sample) - auc_of(theirs, sample) for sample in samples]
    low, high = np.quantile(values, (0.025, 0.975))
    everything = range(count)
    value = auc_of(ours, everything) - auc_of(theirs, everything)
    return Estimate(value, float(low), float(high), count)


def report(results: Path, folder: Path) -> None:
    """Print the table, and write frontier.jsonl and frontier.png."""
    rows: list[Row] = [json.loads(line) for line in results.read_text().splitlines()]
    by_arm = {arm.name: [row for row in rows if row["arm"] == arm.name] for arm in ARMS}
    base = by_arm[BASELINE.name]
    whole = np.mean([row["completions"] for row in base])
    names = [f"best of {n}, T = {temperature}" for temperature in TESTED_AT for n in BUDGETS]
    print(f"| labels | share of the completions | AUC | Brier | {' | '.join(names)} |")
    print("|---" * (4 + len(names)) + "|")
    made: list[Row] = []
    for name, found in by_arm.items():
        if len(found) < len(base):
            continue
        figures = {"AUC": auc_difference(found, base)}
        for figure in ("brier", *names):
            figures[figure] = paired_difference(of_problems(found, figure), of_problems(base, figure))
        share = np.mean([row["completions"] for row in found]) / whole
        cells = [f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]" for one in figures.values()]
        print(f"| {name} | {share:.3f} | {' | '.join(cells)} |")
        made += [
            {
                "arm": name,
                "share": share,
                "figure": figure,
                "value": one.value,
                "low": one.low,
                "high": one.high,
            }
            for figure, one in figures.items()
        ]
    (folder / "frontier.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    curves = []
    for figure in ("AUC", "brier", *names):
        points = sorted((row["share"], row["value"]) for row in made if row["figure"] == figure)
        curves.append(Curve(figure, points, points))
    save_plot(
        Chart("share of the completions", "difference from K = 16", "share", "diff", curves),
        str(folder / "frontier.png"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", type=Path, help="trees of the training problems")
    parser.add_argument("test", type=Path, help="trees of the test problems")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=114, help="optimizer steps of every training")
    parser.add_argument("-n", type=int, default=8, help="solutions per training problem")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    results = args.output / "results.jsonl"
    tests = {temperature: read_trees(args.test, temperature) for temperature in (SAMPLED_AT, *TESTED_AT)}
    study(read_trees(args.train, SAMPLED_AT), tests, args.seeds, args.steps, args.n, results)
    report(results, args.output)


if __name__ == "__main__":
    main()
