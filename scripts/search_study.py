"""All methods of `erprm search` on exact trees of `tiny`: the figures of docs/search.md.

    python scripts/search_study.py                        # prints the tables; writes search_study.jsonl
    python scripts/search_study.py --tune                 # chooses eta, on other problems

It trains the reward models of the demo with erprm's own commands (in runs/search_study, where a stopped
run continues), lists the solutions of the problems (tiny_trees.py) and runs every search many times on these
trees (tree_search.py). Intervals are over problems; differences are paired by problem.

P problems
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import log
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from tiny_trees import Tree, read_trees, write_trees
from tree_search import Key, Playground, Reading, read_solutions

from erprm_cli.evaluation.aggregation import aggregate
from erprm_cli.evaluation.arrays import Floats
from erprm_cli.evaluation.intervals import Estimate, mean_over_problems, paired_difference
from erprm_cli.rows.row import Row
from erprm_cli.search.config import SearchConfig
from erprm_cli.search.methods import METHODS
from erprm_cli.search.prefix import Extension, Found, Prefix, Search, Value
from erprm_cli.search.values import make_value
from erprm_cli.search.weights import effective_sample_size, shares, systematic

TEST, VALIDATION = range(100), range(100, 150)  # lines of tiny:test
BUDGETS = (4, 8, 16, 32)
LABELS = {"er": ("--eta", "2"), "soft": ("--estimator", "soft")}
RESULTS = Path(__file__).with_suffix(".jsonl")
VOTE, DRAW, ALL = "weighted vote", "one draw", "all"
WAYS = ("min", "last", VOTE, DRAW)


Rule = Callable[[SearchConfig, Value, Random], Search]


class Setting(NamedTuple):
    """A search with its name in the tables.

    `rule`, if given, is one that erprm does not offer; with `is_exact`, the values are exact, and those of
    whole solutions are their rewards, as with --verify and a perfect PRM.
    """

    name: str
    config: SearchConfig
    rule: Rule | None = None
    is_exact: bool = False


def settings(n: int) -> Iterator[Setting]:
    """Yield what the tables compare, the baseline first."""
    yield Setting("best-of-n", SearchConfig("best-of-n", n))
    for name in ("beam", "dvts", "lookahead"):
        yield Setting(f"{name}, M = 4", SearchConfig(name, n))
    yield Setting("greedy particles", SearchConfig("smc", n), greedy_particles)
    for eta, threshold in ((2.0, 0.5), (5.0, 0.5), (10.0, 0.5), (5.0, 0.9), (10.0, 0.9)):
        yield Setting(f"smc, eta {eta:g}, tau {threshold:g}", SearchConfig("smc", n, eta, threshold))
    for eta in (2.0, 10.0):
        yield Setting(f"smc, eta {eta:g}, tau 0.5, exact values", SearchConfig("smc", n, eta), is_exact=True)


def tuned(n: int) -> Iterator[Setting]:
    """Yield the settings of SMC among which the validation problems choose."""
    yield Setting("best-of-n", SearchConfig("best-of-n", n))
    for eta in (2.0, 5.0, 10.0, 20.0):
        for threshold in (0.5, 0.75, 0.9, 1.0):
            yield Setting(f"smc, eta {eta:g}, tau {threshold:g}", SearchConfig("smc", n, eta, threshold))
    yield Setting("greedy particles", SearchConfig("smc", n), greedy_particles)
    config = SearchConfig("smc", n, 10.0, 0.9)
    for share in (0.25, 0.5, 1.0):
        yield Setting(f"eta 10, tau 0.9, {share:.0%} greedy", config, scheduled(share))
    yield Setting("eta 10, tau 0.9, rising", config, scheduled(factor=lambda step: 1 - 0.5**step))
    yield Setting("eta 10, tau 0.9, falling", config, scheduled(factor=lambda step: 1 + 0.5**step))


def greedy_particles(config: SearchConfig, value: Value, random: Random) -> Search:
    """Resample after every step in proportion to score / (1 - score): the particle filter of its_hub 1.2.0.

    The weight is not divided by that of the previous step, so this searches for high scores and samples from
    no stated distribution. As in SMC, solutions are not resampled after the last step.
    """
    particles = [Prefix()] * config.n
    while growing := [i for i, particle in enumerate(particles) if not particle.is_finished]:
        for i, prefix in zip(growing, (yield [Extension(particles[i], i) for i in growing]), strict=True):
            particles[i] = prefix
        if not all(particle.is_finished for particle in particles):
            odds_N = np.array([log(p / (1 - p)) for p in (clipped(one.scores[-1]) for one in particles)])
            particles = [particles[i] for i in systematic(odds_N, config.n, random)]  # type: ignore[arg-type]
    return Found(particles)


def scheduled(share: float = 0.0, factor: Callable[[int], float] = lambda step: 1.0) -> Rule:
    """Return SMC with another schedule, to see whether it does better.

    The potential of a prefix of l steps is factor(l) eta v, that of a solution eta v. A weight grows by the
    potential, less 1 - `share` of the one of the step before: share 1 is a greedy rule.
    """

    def rule(config: SearchConfig, value: Value, random: Random) -> Search:
        particles, log_w_N, before_N = [Prefix()] * config.n, np.zeros(config.n), np.zeros(config.n)
        while growing := [i for i, particle in enumerate(particles) if not particle.is_finished]:
            for i, prefix in zip(growing, (yield [Extension(particles[i], i) for i in growing]), strict=True):
                particles[i] = prefix
                times = 1.0 if prefix.is_finished else factor(len(prefix.steps))
                potential = times * config.eta * value(prefix)
                log_w_N[i] += potential - (1 - share) * before_N[i]
                before_N[i] = potential
            if effective_sample_size(log_w_N) < config.ess_threshold * config.n:
                chosen_N = systematic(log_w_N, config.n, random)  # type: ignore[arg-type]
                particles, before_N = [particles[i] for i in chosen_N], before_N[chosen_N]
                log_w_N = np.zeros(config.n)
        return Found(particles, np.log(shares(log_w_N)).tolist())

    return rule


def clipped(score: float) -> float:
    """Return a score inside (0, 1)."""
    return min(max(score, 1e-6), 1 - 1e-6)


# ---- One search


def judge(playground: Playground, found: Found) -> dict[str, float]:
    """Return how often each way of choosing is right; tied solutions or answers are chosen equally often."""
    solutions = found.solutions
    reward_N = np.array([playground.reward(one) for one in solutions])
    weight_N = np.full(len(solutions), 1 / len(solutions))
    if found.log_weights is not None:
        weight_N = np.exp(found.log_weights)
    chosen = {DRAW: float(weight_N @ reward_N)}
    for name in ("min", "last"):
        score_N = np.array([aggregate(one.scores, name) for one in solutions])
        chosen[name] = float(reward_N[score_N == score_N.max()].mean())
        if name == "min":
            chosen[VOTE] = vote([playground.answer(one) for one in solutions], score_N, reward_N)
    return chosen


def vote(answers: Sequence[str | None], weight_N: Floats, reward_N: Floats) -> float:
    """Return the accuracy of the answer with the largest sum of weights; 0 if no solution has an answer."""
    members: dict[str, list[int]] = defaultdict(list)
    for i, answer in enumerate(answers):
        if answer is not None:
            members[answer].append(i)
    sums = {answer: weight_N[own].sum() for answer, own in members.items()}
    top = [answer for answer, total in sums.items() if total >= max(sums.values()) * (1 - 1e-9)]
    return float(np.mean([reward_N[members[answer]].mean() for answer in top])) if top else 0.0


# ---- Many searches


@dataclass(slots=True)
class Cell:
    """One search at one budget: accuracies per problem, and means of what it used."""

    accuracy: dict[str, Floats]  # [P] by way of choosing
    generated: float
    prm: float
    prm_new: float
    distinct: float


def measure(setting: Setting, playgrounds: Sequence[Playground], value: Value, runs: int) -> Cell:
    """Run a search `runs` times on every problem."""
    accuracy: dict[str, list[float]] = defaultdict(list)
    used: list[tuple[int, int, int, int]] = []
    for playground in playgrounds:
        random = Random(f"{setting.name} {setting.config.n} {playground.tree.id}")
        if setting.is_exact:
            value = partial(playground.exact_value, eta=setting.config.eta)
        total: dict[str, float] = defaultdict(float)
        for _ in range(runs):
            rule = setting.rule or METHODS[setting.config.method]
            search = rule(setting.config, value, random)  # type: ignore[arg-type]
            answered = playground.play(search, random)
            for way, right in judge(playground, answered.found).items():
                total[way] += right / runs
            distinct = len({one.text for one in answered.found.solutions})
            used.append((answered.generated, answered.prm, answered.prm_new, distinct))
        for way, mean in total.items():
            accuracy[way].append(mean)
    return Cell({way: np.array(values) for way, values in accuracy.items()}, *np.mean(used, axis=0))


def merged(cells: Sequence[Cell]) -> Cell:
    """Return the mean of cells with different reward models."""
    accuracy = {way: np.mean([cell.accuracy[way] for cell in cells], axis=0) for way in cells[0].accuracy}
    used = [(cell.generated, cell.prm, cell.prm_new, cell.distinct) for cell in cells]
    return Cell(accuracy, *np.mean(used, axis=0))


def study(
    playgrounds: dict[str, list[list[Playground]]],
    names: dict[str, list[str]],
    chosen: Callable[[int], Iterator[Setting]],
    samples: int,
) -> Iterator[Row]:
    """Yield a row per search, budget and kind of label, with the difference to best-of-n of each way.

    `playgrounds` and `names` have one entry per reward model of each kind; the kind ALL is their mean.
    """
    for n in BUDGETS:
        baseline: dict[str, Cell] = {}
        runs = max(1, samples // n)
        for setting in chosen(n):
            cells = {
                label: merged(
                    [
                        measure(setting, of_seed, make_value(setting.config, name), runs)
                        for of_seed, name in zip(by_seed, names[label], strict=True)
                    ]
                )
                for label, by_seed in playgrounds.items()
            }
            cells[ALL] = merged(list(cells.values()))
            for label, cell in cells.items():
                accuracy = baseline.setdefault(label, cell).accuracy
                yield {
                    "label": label,
                    "search": setting.name,
                    "n": n,
                    "runs": runs,
                    "tokens": round(cell.generated, 1),
                    "prm_tokens": round(cell.prm, 1),
                    "prm_new_tokens": round(cell.prm_new, 1),
                    "distinct": round(cell.distinct, 2),
                } | {
                    way: rounded(mean_over_problems(values))
                    | {"minus_best_of_n": rounded(paired_difference(values, accuracy[way]))}
                    for way, values in cell.accuracy.items()
                }


def rounded(estimate: Estimate) -> dict[str, float]:
    """Return an estimate in percent for a row."""
    return {name: round(100 * getattr(estimate, name), 2) for name in ("value", "low", "high")}


# ---- The reward models and the trees


def erprm(*words: object, stdout: Path | None = None) -> None:
    """Run a command of erprm; the command continues or skips what is there."""
    command = [sys.executable, "-m", "erprm_cli", *map(str, words)]
    with open(stdout or "/dev/null", "w") as log_file:
        subprocess.run(command, check=True, stdout=log_file)


def train_prms(run: Path, seeds: int) -> dict[str, list[str]]:
    """Return the reward models of each kind of label, trained with the settings of the demo."""
    solutions, rollouts = run / "solutions.jsonl", run / "rollouts.jsonl"
    sampling = ("-n", 8, "--temperature", 1, "--max-tokens", 160)
    erprm("sample", "tiny:train", "-L", 300, *sampling, "-o", solutions)
    erprm("rollout", solutions, "-k", 16, "--max-tokens", 160, "-o", rollouts)
    names: dict[str, list[str]] = defaultdict(list)
    for label, flags in LABELS.items():
        labels = run / f"{label}.labels.jsonl"
        erprm("label", rollouts, *flags, "-o", labels)
        for seed in range(seeds):
            prm = run / f"prm-{label}-{seed}"
            settings = ("--base", "tiny", "--epochs", 3, "--lr", "1e-3", "--seed", seed)
            erprm("train", labels, *settings, "-o", prm, stdout=run / f"{prm.name}.log.jsonl")
            names[label].append(str(prm))
    return names


def readings(prm: str, trees: Sequence[Tree], run: Path) -> dict[Key, Reading]:
    """Return what the PRM reads in every solution of the trees; a file keeps what was read before."""
    path = run / f"{Path(prm).name}.readings.jsonl"
    found: dict[Key, Reading] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        id_, steps, scores, ends = json.loads(line)
        found[id_, tuple(steps)] = tuple(scores), tuple(ends)
    missing = [tree for tree in trees if (tree.id, tree.solutions[0].steps) not in found]
    if missing:
        from erprm_cli.prm.scorer import Scorer  # loads torch

        new = read_solutions(missing, Scorer(prm))
        with path.open("a") as file:
            file.writelines(json.dumps([*key, *reading]) + "\n" for key, reading in new.items())
        found |= new
    return found


def main() -> None:
    """Print the tables and write the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/search_study"), help="folder of the models")
    parser.add_argument("--seeds", type=int, default=2, help="reward models of each kind of label")
    parser.add_argument("--samples", type=int, default=64, help="per problem; so many / n searches")
    parser.add_argument("--limit", type=int, default=len(TEST), help="the first test problems only")
    parser.add_argument("--tune", action="store_true", help="compare settings of SMC on validation problems")
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    names = train_prms(args.run, args.seeds)
    path = args.run / "trees.jsonl"
    write_trees("tiny:test", path, VALIDATION.stop)
    lines = VALIDATION if args.tune else TEST[: args.limit]
    wanted = {f"tiny-test-{line:04}" for line in lines}
    rows = []
    for temperature in (0.7, 1.3):
        every = read_trees(path, temperature)
        trees = sorted((tree for tree in every if tree.id in wanted), key=lambda tree: tree.id)
        playgrounds = {
            label: [
                [Playground(tree, [read[tree.id, node.steps] for node in tree.solutions]) for tree in trees]
                for read in (readings(prm, every, args.run) for prm in prms)
            ]
            for label, prms in names.items()
        }
        print(summary(trees, temperature))
        for row in study(playgrounds, names, tuned if args.tune else settings, args.samples):
            rows.append({"temperature": temperature, "problems": len(trees), **row})
            if row["label"] == ALL or not args.tune:
                print(line_of(row), flush=True)
    if lines == TEST:
        RESULTS.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))


