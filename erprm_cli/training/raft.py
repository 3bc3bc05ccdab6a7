"""RAFT (reward-ranked fine-tuning) with a process reward model, the paper's section 4.3.

Each iteration takes the next slice of the problems and, with the current policy, (1) samples N solutions
of each, (2) scores their steps, (3) selects the solution with the best score, (4) fine-tunes the policy on
the selected ones, at the learning rate lr (T - t + 1) / T of iteration t of T. There is a greedy evaluation
before the first iteration and after each. If scored solutions are given, the first iteration selects among
them. With one draw from pi* per problem, as `erprm search --draws 1` makes it, it is a fit of the policy to
pi*.

Every phase is a file or a folder in the run directory, made by the code of its command (`sample_to`,
`score_to`, `train_policy`), so a stopped run continues where it was:

    iteration-0/eval.jsonl
    iteration-1/samples.jsonl  scored.jsonl  selected.jsonl  policy/  eval.jsonl
    ...
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from operator import length_hint
from pathlib import Path

from erprm_cli.errors import RowError, UserError
from erprm_cli.evaluation.aggregation import aggregate
from erprm_cli.hashing import content_hash, digest
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.content import Content
from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import open_atomic_output, open_output
from erprm_cli.policy.sampling import SamplingSettings, sample_to
from erprm_cli.policy.sampling import output_settings as sample_settings
from erprm_cli.prm.scoring import LazyScorer, score_to
from erprm_cli.prm.scoring import output_settings as score_settings
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.rows.versions import one_version
from erprm_cli.training.config import RaftConfig
from erprm_cli.training.rlhf import Rlhf

SET_HERE = {"base", "seed", "merge_lora"}  # fields of the training that each iteration sets


class Raft(Rlhf):
    """One run in one directory; `training` says how each iteration fine-tunes.

    Its base, output, seed and learning rate are set here.
    """

    config: RaftConfig

    def check(self) -> None:
        """As Rlhf; also what vLLM needs to run the PRM."""
        super().check()
        if self.engine.engine == "vllm":
            from erprm_cli.prm.loading import load_tagger  # torch
            from erprm_cli.prm.vllm_classifier import classifier_settings

            config, code = self.config, self.engine.trust_remote_code
            _, tagger = load_tagger(config.prm, config.prm_format, trust_remote_code=code)
            classifier_settings(replace(self.engine, model=config.prm), tagger)

    def check_problems(self, problems: list[Row]) -> None:
        """Raise UserError if --solutions cannot be used, or if --require-correct has no answers."""
        if self.config.require_correct and all(problem["answer"] is None for problem in problems):
            raise UserError(
                "no problem has an answer, which --require-correct needs",
                remedy="--field answer=NAME names the field that has it",
            )
        given = self.config.solutions
        if given is not None and not sum(1 for _ in self._given(problems[: self.config.slice_size])):
            raise UserError("no solution of a problem of the first round", where=f"--solutions {given}")

    def plan(self, num_problems: int) -> Row:
        """Return what a whole run on `num_problems` problems would do at most."""
        from erprm_cli.models.size import model_size  # torch
        from erprm_cli.training.plan import num_steps, training_size

        config = self.config
        size = min(config.slice_size, num_problems)
        completions = (config.iterations - bool(config.solutions)) * size * config.n
        evaluated = (config.iterations + 1) * len(self.eval_problems)
        policy = model_size(self.engine.model, trust_remote_code=self.engine.trust_remote_code)
        prm = model_size(config.prm, trust_remote_code=self.engine.trust_remote_code)
        return {
            "iterations": config.iterations,
            "problems": size,
            "completions": completions,
            "evaluated": evaluated,
            "max_generated_tokens": (completions + evaluated) * config.max_tokens,
            "steps": config.iterations * num_steps(size, self.training),
            **training_size(policy, self.training),
            "prm_parameters": prm.parameters,
        }

    def settings(self, source: str, problems: list[Row]) -> Row:
        """Return what decides the result: a run directory is continued only with equal settings.

        `problems` are those of the file `source`.
        """
        config, training = self.config, self.training.settings()
        return {
            "command": "rlhf",
            "policy": self.engine.model,
            **{name: value for name, value in training.items() if name not in SET_HERE},
            **asdict(config),
            "template": self.template.name,
            **self.template.options(),
            "input": source,
            **self.contents(source, problems),
            "solutions_content": config.solutions and self._given_content(problems),
            **self.engine.settings(),
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
        if iteration == 1 and config.solutions is not None:
            self._begin_phase(iteration, "reading", f"solutions of {config.solutions}")
            self._take(problems, scored)
        else:
            what = f"{config.n} solutions of each of {len(problems):,} problems"
            self._begin_phase(iteration, "sampling", what)
            settings = self._sampling(policy, config.temperature, config.top_p, config.seed + iteration)
            self._sample(problems, config.n, settings, samples)
            self._begin_phase(iteration, "scoring", f"scoring with {config.prm}")
            self._score(samples, scored)
        self._select(scored, selected)
        return selected

    def _take(self, problems: list[Row], scored: Path) -> None:
        """Write the given solutions of these problems to `scored`."""
        found = set()
        settings = {"solutions": self.config.solutions, "solutions_content": self._given_content(problems)}
        with open_atomic_output(str(scored), {"command": "take", **settings}) as out:
            for row in self._given(problems):
                found.add(row["id"])
                out.write(row)
        if missing := len(problems) - len(found):
            self.reporter.info(f"{missing:,} of {len(problems):,} problems have no solution and are left out")

    def _given(self, problems: list[Row]) -> Iterator[Row]:
        """Yield the given solutions of these problems; RowError for a problem that differs from INPUT's."""
        path, by_id = self.config.solutions, {row["id"]: row for row in problems}
        assert path is not None

        def check(row: Row) -> Row:
            problem = by_id.get(schema.check_scores(row)["id"])
            if problem is not None and any(problem[name] != row.get(name) for name in ("problem", "answer")):
                raise RowError(f"id {row['id']!r}: another problem or answer than in INPUT")
            return row

        bad = BadRows(remedy="--solutions needs scored solutions")
        return (row for row in read_rows(path, one_version(check), bad) if row["id"] in by_id)

    def _given_content(self, problems: list[Row]) -> Content:
        def hash_all() -> str:
            names = "id", "sample", "solution", "steps", "reasoning", "scores", "reward"
            parts = (digest(*map(row.get, names)).hex() for row in self._given(problems))
            return content_hash("".join(parts))

        path = Path(self.config.solutions or "")
        return Content(hash_all, (path,) if path.exists() else ())

    def _sampling(self, policy: str, temperature: float, top_p: float, seed: int) -> SamplingSettings:
        return SamplingSettings(
            policy,
            None,
            temperature,
            top_p,
            self.config.max_tokens,
            seed,
            self.template.name,
            self.template.options(),
        )

    def _sample(self, problems: list[Row], n: int, settings: SamplingSettings, path: Path) -> None:
        engine = replace(self.engine, model=settings.model)
        rows = iter(problems)
        self.reporter.watch(lambda: 1 - length_hint(rows) / len(problems))
        with open_output(str(path), sample_settings("sample", settings, engine, self.template)) as out:
            sample_to(out, rows, engine, self.template, settings, n, self.reporter, self.bad)

    def _score(self, samples: Path, scored: Path) -> None:
        scorer, prm_format = self.scorer_config(), self.config.prm_format
        with open_output(str(scored), score_settings(scorer, prm_format)) as out:
            score_to(out, str(samples), LazyScorer(scorer, prm_format=prm_format), self.reporter)

    def _select(self, scored: Path, selected: Path) -> None:
        """Write the solution of each problem with the best score; of equal scores, the first sample."""
        best: dict[str, tuple[float, Row]] = {}
        problems = set()
        for row in read_rows(str(scored), schema.check_scores):
            problems.add(row["id"])
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
        if len(best) < len(problems):
            self.reporter.info(
                f"{len(problems) - len(best):,} of {len(problems):,} problems have no correct solution and "
                "are left out (--require-correct)"
            )

    def _fine_tune(self, iteration: int, policy: str, selected: Path) -> str:
        """Train `policy` on the selected solutions, unless that is done; return the new policy's folder."""
        trained = self._folder(iteration) / "policy"
        if trained.exists():  # it gets this name only when it is complete
            return str(trained)
        self._begin_phase(iteration, "fine-tuning", f"fine-tuning {policy}")
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
        if not self.eval_problems:
            return None
        path = self._folder(iteration) / "eval.jsonl"
        self._begin_phase(iteration, "evaluation", "greedy evaluation")
        self._sample(self.eval_problems, 1, self._sampling(policy, 0.0, 1.0, self.config.seed), path)
        return mean_reward(path)

    def _begin_phase(self, iteration: int, name: str, what: str) -> None:
        self.reporter.begin_phase(f"iteration {iteration}/{self.config.iterations}, {name}")
        self.reporter.info(f"iteration {iteration}: {what}")

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
