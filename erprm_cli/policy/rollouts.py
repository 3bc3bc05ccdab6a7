"""Rollouts: graded completions after the steps of a solution, from which step labels are estimated.

A completion continues the exact text of the prefix, within the assistant's turn. The last step needs no
completion: its reward is that of the solution. Steps of an answer are continued after the whole reasoning,
steps of the reasoning within it; the completion then has the rest of the reasoning and the answer.

How many completions a prefix gets, `stopping` decides; which steps are rolled out, `step_choice`. Both may
depend on completions that are there, so requests follow from results, while the engine works on others.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from erprm_cli.answers.grader import Grader, Verdict
from erprm_cli.engines.base import LATER, Completion, Engine, Failure, Prompt, Request, generate
from erprm_cli.errors import EngineError, RowError, UserError
from erprm_cli.hashing import derive_seed
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.output import Output
from erprm_cli.policy.finished_prefixes import FinishedPrefixes, PrefixKey, prefix_key
from erprm_cli.policy.grading import grade
from erprm_cli.policy.prompts import encode_solution, make_prompt, render_prompt
from erprm_cli.policy.reasoning import Marks, check_marks, continued, split, written, written_prefixes
from erprm_cli.policy.sampling import SamplingSettings
from erprm_cli.policy.step_choice import StepChoice, all_steps
from erprm_cli.policy.stopping import StoppingRule
from erprm_cli.policy.templates import PolicyTemplate, dated_as
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row, to_line
from erprm_cli.rows.steps import step_starts, stepped_text
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.terminal.text import one_line

T = TypeVar("T")
MAX_PREFIX_CHARACTERS = 50_000_000  # of the prefixes of one solution, which are in memory together


@dataclass(slots=True)
class Tally:
    """Counts for the summary."""

    prefixes: int = 0  # that were completed in this run
    completions: int = 0
    unfinished: int = 0
    shared_prefixes: int = 0  # prefixes of an earlier solution or an earlier run


@dataclass(slots=True)
class _Solution:
    """A solution, and what is known of its prefixes [L-1]: the rewards and texts of their completions."""

    row: Row
    texts: list[str]  # all that the model wrote before each step but the first, the marks included
    own: list[float]  # its reward, if it counts as a completion of each prefix
    rewards: list[list[float] | None]
    completions: list[list[str] | None]
    missing: int = 0  # prefixes that are in progress
    is_bad: bool = False  # a prefix could not be completed

    def key(self, step: int) -> PrefixKey:
        return prefix_key(self.row, self.texts[step])


@dataclass(slots=True)
class _Prefix:
    """One prefix in progress: its completions so far, and the solutions that wait for it.

    Each completion is submitted for grading as it arrives; the rewards are collected at the end of a round.
    """

    key: PrefixKey
    text: str
    prompt: Prompt
    seed: int
    gold: str
    rewards: list[float]  # of the rounds before
    completions: list[str]  # the texts, if they are kept
    verdicts: dict[int, Verdict] = field(default_factory=dict)  # of this round
    missing: int = 0  # in this round
    waiting: list[tuple[_Solution, int]] = field(default_factory=list)  # each with the index of the step
    error: UserError | None = None  # why some of the completions could not be made


def check_gradable(row: Row, marks: Marks | None = None) -> Row:
    """Check a graded solution, marks for its reasoning, and that its prefixes fit into memory."""
    check_marks(row, marks)
    schema.check_graded(row)
    characters = sum(step_starts(stepped_text(row), row["steps"]))
    if characters > MAX_PREFIX_CHARACTERS:
        raise RowError(
            f"the prefixes of its {len(row['steps']):,} steps have {characters:,} characters together; the "
            f"limit is {MAX_PREFIX_CHARACTERS:,}"
        )
    return row


def same_origin(rows: Iterable[Row], settings: SamplingSettings, reporter: Reporter) -> Iterator[Row]:
    """Yield `rows`, with a warning at the first one that was sampled by another model or template."""
    warned = False
    for row in rows:
        made_by = row.get("sampling")
        before = made_by if isinstance(made_by, dict) else {}
        for name in ("model", "template") if not warned else ():
            was, now = before.get(name), getattr(settings, name)
            if isinstance(was, str) and was != now:
                warned = True
                reporter.warn(
                    f"id {row['id']!r} was sampled with the {name} {one_line(was)}, but is continued with "
                    f"{now}; its labels will be those of another policy"
                )
        yield row


class Roller:
    """Turns solution rows into rollouts rows; each distinct prefix of a problem is completed once."""

    def __init__(
        self,
        engine: Engine,
        template: PolicyTemplate,
        settings: SamplingSettings,
        k: int,
        grader: Grader,
        keep_text: bool = False,
        finished: FinishedPrefixes | None = None,
        journal: Output | None = None,
        bad: BadRows | None = None,
        *,
        rule: StoppingRule | None = None,
        next_steps: StepChoice = all_steps,
        count_own: bool = False,
    ) -> None:
        """Complete each prefix `k` times; with `keep_text`, also keep the texts as `completions`.

        Completions in `finished` are not made again. A prefix that is finished before its solution is
        written to `journal`, so an interrupted run loses only the prefixes in progress. `bad` receives the
        solutions with a prefix that the engine could not complete.

        By `rule`, a prefix may need fewer than `k` completions; `next_steps` chooses the steps. With
        `count_own`, the reward of the solution itself is added to the rewards of each of its prefixes.
        """
        self.engine, self.template, self.settings = engine, template, settings
        self.k, self.grader, self.keep_text = k, grader, keep_text
        self.rule, self.next_steps, self.count_own = rule or StoppingRule(), next_steps, count_own
        self.tally = Tally()
        self._in_progress: dict[PrefixKey, _Prefix] = {}
        self.finished = finished or FinishedPrefixes(keep_text, template.marks)
        self.journal = journal
        self.bad = bad or BadRows()
        self._failed: dict[PrefixKey, UserError] = {}  # prefixes that the engine could not complete
        self._asked: deque[Request] = deque()  # requests that the engine has not read yet
        self._ready: deque[Row] = deque()

    def roll(self, solutions: Iterable[Row]) -> Iterator[Row]:
        """Yield the solution rows with `rollouts` added, as they finish.

        Completions depend only on the seed, the problem's id, the text of the prefix and their number. Raises
        EngineError if the engine leaves out completions.
        """
        params = self.settings.params(self.template, self.engine.tokenizer)
        for result in generate(self.engine, self._requests(iter(solutions)), params):
            self._take(result)
            while self._ready:
                yield self._ready.popleft()
        yield from self._ready
        self._ready.clear()
        if self._in_progress:
            missing = sum(prefix.missing for prefix in self._in_progress.values())
            raise EngineError(
                f"the engine stopped with {missing:,} completions missing; run the same command again to get "
                "them"
            )

    def _requests(self, solutions: Iterator[Row]) -> Iterator[Request]:
        """Yield the requests of all solutions; LATER while others may follow from those in flight."""
        may_follow = self.next_steps is not all_steps or len(self.rule.rounds(self.k)) > 1
        while True:
            if self._asked:  # before the next solution, so that a solution is finished soon
                yield self._asked.popleft()
            elif (row := next(solutions, None)) is not None:
                own = [row["reward"]] if self.count_own else []
                texts = written_prefixes(row, self.template.marks)
                unknown: list[None] = [None] * len(texts)
                self._advance(_Solution(row, texts, own, [*unknown], [*unknown]))
            elif may_follow and self._in_progress:
                yield LATER
            else:
                return

    def _advance(self, solution: _Solution) -> None:
        """Ask for the prefixes that a solution needs next; if it needs none, its row is ready."""
        while not solution.missing:
            steps = self.next_steps(solution.rewards, solution.row["reward"])
            if not steps:
                self._ready.append(self._row(solution))
                return
            keys = [solution.key(step) for step in steps]
            error = next((self._failed[key] for key in keys if key in self._failed), None)
            if error is not None:
                self._set_aside(solution, error)
                return
            joined = [self._join(solution, step, key) for step, key in zip(steps, keys, strict=True)]
            new = [prefix for prefix in joined if prefix is not None]
            prompts = self._prompts(solution.row, [prefix.text for prefix in new]) if new else []
            for prefix, prompt in zip(new, prompts, strict=True):
                prefix.prompt = prompt
                self._ask(prefix, self.rule.needed(self.k, prefix.rewards, solution.own))

    def _join(self, solution: _Solution, step: int, key: PrefixKey) -> _Prefix | None:
        """Let a solution have the completions of a prefix, or wait for them; return a prefix that is new."""
        prefix = self._in_progress.get(key)
        is_new = prefix is None
        if prefix is None:
            rewards, completions = self.finished.get(key)
            needed = self.rule.needed(self.k, rewards, solution.own)
            if needed <= len(rewards):
                self.tally.shared_prefixes += bool(rewards)
                self._give(solution, step, rewards, completions)
                return None
            text = solution.texts[step]
            seed = derive_seed(self.settings.seed, key[0], text)
            prefix = _Prefix(key, text, "", seed, solution.row["answer"], [*rewards], [*completions])
            self._in_progress[key] = prefix
            self.tally.prefixes += 1
        else:
            self.tally.shared_prefixes += 1
        prefix.waiting.append((solution, step))
        solution.missing += 1
        return prefix if is_new else None

    def _give(self, solution: _Solution, step: int, rewards: list[float], completions: list[str]) -> None:
        """Give a solution those of the completions of a prefix that the rule lets it have."""
        needed = self.rule.needed(self.k, rewards, solution.own)
        solution.rewards[step], solution.completions[step] = rewards[:needed], completions[:needed]

    def _ask(self, prefix: _Prefix, count: int) -> None:
        """Ask for the missing ones of the first `count` completions of a prefix: the next round."""
        indices = tuple(range(len(prefix.rewards), count))
        prefix.missing = len(indices)
        if self.keep_text:
            prefix.completions += [""] * len(indices)
        self._asked.append(Request(prefix.key, prefix.prompt, indices, prefix.seed))

    def _prompts(self, row: Row, texts: Sequence[str]) -> Sequence[Prompt]:
        """Return the prompt of each prefix, cut from the ids of the whole solution where a token ends there.

        The chat template gets the date with which the solution was sampled.
        """
        tokenizer, template = self.engine.tokenizer, dated_as(row, self.template)
        marks = template.marks
        if tokenizer is None and template.chat:
            if marks is not None:
                raise UserError(
                    f"rollouts with the template {template.name} need the model's tokenizer here "
                    "(--model), because a server's chat template may change or drop the reasoning"
                )
            return [make_prompt(template, None, row["problem"], text) for text in texts]
        prompt = render_prompt(template, tokenizer, row["problem"])
        texts = [continued(prompt, text, marks) for text in texts]
        if tokenizer is None:
            return [prompt + text for text in texts]
        whole = encode_solution(template, tokenizer, prompt, continued(prompt, written(row, marks), marks))
        cut: list[Prompt] = []
        for text in texts:
            ids = whole.up_to(len(text))
            if ids is None:  # a token crosses the end of the prefix
                alone = encode_solution(template, tokenizer, prompt, text)
                ids = alone.prompt + alone.solution
            cut.append(ids)
        return cut

    def _take(self, result: Completion | Failure) -> None:
        """Add one completion; finish the round, the prefix and the solutions that waited only for it.

        A prefix with a failure has no rewards, and the solutions that wait for it become bad rows.
        """
        key: PrefixKey = result.key  # type: ignore[assignment]  # made in _join
        prefix = self._in_progress[key]
        if isinstance(result, Failure):
            prefix.missing -= len(result.indices)
            prefix.error = prefix.error or result.error
        else:
            self._add(result, prefix)
        if prefix.missing:
            return
        if prefix.error is None:
            prefix.rewards += [prefix.verdicts[index].reward() for index in sorted(prefix.verdicts)]
            prefix.verdicts.clear()
            waiting = [solution for solution, _ in prefix.waiting if not solution.is_bad]
            needed = max((self.rule.needed(self.k, prefix.rewards, one.own) for one in waiting), default=0)
            if needed > len(prefix.rewards):
                self._ask(prefix, needed)
                return
        del self._in_progress[key]
        if prefix.error is not None:
            self._failed[key] = prefix.error
            for solution, _ in prefix.waiting:
                self._set_aside(solution, prefix.error)
            return
        self.finished.add(key, prefix.rewards, prefix.completions)
        for solution, step in prefix.waiting:
            self._give(solution, step, prefix.rewards, prefix.completions)
            solution.missing -= 1
            if not solution.is_bad:
                self._advance(solution)
        if self.journal is not None and any(solution.missing for solution, _ in prefix.waiting):
            rewards, texts = prefix.rewards, prefix.completions
            self.journal.write({"id": key[0], "prefix": key[1], "rewards": rewards, "completions": texts})

    def _add(self, completion: Completion, prefix: _Prefix) -> None:
        parts = split(prefix.text + completion.text, self.template.marks)
        is_finished = completion.finish_reason == "stop" and parts.answer is not None
        _, verdict = grade(parts.answer or "", is_finished, prefix.gold, self.template, self.grader)
        prefix.verdicts[completion.index] = verdict
        prefix.missing -= 1
        self.tally.completions += 1
        self.tally.unfinished += not is_finished
        if self.keep_text:
            prefix.completions[completion.index] = completion.text

    def _set_aside(self, solution: _Solution, error: UserError) -> None:
        """Add a solution to the bad rows, once."""
        if not solution.is_bad:
            solution.is_bad = True
            row = solution.row
            self.bad.add(f"id {row['id']!r}, sample {row['sample']}", str(error), to_line(row), type(error))

    def _row(self, solution: _Solution) -> Row:
        row, own = solution.row, solution.own
        if "rollouts" in row and not self.keep_text:  # of an earlier run, whose texts are then too few
            row = {name: value for name, value in row.items() if name != "completions"}
        rewards = [_with_own(found, own) for found in solution.rewards]
        added: Row = {"rollouts": [*rewards, [row["reward"]]]}
        if self.keep_text:
            whole = written(row, self.template.marks)
            added["completions"] = [
                _with_own(found, [whole[len(text) :]] * len(own))
                for found, text in zip(solution.completions, solution.texts, strict=True)
            ] + [[""]]
        return row | added


def _with_own(found: list[T] | None, own: list[T]) -> list[T] | None:
    """Return what is known of a step, and of the solution itself; None if neither is."""
    return own or None if found is None else found + own
