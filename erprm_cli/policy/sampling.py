"""Solutions of problems: N completions each, split into steps, with answers extracted and graded."""

from collections.abc import Container, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from erprm_cli.answers.grader import Grader, Verdict
from erprm_cli.engines import open as opening
from erprm_cli.engines.base import Completion, Engine, Failure, Request, SamplingParams, generate
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.dry_engine import DryEngine
from erprm_cli.engines.plan import report_plan
from erprm_cli.errors import EngineError, RowError
from erprm_cli.hashing import derive_seed
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.output import Output
from erprm_cli.policy.grading import grade, with_rewards
from erprm_cli.policy.prompts import make_prompt, opens_reasoning, turn_end
from erprm_cli.policy.reasoning import Parts, read
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row, to_line
from erprm_cli.rows.steps import STEPS_OF, split_steps, stepped_text
from erprm_cli.rows.streams import peek
from erprm_cli.rows.versions import Versions
from erprm_cli.terminal.reporter import Reporter


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How solutions are sampled; the field `sampling` of a solution row.

    `template` is the name of the template, and `template_options` what `PolicyTemplate.options` returns.
    """

    model: str
    revision: str | None
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    template: str
    template_options: Row = field(default_factory=dict)

    def row(self) -> Row:
        """Return all settings as one object, those of the template included."""
        fields = asdict(self)
        options: Row = fields.pop("template_options")
        return fields | options

    def params(self, template: PolicyTemplate, tokenizer: Any) -> SamplingParams:
        """Return the part that an engine with this tokenizer needs, with the end of the assistant's turn."""
        end = turn_end(template, tokenizer)
        return SamplingParams(
            self.temperature,
            self.top_p,
            self.max_tokens,
            (*template.stop, end) if isinstance(end, str) else template.stop,
            (end,) if isinstance(end, int) else (),
            special_tokens=template.marks is not None and template.marks.are_special,
        )


def output_settings(
    command: str, settings: SamplingSettings, engine: EngineConfig, template: PolicyTemplate
) -> Row:
    """Return the settings of an output of completions, by which a later run may continue it."""
    contents = {"model_content": engine.content(), "template_content": template.content()}
    return {"command": command, **settings.row(), **contents, **engine.settings()}


@dataclass(slots=True)
class Tally:
    """Counts of sampled solutions, for the summary."""

    graded: int = 0
    correct: int = 0
    unfinished: int = 0
    ungraded: int = 0
    fields: str = ""  # of the first problem without an answer

    def add(self, row: Row) -> None:
        """Count one solution."""
        self.unfinished += row["finish_reason"] != "stop"
        self.correct += schema.is_correct(row["reward"])
        self.graded += row["reward"] is not None
        self.ungraded += row["reward"] is None
        if row["reward"] is None and not self.fields:
            names = list(row)
            self.fields = ", ".join(names[: names.index("sample")])  # ours follow those of the problem

    def summary(self) -> str:
        """Return how many solutions are correct and unfinished; the share is of those that were graded."""
        share = f"{self.correct / self.graded:.1%} correct" if self.graded else "none graded"
        return f"{share}, {self.unfinished:,} unfinished"

    def ungraded_warning(self) -> str:
        """Return what to do about solutions without a gold answer."""
        return (
            f"{self.ungraded:,} of {self.graded + self.ungraded:,} solutions were not graded because their "
            f"problems have no answer (their fields are {self.fields}); --field answer=NAME names the field "
            "that has it"
        )


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
    done = out.solutions(schema.check_solution)
    unfinished = (row for row in same_as(done, problems, bad) if missing_samples(row, n, done))
    missing = peek(reporter.counted(unfinished, lambda row: len(missing_samples(row, n, done))))
    if missing is None:
        if done:
            reporter.info(f"nothing is missing: the output has {len(done):,} solutions")
        return
    with closing(opening.open_engine(engine, reporter)) as running, Grader(bad.note) as grader:
        reporter.start("solutions")
        out.add_provenance(opening.provenance(running, engine))
        tally = Tally()
        for row in sample_solutions(missing, running, template, settings, n, grader, done, bad):
            out.write(row)
            tally.add(row)
            tokens = reporter.rate_of(running.usage.generated_tokens, "tokens")
            reporter.progress(out.count, "solutions", note=tokens)
        if isinstance(running, DryEngine):
            report_plan({"solutions": out.count} | running.plan(), reporter, engine.tokens_per_s)
            return
        reporter.info(
            f"{out.count:,} solutions, {tally.summary()}, {running.usage.summary(reporter.seconds)}"
            f"{grader.summary()}"
        )
        if tally.ungraded:
            reporter.warn(tally.ungraded_warning())


def same_as(stored: Versions, problems: Iterable[Row], bad: BadRows) -> Iterator[Row]:
    """Yield the problems; one that is stored in another version is a bad row."""
    for problem in problems:
        try:
            yield stored.check_problem(problem)
        except RowError as error:
            bad.add("the input", str(error), to_line(problem))


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
    is_open = opens_reasoning(template, engine.tokenizer)

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
        for result in generate(engine, requests(), settings.params(template, engine.tokenizer)):
            identity = str(result.key)
            if isinstance(result, Failure):
                failures.setdefault(identity, []).append(result)
                open_samples[identity] -= len(result.indices)
            else:
                parts = read(result, template.marks, is_open)
                yield solution_row(waiting[identity], result, parts, template, settings, grader)
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
    parts: Parts,
    template: PolicyTemplate,
    settings: SamplingSettings,
    grader: Grader,
) -> tuple[Row, Verdict | None]:
    """Return the solution row of one completion with these parts, and the verdict that will be its reward.

    The reward of an unfinished solution is 0, also if its reasoning is unfinished; without a gold answer
    there is no verdict.
    """
    gold, solution = problem["answer"], parts.answer or ""
    finish_reason = "length" if parts.answer is None else completion.finish_reason
    prediction, verdict = grade(solution, finish_reason == "stop", gold, template, grader)
    row = problem | {"sample": completion.index}
    if template.marks is not None or parts.reasoning is not None:
        row["reasoning"] = parts.reasoning
    if template.steps_of != STEPS_OF[0]:
        row["steps_of"] = template.steps_of
    row["solution"] = solution
    row |= {
        "steps": split_steps(stepped_text(row), template.step_break),
        "prediction": prediction,
        "reward": None,  # in its place among the fields
        "finish_reason": finish_reason,
        "num_tokens": completion.num_tokens,
        "sampling": settings.row(),
    }
    return row, None if gold is None else verdict
