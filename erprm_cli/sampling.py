"""Solutions of problems: N completions each, split into steps, answered and graded."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict, dataclass

from erprm_cli.answers import Grader, extract
from erprm_cli.engines import Completion, Engine, Request, SamplingParams, derive_seed
from erprm_cli.jsonl import Row
from erprm_cli.policy_templates import PolicyTemplate
from erprm_cli.prompts import make_prompt
from erprm_cli.steps import split_steps


@dataclass(frozen=True, slots=True)
class Drawn:
    """How solutions are drawn: what the field `sampling` says of them."""

    model: str
    revision: str | None
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    template: str

    def params(self, template: PolicyTemplate) -> SamplingParams:
        """Return what the engine needs of it."""
        return SamplingParams(self.temperature, self.top_p, self.max_tokens, template.stop)


def sample_solutions(
    problems: Iterable[Row],
    engine: Engine,
    template: PolicyTemplate,
    drawn: Drawn,
    n: int,
    grader: Grader,
    done: Container[tuple[str, int]] = frozenset(),
) -> Iterator[Row]:
    """Yield one solution row per problem and sample in 0 .. n-1 that is not in `done`, as they finish.

    Problems are read when the engine has room. A solution depends on the seed, the problem's id and the
    sample's number alone, so neither a kill in between nor the other problems change it.
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
            yield Request(identity, prompt, missing, derive_seed(drawn.seed, identity))

    for completion in engine.generate(requests(), drawn.params(template)):
        identity = str(completion.key)
        yield solution_row(waiting[identity], completion, template, drawn, grader)
        open_samples[identity] -= 1
        if not open_samples[identity]:
            del waiting[identity], open_samples[identity]


def missing_samples(problem: Row, n: int, done: Container[tuple[str, int]]) -> tuple[int, ...]:
    """Return those of the samples 0 .. n-1 of a problem that are not `done`."""
    return tuple(sample for sample in range(n) if (problem["id"], sample) not in done)


def solution_row(
    problem: Row, completion: Completion, template: PolicyTemplate, drawn: Drawn, grader: Grader
) -> Row:
    """Return the solution row of one completion. Unfinished counts as wrong; no gold answer, null."""
    prediction, reward = grade(completion.text, completion, problem["answer"], template, grader)
    return problem | {
        "sample": completion.index,
        "solution": completion.text,
        "steps": split_steps(completion.text, template.step_break),
        "prediction": prediction,
        "reward": reward,
        "finish_reason": completion.finish_reason,
        "num_tokens": completion.num_tokens,
        "sampling": asdict(drawn),
    }


def grade(
    text: str, completion: Completion, gold: str | None, template: PolicyTemplate, grader: Grader
) -> tuple[str | None, float | None]:
    """Return the final answer of a whole solution and its reward, 1.0 or 0.0 (null without a gold answer).

    A completion that did not finish counts as wrong, as in the paper's protocol (section 4.1).
    """
    prediction = extract(text, template.answers)
    if gold is None:
        return prediction, None
    if completion.finish_reason != "stop":
        return prediction, 0.0
    return prediction, grader.reward(gold, prediction)
