"""Rollouts: K graded completions after every step of a solution, from which step labels are estimated.

A completion continues the exact text of the prefix, within the assistant's turn. The last step needs no
completion: its reward is that of the solution. Steps of an answer are continued after the whole reasoning,
steps of the reasoning within it; the completion then has the rest of the reasoning and the answer.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from erprm_cli.answers.grader import Grader, Verdict
from erprm_cli.engines.base import Completion, Engine, Failure, Prompt, Request, generate
from erprm_cli.errors import EngineError, RowError, UserError
from erprm_cli.hashing import content_hash, derive_seed
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.output import Output
from erprm_cli.policy.grading import grade
from erprm_cli.policy.prompts import encode_solution, make_prompt, render_prompt
from erprm_cli.policy.reasoning import Marks, check_marks, continued, split, written, written_prefixes
from erprm_cli.policy.sampling import SamplingSettings
from erprm_cli.policy.templates import PolicyTemplate, dated_as
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row, to_line
from erprm_cli.rows.steps import step_starts, stepped_text
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.terminal.text import one_line

MAX_PREFIX_CHARACTERS = 50_000_000  # of the prefixes of one solution, which are in memory together
MAX_CACHED = 200_000  # prefixes whose rollouts are kept for later solutions, about 100 MB

PrefixKey = tuple[str, str]  # a problem's id and the hash of a prefix's text


@dataclass(slots=True)
class Tally:
    """Counts for the summary."""

    completions: int = 0
    unfinished: int = 0
    shared_prefixes: int = 0  # prefixes of an earlier solution or an earlier run


@dataclass(slots=True)
class _Prefix:
    """One prefix: its completions so far, and the solutions that wait for the missing ones.

    `text` is all that the model wrote before the step, the marks of the reasoning included. Each completion
    is submitted for grading as it arrives; the rewards are collected when all have arrived.
    """

    text: str
    gold: str
    verdicts: list[Verdict]
    texts: list[str]
    missing: int
    rewards: list[float] = field(default_factory=list)  # of all completions, once none is missing
    waiting: list["_Solution"] = field(default_factory=list)
    error: UserError | None = None  # why some of the completions could not be made


@dataclass(slots=True)
class _Solution:
    row: Row
    prefixes: list[_Prefix]
    missing: int  # unfinished prefixes
    is_bad: bool = False  # a prefix could not be completed


class FinishedPrefixes:
    """Cached rewards and texts of finished prefixes: from existing rows, from a journal and from this run.

    Beyond MAX_CACHED, the oldest are dropped; completing one again takes time and gives the same result.
    """

    def __init__(self, k: int, keep_text: bool = False, marks: Marks | None = None) -> None:
        """Accept only prefixes with `k` rewards and, with `keep_text`, `k` texts.

        `marks` are those of the reasoning in the template.
        """
        self.k, self.keep_text, self.marks = k, keep_text, marks
        # Not a dict: finding its first key takes longer, the more keys before it were deleted.
        self._found: OrderedDict[PrefixKey, tuple[list[float], list[str]]] = OrderedDict()

    def get(self, key: PrefixKey) -> tuple[list[float], list[str]] | None:
        return self._found.get(key)

    def add(self, key: PrefixKey, rewards: list[float], texts: list[str]) -> None:
        self._found[key] = rewards, texts
        if len(self._found) > MAX_CACHED:
            self._found.popitem(last=False)

    def add_row(self, row: Row) -> Row:
        """Add the prefixes of an existing rollouts row; return the row. RowError if it is not one."""
        schema.check_rollouts(schema.check_solution(row))
        completions = _check_completions(row) or [[]] * len(row["steps"])
        for text, rewards, texts in zip(
            written_prefixes(row, self.marks), row["rollouts"], completions, strict=False
        ):
            self._add_if_complete((row["id"], content_hash(text)), rewards, texts)
        return row

    def add_journal(self, journal: Output | None) -> None:
        """Add the prefixes that an interrupted run finished before their solutions were finished."""
        for row in journal.existing(_check_prefix) if journal is not None else ():
            self._add_if_complete((row["id"], row["prefix"]), row["rewards"], row["completions"])

    def _add_if_complete(self, key: PrefixKey, rewards: list[float], texts: list[str]) -> None:
        if len(rewards) == self.k and (len(texts) == self.k or not self.keep_text):
            self.add(key, rewards, texts)


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


def _check_prefix(row: Row) -> Row:
    """Check a row of the journal: the rewards of a prefix, and the texts if they are kept."""
    for name in ("id", "prefix"):
        schema.need(row, name, str)
    schema.check_numbers(row.get("rewards"), "'rewards'")
    if row.get("completions") != []:
        schema.check_strings(row.get("completions"), "'completions'")
    return row


def _check_completions(row: Row) -> list[list[str]]:
    """Return the texts of a rollouts row, a list per step; an empty list if they were not kept."""
    lists: list[list[str]] = row.get("completions") or []
    if lists and (not isinstance(lists, list) or len(lists) != len(row["steps"])):
        raise RowError("'completions' must be one list of strings per step")
    for texts in lists:
        schema.check_strings(texts, "each list in 'completions'")
    return lists


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
    ) -> None:
        """Complete each prefix `k` times; with `keep_text`, also keep the texts as `completions`.

        Prefixes in `finished` are not completed again. A prefix that is finished before its solution is
        written to `journal`, so an interrupted run loses only the prefixes in progress. `bad` receives the
        solutions with a prefix that the engine could not complete.
        """
        self.engine, self.template, self.settings = engine, template, settings
        self.k, self.grader, self.keep_text = k, grader, keep_text
        self.tally = Tally()
        self._in_progress: dict[PrefixKey, _Prefix] = {}
        self.finished = finished or FinishedPrefixes(k, keep_text, template.marks)
        self.journal = journal
        self.bad = bad or BadRows()
        self._failed: dict[PrefixKey, UserError] = {}  # prefixes that the engine could not complete
        self._ready: deque[Row] = deque()

    def roll(self, solutions: Iterable[Row]) -> Iterator[Row]:
        """Yield the solution rows with `rollouts` added, as they finish.

        Completions depend only on the seed, the problem's id and the text of the prefix. Raises EngineError
        if the engine leaves out completions.
        """
        requests = (request for row in solutions for request in self._enter(row))
        params = self.settings.params(self.template, self.engine.tokenizer)
        for result in generate(self.engine, requests, params):
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

    def _enter(self, row: Row) -> Iterator[Request]:
        """Yield a request for every prefix of `row` that is neither finished nor in progress."""
        texts = written_prefixes(row, self.template.marks)
        keys = [(row["id"], content_hash(text)) for text in texts]
        solution = _Solution(row, [], 0)
        error = next((self._failed[key] for key in keys if key in self._failed), None)
        if error is not None:
            self._set_aside(solution, error)
            return
        new: list[tuple[PrefixKey, int]] = []
        for index, (key, text) in enumerate(zip(keys, texts, strict=True)):
            prefix = self._in_progress.get(key)
            if prefix is None and (found := self.finished.get(key)):
                rewards, kept = found
                prefix = _Prefix("", row["answer"], [], kept, 0, rewards)
            if prefix is None:
                prefix = _Prefix(text, row["answer"], [Verdict(False)] * self.k, [""] * self.k, self.k)
                self._in_progress[key] = prefix
                new.append((key, index))
            else:
                self.tally.shared_prefixes += 1
            if prefix.missing:
                prefix.waiting.append(solution)
                solution.missing += 1
            solution.prefixes.append(prefix)
        if not solution.missing:
            self._ready.append(self._row(solution))
        prompts = self._prompts(row, texts) if new else []
        for key, index in new:
            seed = derive_seed(self.settings.seed, row["id"], texts[index])
            yield Request(key, prompts[index], tuple(range(self.k)), seed)

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
        """Add one completion; finish the prefix and the solutions that waited only for it.

        A prefix with a failure has no rewards, and the solutions that wait for it become bad rows.
        """
        key: PrefixKey = result.key  # type: ignore[assignment]  # made in _enter
        prefix = self._in_progress[key]
        if isinstance(result, Failure):
            prefix.missing -= len(result.indices)
            prefix.error = prefix.error or result.error
        else:
            self._add(result, prefix)
        if prefix.missing:
            return
        del self._in_progress[key]
        if prefix.error is not None:
            self._failed[key] = prefix.error
            for solution in prefix.waiting:
                self._set_aside(solution, prefix.error)
            return
        prefix.rewards = [verdict.reward() for verdict in prefix.verdicts]
        self.finished.add(key, prefix.rewards, prefix.texts)
        if self.journal is not None and any(solution.missing > 1 for solution in prefix.waiting):
            texts = prefix.texts if self.keep_text else []
            fields = {"id": key[0], "prefix": key[1], "rewards": prefix.rewards, "completions": texts}
            self.journal.write(fields)
        for solution in prefix.waiting:
            solution.missing -= 1
            if not solution.missing:
                self._ready.append(self._row(solution))
        prefix.waiting.clear()

    def _add(self, completion: Completion, prefix: _Prefix) -> None:
        parts = split(prefix.text + completion.text, self.template.marks)
        is_finished = completion.finish_reason == "stop" and parts.answer is not None
        _, verdict = grade(parts.answer or "", is_finished, prefix.gold, self.template, self.grader)
        prefix.verdicts[completion.index] = verdict
        prefix.missing -= 1
        self.tally.completions += 1
        self.tally.unfinished += not is_finished
        if self.keep_text:
            prefix.texts[completion.index] = completion.text

    def _set_aside(self, solution: _Solution, error: UserError) -> None:
        """Add a solution to the bad rows, once."""
        if not solution.is_bad:
            solution.is_bad = True
            row = solution.row
            self.bad.add(f"id {row['id']!r}, sample {row['sample']}", str(error), to_line(row), type(error))

    def _row(self, solution: _Solution) -> Row:
        outcome = solution.row["reward"]
        added: Row = {"rollouts": [prefix.rewards for prefix in solution.prefixes] + [[outcome]]}
        if self.keep_text:
            added["completions"] = [prefix.texts for prefix in solution.prefixes] + [[""]]
        return solution.row | added
