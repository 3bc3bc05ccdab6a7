"""Extends prefixes by the policy and scores their steps by the PRM, for many problems at once.

The policy writes one step by stopping at the plainest text that breaks steps. What it wrote is kept as token
ids, the break included, so that it goes on exactly where it stopped, and an engine's prefix cache has all
but the new step.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from erprm_cli.answers.grader import Grader
from erprm_cli.engines.base import Completion, Engine, Failure, Request, SamplingParams, encode, generate
from erprm_cli.errors import EngineError, RowError, UsageError, UserError
from erprm_cli.hashing import derive_seed
from erprm_cli.policy.grading import grade
from erprm_cli.policy.prompts import CONTEXT_TOKENS, make_prompt
from erprm_cli.policy.sampling import SamplingSettings
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import split_steps
from erprm_cli.search.prefix import Extension, Prefix, Reach, Search

if TYPE_CHECKING:
    from erprm_cli.prm.scorer import Scorer  # loads torch

BREAKS = ("\n", "\n\n")  # texts at which a step may end, the plainest first


@dataclass(slots=True)
class Tokens:
    """Tokens that the search of one problem has used.

    `prompt` counts the prompt of each request of the policy once, with the prefix that it continues; `prm`
    all tokens that the PRM has read. Whatever a prefix cache saves is in both.
    """

    prompt: int = 0
    generated: int = 0
    prm: int = 0


@dataclass(slots=True)
class Running:
    """The search of one problem: what it waits for, in its `round`, and what it has used."""

    problem: Row
    search: Search
    prompt: Any  # token ids, or what a server without a tokenizer here gets
    round: int = 0
    asked: list[Extension] = field(default_factory=list)
    tokens: Tokens = field(default_factory=Tokens)
    error: UserError | None = None  # why its prefixes could not be extended


class _Place(NamedTuple):
    running: Running
    prefix: Prefix


class Extender:
    """A policy and a PRM that answer the requests of searches."""

    def __init__(
        self,
        engine: Engine,
        scorer: "Scorer",
        template: PolicyTemplate,
        sampling: SamplingSettings,
        verifier: Grader | None = None,
    ) -> None:
        """Sample with `sampling`; its max_tokens bounds a whole solution.

        With `verifier`, finished solutions of problems with an answer get an `outcome`.
        """
        self.engine, self.scorer, self.template = engine, scorer, template
        self.sampling, self.verifier = sampling, verifier
        self.lowest, self.highest = 1.0, 0.0  # of all scores so far
        self._end = sampling.params(template, engine.tokenizer)

    def prompt(self, problem: Row) -> Any:
        """Return the prompt of a problem."""
        return make_prompt(self.template, self.engine.tokenizer, problem["problem"])

    def extend(self, searches: Sequence[Running]) -> list[list[Prefix]]:
        """Return the extensions that each search asked for; none for one that has an `error` now."""
        found: dict[tuple[int, int], Prefix] = {}
        for reach in dict.fromkeys(asked.reach for search in searches for asked in search.asked):
            self._generate(searches, reach, found)
        places = [
            _Place(search, found[number, position])
            for number, search in enumerate(searches)
            for position in range(len(search.asked))
            if search.error is None
        ]
        scored = iter(self._score(places))
        extended = [[next(scored) for _ in search.asked if search.error is None] for search in searches]
        return [[] if search.error else new for search, new in zip(searches, extended, strict=True)]

    # The policy

    def _generate(
        self, searches: Sequence[Running], reach: Reach, found: dict[tuple[int, int], Prefix]
    ) -> None:
        """Add the unscored extensions of one reach to `found`, by the numbers of the search and request."""
        groups: dict[tuple[int, Prefix], dict[int, int]] = {}  # slots, and the places of their requests
        for number, search in enumerate(searches):
            for position, (prefix, slot, wanted) in enumerate(search.asked):
                if wanted == reach:
                    groups.setdefault((number, prefix), {})[slot] = position
        requests = [
            self._request((number, prefix), searches[number], tuple(sorted(slots)))
            for (number, prefix), slots in groups.items()
        ]
        missing = sum(map(len, groups.values()))
        for result in generate(self.engine, requests, self._params(reach)):
            number, prefix = result.key  # type: ignore[misc]  # made above
            search = searches[number]
            if isinstance(result, Failure):
                search.error = search.error or result.error
                missing -= len(result.indices)
                continue
            missing -= 1
            search.tokens.generated += result.num_tokens
            place = number, groups[number, prefix][result.index]
            found[place] = self._extended(search, prefix, result, reach)
        if missing:
            raise EngineError(
                f"the engine ended with {missing:,} completions missing; the same command requests them again"
            )

    def _request(self, key: tuple[int, Prefix], search: Running, slots: tuple[int, ...]) -> Request:
        prefix, prompt, identity = key[1], search.prompt, search.problem["id"]
        if isinstance(prompt, tuple):
            prompt = (*(encode(self.engine.tokenizer, prompt)), *prefix.token_ids)
            search.tokens.prompt += len(prompt)
        # In the first round as in `sample`, so that best-of-n has the same solutions.
        seed = derive_seed(self.sampling.seed, identity, *[search.round] * bool(search.round))
        return Request(key, prompt, slots, seed, self.sampling.max_tokens - prefix.num_tokens)

    def _params(self, reach: Reach) -> SamplingParams:
        if reach == "end":
            return self._end
        params = replace(self._end, stop=(*self._end.stop, step_stop(self.template)))
        return replace(params, temperature=0.0) if reach == "greedy step" else params

    def _extended(self, search: Running, prefix: Prefix, completion: Completion, reach: Reach) -> Prefix:
        """Return a prefix with one completion of it, not scored yet."""
        ids, reason = completion.token_ids or (), completion.finish_reason
        whole = prefix.token_ids + ids
        text = prefix.text + completion.text
        if reach != "end":
            if completion.token_ids is None:
                raise UserError(
                    "the server does not send token ids, which a search by steps needs; vLLM does, and "
                    "--method best-of-n works without them"
                )
            so_far = self._text(search.prompt, whole)
            if so_far.startswith(text + step_stop(self.template)):
                text = so_far
                reason = "" if len(whole) < self.sampling.max_tokens else "length"
            # A stop text that begins with the break was begun in an earlier step.
            ends = [end for stop in self._end.stop if (end := text.find(stop)) >= 0]
            if ends:
                text, reason = text[: min(ends)], "stop"
        steps = tuple(split_steps(text, self.template.step_break))
        outcome = None
        if reason and self.verifier is not None and search.problem["answer"] is not None:
            gold = search.problem["answer"]
            outcome = grade(text, reason == "stop", gold, self.template, self.verifier)[1].reward()
        num_tokens = prefix.num_tokens + completion.num_tokens
        return Prefix(text, whole, num_tokens, steps, (), reason or None, outcome)

    def _text(self, prompt: tuple[int, ...], ids: tuple[int, ...]) -> str:
        """Return the text of `ids` after the prompt; decoded alone it might lose a leading space."""

        def decode(part: tuple[int, ...]) -> str:
            text: str = self.engine.tokenizer.decode(
                part, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            return text

        context = prompt[-CONTEXT_TOKENS:]
        return decode(context + ids).removeprefix(decode(context))

    # The PRM

    def _score(self, places: Sequence[_Place]) -> list[Prefix]:
        """Return the prefixes with scores; equal steps of one problem are read once."""
        first: dict[tuple[str, tuple[str, ...]], Row] = {}
        encoded = []
        for running, prefix in places:
            key = running.problem["id"], prefix.steps
            if key in first or running.error is not None:
                continue
            first[key] = {"problem": running.problem["problem"], "steps": list(prefix.steps), "key": key}
            try:
                tagged = self.scorer.encode(first[key])
            except RowError as error:
                running.error = UserError(f"the PRM cannot read a prefix: {error}")
                continue
            running.tokens.prm += len(tagged.ids)
            encoded.append((first[key], tagged))
        scores = {row["key"]: tuple(row["scores"]) for row in self.scorer.score_encoded(encoded)}
        for found in scores.values():
            self.lowest, self.highest = min(self.lowest, *found), max(self.highest, *found)
        return [
            replace(prefix, scores=scores.get((running.problem["id"], prefix.steps), ()))
            for running, prefix in places
        ]


def step_stop(template: PolicyTemplate) -> str:
    """Return the text at which generation stops after a step: the plainest that breaks steps.

    A break of another form, such as an empty line with a space, does not stop it; the extension has two steps
    then. Raises UsageError if steps do not end with a line.
    """
    for text in BREAKS:
        if re.fullmatch(template.step_break, text):
            return text
    raise UsageError(
        f"the template {template.name} breaks steps at {template.step_break!r}, which matches neither a line "
        "break nor an empty line, so the policy cannot be stopped after a step; use --method best-of-n"
    )


def check_template(template: PolicyTemplate, by_steps: bool) -> None:
    """Raise UsageError for a template with which no search is possible.

    `by_steps` says whether the method extends prefixes by single steps.
    """
    if template.marks is not None:
        raise UsageError(
            f"search does not support the templates of thinking models, such as {template.name}; "
            "`erprm sample` and `erprm score` do"
        )
    if by_steps:
        step_stop(template)


def check_tokenizer(tokenizer: Any) -> None:
    """Raise UsageError if only the server has the tokenizer."""
    if tokenizer is None:
        raise UsageError(
            "a search by steps continues token ids, so it needs the model's tokenizer here (--model); "
            "--method best-of-n does not"
        )
