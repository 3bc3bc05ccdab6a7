"""Solutions of problems: N completions each, split into steps, with answers extracted and graded."""

from collections.abc import Container, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass

from erprm_cli.answers.grader import Grader, Verdict
from erprm_cli.engines import open as opening
from erprm_cli.engines.base import Completion, Engine, Failure, Request, SamplingParams, generate
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import EngineError
from erprm_cli.hashing import derive_seed
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.output import Output
from erprm_cli.policy.grading import grade, with_rewards
from erprm_cli.policy.prompts import make_prompt
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row, to_line
from erprm_cli.rows.steps import split_steps
from erprm_cli.rows.streams import peek
from erprm_cli.terminal.reporter import Reporter


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How solutions are sampled; the field `sampling` of a solution row."""

    model: str
    revision: str | None
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    template: str

    def params(self, template: PolicyTemplate) -> SamplingParams:
        """Return the part that the engine needs."""
        return SamplingParams(self.temperature, self.top_p, self.max_tokens, template.stop)


def sample_to(
    out: Output,
    problems: Iterable[Row],
    engine: EngineConfig,
    template: PolicyTemplate,
    settings: SamplingSettings,
    n: int,
    reporter: Reporter,
    bad: BadRows | None = None,
) -> None:
    """Write to `out` those of the samples 0 .. n-1 of each problem that are not in it yet, and a summary.

    The engine is loaded only if samples are missing. `bad` receives the problems that the engine could not
    complete, and notes on answers without a verdict (see Grader). The caller opens `out`, with the settings
    by which a later run may continue it.
    """
    bad = bad or BadRows()
    done = schema.solution_keys(out.existing())
    missing = peek(problem for problem in problems if missing_samples(problem, n, done))
    if missing is None:
        if done:
            reporter.info(f"nothing is missing: the output has {len(done):,} solutions")
        return
    with (
        closing(opening.open_engine(engine, reporter)) as running,
        Grader(bad.note) as grader,
        Reporter(reporter.command, reporter.quiet) as progress,  # its clock starts after the loading
    ):
        out.add_provenance(opening.provenance(running, type(running).__name__))
        correct = graded = unfinished = 0
        answers = Answers()
        seen = map(answers.count, missing)
        for row in sample_solutions(seen, running, template, settings, n, grader, done, bad):
            out.write(row)
            correct += schema.is_correct(row["reward"])
            graded += row["reward"] is not None
            unfinished += row["finish_reason"] != "stop"
            progress.progress(out.count, "solutions", note=running.usage.rate(progress.seconds))
        outcome = f"{correct / graded:.1%} correct, " if graded else ""
        progress.info(
            f"{out.count:,} solutions, {outcome}{unfinished:,} unfinished, "
            f"{running.usage.summary(progress.seconds)}{grader.summary()}"
        )
        if answers.missing:
            progress.warn(answers.summary())


class Answers:
    """Counts the problems that have no answer, whose solutions are not graded."""

    def __init__(self) -> None:
        self.problems = self.missing = 0
        self.fields: dict[str, None] = {}  # of the problems without an answer, in order

    def count(self, problem: Row) -> Row:
        """Count a problem; return it."""
        self.problems += 1
        if problem["answer"] is None:
            self.missing += 1
            if len(self.fields) <= schema.SHOWN_FIELDS:
                self.fields |= dict.fromkeys(name for name in problem if name not in schema.PROBLEM_FIELDS)
        return problem

    def summary(self) -> str:
        """Return what was not graded, and the fields that may hold the answers."""
        return (
            f"not graded: no answer in {self.missing:,} of {self.problems:,} problems; their fields are "
            f"{schema.fields_of(dict.fromkeys(self.fields, True))}; --field answer=NAME names the answer"
        )


def sample_solutions(
    problems: Iterable[Row],
    engine: Engine,
    template: PolicyTemplate,
    settings: SamplingSettings,
    n: int,
    grader: Grader,
    done: Container[tuple[str, int]] = frozenset(),
    bad: BadRows | None = None,
) -> Iterator[Row]:
    """Yield one solution row per problem and sample in 0 .. n-1 that is not in `done`, as they finish.

    Problems are read when the engine has room. A solution depends only on the seed, the id of the problem and
    the number of the sample, so neither a kill nor the other problems change it. Solutions come in the order
    in which the engine finishes them; at most MAX_UNGRADED wait behind a verdict that takes long.

    A problem with samples that the engine could not complete becomes one bad row; they get no reward.
    """
    bad = bad or BadRows()
    waiting: dict[str, Row] = {}
    open_samples: dict[str, int] = {}
    failures: dict[str, list[Failure]] = {}

    def requests() -> Iterator[Request]:
        for problem in problems:
            identity = problem["id"]
            missing = missing_samples(problem, n, done)
            if not missing:
                continue
            waiting[identity] = problem
            open_samples[identity] = len(missing)
            prompt = make_prompt(template, engine.tokenizer, problem["problem"])
            yield Request(identity, prompt, missing, derive_seed(settings.seed, identity))

    def solutions() -> Iterator[tuple[Row, Verdict | None]]:
        for result in generate(engine, requests(), settings.params(template)):
            identity = str(result.key)
            if isinstance(result, Failure):
                failures.setdefault(identity, []).append(result)
                open_samples[identity] -= len(result.indices)
            else:
                yield solution_row(waiting[identity], result, template, settings, grader)
                open_samples[identity] -= 1
            if not open_samples[identity]:
                problem = waiting.pop(identity)
                del open_samples[identity]
                if identity in failures:
                    _add_failed(bad, problem, failures.pop(identity))
        if waiting:
            missing = sum(open_samples.values())
            raise EngineError(
                f"the engine ended with {missing:,} completions missing; the same command requests them again"
            )

    return with_rewards(solutions())


def _add_failed(bad: BadRows, problem: Row, failures: list[Failure]) -> None:
    """Add a problem to the bad rows, with the samples that could not be completed and the first reason."""
    samples = sorted(index for failure in failures for index in failure.indices)
    place = f"id {problem['id']!r}, sample {', '.join(map(str, samples))}"
    error = failures[0].error
    bad.add(place, str(error), to_line(problem), type(error))


def missing_samples(problem: Row, n: int, done: Container[tuple[str, int]]) -> tuple[int, ...]:
    """Return those of the samples 0 .. n-1 of a problem that are not `done`."""
    return tuple(sample for sample in range(n) if (problem["id"], sample) not in done)


def solution_row(
    problem: Row,
    completion: Completion,
    template: PolicyTemplate,
    settings: SamplingSettings,
    grader: Grader,
) -> tuple[Row, Verdict | None]:
    """Return the solution row of one completion, and the verdict that will be its reward.

    The reward of an unfinished solution is 0; without a gold answer there is no verdict.
    """
    gold = problem["answer"]
    is_finished = completion.finish_reason == "stop"
    prediction, verdict = grade(completion.text, is_finished, gold, template, grader)
    row = problem | {
        "sample": completion.index,
        "solution": completion.text,
        "steps": split_steps(completion.text, template.step_break),
        "prediction": prediction,
        "reward": None,  # in its place among the fields
        "finish_reason": completion.finish_reason,
        "num_tokens": completion.num_tokens,
        "sampling": asdict(settings),
    }
    return row, None if gold is None else verdict
