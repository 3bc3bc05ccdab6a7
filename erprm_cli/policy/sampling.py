"""Sampling: N solutions per problem, split into steps, with their final answer extracted and graded."""

from collections import deque
from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict, dataclass

from erprm_cli.answers.extraction import extract
from erprm_cli.answers.grader import Grader, Verdict
from erprm_cli.engines.base import Completion, Engine, Request, SamplingParams, generate
from erprm_cli.errors import EngineError, UserError
from erprm_cli.hashing import derive_seed
from erprm_cli.policy.prompts import make_prompt
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import split_steps

MAX_UNGRADED = 64  # solutions that may wait for a verdict while the engine continues; a kill loses them


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How solutions are sampled; written to their field `sampling`."""

    model: str
    revision: str | None
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    template: str

    def params(self, template: PolicyTemplate) -> SamplingParams:
        """Return the parameters for the engine."""
        return SamplingParams(self.temperature, self.top_p, self.max_tokens, template.stop)


def sample_solutions(
    problems: Iterable[Row],
    engine: Engine,
    template: PolicyTemplate,
    settings: SamplingSettings,
    n: int,
    grader: Grader,
    done: Container[tuple[str, int]] = frozenset(),
) -> Iterator[Row]:
    """Yield one solution row for each problem and each sample 0 .. n-1 that is not in `done`.

    Problems are read as the engine has room. A solution depends only on the seed, the problem's id and the
    sample number, so an interruption or other problems do not change it. Rows come in the order in which the
    engine finishes them; at most MAX_UNGRADED of them wait for a slow verdict. Raises EngineError if the
    engine leaves out completions.
    """
    waiting: dict[str, Row] = {}
    open_samples: dict[str, int] = {}

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

    ungraded: deque[tuple[Row, Verdict]] = deque()
    try:
        for completion in generate(engine, requests(), settings.params(template)):
            identity = str(completion.key)
            ungraded.append(solution_row(waiting[identity], completion, template, settings, grader))
            open_samples[identity] -= 1
            if not open_samples[identity]:
                del waiting[identity], open_samples[identity]
            while ungraded and (ungraded[0][1].is_known() or len(ungraded) > MAX_UNGRADED):
                yield _graded(*ungraded.popleft())
    except UserError:  # from the engine or a bad row: keep what was finished before
        yield from (_graded(*one) for one in ungraded)
        raise
    yield from (_graded(*one) for one in ungraded)
    if waiting:
        missing = sum(open_samples.values())
        raise EngineError(
            f"the engine stopped with {missing:,} completions missing; run the same command again to get them"
        )


def missing_samples(problem: Row, n: int, done: Container[tuple[str, int]]) -> tuple[int, ...]:
    """Return the samples 0 .. n-1 of a problem that are not in `done`."""
    return tuple(sample for sample in range(n) if (problem["id"], sample) not in done)


def solution_row(
    problem: Row, completion: Completion, template: PolicyTemplate, settings: SamplingSettings, grader: Grader
) -> tuple[Row, Verdict]:
    """Return the solution row of one completion without its reward, and the verdict that gives it."""
    prediction, verdict = grade(completion.text, completion, problem["answer"], template, grader)
    row = problem | {
        "sample": completion.index,
        "solution": completion.text,
        "steps": split_steps(completion.text, template.step_break),
        "prediction": prediction,
        "reward": None,
        "finish_reason": completion.finish_reason,
        "num_tokens": completion.num_tokens,
        "sampling": asdict(settings),
    }
    return row, verdict


def _graded(row: Row, verdict: Verdict) -> Row:
    return row if row["answer"] is None else row | {"reward": verdict.reward()}


def grade(
    text: str, completion: Completion, gold: str | None, template: PolicyTemplate, grader: Grader
) -> tuple[str | None, Verdict]:
    """Return the final answer of a whole solution and the verdict on it.

    It is wrong without a gold answer, and if the completion did not finish, as in the paper's protocol
    (section 4.1).
    """
    prediction = extract(text, template.answers)
    if gold is None or completion.finish_reason != "stop":
        return prediction, Verdict(False)
    return prediction, grader.submit(gold, prediction)
