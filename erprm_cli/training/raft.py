"""RAFT (reward-ranked fine-tuning) with a process reward model, the paper's section 4.3.

Each iteration takes the next slice of the problems and, with the current policy, (1) samples N solutions
of each, (2) scores their steps, (3) selects the solution with the best score, (4) fine-tunes the policy on
the selected ones, at the learning rate lr (T - t + 1) / T of iteration t of T. There is a greedy evaluation
before the first iteration and after each.

Every phase is a file or a folder in the run directory, made by the code of its command (`sample_to`,
`score_to`, `train_policy`), so a stopped run continues where it was:

    iteration-0/eval.jsonl
    iteration-1/samples.jsonl  scored.jsonl  selected.jsonl  policy/  eval.jsonl
    ...
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.engines.config import EngineConfig
from erprm_cli.evaluation.aggregation import aggregate
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import open_atomic_output, open_output
from erprm_cli.policy.sampling import SamplingSettings, sample_to
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.prm.scoring import score_to
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.rows.streams import unique
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PolicyTrainingConfig, RaftConfig

TRAINING_SETTINGS = ("epochs", "lr", "batch_size", "lora_rank")  # of the fine-tuning, in the run's settings


class Raft:
    """One run in one directory."""

    def __init__(
        self,
        config: RaftConfig,
        training: PolicyTrainingConfig,
        engine: EngineConfig,
        template: PolicyTemplate,
        directory: Path,
        reporter: Reporter,
        bad: BadRows | None = None,
        names: FieldNames | None = None,
    ) -> None:
        """Run in `directory`, from the policy `engine.model`.

        `training` says how each iteration fine-tunes; its base, output, seed and learning rate are set here.
        `bad` receives notes on answers without a verdict (see Grader). `names` finds fields of --eval under
        other names.
        """
        self.config, self.training, self.engine = config, training, engine
        self.template, self.directory = template, directory
        self.reporter, self.bad, self.names = reporter, bad, names or FieldNames()

    @property
    def settings(self) -> Row:
        """What decides the result: a run directory is continued only with equal settings."""
        return {
            "command": "rlhf",
            "policy": self.engine.model,
            **asdict(self.config),
            **{name: getattr(self.training, name) for name in TRAINING_SETTINGS},
            "template": self.template.name,
        }

    def run(self, problems: list[Row]) -> Iterator[Row]:
        """Yield one log row for the given policy and one per iteration."""
        policy = self.engine.model
        yield self._log(0, policy, problems=0, selected=0, selected_reward=None, lr=0.0)
        for iteration in range(1, self.config.iterations + 1):
            begin = (iteration - 1) * self.config.slice_size % len(problems)
            rotated = problems[begin:] + problems[:begin]
            current = rotated[: self.config.slice_size]
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
        self.reporter.info(
            f"iteration {iteration}: {config.n} solutions of each of {len(problems):,} problems"
        )
        settings = self._sampling(policy, config.temperature, config.top_p, config.seed + iteration)
        self._sample(problems, config.n, settings, samples)
        self.reporter.info(f"iteration {iteration}: scoring with {config.prm}")
        self._score(samples, scored)
        self._select(scored, selected)
        return selected

    def _sampling(self, policy: str, temperature: float, top_p: float, seed: int) -> SamplingSettings:
        return SamplingSettings(
            policy, None, temperature, top_p, self.config.max_tokens, seed, self.template.name
        )

    def _sample(self, problems: Iterable[Row], n: int, settings: SamplingSettings, path: Path) -> None:
        # The flags of the engine are not among the settings: earlier versions did not write them.
        with open_output(str(path), {"command": "sample", **asdict(settings)}) as out:
            engine = replace(self.engine, model=settings.model)
            sample_to(out, problems, engine, self.template, settings, n, self.reporter, self.bad)

    def _score(self, samples: Path, scored: Path) -> None:
        # The policy's context length and vLLM options do not apply to the PRM.
        engine = replace(
            self.engine, model=self.config.prm, max_model_len=None, quantization=None, engine_args=None
        )
        with open_output(str(scored), {"command": "score", "prm": self.config.prm}) as out:
            score_to(out, str(samples), engine, self.reporter, prm_format=self.config.prm_format)

    def _select(self, scored: Path, selected: Path) -> None:
        """Write the solution of each problem with the best score; of equal scores, the first sample."""
        best: dict[str, tuple[float, Row]] = {}
        for row in read_rows(str(scored), schema.check_scores):
            if self.config.require_correct and not schema.is_correct(row["reward"]):
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
        if trained.exists():  # it gets this name only when it is complete
            return str(trained)
        self.reporter.info(f"iteration {iteration}: fine-tuning {policy}")
        from erprm_cli.training.train import train_policy  # torch

        config = replace(
            self.training,
            base=policy,
            output=trained,
            lr=self._lr(iteration),
            merge_lora=self.training.lora_rank > 0,  # the next iteration samples from whole weights
            seed=self.config.seed + iteration,
            trust_remote_code=self.engine.trust_remote_code,
            allow_pickle=self.engine.allow_pickle,
        )
        train_policy(
            read_rows(str(selected), schema.check_solution), self.template, config, reporter=self.reporter
        )
        return str(trained)

    def _evaluate(self, iteration: int, policy: str) -> float | None:
        """Return the share of the --eval problems that `policy` solves greedily; None without any."""
        if self.config.eval is None:
            return None
        path = self._folder(iteration) / "eval.jsonl"
        problems = read_rows(self.config.eval, unique(partial(as_problem, names=self.names), "id"))
        self.reporter.info(f"iteration {iteration}: greedy evaluation")
        self._sample(problems, 1, self._sampling(policy, 0.0, 1.0, self.config.seed), path)
        return mean_reward(path)

    def _lr(self, iteration: int) -> float:
        total = self.config.iterations
        return self.training.lr * (total - iteration + 1) / total

    def _folder(self, iteration: int) -> Path:
        folder = self.directory / f"iteration-{iteration}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def mean_reward(path: Path) -> float | None:
    """Return the mean reward of the graded solutions in a file; None if there are none."""
    rows = read_rows(str(path), schema.check_solution)
    rewards = [row["reward"] for row in rows if row["reward"] is not None]
    return sum(rewards) / len(rewards) if rewards else None