def summary(trees: Sequence[Tree], temperature: float) -> str:
    """Return what is known exactly of the problems: the policy's accuracy and that of pi*."""
    pass_1 = np.mean([tree.root.rate for tree in trees])
    missing = np.mean([tree.missing for tree in trees])
    optimal = {eta: np.mean([tree.optimal_accuracy(eta) for tree in trees]) for eta in (1, 2, 5, 10)}
    return (
        f"\ntemperature {temperature}: {len(trees)} problems, pass@1 {pass_1:.1%}, missing probability "
        f"{missing:.2%}; pi* at {', '.join(f'eta {eta}: {mean:.1%}' for eta, mean in optimal.items())}"
    )


def line_of(row: Row) -> str:
    """Return a row as a line of the table: accuracies, and points of the vote against best-of-n."""
    cells = " ".join(f"{way} {row[way]['value']:5.1f}" for way in WAYS)
    minus = row[VOTE]["minus_best_of_n"]
    return (
        f"{row['label']:5} n={row['n']:2} {row['search']:22} {cells}  vote - best-of-n's "
        f"{minus['value']:+5.1f} ({minus['low']:+.1f} to {minus['high']:+.1f})  tokens {row['tokens']:5.0f}  "
        f"PRM {row['prm_tokens']:5.0f} (new {row['prm_new_tokens']:4.0f})  distinct {row['distinct']:.1f}"
    )


if __name__ == "__main__":
    main()
