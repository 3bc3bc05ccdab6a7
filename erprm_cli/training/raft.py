"""RAFT (reward-ranked fine-tuning) with a process reward model, the paper's section 4.3.

Each iteration takes the next slice of the problems and, with the current policy, (1) samples N solutions
of each, (2) scores their steps, (3) keeps the solution with the best score, (4) fine-tunes the policy on
what was kept, at the learning rate lr (T - t + 1) / T of iteration t of T. A greedy evaluation stands
before the first iteration and after each.

Every phase is a file or a folder in the run directory, written by the same code as its command, so a
stopped run continues where it was:

    iteration-0/eval.jsonl
    iteration-1/samples.jsonl  scored.jsonl  selected.jsonl  policy/  eval.jsonl
    ...
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from erprm_cli.answers.grader import Grader
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import open_engine, provenance
from erprm_cli.evaluation.aggregation import aggregate
from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import open_atomic_output, open_output
from erprm_cli.policy.sampling import SamplingSettings, missing_samples, sample_solutions
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.rows.streams import peek, unique
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import RaftConfig


class Raft:
    """One run in one directory."""

    def __init__(
        self,
        config: RaftConfig,
        engine: EngineConfig,
        template: PolicyTemplate,
        directory: Path,
        evaluation: str | None,
        reporter: Reporter,
        note: Callable[[str, str, str], object] | None = None,
        how: Row | None = None,
    ) -> None:
        """Run in `directory`; `evaluation` names the problems of the greedy evaluation, if there is one.

        `note` is told of answers without a verdict, as `Grader` says. `how` holds further settings of the
        fine-tuning that do not decide its result (TrainingConfig.FREE).
        """
        self.note, self.how = note, how or {}
        self.config, self.engine, self.template = config, engine, template
        self.directory, self.evaluation, self.reporter = directory, evaluation, reporter

    def run(self, problems: list[Row]) -> Iterator[Row]:
        """Yield one log row for the given policy and one per iteration."""
        policy = self.config.policy
        yield self._log(0, policy, problems=0, selected=0, selected_reward=None, lr=0.0)
        for iteration in range(1, self.config.iterations + 1):
            begin = (iteration - 1) * self.config.slice_size % len(problems)
            turned = problems[begin:] + problems[:begin]
            current = turned[: self.config.slice_size]
            selected = self._choose(iteration, policy, current)
            policy = self._fine_tune(iteration, policy, selected)
            yield self._log(
                iteration,
                policy,
                problems=len(current),
                selected=sum(1 for _ in read_rows(str(selected), dict)),
                selected_reward=mean_reward(selected),
                lr=self._lr(iteration),
            )

    def _log(self, iteration: int, policy: str, **values: float | None) -> Row:
        accuracy = self._evaluate(iteration, policy)
        return {"iteration": iteration, **values, "accuracy": accuracy, "policy": policy}

    def _choose(self, iteration: int, policy: str, problems: list[Row]) -> Path:
        """Sample, score and select; return the file with the best solution of each problem."""
        config, folder = self.config, self._folder(iteration)
        samples, scored, selected = (folder / f"{phase}.jsonl" for phase in ("samples", "scored", "selected"))
        self.reporter.info(f"iteration {iteration}: {config.n} solutions of {len(problems):,} problems")
        drawn = self._drawn(policy, config.temperature, config.top_p, config.seed + iteration)
        self._sample(problems, config.n, drawn, samples)
        self.reporter.info(f"iteration {iteration}: scoring with {config.prm}")
        self._score(samples, scored)
        self._select(scored, selected)
        return selected

    def _drawn(self, policy: str, temperature: float, top_p: float, seed: int) -> SamplingSettings:
        return SamplingSettings(
            policy, None, temperature, top_p, self.config.max_tokens, seed, self.template.name
        )

    def _sample(self, problems: Iterable[Row], n: int, drawn: SamplingSettings, path: Path) -> None:
        with open_output(str(path), {"command": "sample", **asdict(drawn)}) as out:
            done = schema.solution_keys(out.existing())
            missing = peek(problem for problem in problems if missing_samples(problem, n, done))
            if missing is None:
                return
            engine = replace(self.engine, model=drawn.model)
            with closing(open_engine(engine)) as running, Grader(self.note) as grader:
                out.add_provenance(provenance(running, type(running).__name__))
                for row in sample_solutions(missing, running, self.template, drawn, n, grader, done):
                    out.write(row)
                if grader.unknown:
                    self.reporter.info(f"{path.name}{grader.summary()}")

    def _score(self, samples: Path, scored: Path) -> None:
        from erprm_cli.prm.scoring import open_scorer

        with open_output(str(scored), {"command": "score", "prm": self.config.prm}) as out:
            done = schema.solution_keys(out.existing())
            rows = read_rows(str(samples), schema.check_solution)
            missing = peek(row for row in rows if (row["id"], row["sample"]) not in done)
            if missing is not None:
                # What is said of the policy's length and weights does not hold for another model.
                prm = replace(
                    self.engine,
                    model=self.config.prm,
                    max_model_len=None,
                    quantization=None,
                    engine_args=None,
                )
                with closing(open_scorer(prm, form=self.config.prm_format)) as scorer:
                    out.add_provenance(provenance(scorer, type(scorer).__name__))
                    for row in scorer.score(missing):
                        out.write(row)

    def _select(self, scored: Path, selected: Path) -> None:
        """Write the best-scored solution of each problem, the first of equals."""
        best: dict[str, tuple[float, Row]] = {}
        for row in read_rows(str(scored), schema.check_scores):
            if self.config.require_correct and row["reward"] != 1.0:
                continue
            score = aggregate(row["scores"], self.config.aggregate)
            known = best.get(row["id"])
            if known is None or (-score, row["sample"]) < (-known[0], known[1]["sample"]):
                best[row["id"]] = (score, row)
        settings = {"aggregate": self.config.aggregate, "require_correct": self.config.require_correct}
        with open_atomic_output(str(selected), {"command": "select", **settings}) as out:
            for score, row in best.values():
                out.write(row | {"score": score})

    def _fine_tune(self, iteration: int, policy: str, selected: Path) -> str:
        """Train `policy` on the selected solutions, unless that is done; return the new policy's folder."""
        trained = self._folder(iteration) / "policy"
        if trained.exists():  # it gets its name only when it is whole
            return str(trained)
        self.reporter.info(f"iteration {iteration}: fine-tuning {policy}")
        from erprm_cli.training.config import PolicyTrainingConfig
        from erprm_cli.training.train import train_policy

        config = PolicyTrainingConfig(
            base=policy,
            output=trained,
            epochs=self.config.epochs,
            lr=self._lr(iteration),
            batch_size=self.config.batch_size,
            lora_rank=self.config.lora_rank,
            merge_lora=self.config.lora_rank > 0,
            seed=self.config.seed + iteration,
            trust_remote_code=self.engine.trust_remote_code,
            allow_pickle=self.engine.allow_pickle,
            **self.how,
        )
        train_policy(
            read_rows(str(selected), schema.check_solution), self.template, config, reporter=self.reporter
        )
        return str(trained)

    def _evaluate(self, iteration: int, policy: str) -> float | None:
        """Return the share of evaluation problems that `policy` solves greedily; null without any."""
        if self.evaluation is None:
            return None
        path = self._folder(iteration) / "eval.jsonl"
        problems = read_rows(self.evaluation, unique(as_problem, "id"))
        self.reporter.info(f"iteration {iteration}: greedy evaluation")
        self._sample(problems, 1, self._drawn(policy, 0.0, 1.0, self.config.seed), path)
        return mean_reward(path)

    def _lr(self, iteration: int) -> float:
        total = self.config.iterations
        return self.config.lr * (total - iteration + 1) / total

    def _folder(self, iteration: int) -> Path:
        folder = self.directory / f"iteration-{iteration}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def mean_reward(path: Path) -> float | None:
    """Return the mean reward of the graded solutions in a file; null when there is none."""
    rows = read_rows(str(path), schema.check_solution)
    rewards = [row["reward"] for row in rows if row["reward"] is not None]
    return sum(rewards) / len(rewards) if rewards else None
